"""Macros for what this package builds without those of //stack:defs.bzl.

Who embeds :fork_exec or :snapshot has Abseil to link and nothing else. On a goroutine such code is as
any foreign code, and never parks.
"""

PLAIN_COPTS = [
    "-fno-omit-frame-pointer",
    "-Wall",
    "-Wextra",
    "-Werror",
] + select({
    # Warnings of headers that are built from their source are not ours. (GCC has no such flag.)
    "//stack/mode:clang": [
        "--system-header-prefix=absl/",
        "--system-header-prefix=gmock/",
        "--system-header-prefix=gtest/",
    ],
    "//conditions:default": ["-Wno-dangling-else"],
})

def plain_cc_library(name, copts = PLAIN_COPTS, **kwargs):
    """cc_library, always linked into the program."""
    native.cc_library(
        name = name,
        copts = copts,
        linkstatic = True,
        **kwargs
    )

def fork_exec_test(name, deps = [], **kwargs):
    """A cc_test of :fork_exec, from the source of its name."""
    native.cc_test(
        name = name,
        size = "medium",
        srcs = [name + ".cc"],
        copts = PLAIN_COPTS,
        # Several have ids, namespaces and cgroups of their own.
        tags = ["no-sandbox"],
        deps = deps + [
            ":fork_exec",
            ":testing",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
        **kwargs
    )
