"""Builds and tests Weft in its configurations, and counts. Run by tools/test."""

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.environ.get("WEFT_CACHE") or os.path.expanduser("~/.cache/weft")
BAZEL = shlex.split(os.environ.get("BAZEL", "bazel"))

# Where a configuration does not test everything: the packages that make stacks and switch them.
STACK_PATTERNS = ["//stack/...", "//sched/..."]

# What is tested while stacks rest and move at every occasion: everything, as goroutines are everywhere.
TORTURE_PATTERNS = ["//..."]
# The occasions: name -> WEFTDEBUG.
TORTURE_SETTINGS = {
    "rest": "stackrest=always,stackpoison=1",
    "poison": "stackpoison=1",
    "move": "stackmove=always",
}


def torture_flags(setting):
    """For a test run in which programs torture their stacks so, but for tests with settings of
    their own."""
    return [f"--test_env=WEFTDEBUG={TORTURE_SETTINGS[setting]}",
            "--test_tag_filters=-stack-setting", "--build_tests_only"]


# The tests of what Valgrind has to be told of. The others run on goroutines as well, some fifty times
# slower, and have deadlines.
VALGRIND_PATTERNS = ["//stack:all", "//tests/stacks:all"]
VALGRIND_OPTIONS = ["--quiet", "--error-exitcode=99", "--max-stackframe=1000000",
                    "--fair-sched=yes", "--sigill-diagnostics=no",
                    # Stacks of gigabytes would be searched for pointers.
                    "--leak-check=no"]


def valgrind_flags():
    return ["--test_env=WEFT_VALGRIND=1", "--test_timeout=1800", "--build_tests_only",
            "--run_under=valgrind " + " ".join(VALGRIND_OPTIONS)]


# Name -> (flags, what is tested when the caller names nothing: all, the stack packages, nothing, or
# some patterns). Everything is built in each of them, but for the last kind, for which only these
# tests are.
ALL, STACKS, NOTHING = "all", "stacks", "nothing"
CONFIGURATIONS = {
    "copying": (["--config=copying"], ALL),
    "fixed": (["--config=fixed"], ALL),
    "asan": (["--config=asan"], ALL),
    "segmented": (["--config=segmented"], STACKS),
    "gcc": (["--config=gcc"], NOTHING),
    "gcc-segmented": (["--config=gcc", "--config=segmented"], STACKS),
    # What `copying` has built, run again; tools/torture does so in other builds.
    "valgrind": (["--config=copying"] + valgrind_flags(), VALGRIND_PATTERNS),
    "torture-rest": (["--config=copying"] + torture_flags("rest"), TORTURE_PATTERNS),
    "torture-move": (["--config=copying"] + torture_flags("move"), TORTURE_PATTERNS),
    # Not run unless named.
    "opt": (["-c", "opt"], ALL),
    "thinlto": (["--config=thinlto", "-c", "opt"], STACKS),
    "without-escape-pass": (["--config=copying", "--define=weft_escape_pass=off"], STACKS),
    "ubsan": (["--config=ubsan"], ALL),
    "tsan": (["--config=tsan"], ALL),
    "gcc-opt": (["--config=gcc", "-c", "opt"], ALL),
}
DEFAULT = ["copying", "torture-rest", "valgrind", "fixed", "asan", "segmented", "gcc",
           "gcc-segmented"]

# Workspaces that embed a part of Weft: directory under tests/embed -> what must not come along with
# it, as beginnings of labels.
EMBEDDERS = {
    "chan": ["@weft//sched:goroutine", "@weft//sched:runtime", "@weft//netpoll", "@weft//debug",
             "@weft//tools", "@weft//:", "@boost"],
    "spawn": ["@weft//sched", "@weft//stack:", "@weft//chan", "@weft//netpoll", "@weft//debug",
              "@weft//tools", "@weft//:", "@boost"],
    "weft": ["@weft//tools", "@boost"],
}
# An embedder chooses its compiler; what else it must set is in its .bazelrc.
EMBEDDER_FLAGS = {
    "gcc": ["--repo_env=CC=gcc"],
    "clang": ["--repo_env=CC=clang-19"],
}

# A step that takes longer is stuck. The slowest is the first, from an empty cache.
STEP_SECONDS = 45 * 60


# What a test's log says of its failure: these lines, and as many after each.
TELLING = re.compile(r": Failure$|Sanitizer: |^fatal error: |^panic: |^FAIL: |^-- Test timed out")
LINES_AFTER = 6
# All that is shown of one.
EXCERPT_LINES = 16
LINE_LENGTH = 200


class Results:
    """What passed and what failed, by name, over all steps."""

    def __init__(self):
        self.passed = []
        self.failed = []
        self.excerpts = {}  # name of what failed -> lines of its log

    def add(self, name, passed, log=None):
        (self.passed if passed else self.failed).append(name)
        # Now, as the next step's logs have the same names.
        if not passed and log:
            self.excerpts[name] = excerpt(log)


def excerpt(path):
    """The lines of a failed test's log that say most."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return []
    chosen = {number + i for number, line in enumerate(lines) if TELLING.search(line)
              for i in range(LINES_AFTER + 1) if number + i < len(lines)}
    told = [lines[number] for number in sorted(chosen)] or lines[-EXCERPT_LINES:]
    return [line[:LINE_LENGTH] for line in told[:EXCERPT_LINES]]


def run(command, cwd=ROOT):
    """Exit status of `command`, which is ended when it takes too long."""
    print("+ " + shlex.join(command), flush=True)
    try:
        return subprocess.run(command, cwd=cwd, timeout=STEP_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"ended after {STEP_SECONDS} s", flush=True)
        return 124
    except OSError as error:
        print(error, flush=True)
        return 127


def read_events(path):
    """The JSON objects of a build event file, which a killed Bazel leaves cut off."""
    try:
        with open(path, encoding="utf-8") as stream:
            for line in stream:
                try:
                    yield json.loads(line)
                except ValueError:
                    return
    except OSError:
        return


def logs_in(event):
    """The logs of a test result."""
    prefix = "file://"
    return [output["uri"][len(prefix):]
            for output in event.get("testResult", {}).get("testActionOutput", [])
            if output.get("name") == "test.log" and output.get("uri", "").startswith(prefix)]


def read_outcome(path):
    """Of a build event file: {test: passed}, the set of targets that did not build, and
    {test: log of an attempt that failed}."""
    tests, broken, logs = {}, set(), {}
    for event in read_events(path):
        identity = event.get("id", {})
        if "targetConfigured" in identity:
            if "testSize" in event.get("configured", {}):
                # Stays so if its build fails, which leaves no summary.
                tests.setdefault(identity["targetConfigured"]["label"], False)
        elif "targetCompleted" in identity:
            if not event.get("completed", {}).get("success", False):
                broken.add(identity["targetCompleted"]["label"])
        elif "testResult" in identity:
            if event.get("testResult", {}).get("status") != "PASSED":
                for log in logs_in(event):
                    logs[identity["testResult"]["label"]] = log
        elif "testSummary" in identity:
            # A test that passes at the second attempt is FLAKY, which is not PASSED.
            status = event.get("testSummary", {}).get("overallStatus")
            tests[identity["testSummary"]["label"]] = status == "PASSED"
    return tests, broken, logs


def bazel(results, name, verb, flags, patterns, cwd=ROOT, startup=()):
    """One Bazel build or test, counted: each test, each target that does not build, and the build
    as a whole, which fails for reasons that belong to no target, too. The logs of all its tests."""
    with tempfile.TemporaryDirectory() as directory:
        events = os.path.join(directory, "events.json")
        status = run([*BAZEL, *startup, verb, "--keep_going", "--noshow_progress", "--color=no",
                      "--test_summary=terse", f"--disk_cache={CACHE}/bazel",
                      f"--build_event_json_file={events}", *flags, "--", *patterns], cwd)
        tests, broken, logs = read_outcome(events)
        all_logs = [log for event in read_events(events) for log in logs_in(event)]
    if verb == "test":
        for label, passed in sorted(tests.items()):
            results.add(f"{name}: {label}", passed, logs.get(label))
        broken -= tests.keys()
    for label in sorted(broken):
        results.add(f"{name}: {label} does not build", False)
    # 3: it builds, and tests fail. 4: it builds, and there are no tests in it.
    built = status in (0, 3, 4)
    results.add(f"{name}: bazel {verb} {' '.join(patterns)}" + ("" if built else f" ({status})"),
                built)
    return all_logs


def run_configuration(results, name, patterns, extra):
    flags, tested = CONFIGURATIONS[name]
    flags = flags + extra
    print(f"\n=== {name}", flush=True)
    everything = patterns or ["//..."]
    if tested == ALL:
        bazel(results, name, "test", flags, everything)
        return
    if isinstance(tested, list):
        bazel(results, name, "test", flags, patterns or tested)
        return
    bazel(results, name, "build", flags, everything)
    if tested == STACKS and not patterns:
        bazel(results, name, "test", flags, STACK_PATTERNS)


def run_embedder(results, name):
    """Builds and runs a workspace that depends on this one."""
    directory = os.path.join(ROOT, "tests", "embed", name)
    startup = [f"--output_base={CACHE}/embed-{name}", "--max_idle_secs=30"]
    for compiler, flags in EMBEDDER_FLAGS.items():
        step = f"embed/{name} with {compiler}"
        print(f"\n=== {step}", flush=True)
        bazel(results, step, "test", flags, ["//..."], directory, startup)
    query = subprocess.run([*BAZEL, *startup, "query", "--noshow_progress", "deps(//...)"],
                           cwd=directory, stdout=subprocess.PIPE, text=True, check=False)
    labels = query.stdout.split()
    unwanted = [label for label in labels if label.startswith(tuple(EMBEDDERS[name]))]
    if unwanted:
        print("came along: " + " ".join(unwanted), flush=True)
    results.add(f"embed/{name}: brings only what it needs",
                query.returncode == 0 and bool(labels) and not unwanted)
    subprocess.run([*BAZEL, *startup, "shutdown"], cwd=directory, check=False)


def check_format(results):
    """One result: every C++ file is as clang-format would have it."""
    print("\n=== format", flush=True)
    listed = subprocess.run(["git", "ls-files", "-z", "*.cc", "*.h"], cwd=ROOT,
                            stdout=subprocess.PIPE, text=True, check=False)
    files = [f for f in listed.stdout.split("\0") if f and os.path.exists(os.path.join(ROOT, f))]
    status = run(["clang-format-19", "--dry-run", "--Werror", *files]) if files else 1
    results.add("format: clang-format-19", status == 0)


def trim_cache(days):
    """Bazel never removes anything from its disk cache."""
    oldest = time.time() - days * 86400
    for directory, _, files in os.walk(os.path.join(CACHE, "bazel")):
        for file in files:
            path = os.path.join(directory, file)
            try:
                status = os.stat(path)
                if max(status.st_atime, status.st_mtime) < oldest:
                    os.remove(path)
            except OSError:
                pass  # Another Bazel's doing.


def report(results, started):
    """Prints what failed and the totals; the exit status."""
    for name, lines in results.excerpts.items():
        print(f"\n=== {name}")
        for line in lines:
            print(f"    {line}")
    print(f"\n=== {time.monotonic() - started:.0f} s")
    for name in results.failed:
        print(f"FAILED  {name}")
    print(f"{len(results.passed)} passed, {len(results.failed)} failed", flush=True)
    return 1 if results.failed else 0


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="tools/test",
        description="Installs what is missing (tools/setup), then builds Weft in all its stack modes "
        "with both compilers and runs the tests. Ends with the line `N passed, N failed`, after the "
        "names of what failed, and exits with 1 if anything did. A target that does not build is a "
        "failure.",
        epilog="Configurations: " + ", ".join(CONFIGURATIONS) + ". Run without --config: "
        + ", ".join(DEFAULT) + ". A target pattern narrows all of them, and leaves out valgrind. tsan needs `tools/setup "
        "--tsan` once. Bazel's results are cached in WEFT_CACHE (~/.cache/weft); what has not been "
        "used for two weeks is removed.")
    parser.add_argument("patterns", nargs="*", metavar="PATTERN",
                        help="Bazel targets, such as //chan/... (default: everything, the format, "
                        "and the workspaces in tests/embed)")
    parser.add_argument("--quick", action="store_true", help="the default configuration alone")
    parser.add_argument("--config", action="append", dest="configs", metavar="NAME",
                        choices=sorted(CONFIGURATIONS), help="this configuration (repeatable)")
    parser.add_argument("--bazel_flag", action="append", default=[], metavar="FLAG",
                        help="passed on to Bazel, such as --bazel_flag=--runs_per_test=20")
    parser.add_argument("--rerun", action="store_true",
                        help="run also the tests whose inputs have not changed since they passed")
    arguments = parser.parse_args()
    for pattern in arguments.patterns:
        if not re.match(r"-?(//|@|:)", pattern):
            parser.error(f"'{pattern}' is not a target pattern, such as //chan/...")
    return arguments


def main():
    arguments = parse_arguments()
    # As an exception, so that the Bazel under way is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    extra = list(arguments.bazel_flag)
    if arguments.rerun:
        extra.append("--nocache_test_results")
    configurations = arguments.configs or (["copying"] if arguments.quick else list(DEFAULT))
    if arguments.patterns and not arguments.configs and "valgrind" in configurations:
        configurations.remove("valgrind")  # other tests than these may be too slow for it
    results = Results()
    started = time.monotonic()
    trim_cache(days=14)

    for name in configurations:
        run_configuration(results, name, arguments.patterns, extra)
    if not (arguments.patterns or arguments.quick or arguments.configs):
        check_format(results)
        for name in EMBEDDERS:
            run_embedder(results, name)

    return report(results, started)


if __name__ == "__main__":
    sys.exit(main())
