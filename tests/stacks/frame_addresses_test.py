#!/usr/bin/env python3
"""Looks in machine code for addresses in a frame that a function keeps while it calls another.

Functions in the section weft_text have frames that may be copied elsewhere, in which nothing but the
saved frame pointer is changed (stack/frames.h). The escape pass decides by LLVM's intermediate code which
these are; this test sees what code generation has made of it. It follows each address that is made of the
stack or frame pointer through registers and words of the frame, to the end of the function and in the
order of the code, and fails if one is used after a call. That is not exact, as code jumps, but has no false
alarm in what is tested here, and finds what a wrong decision of the pass leaves.
"""

import os
import re
import subprocess
import sys
import unittest

SECTION = "weft_text"
# In assembly: they go off the stack themselves, and know what they have there. The second compares where
# it has left the stack with where it is to return, to learn whether that is still the place.
EXCEPT = {"__morestack", "weft_check_off_stack"}
# Do not wait: the compiler has them copy by-value arguments to the pinned stack.
QUIET_CALLEES = re.compile(r"<(memcpy|memmove|memset)(@plt)?>")

CALLEE_SAVED = {"rbx", "r12", "r13", "r14", "r15"}
FRAME = {"rsp", "rbp"}
WIDE = {"e" + name: "r" + name for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")}
WIDE.update({f"r{i}d": f"r{i}" for i in range(8, 16)})

FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
INSTRUCTION = re.compile(r"^\s+[0-9a-f]+:\s+(\S+)\s*([^#]*)")
LAST_OPERAND = re.compile(r"^(.*?),?(%\w+|-?(?:0x[0-9a-f]+)?\(%r[sb]p\))$")
OF_FRAME = re.compile(r"^-?(?:0x[0-9a-f]+)?\(%r[sb]p(?:,[^)]*)?\)$")


class Function:
    """Where addresses in its frame are: place -> calls since it was made."""

    def __init__(self, name):
        self.name = name
        self.held = {}
        self.found = None

    def call(self, operands):
        waits = not QUIET_CALLEES.search(operands)
        self.held = {place: calls + waits for place, calls in self.held.items()
                     if place in CALLEE_SAVED or "(" in place}

    def look(self, mnemonic, operands, line):
        if mnemonic.startswith("call"):
            self.call(operands)
            return
        match = LAST_OPERAND.match(operands)
        source, target = match.groups() if match else (operands, "")
        if not mnemonic.startswith("push"):
            used = {WIDE.get(name, name) for name in re.findall(r"%(\w+)", source)}
            used |= {name for name in re.findall(r"%(\w+)", target) if "(" in target}
            if source in self.held:
                used.add(source)
            if any(self.held.get(place, 0) > 0 for place in used):
                self.found = self.found or line.strip()
        place = WIDE.get(target[1:], target[1:]) if target.startswith("%") else target
        if not place or place in FRAME or mnemonic.startswith(("cmp", "test")):
            return
        if mnemonic == "lea" and OF_FRAME.match(source):
            self.held[place] = 0
        elif mnemonic == "mov" and source[1:] in FRAME:
            self.held[place] = 0
        elif mnemonic == "mov" and (source in self.held or source[1:] in self.held):
            self.held[place] = self.held.get(source, self.held.get(source[1:], 0))
        elif mnemonic not in ("add", "sub"):
            self.held.pop(place, None)


def kept_addresses(disassembly):
    """(how many functions there are, {function: the instruction that uses a kept address})."""
    functions = 0
    kept = {}
    function = None
    for line in disassembly.splitlines():
        if match := FUNCTION.match(line):
            functions += 1
            function = Function(match[1])
        elif (match := INSTRUCTION.match(line)) and function and function.name not in EXCEPT:
            function.look(match[1], match[2].strip(), line)
            if function.found:
                kept.setdefault(function.name, function.found)
    return functions, kept


def code(*instructions):
    return "0000000000001000 <f>:\n" + "".join(f"    1000:\t{i}\n" for i in instructions)


class KeptAddressesTest(unittest.TestCase):
    def test_finds_an_address_in_a_register(self):
        _, kept = kept_addresses(code("lea    -0x40(%rbp),%rbx", "call   2000 <g>",
                                      "mov    (%rbx,%rcx,4),%eax"))
        self.assertIn("f", kept)

    def test_finds_an_address_in_the_frame(self):
        _, kept = kept_addresses(code("lea    0x10(%rsp),%rax", "mov    %rax,-0x30(%rbp)",
                                      "call   2000 <g>", "mov    -0x30(%rbp),%rcx"))
        self.assertIn("f", kept)

    def test_finds_a_copy_of_the_frame_pointer(self):
        _, kept = kept_addresses(code("mov    %rbp,%r14", "add    $0xffffffffffffffc0,%r14",
                                      "call   2000 <g>", "mov    $0x1,%eax", "mov    %eax,(%r14)",
                                      "mov    %r14,%rdi"))
        self.assertIn("f", kept)

    def test_what_is_not_used_again_is_not_kept(self):
        _, kept = kept_addresses(code("lea    -0x40(%rbp),%rbx", "mov    %rbx,%rdi",
                                      "call   2000 <g>", "mov    $0x1,%rbx", "mov    %rbx,%rax"))
        self.assertEqual(kept, {})
        _, kept = kept_addresses(code("lea    -0x40(%rbp),%rbx", "call   2000 <memcpy@plt>",
                                      "mov    %rbx,%rdi"))
        self.assertEqual(kept, {})

    def test_no_function_that_moves_keeps_one(self):
        looked_at = 0
        for program in PROGRAMS:
            with self.subTest(program=os.path.basename(program)):
                dump = subprocess.run(
                    ["objdump", "--disassemble", "--no-show-raw-insn", "-j", SECTION, program],
                    check=False, capture_output=True, text=True)
                if f"section '{SECTION}' mentioned in a -j option, but not found" in dump.stderr:
                    continue  # no stacks that move in this build
                self.assertEqual(dump.returncode, 0, dump.stderr)
                functions, kept = kept_addresses(dump.stdout)
                looked_at += functions
                self.assertGreater(functions, 100)
                self.assertEqual(kept, {})
        print(f"{looked_at} functions looked at", file=sys.stderr)


if __name__ == "__main__":
    PROGRAMS = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
