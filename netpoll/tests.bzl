"""The tests of //netpoll, for its BUILD: libraries and the benchmark are there."""

load("//stack:defs.bzl", "weft_cc_binary", "weft_cc_library", "weft_cc_test")

def netpoll_tests():
    """All of them, and the programs and libraries that they alone use."""

    weft_cc_test(
        name = "readme_test",
        size = "small",
        srcs = ["readme_test.cc"],
        deps = [
            ":buffered",
            ":net",
            ":packet",
            ":pipe",
            ":test_util",
            ":tls",
            ":tls_testing",
            ":unix",
            "@com_google_absl//absl/status:statusor",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_library(
        name = "test_util",
        testonly = True,
        hdrs = ["test_util.h"],
        deps = [
            ":net",
            "//sched:goroutine",
            "//sched:testing",
            "//sched:waiter",
            "//tests:rounds",
            "@com_google_absl//absl/functional:any_invocable",
            "@com_google_absl//absl/functional:function_ref",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest",
        ],
    )

    weft_cc_test(
        name = "net_test",
        size = "medium",
        srcs = ["net_test.cc"],
        deps = [
            ":net",
            ":test_util",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "dial_test",
        size = "medium",
        srcs = ["dial_test.cc"],
        deps = [
            ":net",
            ":resolve",
            ":test_util",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "packet_conn_test",
        size = "medium",
        srcs = ["packet_conn_test.cc"],
        deps = [
            ":net",
            ":owned_fd",
            ":packet",
            ":test_util",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "unix_test",
        size = "medium",
        srcs = ["unix_test.cc"],
        deps = [
            ":net",
            ":owned_fd",
            ":packet",
            ":test_util",
            ":unix",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "file_conn_test",
        size = "medium",
        srcs = ["file_conn_test.cc"],
        deps = [
            ":net",
            ":owned_fd",
            ":test_util",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "dial_race_test",
        size = "medium",
        srcs = ["dial_race_test.cc"],
        deps = [
            ":fd",
            ":net",
            ":net_fd",
            ":owned_fd",
            ":test_util",
            "//chan:context",
            "//sched:clock",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "pipe_test",
        size = "medium",
        srcs = ["pipe_test.cc"],
        deps = [
            ":pipe",
            ":test_util",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "churn_test",
        size = "medium",
        srcs = ["churn_test.cc"],
        deps = [
            ":net",
            ":test_util",
            "//sched/sync:mutex",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "buffered_test",
        size = "small",
        srcs = ["buffered_test.cc"],
        deps = [
            ":buffered",
            ":net",
            ":pipe",
            ":test_util",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_library(
        name = "tls_testing",
        testonly = True,
        srcs = ["tls_testing.cc"],
        hdrs = ["tls_testing.h"],
        deps = [
            ":test_util",
            ":tls",
            "@com_google_absl//absl/base:config",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest",
        ],
        alwayslink = True,  # who needs it is the sanitizer's runtime
    )

    weft_cc_test(
        name = "tls_test",
        size = "medium",
        srcs = ["tls_test.cc"],
        deps = [
            ":buffered",
            ":owned_fd",
            ":tls",
            ":tls_testing",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "tls_handshake_test",
        size = "medium",
        srcs = ["tls_handshake_test.cc"],
        deps = [
            ":tls",
            ":tls_testing",
            "//chan:context",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "tls_peer_test",
        size = "medium",
        srcs = ["tls_peer_test.cc"],
        deps = [
            ":buffered",
            ":tls",
            ":tls_testing",
            "//spawn:command",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "splice_test",
        size = "medium",
        srcs = ["splice_test.cc"],
        deps = [
            ":owned_fd",
            ":pipe_pool",
            ":splice",
            ":test_util",
            ":unix",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "resolver_test",
        size = "medium",
        srcs = ["resolver_test.cc"],
        deps = [
            ":net",
            ":packet",
            ":resolver",
            ":test_util",
            "//chan:context",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "poll_desc_test",
        size = "small",
        srcs = ["poll_desc_test.cc"],
        deps = [
            ":poll_desc",
            ":test_util",
            "//sched:clock",
            "//sched:delay",
            "//sched:waiter",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "epoll_poller_test",
        size = "small",
        srcs = ["epoll_poller_test.cc"],
        deps = [
            ":epoll_poller",
            ":poll_desc",
            "//sched:clock",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "fd_mutex_test",
        size = "small",
        srcs = ["fd_mutex_test.cc"],
        deps = [
            ":fd_mutex",
            ":test_util",
            "//sched:delay",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "net_conformance_test",
        size = "medium",
        srcs = ["net_conformance_test.cc"],
        deps = [
            ":fd",
            ":net",
            ":test_util",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "big_write_test",
        size = "large",
        srcs = ["big_write_test.cc"],
        deps = [
            ":net",
            ":owned_fd",
            ":test_util",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_binary(
        name = "echo_program",
        testonly = True,
        srcs = ["echo_program.cc"],
        deps = [
            ":net",
            ":syscall",
            "//sched:goroutine",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/types:span",
        ],
    )

    # A program in Python; sh_test runs any executable file.
    native.sh_test(
        name = "echo_syscalls_test",
        size = "medium",
        srcs = ["echo_syscalls_test.py"],
        args = ["$(location :echo_program)"],
        data = [":echo_program"],
    )

    weft_cc_test(
        name = "net_alloc_test",
        size = "small",
        srcs = ["net_alloc_test.cc"],
        deps = [
            ":net",
            ":packet",
            ":pipe",
            ":test_util",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "pollfd_test",
        size = "small",
        srcs = ["pollfd_test.cc"],
        deps = [
            ":net",
            ":pollfd",
            ":test_util",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "address_test",
        size = "small",
        srcs = ["address_test.cc"],
        deps = [
            ":address",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "fork_test",
        size = "small",
        srcs = ["fork_test.cc"],
        deps = [
            ":net",
            ":test_util",
            "//sched:goroutine",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_absl//absl/types:span",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "backlog_test",
        size = "small",
        srcs = ["backlog_test.cc"],
        deps = [
            ":net",
            ":test_util",
            "//sched:clock",
            "//sched:goroutine",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/types:span",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_binary(
        name = "signal_program",
        testonly = True,
        srcs = ["signal_program.cc"],
        deps = [
            ":signal",
            "//chan",
            "//sched:goroutine",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
        ],
    )

    weft_cc_test(
        name = "signal_race_test",
        size = "medium",
        srcs = ["signal_race_test.cc"],
        deps = [
            ":signal",
            "//chan",
            "//stack:context",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "signal_test",
        size = "medium",
        srcs = ["signal_test.cc"],
        data = [":signal_program"],
        deps = [
            ":signal",
            ":test_util",
            "//chan",
            "//chan:context",
            "//sched:goroutine",
            "//sched:testing",
            "//spawn:fork_exec",
            "//tests:rounds",
            "//tests:subprocess",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_binary(
        name = "file_program",
        testonly = True,
        srcs = ["file_program.cc"],
        deps = [
            ":file",
            "//sched:goroutine",
            "@com_google_absl//absl/status:statusor",
            "@com_google_absl//absl/strings",
        ],
    )

    weft_cc_library(
        name = "file_testing",
        testonly = True,
        hdrs = ["file_testing.h"],
        deps = [
            ":file",
            ":io_ring",
            ":test_util",
            "@com_google_absl//absl/functional:function_ref",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest",
        ],
    )

    weft_cc_test(
        name = "file_test",
        size = "medium",
        srcs = ["file_test.cc"],
        data = [":file_program"],
        deps = [
            ":error",
            ":file",
            ":file_testing",
            ":test_util",
            "//sched:goroutine",
            "//tests:rounds",
            "//tests:subprocess",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "file_conformance_test",
        size = "medium",
        srcs = ["file_conformance_test.cc"],
        deps = [
            ":error",
            ":file",
            ":file_testing",
            ":test_util",
            "//sched:goroutine",
            "//tests:rounds",
            "@com_google_absl//absl/strings",
            "@com_google_googletest//:gtest_main",
        ],
    )
