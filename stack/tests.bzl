"""The tests of //stack, for its BUILD: libraries and benchmarks are there."""

load("//stack:defs.bzl", "weft_cc_shared_object", "weft_cc_test")

_SEGMENT_TEST_DEPS = [
    ":morestack",
    ":overflow",
    ":resident_task",
    ":segment",
    ":slots",
    ":traceback",
    "@com_google_absl//absl/time",
    "@com_google_googletest//:gtest_main",
]

def stack_tests():
    """All of them, and the shared object that they load."""

    weft_cc_test(
        name = "adopt_test",
        size = "small",
        srcs = ["adopt_test.cc"],
        deps = [
            ":adopt",
            ":context",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "context_test",
        size = "small",
        srcs = ["context_test.cc"],
        deps = [
            ":context",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "slots_test",
        size = "small",
        srcs = ["slots_test.cc"],
        deps = [
            ":slots",
            ":task",
            "//tests:rounds",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "text_range_test",
        size = "small",
        srcs = ["text_range_test.cc"],
        deps = [
            ":context",
            ":text_range",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_shared_object(
        name = "libdso_test_object.so",
        testonly = True,
        srcs = ["dso_test_object.cc"],
    )

    native.sh_test(
        name = "dso_symbols_test",
        size = "small",
        srcs = ["dso_symbols_test.sh"],
        args = ["$(location :libdso_test_object.so)"],
        data = [":libdso_test_object.so"],
    )

    weft_cc_test(
        name = "dso_test",
        size = "small",
        srcs = ["dso_test.cc"],
        data = [":libdso_test_object.so"],
        deps = [
            ":context",
            ":grow",
            ":morestack",
            ":residence",
            ":resident_task",
            ":rest",
            ":slots",
            ":task",
            ":text_range",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "morestack_test",
        size = "small",
        srcs = ["morestack_test.cc"],
        deps = [
            ":context",
            ":overflow",
            ":slots",
            ":task",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "overflow_test",
        size = "medium",
        srcs = [
            "arch.h",
            "overflow_test.cc",
        ],
        deps = [
            ":context",
            ":overflow",
            ":slots",
            ":task",
            ":traceback",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "traceback_test",
        size = "small",
        srcs = ["traceback_test.cc"],
        deps = [
            ":slots",
            ":task",
            ":traceback",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "frames_test",
        size = "small",
        srcs = ["frames_test.cc"],
        deps = [
            ":context",
            ":frames",
            ":memcheck",
            ":slots",
            ":text_range",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "segment_test",
        size = "medium",
        srcs = ["segment_test.cc"],
        deps = _SEGMENT_TEST_DEPS,
    )

    weft_cc_test(
        name = "segment_fortified_test",
        size = "medium",
        srcs = ["segment_test.cc"],
        # As -c opt has it: fortified functions look at the stack.
        copts = [
            "-O1",
            "-U_FORTIFY_SOURCE",
            "-D_FORTIFY_SOURCE=2",
        ],
        deps = _SEGMENT_TEST_DEPS,
    )

    weft_cc_test(
        name = "signals_test",
        size = "medium",
        srcs = ["signals_test.cc"],
        deps = [
            ":grow",
            ":memcheck",
            ":morestack",
            ":overflow",
            ":resident_task",
            ":segment",
            ":slots",
            ":task",
            ":traceback",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "copy_growth_test",
        size = "medium",
        srcs = ["copy_growth_test.cc"],
        deps = [
            ":grow",
            ":memcheck",
            ":overflow",
            ":resident_task",
            ":slots",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "grow_test",
        size = "medium",
        srcs = ["grow_test.cc"],
        deps = [
            ":grow",
            ":morestack",
            ":resident_task",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "block_cache_test",
        size = "small",
        srcs = ["block_cache_test.cc"],
        deps = [
            ":block_cache",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "residence_test",
        size = "medium",
        srcs = ["residence_test.cc"],
        deps = [
            ":residence",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "rest_test",
        size = "medium",
        srcs = ["rest_test.cc"],
        deps = [
            ":context",
            ":residence",
            ":rest",
            ":slots",
            ":text_range",
            "//tests:rounds",
            "@com_google_googletest//:gtest_main",
        ],
    )

    weft_cc_test(
        name = "readme_test",
        size = "small",
        srcs = ["readme_test.cc"],
        data = [
            "README.md",
            "readme_test.cc",
        ],
        deps = [
            ":context",
            ":slots",
            "@com_google_googletest//:gtest_main",
        ],
    )
