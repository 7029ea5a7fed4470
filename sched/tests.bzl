"""The tests of //sched, for its BUILD: libraries and benchmarks are there."""

load("//stack:defs.bzl", "weft_cc_binary", "weft_cc_test")

_LEASE_TEST_DEPS = [
    ":clock",
    ":delay",
    ":goroutine",
    ":snapshot",
    ":testing",
    ":waiter",
    "//stack:context",
    "//stack:stacks_lock",
    "//tests:debug_setting",
    "//tests:rounds",
    "@com_google_absl//absl/time",
    "@com_google_googletest//:gtest_main",
]

_STACKS_TEST_DEPS = [
    ":delay",
    ":goroutine",
    ":testing",
    "//chan",
    "//sched/sync:wait_group",
    "//stack:context",
    "//stack:rest",
    "//stack:slots",
    "//tests:debug_setting",
    "//tests:rounds",
    "@com_google_absl//absl/strings",
    "@com_google_googletest//:gtest_main",
]

def sched_tests():
    """All of them, and the programs that they run."""

    weft_cc_test(
        name = "clock_test",
        size = "small",
        srcs = ["clock_test.cc"],
        deps = [
            ":clock",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "closure_test",
        size = "small",
        srcs = ["closure_test.cc"],
        deps = [
            ":goroutine",
            "@com_google_absl//absl/functional:any_invocable",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "debug_settings_test",
        size = "small",
        srcs = ["debug_settings_test.cc"],
        deps = [
            ":debug_settings",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "lock_test",
        size = "small",
        srcs = ["lock_test.cc"],
        deps = [
            ":clock",
            ":lock",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "procs_test",
        size = "small",
        srcs = ["procs_test.cc"],
        deps = [
            ":procs",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "topology_test",
        size = "small",
        srcs = ["topology_test.cc"],
        deps = [
            ":topology",
            "@com_google_absl//absl/status",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "find_work_test",
        size = "small",
        srcs = ["find_work_test.cc"],
        deps = [
            ":policy",
            ":topology",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/types:span",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "poll_history_test",
        size = "small",
        srcs = ["poll_history_test.cc"],
        deps = [
            ":poll_history",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "simulator_test",
        size = "medium",
        srcs = ["simulator_test.cc"],
        deps = [
            ":simulator",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "block_queue_test",
        size = "small",
        srcs = ["block_queue_test.cc"],
        deps = [
            ":block_queue",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "run_queue_test",
        size = "medium",
        srcs = ["run_queue_test.cc"],
        deps = [
            ":delay",
            ":run_queue",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "thread_limit_test",
        size = "medium",
        srcs = ["thread_limit_test.cc"],
        deps = [
            ":clock",
            ":delay",
            ":goroutine",
            ":snapshot",
            ":testing",
            ":timer",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "timer_heap_test",
        size = "small",
        srcs = ["timer_heap_test.cc"],
        deps = [
            ":clock",
            ":delay",
            ":timer_heap",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "timer_test",
        size = "medium",
        srcs = ["timer_test.cc"],
        deps = [
            ":clock",
            ":delay",
            ":goroutine",
            ":testing",
            ":timer",
            ":waiter",
            "//tests:rounds",
            "@com_google_absl//absl/functional:function_ref",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "waiter_test",
        size = "medium",
        srcs = ["waiter_test.cc"],
        deps = [
            ":delay",
            ":goroutine",
            ":testing",
            ":waiter",
            "//tests:rounds",
            "@com_google_absl//absl/functional:any_invocable",
            "@com_google_absl//absl/functional:function_ref",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "waiter_thread_test",
        size = "small",
        srcs = ["waiter_thread_test.cc"],
        deps = [
            ":clock",
            ":delay",
            ":waiter",
            "//tests:rounds",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "fairness_test",
        size = "medium",
        srcs = ["fairness_test.cc"],
        deps = [
            ":clock",
            ":goroutine",
            ":testing",
            "//chan",
            "//tests:rounds",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "goroutine_exceptions_test",
        size = "medium",
        srcs = ["goroutine_exceptions_test.cc"],
        deps = [
            ":goroutine",
            ":testing",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "goroutine_test",
        size = "medium",
        srcs = ["goroutine_test.cc"],
        deps = [
            ":clock",
            ":goroutine",
            ":testing",
            ":waiter",
            "//tests:rounds",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "idle_test",
        size = "medium",
        srcs = ["idle_test.cc"],
        deps = [
            ":clock",
            ":delay",
            ":goroutine",
            ":testing",
            ":timer",
            ":waiter",
            "//tests:rounds",
            "@com_google_absl//absl/functional:function_ref",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "lease_test",
        size = "medium",
        srcs = ["lease_test.cc"],
        deps = _LEASE_TEST_DEPS,
    )

    # The same tests where the kernel has no membarrier to offer.
    weft_cc_test(
        name = "lease_without_membarrier_test",
        size = "medium",
        srcs = [
            "lease_test.cc",
            "refuse_membarrier.cc",
        ],
        deps = _LEASE_TEST_DEPS,
    )

    weft_cc_binary(
        name = "threads_program",
        testonly = True,
        srcs = ["threads_program.cc"],
        deps = [
            ":goroutine",
            ":waiter",
            "//tests:rounds",
            "@com_google_absl//absl/time",
        ],
    )

    weft_cc_test(
        name = "lock_os_thread_test",
        size = "medium",
        srcs = ["lock_os_thread_test.cc"],
        data = [":threads_program"],
        deps = [
            ":clock",
            ":goroutine",
            ":snapshot",
            ":testing",
            "//chan",
            "//tests:rounds",
            "//tests:subprocess",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "stacks_test",
        size = "medium",
        srcs = ["stacks_test.cc"],
        deps = _STACKS_TEST_DEPS + [
            ":snapshot",
            "//stack:grow",
        ],
    )

    weft_cc_test(
        name = "give_back_test",
        size = "medium",
        srcs = ["give_back_test.cc"],
        deps = _STACKS_TEST_DEPS + [":sysmon"],
    )

    weft_cc_test(
        name = "stack_growth_test",
        size = "medium",
        srcs = ["stack_growth_test.cc"],
        deps = _STACKS_TEST_DEPS + [
            ":snapshot",
            "//stack:grow",
            "//stack:segment",
            "@com_google_absl//absl/time",
        ],
    )

    weft_cc_test(
        name = "runtime_test",
        size = "medium",
        srcs = ["runtime_test.cc"],
        deps = [
            ":clock",
            ":delay",
            ":goroutine",
            ":runtime",
            ":snapshot",
            ":testing",
            ":timer",
            ":waiter",
            "//sched/sync:mutex",
            "//sched/sync:wait_group",
            "//tests:rounds",
            "@com_google_absl//absl/functional:function_ref",
            "@com_google_absl//absl/status",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_binary(
        name = "exit_program",
        testonly = True,
        srcs = ["exit_program.cc"],
        deps = [
            ":goroutine",
            "//sched/sync:mutex",
            "@com_google_absl//absl/time",
        ],
    )

    weft_cc_test(
        name = "fork_test",
        size = "medium",
        srcs = ["fork_test.cc"],
        data = [":exit_program"],
        deps = [
            ":clock",
            ":goroutine",
            ":runtime",
            ":snapshot",
            ":testing",
            ":timer",
            ":waiter",
            "//chan",
            "//sched/sync:mutex",
            "//tests:rounds",
            "//tests:subprocess",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "policy_test",
        size = "medium",
        srcs = ["policy_test.cc"],
        deps = [
            ":delay",
            ":goroutine",
            ":runtime",
            ":snapshot",
            ":testing",
            ":waiter",
            "//chan",
            "//sched/sync:wait_group",
            "//tests:rounds",
            "@com_google_absl//absl/status",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_binary(
        name = "numa_program",
        testonly = True,
        srcs = ["numa_program.cc"],
        deps = [
            ":goroutine",
            ":snapshot",
        ],
    )

    weft_cc_test(
        name = "numa_test",
        size = "medium",
        srcs = ["numa_test.cc"],
        data = [
            ":numa_program",
            ":threads_program",
        ],
        deps = [
            ":goroutine",
            ":runtime",
            ":snapshot",
            ":testing",
            ":topology",
            ":waiter",
            "//sched/sync:wait_group",
            "//stack:slots",
            "//tests:debug_setting",
            "//tests:rounds",
            "//tests:subprocess",
            "@com_google_absl//absl/status",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "snapshot_test",
        size = "medium",
        srcs = ["snapshot_test.cc"],
        deps = [
            ":clock",
            ":goroutine",
            ":snapshot",
            ":testing",
            ":waiter",
            "//tests:rounds",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "metrics_test",
        size = "medium",
        srcs = ["metrics_test.cc"],
        deps = [
            ":clock",
            ":goroutine",
            ":histogram",
            ":metrics",
            ":testing",
            ":waiter",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "stop_test",
        size = "medium",
        srcs = ["stop_test.cc"],
        deps = [
            ":clock",
            ":delay",
            ":goroutine",
            ":snapshot",
            ":testing",
            "//tests:rounds",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "sysmon_test",
        size = "small",
        srcs = ["sysmon_test.cc"],
        deps = [
            ":clock",
            ":sysmon",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )
