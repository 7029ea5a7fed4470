"""Tests of what may be on a stack that rests and moves."""

load("//stack:defs.bzl", "weft_cc_library", "weft_cc_test")

# What the program does to its stacks (WEFTDEBUG), by the end of the test's name.
_SETTINGS = {
    "": {},
    "_rest": {"WEFTDEBUG": "stackrest=always,stackpoison=1"},
    "_move": {"WEFTDEBUG": "stackmove=always"},
    "_copy": {"WEFTDEBUG": "stackgrow=copy,stackrest=always"},
}

_DEPS = [
    ":torture",
    "//chan",
    "//sched:goroutine",
    "//sched:testing",
    "//sched/sync:wait_group",
    "//stack:context",
    "//stack:grow",
    "//stack:rest",
    "//stack:slots",
    "//tests:debug_setting",
    "//tests:rounds",
    "@com_google_googletest//:gtest_main",
]

def _tests(name, least, deps):
    for suffix, env in _SETTINGS.items():
        weft_cc_test(
            name = "%s%s_test" % (name, suffix),
            size = "medium",
            env = dict(env, **{
                "WEFT_LEAST_" + what.upper(): str(number)
                for what, number in least.items()
            }),
            # tools/torture brings its own settings.
            tags = ["stack-setting"] if env else [],
            deps = deps,
        )

def weft_torture_test(name, least):
    """<name>_test.cc at some levels of optimization, with stacks that rest as needed and always,
    that move at each function entry, and that grow by being copied.

    They are called <name>_O0_test, <name>_O0_rest_test, <name>_O0_move_test, ...

    Args:
      name: the test's, without `_test`
      least: what differs with the level of optimization is the code, and so what lies in its
        frames, and how much of it may move. Level -> {"rests": of a thousand stacks that are to
        rest, so many have to, "moves": the same at functions' entries outside of the runtime,
        "grows": to a thousand parks, copies to a larger slot}. Some way below what is usual, but so
        that a change to the compiler pass after which little rests or moves is noticed.
    """
    for level in least:
        code = "%s_%s" % (name, level)
        weft_cc_library(
            name = code,
            testonly = True,
            srcs = [name + "_test.cc"],
            copts = ["-" + level],
            alwayslink = True,
            deps = _DEPS,
        )
        _tests(code, least[level], [":" + code])

def weft_random_test(name, programs, levels, least):
    """<name>_test.cc with the same programs at each level, to be compared with one another.

    Args:
      name: the test's, without `_test`
      programs: of random_programs()
      levels: of optimization
      least: as weft_torture_test() has it, of all levels together
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
    _tests(name, least, [":" + name] + [":%s_%s" % (name, level) for level in levels])
