"""Build macros for code that runs on goroutines.

    load("@weft//stack:defs.bzl", "weft_cc_binary", "weft_cc_library", "weft_cc_test")

They are cc_library, cc_binary, cc_test (and weft_cc_shared_object, for dlopen) with the compile flags of the build's stack mode
(//stack/mode:mode) and our warnings as errors. Code built without them runs on any goroutine too;
a goroutine parked inside it merely keeps its stack where it is.

What they add, by mode:
    copying    -fsplit-stack -fsanitize=safe-stack, the forced header stack/mode/weft_prelude.h, and
               the escape pass (//stack/escape_pass), a plugin of the compiler
    segmented  -fsplit-stack and the forced header
    fixed      nothing
and in each of them -fno-omit-frame-pointer, so that stacks can be walked. `warnings_as_errors =
False` leaves our warnings out, for code that is not ours, all but the one that a frame is larger
than the gap that guards a stack. `escape_pass = False` leaves the escape
pass out: a stack that has a frame of such code does not move, and a local of it whose address it
publishes by an atomic read-modify-write had better not exist.
"""

def _label(name):
    return str(Label("//stack/mode:" + name))

_PRELUDE = [
    "-include",
    "stack/mode/weft_prelude.h",
]

# -fsplit-stack is for compiling alone: at link it would wrap pthread_create. What safe-stack needs
# at link is propagated by //stack/mode:runtime_flags.
_STACK_COPTS = select({
    _label("copying"): [
        "-fsplit-stack",
        "-fsanitize=safe-stack",
    ] + _PRELUDE,
    _label("segmented"): ["-fsplit-stack"] + _PRELUDE,
    _label("fixed"): [],
})

# Where the escape pass is among the outputs of a build (also of a workspace that embeds this one).
# -fdepfile-entry has Bazel compile again when it has changed.
_ESCAPE_PASS = Label("//stack/escape_pass:weft_escape_pass")
_ESCAPE_PASS_FILE = "$(BINDIR)/" + "/".join(
    [part for part in [_ESCAPE_PASS.workspace_root, _ESCAPE_PASS.package, _ESCAPE_PASS.name + ".so"] if part],
)

_ESCAPE_PASS_COPTS = select({
    _label("moves"): [
        "-fpass-plugin=" + _ESCAPE_PASS_FILE,
        "-Xclang",
        "-fdepfile-entry=" + _ESCAPE_PASS_FILE,
    ],
    "//conditions:default": [],
})

_ESCAPE_PASS_DEPS = select({
    _label("moves"): [str(_ESCAPE_PASS)],
    "//conditions:default": [],
})

_DSO_SHIM = str(Label("//stack:dso_shim"))
_SPLIT_STACK_RUNTIME = str(Label("//stack:split_stack_runtime"))

_WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wframe-larger-than=262144",
]

# A frame larger than 256 KiB could step over the gap that guards a stack without touching it,
# whoever wrote the code.
_FRAME_LIMIT = select({
    _label("clang"): [
        "-Wframe-larger-than=262144",
        "-Werror=frame-larger-than",
    ],
    "//conditions:default": ["-Werror=frame-larger-than=262144"],
})

_COMPILER_WARNINGS = select({
    # Headers of libraries that are built from their source do not lie where the compiler expects
    # the system's, and their warnings are not ours. (GCC has no such flag.)
    _label("clang"): ["-Wthread-safety"] + [
        "--system-header-prefix=" + prefix
        for prefix in ("absl/", "benchmark/", "boost/", "gmock/", "gtest/")
    ],
    # GCC takes `if (x) EXPECT_EQ(a, b);` for a mistake. Clang finds the real ones.
    "//conditions:default": ["-Wno-dangling-else"],
})

def _weft_cc(rule, kwargs, runtime = _SPLIT_STACK_RUNTIME):
    warnings = kwargs.pop("warnings_as_errors", True)
    copts = ["-fno-omit-frame-pointer"] + _STACK_COPTS
    deps = [_label("runtime_flags"), runtime]
    if kwargs.pop("escape_pass", True):
        copts = copts + _ESCAPE_PASS_COPTS
        deps = deps + _ESCAPE_PASS_DEPS
    if warnings:
        copts = copts + _WARNINGS + _COMPILER_WARNINGS
    else:
        copts = copts + _FRAME_LIMIT
    kwargs["copts"] = copts + kwargs.pop("copts", [])
    kwargs["deps"] = kwargs.pop("deps", []) + deps
    rule(**kwargs)

def weft_cc_library(**kwargs):
    """cc_library for code that may be on a goroutine's stack.

    Always linked into the program: in a shared object split-stack code would find libgcc's
    __morestack instead of ours.
    """
    kwargs["linkstatic"] = True
    _weft_cc(native.cc_library, kwargs)

def weft_cc_binary(**kwargs):
    """cc_binary for code that may be on a goroutine's stack."""
    _weft_cc(native.cc_binary, kwargs)

def weft_cc_test(**kwargs):
    """cc_test for code that may be on a goroutine's stack."""
    _weft_cc(native.cc_test, kwargs)

def weft_cc_shared_object(**kwargs):
    """A shared object, for a program to load, whose code may be on a goroutine's stack.

    What split-stack code needs it takes from the program that loads it, which the macros built too.
    There is one runtime in a process, so `deps` must not bring libraries of Weft's or others that the
    macros built, but headers only; what the object calls of those the program has to export
    (linkopts = ["-rdynamic"]).
    """
    kwargs["linkshared"] = True
    _weft_cc(native.cc_binary, kwargs, runtime = _DSO_SHIM)
