#!/usr/bin/env python3
"""Writes C++ programs at random, to see whether they reckon the same on stacks that rest and move.

    generate_programs.py --seed=17 --count=8 > programs.cc

Each program is a namespace with some structures, some functions that call each other and themselves as
chance has it, and `Run`, which makes a number of a number. They have what compilers keep on stacks:
scalars, arrays that loops go through, locals whose address is taken, told to others or published
atomically, structures by value, closures, exceptions, arrays of variable size, virtual and indirect
calls, pointers to members, callbacks from C, coroutines, setjmp, variadic functions, wide vectors; and
they park in the middle of all of it. Nothing in them is undefined or depends on addresses or time, so
the result is the program's alone. The same seed makes the same program. The idea is Csmith's (Yang, Chen, Eide, Regehr: Finding and Understanding Bugs in C
Compilers, 2011); the programs here do less and are about stacks.
"""

import argparse
import random

PARAMETER_TYPES = ["uint64_t", "uint32_t", "double", "const uint64_t&", "uint64_t*"]


class Function:
    """A signature: a number, the types of its parameters, and what it returns."""

    def __init__(self, number, parameters, result):
        self.name = f"F{number}"
        self.parameters = parameters
        self.result = result

    def declaration(self):
        parameters = ["Fuel* fuel", "int depth"]
        parameters += [f"{kind} {name}" for kind, name in self.parameters]
        return f"[[gnu::noinline]] {self.result} {self.name}({', '.join(parameters)})"


class Scope:
    """The names that an expression may use, by what they are."""

    def __init__(self, parent=None):
        self.numbers = list(parent.numbers) if parent else []    # uint64_t, assignable
        self.values = list(parent.values) if parent else []      # uint64_t, to read
        self.doubles = list(parent.doubles) if parent else []
        self.arrays = list(parent.arrays) if parent else []      # (name, size)
        self.structs = list(parent.structs) if parent else []    # (name, structure)


class Program:
    def __init__(self, seed):
        self.seed = seed
        self.random = random.Random(seed)
        self.lines = []
        self.indent = 0
        self.names = 0
        self.structures = [
            (f"S{i}", self.random.randint(1, 12)) for i in range(self.random.randint(2, 4))]
        self.in_coroutine = False
        self.coroutines = self.random.randint(1, 2)
        self.functions = []
        for i in range(self.random.randint(4, 8)):
            parameters = []
            for p in range(self.random.randint(0, 11)):
                kind = self.random.choice(PARAMETER_TYPES + [s for s, _ in self.structures])
                parameters.append((kind, f"p{p}"))
            result = self.random.choice(["uint64_t"] * 3 + [s for s, _ in self.structures])
            self.functions.append(Function(i, parameters, result))

    # --- text ---

    def line(self, text):
        self.lines.append("  " * self.indent + text)

    def open(self, text):
        self.line(text + " {")
        self.indent += 1

    def close(self, text="}"):
        self.indent -= 1
        self.line(text)

    def name(self, stem):
        self.names += 1
        return f"{stem}{self.names}"

    def chance(self, share):
        return self.random.random() < share

    # --- expressions, of uint64_t ---

    def structure_size(self, structure):
        return dict(self.structures)[structure]

    def number(self, scope, depth=2):
        choices = ["constant", "value", "value"]
        if scope.arrays:
            choices += ["element"] * 2
        if scope.structs:
            choices += ["member"]
        if scope.doubles:
            choices += ["double"]
        if depth > 0:
            choices += ["binary"] * 4 + ["mix", "select"]
        kind = self.random.choice(choices)
        if kind == "constant" or (kind == "value" and not scope.values):
            return f"{self.random.getrandbits(self.random.choice([4, 16, 47, 64]))}UL"
        if kind == "value":
            return self.random.choice(scope.values)
        if kind == "element":
            name, size = self.random.choice(scope.arrays)
            if self.chance(0.5):
                return f"{name}[{self.random.randrange(size)}]"
            return f"{name}[({self.number(scope, 0)}) % {size}]"
        if kind == "member":
            name, structure = self.random.choice(scope.structs)
            return f"{name}.m[{self.random.randrange(self.structure_size(structure))}]"
        if kind == "double":
            return f"static_cast<uint64_t>(static_cast<int64_t>({self.random.choice(scope.doubles)}))"
        if kind == "mix":
            return f"Mix({self.number(scope, depth - 1)}, {self.number(scope, depth - 1)})"
        if kind == "select":
            return (f"(({self.number(scope, depth - 1)}) % 3 == 0 ? {self.number(scope, depth - 1)}"
                    f" : {self.number(scope, depth - 1)})")
        left, right = self.number(scope, depth - 1), self.number(scope, depth - 1)
        operator = self.random.choice(["+", "-", "*", "^", "&", "|", ">>", "<<", "%"])
        if operator in (">>", "<<"):
            right = f"(({right}) % 63)"
        if operator == "%":
            right = f"(({right}) % 1000 + 1)"
        if self.chance(0.15):
            left = f"Paused({left} + uint64_t{{0}})"
        return f"({left} {operator} {right})"

    def double(self, scope):
        return f"static_cast<double>(({self.number(scope, 1)}) % 4096) * 0.5"

    def argument(self, kind, scope):
        if kind == "uint32_t":
            return f"static_cast<uint32_t>({self.number(scope, 1)})"
        if kind == "double":
            return self.double(scope)
        if kind == "uint64_t*":
            if scope.arrays and self.chance(0.4):
                name, size = self.random.choice(scope.arrays)
                return f"&{name}[{self.random.randrange(size)}]"
            return f"&{self.random.choice(scope.numbers)}"
        if kind == "const uint64_t&":
            return self.random.choice(scope.values)
        if kind.startswith("S"):
            fitting = [name for name, structure in scope.structs if structure == kind]
            if fitting and self.chance(0.7):
                return self.random.choice(fitting)
            return f"Make{kind}({self.number(scope, 1)})"
        return f"{self.number(scope, 1)} + uint64_t{{0}}"

    def call(self, scope):
        """An expression of uint64_t that calls some function."""
        function = self.random.choice(self.functions)
        arguments = ["fuel", "depth - 1"]
        arguments += [self.argument(kind, scope) for kind, _ in function.parameters]
        text = f"{function.name}({', '.join(arguments)})"
        return text if function.result == "uint64_t" else f"Sum({text})"

    # --- statements ---

    def statement(self, scope, nesting):
        kinds = {
            "assign": 4, "pause": 3, "call": 4, "array": 2, "loop": 3, "touch": 2, "pointer": 2,
            "structure": 2, "double": 1, "publish": 1, "stack": 1, "virtual": 1, "indirect": 1,
            "sort": 0.4,
        }
        if self.in_coroutine:
            # They return something, or have fuel.
            for kind in ("publish", "call", "virtual"):
                del kinds[kind]
            if self.chance(0.4):
                self.line(f"co_yield {self.number(scope)};")
        else:
            kinds.update({"member": 1, "variadic": 1, "jump": 0.7, "wide": 0.7, "coroutine": 1.5})
        if nesting > 0 and not self.in_coroutine:
            kinds.update({"if": 2, "try": 2, "closure": 2, "variable": 1, "block": 1, "switch": 1,
                          "while": 1})
        kind = self.random.choices(list(kinds), list(kinds.values()))[0]
        getattr(self, "put_" + kind)(scope, nesting)

    def body(self, scope, nesting, least=1, most=4):
        inner = Scope(scope)
        for _ in range(self.random.randint(least, most)):
            self.statement(inner, nesting)

    def put_assign(self, scope, _):
        if self.chance(0.5):
            name = self.name("x")
            self.line(f"uint64_t {name} = {self.number(scope)};")
            scope.numbers.append(name)
            scope.values.append(name)
        else:
            operator = self.random.choice(["=", "+=", "^=", "-=", "*="])
            self.line(f"{self.random.choice(scope.numbers)} {operator} {self.number(scope)};")

    def put_double(self, scope, _):
        name = self.name("d")
        self.line(f"double {name} = {self.double(scope)};")
        scope.doubles.append(name)

    def put_pause(self, _scope, _nesting):
        self.line("Pause();")

    def put_call(self, scope, _):
        self.line(f"{self.random.choice(scope.numbers)} ^= {self.call(scope)};")

    def put_array(self, scope, _):
        name = self.name("a")
        size = self.random.choice([2, 3, 4, 7, 8, 16, 33, 64])
        kind = self.random.choice(["uint64_t", "uint32_t", "uint8_t", "uint16_t"])
        aligned = self.random.choice(["", "", "", "alignas(32) ", "alignas(128) "])
        self.line(f"{aligned}{kind} {name}[{size}] = {{}};")
        i = self.name("i")
        self.open(f"for (uint64_t {i} = 0; {i} < {size}; ++{i})")
        self.line(f"{name}[{i}] = static_cast<{kind}>({i} * {self.number(scope, 1)});")
        if self.chance(0.2):
            self.line(f"if ({i} % 5 == 0) Pause();")
        self.close()
        if kind == "uint64_t":
            scope.arrays.append((name, size))
        else:
            # Read through a loop that parks, which keeps pointers into it across calls.
            total = self.random.choice(scope.numbers)
            j = self.name("j")
            start, step = self.random.randrange(size), self.random.randint(1, 3)
            self.open(f"for (uint64_t {j} = {start}; {j} < {size}; {j} += {step})")
            self.line(f"{total} += {name}[{j}];")
            self.line(f"if ({name}[{j}] % 4 == 1) Pause();")
            self.close()

    def put_loop(self, scope, nesting):
        i = self.name("i")
        if scope.arrays and self.chance(0.6):
            name, size = self.random.choice(scope.arrays)
            total = self.random.choice(scope.numbers)
            self.open(f"for (uint64_t {i} = 0; {i} < {size}; ++{i})")
            self.line(f"{total} = Mix({total}, {name}[{i}]);")
            if self.chance(0.6):
                self.line(f"if (({total} + {i}) % 5 == 0) Pause();")
            if self.chance(0.5):
                self.line(f"{name}[{size - 1} - {i}] += {i} ^ {total};")
            self.close()
            return
        self.open(f"for (uint64_t {i} = 0; {i} < {self.random.randint(1, 5)}; ++{i})")
        inner = Scope(scope)
        inner.values.append(i)
        self.body(inner, max(nesting - 1, 0), 1, 2)
        self.close()

    def put_while(self, scope, nesting):
        n = self.name("n")
        self.line(f"int {n} = static_cast<int>(({self.number(scope, 1)}) % 4);")
        self.open(f"while ({n}-- > 0)")
        self.body(scope, nesting - 1, 1, 2)
        if self.chance(0.3):
            self.line(f"if (({self.number(scope, 1)}) % 7 == 0) break;")
        self.close()

    def put_touch(self, scope, _):
        self.line(f"Touch(&{self.random.choice(scope.numbers)});")

    def put_pointer(self, scope, _):
        if not scope.arrays:
            self.put_array(scope, 0)
            if not scope.arrays:
                return
        name, size = self.random.choice(scope.arrays)
        p = self.name("q")
        self.line(f"uint64_t* {p} = &{name}[({self.number(scope, 1)}) % {size}];")
        self.line("Pause();")
        self.line(f"*{p} += {self.number(scope, 1)};")
        if self.chance(0.5):
            self.line(f"Touch({p});")
            self.line("Pause();")
        self.line(f"{self.random.choice(scope.numbers)} ^= *{p};")

    def put_structure(self, scope, _):
        structure, size = self.random.choice(self.structures)
        name = self.name("s")
        same = [n for n, s in scope.structs if s == structure]
        if same and self.chance(0.5):
            self.line(f"{structure} {name} = {self.random.choice(same)};")
        else:
            self.line(f"{structure} {name} = Make{structure}({self.number(scope, 1)});")
        self.line(f"{name}.m[{self.random.randrange(size)}] ^= {self.number(scope, 1)};")
        scope.structs.append((name, structure))
        if self.chance(0.5):
            self.line(f"{self.random.choice(scope.numbers)} += Sum(Turn({name}));")

    def put_publish(self, scope, _):
        number = self.random.choice(scope.numbers)
        box = self.name("mailbox")
        self.line(f"const auto {box} = std::make_unique<Mailbox>(nullptr);")
        if self.chance(0.5):
            self.line(f"if ({box}->exchange(&{number}) != nullptr) return {{}};")
        else:
            none = self.name("none")
            self.line(f"uint64_t* {none} = nullptr;")
            self.line(f"if (!{box}->compare_exchange_strong({none}, &{number})) return {{}};")
        self.line("Pause();")
        self.line(f"Collect(*{box}, {self.number(scope, 1)});")
        self.line("Pause();")

    def put_stack(self, scope, _):
        self.line(f"{self.random.choice(scope.numbers)} += static_cast<uint64_t>("
                  f"weft::testing::UseStack({self.random.choice([100, 700, 3000, 20000])}));")

    def put_virtual(self, scope, _):
        number = self.random.choice(scope.numbers)
        which = self.name("object")
        self.line(f"const std::unique_ptr<Base> {which} = MakeObject({self.number(scope, 1)});")
        self.line(f"{number} ^= {which}->Step({number}, fuel, depth - 1);")

    def put_indirect(self, scope, _):
        number = self.random.choice(scope.numbers)
        self.line(f"{number} += kTable[({self.number(scope, 1)}) % kTable.size()]({number});")

    def put_sort(self, scope, _):
        if not scope.arrays:
            self.put_pause(scope, 0)
            return
        name, size = self.random.choice(scope.arrays)
        self.line(f"SortAndPause({name}, {size});")

    def put_member(self, scope, _):
        number = self.random.choice(scope.numbers)
        which, step = self.name("object"), self.name("step")
        self.line(f"const std::unique_ptr<Base> {which} = MakeObject({self.number(scope, 1)});")
        self.line(f"uint64_t (Base::*{step})(uint64_t, Fuel*, int) = "
                  f"({self.number(scope, 1)}) % 2 == 0 ? &Base::Step : &Base::StepOfAll;")
        self.line("Pause();")
        self.line(f"{number} ^= ({which}.get()->*{step})({number}, fuel, depth - 1);")
        if scope.structs:
            name, structure = self.random.choice(scope.structs)
            size = self.structure_size(structure)
            member = self.name("member")
            self.line(f"uint64_t ({structure}::*{member})[{size}] = &{structure}::m;")
            self.line("Pause();")
            self.line(f"({name}.*{member})[{self.random.randrange(size)}] += {number};")

    def put_variadic(self, scope, _):
        count = self.random.randint(1, 9)
        arguments = [f"{self.number(scope, 1)} + uint64_t{{0}}, {self.double(scope)}"
                     for _ in range(count)]
        self.line(f"{self.random.choice(scope.numbers)} += "
                  f"Variadic({count}, {', '.join(arguments)});")

    def put_jump(self, scope, _):
        self.line(f"{self.random.choice(scope.numbers)} ^= JumpTo({self.number(scope, 1)}, "
                  f"{self.random.randint(0, 3)}, {self.random.randint(0, 6)});")

    def put_wide(self, scope, _):
        self.line(f"{self.random.choice(scope.numbers)} += ReckonWide({self.number(scope, 1)});")

    def put_coroutine(self, scope, nesting):
        number = self.random.choice(scope.numbers)
        numbers, n = self.name("numbers"), self.name("n")
        self.line(f"Numbers {numbers} = Coroutine{self.random.randrange(self.coroutines)}("
                  f"{self.number(scope, 1)}, &{number});")
        self.open(f"for (int {n} = 0; {n} < {self.random.randint(1, 6)} && {numbers}.Next(); ++{n})")
        self.line(f"{number} = Mix({number}, {numbers}.value());")
        if self.chance(0.4):
            self.line("Pause();")
        self.close()

    def put_if(self, scope, nesting):
        self.open(f"if (({self.number(scope, 1)}) % {self.random.randint(2, 4)} == 0)")
        self.body(scope, nesting - 1)
        if self.chance(0.5):
            self.close("} else {")
            self.indent += 1
            self.body(scope, nesting - 1)
        self.close()

    def put_switch(self, scope, nesting):
        cases = self.random.randint(2, 5)
        self.open(f"switch (({self.number(scope, 1)}) % {cases + 1})")
        for case in range(cases):
            self.open(f"case {case}:")
            self.body(scope, nesting - 1, 1, 2)
            self.line("break;")
            self.close()
        self.open("default:")
        self.body(scope, nesting - 1, 1, 1)
        self.close()
        self.close()

    def put_block(self, scope, nesting):
        kept = self.random.choice(scope.numbers)
        guard = self.name("guard")
        # With a destructor that parks and writes to a local of the function.
        self.open("")
        self.line(f"const AtEnd {guard}{{&{kept}}};")
        self.body(scope, nesting - 1)
        self.close()

    def put_try(self, scope, nesting):
        number = self.random.choice(scope.numbers)
        failure = self.name("failure")
        self.open("try")
        if self.chance(0.5):
            self.line(f"const AtEnd {self.name('guard')}{{&{number}}};")
        self.body(scope, nesting - 1)
        if self.chance(0.7):
            self.line(f"if (({self.number(scope, 1)}) % 2 == 0) throw Failure{{{number}}};")
        else:
            self.line(f"{number} ^= {self.call(scope)};")
        self.close(f"}} catch (const Failure& {failure}) {{")
        self.indent += 1
        inner = Scope(scope)
        inner.values.append(f"{failure}.code")
        self.line(f"{number} = Mix({number}, {failure}.code);")
        self.body(inner, nesting - 1, 1, 2)
        if self.chance(0.2):
            self.line(f"if ({failure}.code % 5 == 0) throw;")
        self.close()

    def put_closure(self, scope, nesting):
        closure = self.name("closure")
        v = self.name("v")
        by_value = self.chance(0.2)
        self.open(f"const auto {closure} = [{'=' if by_value else '&'}](uint64_t {v}) mutable -> "
                  "uint64_t")
        inner = Scope(scope)
        inner.numbers = [] if by_value else list(scope.numbers)
        inner.numbers.append(v)
        inner.values.append(v)
        if by_value:
            inner.arrays = []
            inner.numbers = [v]
            # `fuel` is a pointer, so is shared.
        self.body(inner, nesting - 1, 1, 3)
        self.line(f"return {self.number(inner)};")
        self.close("};")
        self.line(f"{self.random.choice(scope.numbers)} ^= Call({closure}, {self.number(scope, 1)});")

    def put_variable(self, scope, _):
        name, n = self.name("w"), self.name("n")
        self.line(f"const size_t {n} = ({self.number(scope, 1)}) % 40 + 1;")
        self.line(f"auto* const {name} = static_cast<uint64_t*>(alloca({n} * sizeof(uint64_t)));")
        i = self.name("i")
        self.open(f"for (size_t {i} = 0; {i} < {n}; ++{i})")
        self.line(f"{name}[{i}] = {i} + {self.number(scope, 1)};")
        self.close()
        self.line("Pause();")
        self.open(f"for (size_t {i} = {n}; {i} > 0; --{i})")
        self.line(f"{self.random.choice(scope.numbers)} ^= {name}[{i} - 1];")
        if self.chance(0.4):
            self.line(f"if ({i} % 8 == 0) Pause();")
        self.close()

    # --- the program ---

    def put_structures(self):
        for name, size in self.structures:
            self.open(f"struct {name}")
            self.line(f"uint64_t m[{size}];")
            if self.chance(0.4):
                self.line("double d = 1.5;")
            if self.chance(0.3):
                self.line("char c[3] = {1, 2, 3};")
            self.close("};")
            self.open(f"[[gnu::noinline]] {name} Make{name}(uint64_t seed)")
            self.line(f"{name} s{{}};")
            self.line("for (uint64_t& m : s.m) m = seed = Mix(seed, 3);")
            self.line("return s;")
            self.close()
            self.open(f"inline uint64_t Sum({name} s)")
            self.line("uint64_t sum = 0;")
            self.line("for (const uint64_t m : s.m) sum = Mix(sum, m);")
            self.line("return sum;")
            self.close()
            self.open(f"[[gnu::noinline]] {name} Turn({name} s)")
            self.line("Pause();")
            self.line(f"for (size_t i = 0; i < {size} / 2; ++i) "
                      f"std::swap(s.m[i], s.m[{size - 1} - i]);")
            self.line("return s;")
            self.close()
        self.open("struct AtEnd")
        self.open("~AtEnd()")
        self.line("Pause();")
        self.line("*number = Mix(*number, 9);")
        self.close()
        self.line("uint64_t* number;")
        self.close("};")

    # Those that no statement has room for.
    def put_helpers(self):
        self.open("[[gnu::noinline]] uint64_t SumOfList(int count, va_list list)")
        self.line("uint64_t sum = 0;")
        self.open("for (int i = 0; i < count; ++i)")
        self.line("sum = Mix(sum, va_arg(list, uint64_t));")
        self.line("if (sum % 3 == 0) Pause();")
        self.line("sum += static_cast<uint64_t>(va_arg(list, double));")
        self.close()
        self.line("return sum;")
        self.close()
        self.open("WEFT_RANDOM_VARIADIC uint64_t Variadic(int count, ...)")
        self.line("va_list list;")
        self.line("va_start(list, count);")
        self.line("const uint64_t sum = SumOfList(count, list);")
        self.line("va_end(list);")
        self.line("return sum;")
        self.close()

        self.open("[[gnu::noinline]] void JumpFrom(std::jmp_buf& buffer, int frames)")
        self.line("Pause();")
        self.line("if (frames < 0) return;  // never: a compiler might call this endless")
        self.line("if (frames == 0) std::longjmp(buffer, 1);")
        self.line("JumpFrom(buffer, frames - 1);")
        self.line("Pause();")
        self.close()
        self.open("[[gnu::noinline]] uint64_t JumpTo(uint64_t value, int times, int frames)")
        self.line("std::jmp_buf buffer;")
        self.line("volatile uint64_t kept = value;")
        self.line("volatile int left = times;")
        self.line("if (setjmp(buffer) != 0) kept = Mix(kept, 5);")
        self.line("Pause();")
        self.open("if (left > 0)")
        self.line("left = left - 1;")
        self.line("JumpFrom(buffer, frames);")
        self.close()
        self.line("return kept;")
        self.close()

        # The same with and without what the processor may not have.
        scale = 0.5 * self.random.randint(1, 8)
        for suffix, attribute in (("Avx", "WEFT_RANDOM_AVX"), ("Narrow", "[[gnu::noinline]]")):
            self.open(f"{attribute} void AddWide{suffix}(const Wide& a, Wide* sum)")
            self.line(f"const Wide scaled = a * {scale};")
            self.line("Pause();")
            self.line("*sum += scaled;")
            self.close()
            self.open(f"{attribute} uint64_t ReckonWide{suffix}(uint64_t value)")
            self.line("const double v = static_cast<double>(value % 4096);")
            self.line("Wide a = {v, v + 1, 7, 3 - v};")
            self.line("const Wide b = a + a;")
            self.line("Wide sum = b;")
            self.open("for (int i = 0; i < 3; ++i)")
            self.line(f"AddWide{suffix}(a, &sum);")
            self.line("Pause();")
            self.line("a = a - b;")
            self.close()
            self.line("return Mix(static_cast<uint64_t>(static_cast<int64_t>(sum[0] * 4 + sum[1])), "
                      "static_cast<uint64_t>(static_cast<int64_t>(sum[2] * 4 + sum[3])));")
            self.close()
        self.open("uint64_t ReckonWide(uint64_t value)")
        self.line('return __builtin_cpu_supports("avx") ? ReckonWideAvx(value) : '
                  "ReckonWideNarrow(value);")
        self.close()

    def put_coroutines(self):
        self.in_coroutine = True
        for c in range(self.coroutines):
            self.open(f"Numbers Coroutine{c}(uint64_t value, uint64_t* told)")
            scope = Scope()
            scope.numbers = ["value", "(*told)"]
            scope.values = ["value", "(*told)"]
            for _ in range(self.random.randint(2, 4)):
                self.statement(scope, 1)
                self.line(f"co_yield {self.number(scope)};")
            self.close()
        self.in_coroutine = False

    def put_function(self, function):
        self.open(function.declaration())
        scope = Scope()
        self.line("uint64_t r = static_cast<uint64_t>(depth);")
        scope.numbers.append("r")
        scope.values.append("r")
        for kind, name in function.parameters:
            if kind in ("uint64_t", "uint32_t"):
                scope.values.append(f"uint64_t{{{name}}}" if kind == "uint32_t" else name)
            if kind == "uint64_t":
                scope.numbers.append(name)
            elif kind == "const uint64_t&":
                scope.values.append(name)
            elif kind == "uint64_t*":
                scope.numbers.append(f"(*{name})")
                scope.values.append(f"(*{name})")
            elif kind == "double":
                scope.doubles.append(name)
            elif kind.startswith("S"):
                scope.structs.append((name, kind))
        # Those that are read by reference need an object.
        scope.values = [v for v in scope.values if "{" not in v] or ["r"]
        for kind, name in function.parameters:
            if kind == "uint32_t":
                self.line(f"r += {name};")
        result = "r" if function.result == "uint64_t" else f"Make{function.result}(r)"
        self.line(f"if (depth <= 0 || --fuel->calls <= 0) return {result};")
        for _ in range(self.random.randint(4, 10)):
            self.statement(scope, 2)
        self.line(f"r = Mix(r, {self.number(scope)});")
        for number in scope.numbers[1:]:
            self.line(f"r = Mix(r, {number});")
        for d in scope.doubles:
            self.line(f"r = Mix(r, static_cast<uint64_t>(static_cast<int64_t>({d})));")
        for array, size in scope.arrays:
            self.line(f"for (size_t i = 0; i < {size}; ++i) r = Mix(r, {array}[i]);")
        for structure, _ in scope.structs:
            self.line(f"r = Mix(r, Sum({structure}));")
        self.line(f"return {result};")
        self.close()

    def text(self):
        space = f"program{self.seed}"
        self.line(f"namespace weft::testing::WEFT_RANDOM_LEVEL::{space} {{")
        self.line("namespace {")
        self.put_structures()
        for function in self.functions:
            self.line(function.declaration() + ";")
        self.line("std::unique_ptr<Base> MakeObject(uint64_t which);")
        entries = ["[](uint64_t v) { Pause(); return v * 3; }", "[](uint64_t v) { return ~v; }",
                   "[](uint64_t v) { return Paused(v) + 1; }"]
        self.random.shuffle(entries)
        self.line("constexpr std::array<uint64_t (*)(uint64_t), 3> kTable = {"
                  + ", ".join("+" + e for e in entries) + "};")
        self.put_helpers()
        self.put_coroutines()
        for function in self.functions:
            self.put_function(function)
        classes = self.random.randint(2, 3)
        for c in range(classes):
            self.open(f"struct C{c} : Base")
            self.open("uint64_t Step(uint64_t value, Fuel* fuel, int depth) override")
            self.line("if (depth <= 0 || --fuel->calls <= 0) return value;")
            scope = Scope()
            scope.numbers = ["value", "kept"]
            scope.values = ["value", "kept"]
            self.body(scope, 1, 2, 4)
            self.line("return Mix(value, kept);")
            self.close()
            self.line(f"uint64_t kept = {self.random.getrandbits(32)}U;")
            self.close("};")
        self.open("std::unique_ptr<Base> MakeObject(uint64_t which)")
        for c in range(1, classes):
            self.line(f"if (which % {classes} == {c}) return std::make_unique<C{c}>();")
        self.line("return std::make_unique<C0>();")
        self.close()
        self.open("uint64_t Run(uint64_t input)")
        self.line(f"Fuel fuel_left = {{{self.random.randint(15, 50)}}};")
        self.line("Fuel* const fuel = &fuel_left;")
        self.line(f"const int depth = {self.random.randint(4, 12)};")
        self.line("uint64_t r = input;")
        scope = Scope()
        scope.numbers = ["r"]
        scope.values = ["r", "input"]
        self.open("for (int round = 0; round < 3; ++round)")
        self.open("try")
        for _ in self.functions:
            result = self.name("result")
            # Not within the call below: the arguments of one are made in any order.
            self.line(f"const uint64_t {result} = {self.call(scope)};")
            self.line(f"r = Mix(r, {result});")
        self.close("} catch (const Failure& failure) {")
        self.indent += 1
        self.line("r = Mix(r, failure.code);")
        self.close()
        self.close()
        self.line("return r;")
        self.close()
        self.line(f"const RegisterRandomProgram registered({{{self.seed}U, "
                  "WEFT_RANDOM_NAME(WEFT_RANDOM_LEVEL), Run});")
        self.line("}  // namespace")
        self.line(f"}}  // namespace weft::testing::WEFT_RANDOM_LEVEL::{space}")
        return "\n".join(self.lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the first program")
    parser.add_argument("--count", type=int, default=1, help="programs, with this seed and the next")
    parser.add_argument("--output", help="a file, instead of the standard output")
    arguments = parser.parse_args()
    parts = ["#include <utility>\n\n#include \"tests/stacks/random_program.h\"\n"]
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        parts.append(Program(seed).text())
    text = "\n".join(parts)
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as stream:
            stream.write(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
