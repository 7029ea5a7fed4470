"""Repository rules that take a library from Debian's -dev packages or from a pinned archive.

WEFT_DEPS chooses (`--config=system`, `--config=archives`, or `--repo_env=WEFT_DEPS=...`):
    auto      (default) the system's package where every probe exists, else the archive
    system    the system's package, and an error naming what is missing
    archives  the pinned upstream archive, always

The labels are upstream's in each case.
"""

def _mode(rctx):
    mode = rctx.os.environ.get("WEFT_DEPS", "") or "auto"
    if mode not in ("auto", "system", "archives"):
        fail("WEFT_DEPS=%s: expected auto, system or archives" % mode)
    return mode

def _use_system(rctx):
    mode = _mode(rctx)
    if mode == "archives" and rctx.attr.urls:
        return False
    missing = [probe for probe in rctx.attr.probes if not rctx.path(probe).exists]
    if not missing:
        return True
    if mode == "system" or not rctx.attr.urls:
        fail("@%s: %s not found; run tools/setup, or: apt-get install %s" %
             (rctx.name, ", ".join(missing), " ".join(rctx.attr.debian_packages)))
    return False

def _download(rctx):
    rctx.download_and_extract(
        url = rctx.attr.urls,
        sha256 = rctx.attr.sha256,
        stripPrefix = rctx.attr.strip_prefix,
    )

_COMMON_ATTRS = {
    "debian_packages": attr.string_list(doc = "what to name in the error when a probe is missing"),
    "probes": attr.string_list(doc = "absolute paths, all of which mean 'installed'"),
    "sha256": attr.string(),
    "strip_prefix": attr.string(),
    "urls": attr.string_list(doc = "none: the library is taken from the system only"),
}

def _system_or_archive_impl(rctx):
    if _use_system(rctx):
        rctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % rctx.name)
        rctx.file("BUILD.bazel", rctx.read(rctx.attr.system_build_file), executable = False)
    else:
        _download(rctx)
        if rctx.attr.archive_build_file:
            rctx.file("BUILD.bazel", rctx.read(rctx.attr.archive_build_file), executable = False)

system_or_archive = repository_rule(
    implementation = _system_or_archive_impl,
    attrs = dict(
        _COMMON_ATTRS,
        archive_build_file = attr.label(
            allow_single_file = True,
            doc = "for an archive that does not bring its own",
        ),
        system_build_file = attr.label(allow_single_file = True, mandatory = True),
    ),
    environ = ["WEFT_DEPS"],
)

# A Starlark library: the first of Debian's trees that is installed, else the archive.

def _append_constraint_values(rctx, tree, names):
    """Replaces cpu/BUILD by one that has all of `names`."""
    rctx.delete("cpu")
    build = rctx.read(tree.get_child("cpu").get_child("BUILD"))
    for name in names:
        if "\"%s\"" % name not in build:
            build += "\nconstraint_value(\n    name = \"%s\",\n    constraint_setting = \":cpu\",\n)\n" % name
    rctx.file("cpu/BUILD", build)

def _tree_or_archive_impl(rctx):
    if _mode(rctx) != "archives":
        for tree in [rctx.path(t) for t in rctx.attr.trees]:
            if tree.exists:
                for child in tree.readdir():
                    rctx.symlink(child, child.basename)
                if rctx.attr.cpus:
                    _append_constraint_values(rctx, tree, rctx.attr.cpus)
                return
    _download(rctx)

tree_or_archive = repository_rule(
    implementation = _tree_or_archive_impl,
    attrs = {
        "cpus": attr.string_list(doc = "of @platforms//cpu, those that an old tree may lack"),
        "sha256": attr.string(),
        "strip_prefix": attr.string(),
        "trees": attr.string_list(mandatory = True),
        "urls": attr.string_list(),
    },
    environ = ["WEFT_DEPS"],
)

# Abseil. Its Debian package has one pkg-config file for each CMake target, with
# the whole dependency graph in its `Requires`. Each becomes a cc_library in the
# root package, and upstream's Bazel labels become aliases of those.

# Upstream label -> pkg-config name, where it isn't "absl_" + the target's name.
_ABSL_PACKAGES = {
    "absl/algorithm": {"algorithm": "", "container": "absl_algorithm_container"},
    "absl/base": {
        "base": "",
        "config": "",
        "core_headers": "",
        "dynamic_annotations": "",
        "endian": "",
        "log_severity": "",
        "no_destructor": "",
        "nullability": "",
        "prefetch": "",
    },
    "absl/cleanup": {"cleanup": ""},
    "absl/container": {
        "btree": "",
        "fixed_array": "",
        "flat_hash_map": "",
        "flat_hash_set": "",
        "inlined_vector": "",
        "node_hash_map": "",
        "node_hash_set": "",
    },
    "absl/debugging": {
        "failure_signal_handler": "",
        "leak_check": "",
        "stacktrace": "",
        "symbolize": "",
    },
    "absl/flags": {
        "commandlineflag": "absl_flags_commandlineflag",
        "config": "absl_flags_config",
        "flag": "absl_flags",
        "marshalling": "absl_flags_marshalling",
        "parse": "absl_flags_parse",
        "reflection": "absl_flags_reflection",
        "usage": "absl_flags_usage",
    },
    "absl/functional": {
        "any_invocable": "",
        "bind_front": "",
        "function_ref": "",
        "overload": "",
    },
    "absl/hash": {"hash": ""},
    "absl/log": {
        "absl_check": "",
        "absl_log": "",
        "check": "",
        "die_if_null": "",
        "globals": "absl_log_globals",
        "initialize": "absl_log_initialize",
        "log": "",
        "log_entry": "",
        "log_sink": "",
        "log_sink_registry": "",
    },
    "absl/memory": {"memory": ""},
    "absl/meta": {"type_traits": ""},
    "absl/numeric": {"bits": "", "int128": ""},
    "absl/random": {"bit_gen_ref": "absl_random_bit_gen_ref", "random": "absl_random_random"},
    "absl/status": {"status": "", "statusor": ""},
    "absl/strings": {
        "cord": "",
        "has_ostream_operator": "",
        "str_format": "",
        "string_view": "",
        "strings": "",
    },
    "absl/synchronization": {"synchronization": ""},
    "absl/time": {"civil_time": "", "time": ""},
    "absl/types": {
        "any": "",
        "optional": "",
        "span": "",
        "variant": "",
    },
    "absl/utility": {"utility": ""},
}

_BUILD_HEADER = """\
# Written by //third_party:repositories.bzl from Debian's pkg-config files.
package(default_visibility = ["//visibility:public"])

"""

def _pc_fields(text):
    fields = {}
    for line in text.split("\n"):
        key, sep, value = line.partition(": ")
        if sep:
            fields[key] = value
    return fields

def _pc_library(name, fields):
    deps = []
    for item in fields.get("Requires", "").split(","):
        words = item.strip().split(" ")
        if words[0] and words[0] != name and words[0] not in deps:
            deps.append(words[0])

    # The static libraries, as the archives would be: a program starts without forty shared ones, and
    # a shared object of an embedder's finds what it needs in the program.
    linkopts = [
        "-l:lib%s.a" % word[len("-l"):]
        for word in fields.get("Libs", "").split(" ")
        if word.startswith("-labsl_")
    ]
    return "cc_library(\n    name = \"%s\",\n    linkopts = %r,\n    deps = %r,\n)\n" % (
        name,
        linkopts,
        [":" + d for d in sorted(deps)],
    )

def _absl_from_source(rctx):
    """Links the tree that `tools/setup --tsan` unpacked; downloads it in archives mode alone."""
    if _mode(rctx) == "archives":
        _download(rctx)
        return
    cache = rctx.os.environ.get("WEFT_CACHE") or rctx.os.environ.get("HOME", "") + "/.cache/weft"
    tree = rctx.path(cache + "/abseil")
    if not tree.exists:
        fail("@%s: no source of Abseil in %s; run tools/setup --tsan, or add --config=archives" %
             (rctx.name, tree))
    for child in tree.readdir():
        rctx.symlink(child, child.basename)

def _absl_repository_impl(rctx):
    from_source = rctx.os.environ.get("WEFT_ABSEIL", "")
    if from_source not in ("", "source"):
        fail("WEFT_ABSEIL=%s: expected source, or nothing" % from_source)
    if from_source:
        _absl_from_source(rctx)
        return
    if not _use_system(rctx):
        _download(rctx)
        return
    pkgconfig = None
    for candidate in rctx.attr.pkgconfig_dirs:
        if rctx.path(candidate + "/absl_base.pc").exists:
            pkgconfig = rctx.path(candidate)
            break
    if not pkgconfig:
        fail("no absl_base.pc in %s" % rctx.attr.pkgconfig_dirs)
    rctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % rctx.name)
    known = {}
    root = [_BUILD_HEADER]
    for pc in sorted([p.basename for p in pkgconfig.readdir()]):
        if not (pc.startswith("absl_") and pc.endswith(".pc")):
            continue
        name = pc[:-len(".pc")]
        known[name] = True
        root.append(_pc_library(name, _pc_fields(rctx.read(pkgconfig.get_child(pc)))))
    rctx.file("BUILD.bazel", "\n".join(root))
    for package, targets in _ABSL_PACKAGES.items():
        aliases = [_BUILD_HEADER]
        for target, pc in targets.items():
            if target == "string_view" and "absl_string_view" not in known:
                pc = "absl_strings"
            pc = pc or "absl_" + target
            if pc in known:
                aliases.append("alias(\n    name = \"%s\",\n    actual = \"//:%s\",\n)\n" % (target, pc))
        rctx.file(package + "/BUILD.bazel", "\n".join(aliases))

absl_repository = repository_rule(
    implementation = _absl_repository_impl,
    attrs = dict(
        _COMMON_ATTRS,
        debian_packages = attr.string_list(default = ["libabsl-dev"]),
        pkgconfig_dirs = attr.string_list(default = [
            "/usr/lib/x86_64-linux-gnu/pkgconfig",
            "/usr/lib/aarch64-linux-gnu/pkgconfig",
            "/usr/lib64/pkgconfig",
            "/usr/lib/pkgconfig",
        ]),
        probes = attr.string_list(default = ["/usr/include/absl/base/config.h"]),
    ),
    environ = [
        "HOME",
        "WEFT_ABSEIL",
        "WEFT_CACHE",
        "WEFT_DEPS",
    ],
)

# LLVM's headers, for plugins of the compiler in use: they must be those of the very LLVM it is made
# of, so they are looked for beside it. Optional: where there are none, status.bzl says why.

def _find_llvm_headers(rctx):
    """Returns the directory of the headers, and why there is none."""
    name = rctx.os.environ.get("CC", "") or "gcc"
    compiler = rctx.path(name) if name.startswith("/") else rctx.which(name)
    if not compiler:
        return None, "there is no compiler '%s'" % name
    macros = rctx.execute([compiler, "-dM", "-E", "-x", "c", "/dev/null"])
    if macros.return_code != 0 or "#define __clang__ 1\n" not in macros.stdout:
        return None, "'%s' is not clang" % name
    major = macros.stdout.partition("#define __clang_major__ ")[2].partition("\n")[0]
    if major not in rctx.attr.versions:
        return None, "'%s' is clang %s, and the pass is written for clang %s" % (name, major, " or ".join(rctx.attr.versions))
    include = compiler.realpath.dirname.dirname.get_child("include")
    probe = include.get_child("llvm").get_child("Passes").get_child("PassPlugin.h")
    if not probe.exists:
        return None, "there is no %s; tools/setup installs it, or: apt-get install llvm-%s-dev; then build once with --config=system" % (probe, major)
    return include, ""

def _llvm_repository_impl(rctx):
    include, absence = _find_llvm_headers(rctx)
    rctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % rctx.name)
    rctx.file("status.bzl", "\"\"\"Why LLVM's headers are not here, empty if they are.\"\"\"\n\nLLVM_ABSENCE = %r\n" % absence)
    build = "package(default_visibility = [\"//visibility:public\"])\n"
    if include:
        for directory in ("llvm", "llvm-c"):
            rctx.symlink(include.get_child(directory), "include/" + directory)
        build += """
cc_library(
    name = "llvm",
    hdrs = glob(["include/**"]),
    includes = ["include"],
)
"""
    rctx.file("BUILD.bazel", build)

llvm_repository = repository_rule(
    implementation = _llvm_repository_impl,
    attrs = {"versions": attr.string_list(doc = "the major versions of clang that will do")},
    environ = [
        "CC",
        "PATH",
        "WEFT_DEPS",
    ],
)

# @bazel_tools itself loads @rules_cc//cc:defs.bzl and @rules_java//java:defs.bzl,
# and would download both. What they export is what Bazel has natively, so a file
# of names stands for each. Debian's own bazel-rules-cc 0.0.4 doesn't load in its
# Bazel 4.2.3.

def _native_rules_repository_impl(rctx):
    package, _, bzl = rctx.attr.bzl.partition(":")
    rctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % rctx.name)
    rctx.file("BUILD.bazel", "")
    rctx.file(package + "/BUILD.bazel", """\
package(default_visibility = ["//visibility:public"])

exports_files(["%s"])
""" % bzl + rctx.attr.build_content)
    rctx.file(
        package + "/" + bzl,
        "\"\"\"Bazel's native rules, by the names that %s gives them.\"\"\"\n\n" % rctx.name +
        "\n".join(["%s = getattr(native, \"%s\", None)" % (r, r) for r in rctx.attr.rules]) + "\n",
    )

native_rules_repository = repository_rule(
    implementation = _native_rules_repository_impl,
    attrs = {
        "build_content": attr.string(doc = "appended to the package's BUILD file"),
        "bzl": attr.string(doc = "package:file, such as cc:defs.bzl", mandatory = True),
        "rules": attr.string_list(mandatory = True),
    },
)

# Every test depends on @remote_coverage_tools, whether or not coverage is asked for.

def _coverage_tools_repository_impl(rctx):
    rctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % rctx.name)
    rctx.file("BUILD.bazel", """\
package(default_visibility = ["//visibility:public"])

filegroup(
    name = "lcov_merger",
    srcs = ["lcov_merger.py"],
)

filegroup(
    name = "coverage_report_generator",
    srcs = ["lcov_merger.py"],
)
""")
    rctx.file("lcov_merger.py", rctx.read(rctx.attr.merger))

coverage_tools_repository = repository_rule(
    implementation = _coverage_tools_repository_impl,
    attrs = {"merger": attr.label(allow_single_file = True, mandatory = True)},
)
