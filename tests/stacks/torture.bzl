"""Tests of what may be on a stack that rests and moves."""

load("//stack:defs.bzl", "weft_cc_library", "weft_cc_test")

# What the program does to its stacks (WEFTDEBUG), by the end of the test's name.
_SETTINGS = {
    "": {},
    "_rest": {"WEFTDEBUG": "stackrest=always,stackpoison=1"},
    "_move": {"WEFTDEBUG": "stackmove=always"},
}

_DEPS = [
    ":torture",
    "//chan",
    "//sched:goroutine",
    "//sched:testing",
    "//sched/sync:wait_group",
    "//stack:context",
    "//stack:rest",
    "//stack:slots",
    "//tests:rounds",
    "@com_google_googletest//:gtest_main",
]

def _tests(name, deps):
    for suffix, env in _SETTINGS.items():
        weft_cc_test(
            name = "%s%s_test" % (name, suffix),
            size = "medium",
            env = env,
            # tools/torture brings its own settings.
            tags = ["stack-setting"] if env else [],
            deps = deps,
        )

def weft_torture_test(name, levels):
    """<name>_test.cc at some levels of optimization, with stacks that rest as needed and always,
    and that move at each function entry.

    They are called <name>_O0_test, <name>_O0_rest_test, <name>_O0_move_test, ...

    Args:
      name: the test's, without `_test`
      levels: what differs with them is the code, and so what lies in its frames
    """
    for level in levels:
        code = "%s_%s" % (name, level)
        weft_cc_library(
            name = code,
            testonly = True,
            srcs = [name + "_test.cc"],
            copts = ["-" + level],
            alwayslink = True,
            deps = _DEPS,
        )
        _tests(code, [":" + code])

def weft_random_test(name, programs, levels):
    """<name>_test.cc with the same programs at each level, to be compared with one another.

    Args:
      name: the test's, without `_test`
      programs: of random_programs()
      levels: of optimization
    """
    for level in levels:
        weft_cc_library(
            name = "%s_%s" % (name, level),
            testonly = True,
            srcs = [programs],
            copts = [
                "-" + level,
                # Nobody reads it, so it may look careless.
                "-w",
            ],
            local_defines = ["WEFT_RANDOM_LEVEL=" + level],
            warnings_as_errors = False,
            alwayslink = True,
            deps = [":random_program"],
        )
    weft_cc_library(
        name = name,
        testonly = True,
        srcs = [name + "_test.cc"],
        alwayslink = True,
        deps = _DEPS + [":random_program"],
    )
    _tests(name, [":" + name] + [":%s_%s" % (name, level) for level in levels])
