#!/usr/bin/env python3
"""Tests tools/torture without Bazel: what it would run, what it refuses, and with a Bazel that is a
script what it makes of random programs."""

import contextlib
import importlib.machinery
import importlib.util
import io
import os
import stat
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True  # nothing in the sources
TORTURE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torture")

# "Runs" two tests, whose logs are what $SAYS_name has for the build, by its flag -name.
BAZEL = """#!/bin/sh
for argument; do
  case "$argument" in
    --build_event_json_file=*) events=${argument#*=} ;;
    -first | -second) eval "says=\\$SAYS_${argument#-}" ;;
  esac
done
echo "$*" >> "$RECORD"
for log in a b; do
  printf "$says" > "$TMPDIR/$log.log"
  echo '{"id": {"testResult": {"label": "//:'$log'"}}, "testResult": {"status": "PASSED",' \\
    '"testActionOutput": [{"name": "test.log", "uri": "file://'$TMPDIR/$log.log'"}]}}' >> "$events"
done
"""


def run(*arguments):
    return subprocess.run([sys.executable, TORTURE, *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)


class TortureTest(unittest.TestCase):
    def test_all_builds_and_settings_are_run(self):
        listed = run("--list").stdout
        for build in ("O0", "O1", "O2", "O3", "thinlto", "lld", "clang14"):
            self.assertIn(f"\n{build} ", "\n" + listed)
        # The first compiler's builds with each setting, the other's once.
        settings = len(set(line for line in listed.splitlines() if "WEFTDEBUG=" in line))
        self.assertGreaterEqual(settings, 2)
        self.assertEqual(listed.count("WEFTDEBUG="), 6 * settings + 1)

    def test_one_of_each_may_be_named(self):
        listed = run("--list", "--build=O3", "--setting=poison").stdout.splitlines()
        self.assertEqual(len(listed), 2)
        self.assertIn("--copt=-O3", listed[0])
        self.assertIn("WEFTDEBUG=stackpoison=1", listed[1])

    def test_what_does_not_exist_is_refused(self):
        for arguments in (["--build=O9"], ["--setting=none"], ["--seeds=9-1"], ["--seeds=x"]):
            result = run("--list", *arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn("torture: error:", result.stderr)


class RandomProgramsTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = directory.name
        loader = importlib.machinery.SourceFileLoader("torture", TORTURE)
        self.torture = importlib.util.module_from_spec(
            importlib.util.spec_from_loader("torture", loader))
        loader.exec_module(self.torture)
        bazel = os.path.join(self.root, "bazel")
        with open(bazel, "w", encoding="utf-8") as file:
            file.write(BAZEL)
        os.chmod(bazel, os.stat(bazel).st_mode | stat.S_IXUSR)
        self.torture.test_matrix.BAZEL = [bazel]
        self.record = os.path.join(self.root, "record")

    def failed(self, first, second, last=2):
        """What fails of programs 1 to `last` where the two builds' tests say that."""
        results = self.torture.test_matrix.Results()
        environment = {"TMPDIR": self.root, "RECORD": self.record, "SAYS_first": first,
                       "SAYS_second": second}
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self.torture.run_seeds(results, {"one": ["-first"], "other": ["-second"]}, 1, last)
        finally:
            os.environ.clear()
            os.environ.update(before)
        return results.failed

    def test_the_same_sums_in_all_builds_pass(self):
        said = "program 1: 00ab\\nbetween\\nprogram 2: 00cd\\n"
        self.assertEqual(self.failed(said, said), [])
        with open(self.record, encoding="utf-8") as file:
            runs = file.read().splitlines()
        self.assertEqual(len(runs), 2)
        for run_of_bazel in runs:
            self.assertIn("--define=weft_random_seed=1 --define=weft_random_count=2", run_of_bazel)

    def test_another_sum_in_another_build_fails(self):
        self.assertEqual(
            self.failed("program 1: 00ab\\nprogram 2: 00cd\\n", "program 1: 00ab\\nprogram 2: 00ce\\n"),
            ["random programs 1 to 2: program 2 reckons 00cd in one, 00ce in other"])

    def test_a_program_that_says_two_things_or_nothing_fails(self):
        twice = "program 1: 00ab\\nprogram 1: 00ac\\nprogram 2: 00cd\\n"
        self.assertEqual(self.failed(twice, twice),
                         ["random programs 1 to 2: program 1 reckons 00ab 00ac in one, 00ab 00ac in other"])
        self.assertEqual(self.failed("program 1: 00ab\\n", "program 1: 00ab\\n"),
                         ["random programs 1 to 2: program 2 reckons nothing in one, nothing in other"])

    def test_programs_are_built_some_at_a_time(self):
        self.failed("", "", last=9)
        with open(self.record, encoding="utf-8") as file:
            counts = [line.split("weft_random_count=")[1].split()[0] for line in file]
        self.assertEqual(counts, ["8", "8", "1", "1"])


if __name__ == "__main__":
    unittest.main()
