"""The tests of //debug, for its BUILD: libraries and the benchmark are there."""

load("//stack:defs.bzl", "weft_cc_binary", "weft_cc_library", "weft_cc_test")
load("//tests:readme.bzl", "weft_readme_example")

def debug_tests():
    """All of them, and the programs and libraries that they alone use."""

    weft_cc_test(
        name = "blocked_test",
        srcs = ["blocked_test.cc"],
        deps = [
            ":blocked",
            "//chan",
            "//sched:goroutine",
            "//sched:testing",
            "//sched/sync:mutex",
            "//sched/sync:rw_mutex",
            "//stack:context",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_readme_example(
        deps = [
            ":schedtrace",
            "//sched:goroutine",
        ],
    )

    weft_cc_binary(
        name = "schedtrace_program",
        testonly = True,
        srcs = ["schedtrace_program.cc"],
        visibility = ["//tools:__pkg__"],
        deps = [
            ":schedtrace",
            "//sched:fatal",
            "//sched:goroutine",
            "//sched:waiter",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
        ],
    )

    weft_cc_test(
        name = "scheddetail_test",
        srcs = ["scheddetail_test.cc"],
        data = [":schedtrace_program"],
        deps = [
            ":schedtrace",
            "//chan",
            "//sched:goroutine",
            "//sched:snapshot",
            "//sched:testing",
            "//tests:rounds",
            "//tests:subprocess",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "schedtrace_test",
        srcs = ["schedtrace_test.cc"],
        data = [
            ":readme_example",
            ":schedtrace_program",
        ],
        deps = [
            ":schedtrace",
            "//sched:clock",
            "//sched:snapshot",
            "//tests:rounds",
            "//tests:subprocess",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_binary(
        name = "goroutines_program",
        testonly = True,
        srcs = ["goroutines_program.cc"],
        visibility = [
            "//spawn:__pkg__",
            "//tools:__pkg__",
        ],
        copts = ["-g"],
        deps = [
            ":sigquit",
            "//chan",
            "//sched:goroutine",
            "@com_google_absl//absl/time",
        ],
    )

    # Also while stacks move: whoever asks for the frames of one that runs comes upon it in a move.
    for name, env in {
        "goroutines_test": {},
        "goroutines_move_test": {"WEFTDEBUG": "stackmove=always"},
    }.items():
        weft_cc_test(
            name = name,
            srcs = ["goroutines_test.cc"],
            copts = ["-g"],
            data = [":goroutines_program"],
            env = env,
            # tools/torture brings its own settings.
            tags = ["stack-setting"] if env else [],
            deps = [
                ":goroutines",
                ":symbolizer",
                "//chan",
                "//sched:clock",
                "//sched:goroutine",
                "//sched:testing",
                "//sched/sync:mutex",
                "//stack:context",
                "//tests:rounds",
                "//tests:subprocess",
                "@com_google_absl//absl/strings",
                "@com_google_absl//absl/time",
                "@com_google_googletest//:gtest_main",
            ],
        )

    weft_cc_library(
        name = "profile_testing",
        testonly = True,
        srcs = ["profile_testing.cc"],
        hdrs = ["profile_testing.h"],
        visibility = ["//debug:__subpackages__"],
        deps = [
            ":profile",
            "//tests:subprocess",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest",
            "@zlib//:z",
        ],
    )

    weft_cc_test(
        name = "profile_test",
        srcs = ["profile_test.cc"],
        copts = ["-g"],
        deps = [
            ":profile",
            ":profile_data",
            ":profile_testing",
            "//chan",
            "//sched:goroutine",
            "//sched:snapshot",
            "//sched:testing",
            "//sched/sync:wait_group",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "contention_profile_test",
        srcs = ["contention_profile_test.cc"],
        copts = ["-g"],
        deps = [
            ":profile",
            ":profile_testing",
            "//chan",
            "//sched:clock",
            "//sched:goroutine",
            "//sched:testing",
            "//sched:waiter",
            "//sched/sync:mutex",
            "//sched/sync:rw_mutex",
            "//sched/sync:wait_group",
            "//tests:rounds",
            "@com_google_absl//absl/base:core_headers",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_binary(
        name = "trace_program",
        testonly = True,
        srcs = ["trace_program.cc"],
        visibility = ["//tools:__pkg__"],
        deps = [
            ":trace",
            "//chan",
            "//sched:clock",
            "//sched:fatal",
            "//sched:goroutine",
            "@com_google_absl//absl/time",
        ],
    )

    weft_cc_test(
        name = "trace_test",
        srcs = ["trace_test.cc"],
        data = [":trace_program"],
        deps = [
            ":trace",
            "//chan",
            "//sched:clock",
            "//sched:goroutine",
            "//sched:snapshot",
            "//sched:testing",
            "//tests:rounds",
            "//tests:subprocess",
            "@com_google_absl//absl/status",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "trace_states_test",
        srcs = ["trace_states_test.cc"],
        deps = [
            ":trace_recorder",
            ":trace_states",
            "//chan",
            "//sched:clock",
            "//sched:events",
            "//sched:goroutine",
            "//sched:testing",
            "//sched/sync:wait_group",
            "//tests:rounds",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_readme_example(
        name = "trace_readme",
        prints = "traced",
        readme = "TRACE.md",
        deps = [
            ":trace",
            "//chan",
            "//sched:goroutine",
        ],
    )

    weft_cc_test(
        name = "probes_test",
        srcs = ["probes_test.cc"],
        data = [":trace_program"],
        deps = [
            "//tests:subprocess",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "cpu_profile_test",
        srcs = ["cpu_profile_test.cc"],
        copts = ["-g"],
        deps = [
            ":cpu_profile",
            ":labels",
            ":profile",
            ":profile_testing",
            "//chan",
            "//sched:clock",
            "//sched:goroutine",
            "//sched:testing",
            "//sched/sync:wait_group",
            "@com_google_absl//absl/status",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_binary(
        name = "heap_profile_program",
        testonly = True,
        srcs = ["heap_profile_program.cc"],
        copts = ["-g"],
        deps = [
            ":profile",
            "//sched:goroutine",
            "//sched/sync:wait_group",
            "@com_google_absl//absl/status",
            "@com_google_absl//absl/strings",
        ] + select({
            # Which has an allocator of its own.
            ":sanitized": [],
            "//conditions:default": [":heap_profile"],
        }),
    )

    weft_cc_test(
        name = "heap_profile_test",
        srcs = ["heap_profile_test.cc"],
        data = [":heap_profile_program"],
        deps = [
            ":profile_testing",
            "//stack:context",
            "//tests:subprocess",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_binary(
        name = "slow_program",
        testonly = True,
        srcs = ["slow_program.cc"],
        copts = [
            "-g",
            "-O2",
        ],
        deps = [
            ":cpu_profile",
            ":labels",
            ":profile",
            "//sched:clock",
            "//sched:goroutine",
            "//sched/sync:mutex",
            "//sched/sync:wait_group",
            "@com_google_absl//absl/base:core_headers",
            "@com_google_absl//absl/status",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
        ],
    )

    weft_cc_test(
        name = "slow_program_test",
        srcs = ["slow_program_test.cc"],
        data = [
            "PROFILES.md",
            "slow_program.cc",
            ":slow_program",
        ],
        deps = [
            ":profile_testing",
            "//tests:subprocess",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_readme_example(
        name = "profiles_readme",
        prints = "written",
        readme = "PROFILES.md",
        deps = [
            ":labels",
            ":profile",
            "//sched:goroutine",
            "@com_google_absl//absl/status",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
        ],
    )
