"""External dependencies of Weft, for this workspace and for those that embed it.

    load("@weft//third_party:deps.bzl", "weft_deps")
    weft_deps()

Every repository is declared only if the calling workspace has not declared one
of that name already, so an embedder's own pin wins.
"""

load(":repositories.bzl", "absl_repository", "coverage_tools_repository", "llvm_repository", "native_rules_repository", "system_or_archive", "tree_or_archive")

def _maybe(rule, name, **kwargs):
    if not native.existing_rule(name):
        rule(name = name, **kwargs)

def weft_deps():
    """Declares every repository that weft's BUILD files name."""
    _maybe(
        native_rules_repository,
        name = "rules_cc",
        build_content = """
alias(
    name = "toolchain_type",
    actual = "@bazel_tools//tools/cpp:toolchain_type",
)
""",
        bzl = "cc:defs.bzl",
        rules = [
            "cc_binary",
            "cc_import",
            "cc_library",
            "cc_proto_library",
            "cc_test",
            "cc_toolchain",
            "cc_toolchain_suite",
            "fdo_prefetch_hints",
            "fdo_profile",
            "objc_import",
            "objc_library",
        ],
    )
    _maybe(
        native_rules_repository,
        name = "rules_java",
        bzl = "java:defs.bzl",
        rules = [
            "java_binary",
            "java_import",
            "java_library",
            "java_package_configuration",
            "java_plugin",
            "java_proto_library",
            "java_runtime",
            "java_test",
            "java_toolchain",
        ],
    )

    # Starlark only, and read by upstream's BUILD files (a library built from its source) and Bazel 7.
    _maybe(
        tree_or_archive,
        name = "bazel_skylib",
        sha256 = "9f38886a40548c6e96c106b752f242130ee11aaa068a56ba7e56f4511f33e4f2",
        trees = ["/usr/share/bazel/tools/skylib"],
        urls = ["https://github.com/bazelbuild/bazel-skylib/releases/download/1.6.1/bazel-skylib-1.6.1.tar.gz"],
    )
    _maybe(
        tree_or_archive,
        name = "platforms",
        # Abseil's BUILD files name them.
        cpus = [
            "wasm32",
            "wasm64",
        ],
        sha256 = "218efe8ee736d26a3572663b374a253c012b716d8af0c07e842e82f238a0a7ee",
        trees = [
            "/usr/share/bazel/tools/platforms",
            "/usr/share/bazel/platforms",
        ],
        urls = ["https://github.com/bazelbuild/platforms/releases/download/0.0.10/platforms-0.0.10.tar.gz"],
    )
    _maybe(
        tree_or_archive,
        name = "rules_license",
        sha256 = "4531deccb913639c30e5c7512a054d5d875698daeb75d8cf90f284375fe7c360",
        trees = ["/usr/share/bazel/rules/license"],
        urls = ["https://github.com/bazelbuild/rules_license/releases/download/0.0.7/rules_license-0.0.7.tar.gz"],
    )
    _maybe(
        tree_or_archive,
        name = "rules_python",
        sha256 = "0a8003b044294d7840ac7d9d73eef05d6ceb682d7516781a4ec62eeb34702578",
        strip_prefix = "rules_python-0.24.0",
        trees = ["/usr/share/bazel/rules/python"],
        urls = ["https://github.com/bazelbuild/rules_python/releases/download/0.24.0/rules_python-0.24.0.tar.gz"],
    )

    _maybe(
        absl_repository,
        name = "com_google_absl",
        sha256 = "91ac87d30cc6d79f9ab974c51874a704de9c2647c40f6932597329a282217ba8",
        strip_prefix = "abseil-cpp-20220623.1",
        urls = ["https://github.com/abseil/abseil-cpp/archive/refs/tags/20220623.1.tar.gz"],
    )

    _maybe(
        system_or_archive,
        name = "com_google_googletest",
        debian_packages = ["libgtest-dev", "libgmock-dev"],
        probes = [
            "/usr/include/gtest/gtest.h",
            "/usr/include/gmock/gmock.h",
        ],
        sha256 = "81964fe578e9bd7c94dfdb09c8e4d6e6759e19967e397dbea48d1c10e45d0df2",
        strip_prefix = "googletest-release-1.12.1",
        system_build_file = Label("//third_party/system:googletest.BUILD"),
        urls = ["https://github.com/google/googletest/archive/refs/tags/release-1.12.1.tar.gz"],
    )

    _maybe(
        system_or_archive,
        name = "com_github_google_benchmark",
        debian_packages = ["libbenchmark-dev"],
        probes = ["/usr/include/benchmark/benchmark.h"],
        sha256 = "6430e4092653380d9dc4ccb45a1e2dc9259d581f4866dc0759713126056bc1d7",
        strip_prefix = "benchmark-1.7.1",
        system_build_file = Label("//third_party/system:benchmark.BUILD"),
        urls = ["https://github.com/google/benchmark/archive/refs/tags/v1.7.1.tar.gz"],
    )

    _maybe(
        system_or_archive,
        name = "com_github_gperftools_gperftools",
        debian_packages = ["libgoogle-perftools-dev"],
        probes = ["/usr/include/gperftools/profiler.h"],
        system_build_file = Label("//third_party/system:gperftools.BUILD"),
    )

    # A DNS resolver that does not block.
    _maybe(
        system_or_archive,
        name = "com_github_cares_cares",
        debian_packages = ["libc-ares-dev"],
        probes = ["/usr/include/ares.h"],
        system_build_file = Label("//third_party/system:c_ares.BUILD"),
    )

    # Boost's headers, for Beast's HTTP parser.
    _maybe(
        system_or_archive,
        name = "boost",
        archive_build_file = Label("//third_party/archives:boost.BUILD"),
        debian_packages = ["libboost1.81-dev"],
        probes = ["/usr/include/boost/beast/http.hpp"],
        sha256 = "71feeed900fbccca04a3b4f2f84a7c217186f28a940ed8b7ed4725986baf99fa",
        strip_prefix = "boost_1_81_0",
        system_build_file = Label("//third_party/system:boost.BUILD"),
        urls = ["https://archives.boost.io/release/1.81.0/source/boost_1_81_0.tar.bz2"],
    )

    # libcurl, for //tools:fetch.
    _maybe(
        system_or_archive,
        name = "curl",
        debian_packages = ["libcurl4-openssl-dev"],
        probes = ["/usr/include/x86_64-linux-gnu/curl/curl.h"],
        system_build_file = Label("//third_party/system:curl.BUILD"),
    )

    # OpenSSL: TLS, and digests.
    _maybe(
        system_or_archive,
        name = "openssl",
        debian_packages = ["libssl-dev"],
        probes = ["/usr/include/openssl/evp.h"],
        system_build_file = Label("//third_party/system:openssl.BUILD"),
    )

    # Debug information, for dumps with files and lines.
    _maybe(
        system_or_archive,
        name = "elfutils",
        debian_packages = ["libdw-dev"],
        probes = ["/usr/include/elfutils/libdwfl.h"],
        system_build_file = Label("//third_party/system:elfutils.BUILD"),
    )

    # Compression, for profiles.
    _maybe(
        system_or_archive,
        name = "zlib",
        debian_packages = ["zlib1g-dev"],
        probes = ["/usr/include/zlib.h"],
        system_build_file = Label("//third_party/system:zlib.BUILD"),
    )

    # LLVM's headers, for //stack/escape_pass. Optional.
    _maybe(
        llvm_repository,
        name = "weft_llvm",
        versions = ["19"],
    )

    _maybe(
        coverage_tools_repository,
        name = "remote_coverage_tools",
        merger = Label("//third_party:lcov_merger.py"),
    )
