"""gdb commands for goroutines, of live processes and of core files:

    gdb -x tools/weft-gdb.py PROGRAM [PID | CORE]

    info goroutines          all of them: number, state, where it is, where it was started
    goroutine N              makes N the one that bt, up, down, frame, info locals, ... are about
    goroutine off            back to the threads
    goroutine N COMMAND      that command, about goroutine N: goroutine 7 bt
    goroutine all COMMAND    the same for each of them
    goroutine N stacks       where its stacks are, in bytes

The program needs its symbol table for this, and no debug information; with it frames have their
lines, arguments and locals. Nothing of the process is changed: no registers, no memory, so a core file
serves as well.

How: gdb's threads stay as they are. While a goroutine that is not running is looked at, an unwinder
of ours claims the thread's innermost frame, and says that its caller is where the goroutine has left
its stack. From there gdb goes on by itself, as on any stack. A stack that rests is not in its place,
but in a block, and the bytes at its place are somebody else's. So its frames are shown where the
block is: the stack pointer, and the frame pointers as they are unwound, are shifted there, and what
reads locals through them reads the copy. That it goes by frame pointers alone is no loss: a stack
rests only if all of its frames have one. Frame 0, the thread's, is hidden from backtraces.
"""

import contextlib
import re

import gdb
import gdb.frames
import gdb.unwinder

FIELDS = ("version slab_next slab_gs slab_count g_size id status wait_reason creator creation_site home "
          "block sp pinned stack_lo stack_hi m_next m_tid m_current").split()
VERSION = 1
STATES = {1: "runnable", 2: "running", 3: "syscall", 4: "waiting", 9: "preempted"}
WAITING = 4
NOT_RUNNING = (1, WAITING)
REASONS = 32
# What a switch has pushed, from the stack pointer up (stack/arch.h).
SAVED = ("r15", "r14", "r13", "r12", "rbx", "rbp", "rip")
# Functions of the runtime, with or without the type of a result before the name.
RUNTIME = re.compile(r"([^(<]* )?(weft::(internal|stack|Waiter)::|weft_switch|__morestack)")
LONGEST_TRACE = 10000


def symbol_address(name):
    """Of a symbol, by the symbol table alone."""
    try:
        return int(gdb.parse_and_eval(f"(unsigned long)&'{name}'"))
    except gdb.error as error:
        raise gdb.GdbError(f"{name}: not found. Is this a program with Weft's scheduler, and its "
                           "symbol table?") from error


def read(address, size):
    try:
        return bytes(gdb.selected_inferior().read_memory(address, size))
    except gdb.MemoryError as error:
        raise gdb.GdbError(f"{error}: does the program belong to this core file, and is it one or "
                           "running?") from error


def word(address, size=8, signed=False):
    return int.from_bytes(read(address, size), "little", signed=signed)


def string(address):
    text = b""
    while address != 0 and not text.endswith(b"\0") and len(text) < 256:
        text += read(address + len(text), 1)
    return text.rstrip(b"\0").decode(errors="replace")


class Layout:
    """Where the runtime keeps what: it says so itself (sched/all_goroutines.cc)."""

    def __init__(self):
        base = symbol_address("weft_debugger_layout")
        if word(base) != VERSION:
            raise gdb.GdbError(f"the program's layout has version {word(base)}, this script is for "
                               f"{VERSION}: take the script that came with the program's sources")
        for number, name in enumerate(FIELDS):
            setattr(self, name, word(base + 8 * number, signed=True))
        reasons = symbol_address("weft_debugger_wait_reasons")
        self.reasons = [string(word(reasons + 8 * i)) for i in range(REASONS)]
        self.slabs = word(symbol_address("weft_debugger_slabs"))
        self.ms = word(symbol_address("weft_debugger_ms"))


class Goroutine:
    def __init__(self, layout, address):
        self.id = word(address + layout.id)
        self.status = word(address + layout.status, 1)
        self.reason = layout.reasons[word(address + layout.wait_reason, 1) % REASONS]
        self.creator = word(address + layout.creator)
        self.creation_site = word(address + layout.creation_site)
        self.home = word(address + layout.home)
        self.block = word(address + layout.block)
        self.sp = word(address + layout.sp)
        self.pinned = word(address + layout.pinned)
        self.stack_hi = word(address + layout.stack_hi)
        self.address = address
        self.tid = 0  # of the thread that it is on

    @property
    def state(self):
        if self.status == WAITING and self.reason:
            return self.reason
        return STATES.get(self.status, "???")

    @property
    def has_left_stack(self):
        return self.status in NOT_RUNNING and self.home != 0 and self.tid == 0

    @property
    def shift(self):
        """From where the stack belongs to where its bytes are."""
        return self.block - self.sp if self.block != 0 else 0

    def saved_registers(self):
        at = self.sp + self.shift
        registers = {name: word(at + 8 * i) for i, name in enumerate(SAVED)}
        registers["rsp"] = at + 8 * len(SAVED)
        if registers["rbp"] != 0:
            registers["rbp"] += self.shift
        return registers

    def has(self, address):
        """Whether that is in its stack, or the copy of it."""
        return self.sp + self.shift <= address <= self.stack_hi + self.shift

    def pcs(self):
        """Where it is, innermost first, by frame pointers."""
        registers = self.saved_registers()
        yield registers["rip"]
        fp = registers["rbp"]
        for _ in range(LONGEST_TRACE):
            if fp % 8 != 0 or not self.has(fp) or not self.has(fp + 16):
                return
            caller, pc = word(fp), word(fp + 8)
            if caller == 0:
                return
            yield pc
            fp = caller + self.shift


def goroutines():
    """All that have not ended, by number."""
    layout = Layout()
    found = []
    slab = word(layout.slabs)
    while slab != 0:
        gs = word(slab + layout.slab_gs)
        for i in range(word(slab + layout.slab_count, 4)):
            g = Goroutine(layout, gs + i * layout.g_size)
            if g.status in STATES:
                found.append(g)
        slab = word(slab + layout.slab_next)
    on_threads = {}
    m = word(layout.ms)
    while m != 0:
        on_threads[word(m + layout.m_current)] = word(m + layout.m_tid, 4)
        m = word(m + layout.m_next)
    for g in found:
        g.tid = on_threads.get(g.address, 0)
    return sorted(found, key=lambda g: g.id)


def thread_of(tid):
    for thread in gdb.selected_inferior().threads():
        if thread.ptid[1] == tid or thread.ptid[2] == tid:
            return thread
    return None


# --- looking at one ---

class FrameId:
    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


class Unwinder(gdb.unwinder.Unwinder):
    """Leads from the selected thread's innermost frame to `target`, and through its frames."""

    def __init__(self):
        super().__init__("weft goroutines")
        self.target = None

    def __call__(self, frame):
        g = self.target
        if g is None:
            return None
        sp = int(frame.read_register("rsp"))
        if not g.has(sp):
            # As if it were the one that the goroutine's innermost frame has called: gdb ends a trace
            # where a caller's frame is below that of who it has called.
            return self.info(frame, g.sp + g.shift, g.saved_registers())
        return self.leave_frame(frame, g) if g.shift != 0 else None

    @staticmethod
    def info(frame, sp, registers):
        kind = gdb.lookup_type("unsigned long")
        info = frame.create_unwind_info(FrameId(gdb.Value(sp).cast(kind), frame.read_register("rip")))
        for name, value in registers.items():
            info.add_saved_register(name, gdb.Value(value).cast(kind))
        return info

    def leave_frame(self, frame, g):
        """To the caller, where the stack rests."""
        fp = int(frame.read_register("rbp"))
        if fp % 8 != 0 or not g.has(fp) or not g.has(fp + 16):
            return None
        pc = int(frame.read_register("rip"))
        if "weft_switch" in (function_at(pc) or ""):
            return None
        caller = word(fp)
        return self.info(frame, fp + 16, {"rip": word(fp + 8), "rsp": fp + 16,
                                          "rbp": caller + g.shift if caller != 0 else 0})


unwinder = Unwinder()
gdb.unwinder.register_unwinder(None, unwinder, replace=True)


class HideThread:
    """Of backtraces: the frames of the thread that lends itself."""

    def __init__(self):
        self.name = "weft goroutines"
        self.priority = 1000
        self.enabled = True
        gdb.frame_filters[self.name] = self

    @staticmethod
    def filter(frames):
        g = unwinder.target
        if g is None:
            return frames
        return (frame for frame in frames
                if g.has(int(frame.inferior_frame().read_register("rsp"))))


HideThread()


def look_at(g):
    """From now on gdb's frames are those of `g`; None: the thread's."""
    unwinder.target = g
    gdb.invalidate_cached_frames()
    if g is None:
        return
    frame = gdb.newest_frame()
    while frame is not None and not g.has(int(frame.read_register("rsp"))):
        frame = frame.older()
    if frame is None:
        unwinder.target = None
        gdb.invalidate_cached_frames()
        raise gdb.GdbError(f"goroutine {g.id}: its stack cannot be read")
    frame.select()


@contextlib.contextmanager
def looking_at(g):
    thread, before = gdb.selected_thread(), unwinder.target
    try:
        if g.has_left_stack:
            look_at(g)
        else:
            look_at(None)
            on = thread_of(g.tid) if g.tid != 0 else None
            if on is None:
                raise gdb.GdbError(f"goroutine {g.id} has not run yet, or is on its way")
            on.switch()
        yield
    finally:
        if thread is not None and thread.is_valid():
            thread.switch()
        look_at(before)


# --- saying where it is ---

def function_at(pc):
    """Its name, of what is inlined there the outermost; None: not known."""
    block = gdb.block_for_pc(pc)
    while block is not None and block.function is None:
        block = block.superblock
    while block is not None and block.function is not None and block.superblock is not None \
            and block.superblock.function is not None:
        block = block.superblock
    if block is not None and block.function is not None:
        return block.function.print_name
    text = gdb.execute(f"info symbol {pc:#x}", to_string=True)
    return None if text.startswith("No symbol") else text.split(" + ")[0].split(" in section")[0]


_places = {}


def place(pc):
    """ "function at file:line" of the call before a return address."""
    key = (gdb.current_progspace().filename, pc)
    if key not in _places:
        name = function_at(pc - 1) or f"{pc:#x}"
        line = gdb.find_pc_line(pc - 1)
        if line.symtab is not None and line.line != 0:
            name += f" at {line.symtab.filename}:{line.line}"
        _places[key] = name
    return _places[key]


def where(g):
    """The innermost place that is the program's."""
    if not g.has_left_stack:
        return f"thread {g.tid}" if g.tid != 0 else "not begun"
    first = None
    for pc in g.pcs():
        text = place(pc)
        first = first or text
        if not RUNTIME.match(text):
            return text
    return first


class InfoGoroutines(gdb.Command):
    """All goroutines: number, state, where it is, and where it was started."""

    def __init__(self):
        super().__init__("info goroutines", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        for g in goroutines():
            marks = ["rests"] if g.block != 0 else []
            line = f"{g.id} [{', '.join([g.state, *marks])}] {where(g)}"
            if g.creation_site != 0:
                # Its line would be in Go(), which is inlined there.
                line += f", created by {function_at(g.creation_site - 1)}"
            gdb.write(line + "\n")


def print_stacks(g):
    if g.home == 0:
        gdb.write(f"goroutine {g.id} has no stack yet\n")
        return
    gdb.write(f"stack: {g.sp:#x} to {g.stack_hi:#x}, {g.stack_hi - g.sp} bytes in use"
              f"{'' if g.has_left_stack else ' when it was last left'}\n")
    if g.block != 0:
        gdb.write(f"it rests: its bytes are at {g.block:#x}\n")
    if g.pinned != 0:
        gdb.write(f"pinned stack: from {g.pinned:#x} up\n")


class GoroutineCommand(gdb.Command):
    """Looks at goroutines: goroutine N, goroutine N bt, goroutine all bt, goroutine off.

goroutine N COMMAND runs a command of gdb's on that goroutine's frames, goroutine all COMMAND on
those of all. goroutine N keeps to them until goroutine off. goroutine N stacks says where its stacks
are."""

    def __init__(self):
        super().__init__("goroutine", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        which, _, command = argument.strip().partition(" ")
        command = command.strip()
        if which == "off":
            look_at(None)
            return
        if which == "all" and command:
            for g in goroutines():
                gdb.write(f"\nGoroutine {g.id} [{g.state}]:\n")
                try:
                    self.run(g, command, from_tty)
                except gdb.GdbError as error:
                    gdb.write(f"{error}\n")
            return
        if not which.isdigit():
            raise gdb.GdbError("goroutine N, goroutine N COMMAND, goroutine all COMMAND, goroutine off")
        g = next((g for g in goroutines() if g.id == int(which)), None)
        if g is None:
            raise gdb.GdbError(f"no goroutine {which}")
        if command:
            self.run(g, command, from_tty)
        elif g.has_left_stack:
            look_at(g)
            gdb.execute("frame", from_tty)
        else:
            look_at(None)
            thread = thread_of(g.tid)
            if thread is None:
                raise gdb.GdbError(f"goroutine {g.id} has not run yet, or is on its way")
            thread.switch()
            gdb.execute("frame", from_tty)

    @staticmethod
    def run(g, command, from_tty):
        if command == "stacks":
            print_stacks(g)
            return
        with looking_at(g):
            gdb.execute(command, from_tty)


InfoGoroutines()
GoroutineCommand()


# The program's next step makes all of this out of date.
def forget(_):
    unwinder.target = None


gdb.events.cont.connect(forget)
