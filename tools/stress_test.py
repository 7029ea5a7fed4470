#!/usr/bin/env python3
"""Tests tools/stress with a Bazel and tests that are scripts."""

import os
import stat
import subprocess
import sys
import tempfile
import unittest

STRESS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stress")

BAZEL = """#!/bin/sh
case "$1" in
  query) printf '%s\\n' $LABELS ;;
  build) echo "$@" >> "$RECORD.bazel"; eval "$DO_build"; exit "${BUILD_STATUS:-0}" ;;
  info) echo "$BIN" ;;
esac
"""

# Notes name, seed, directory and filter; then does what $DO_name says.
TEST = """#!/bin/sh
name=$(basename "$0")
echo "$name ${WEFT_DELAY_SEED:-none} $(basename "$PWD") ${GTEST_FILTER:-all} $*" >> "$RECORD"
[ -d "$TEST_TMPDIR" ] || exit 9
eval "action=\\$DO_$name"
eval "$action"
"""


class StressTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = directory.name
        self.env = {"PATH": "/usr/bin:/bin", "RECORD": self.path("record"), "BIN": self.path("bin"),
                    "BAZEL": self.script("bazel", BAZEL), "LABELS": "//a/b:one //a:two",
                    "WEFT_CACHE": self.path("cache"), "TMPDIR": self.root}
        self.script("bin/a/b/one", TEST)
        self.script("bin/a/two", TEST)
        os.makedirs(self.path("bin/a/b/one.runfiles/weft/a/b"))

    def path(self, name):
        return os.path.join(self.root, name)

    def script(self, name, text):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
        return path

    def stress(self, *arguments):
        return subprocess.run([sys.executable, STRESS, "--jobs=1", *arguments], env=self.env, text=True,
                              capture_output=True, timeout=120, check=False)

    def runs(self):
        with open(self.path("record"), encoding="utf-8") as file:
            return [line.split() for line in file]

    def test_each_repetition_of_all_has_a_seed_of_its_own(self):
        done = self.stress("--repetitions=2", "--seed=7")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([r[:2] for r in self.runs()],
                         [["one", "7"], ["two", "7"], ["one", "8"], ["two", "8"]])
        self.assertIn("4 runs of 2 tests; 0 tests failed", done.stdout)

    def test_a_test_starts_where_bazel_would_start_it(self):
        self.stress("--repetitions=1", "//a/b:one")
        self.assertEqual(self.runs()[0][2], "weft")

    def test_without_delays_no_seed_is_given(self):
        self.env["WEFT_DELAY_SEED"] = "3"
        self.stress("--repetitions=1", "--no-delays")
        self.assertEqual({r[1] for r in self.runs()}, {"none"})

    def test_configurations_reach_bazel_and_filters_the_tests(self):
        self.stress("--repetitions=1", "--config=tsan", "--config=gcc", "--filter=Chan*")
        with open(self.path("record.bazel"), encoding="utf-8") as file:
            self.assertIn("--config=tsan --config=gcc", file.read())
        self.assertEqual(self.runs()[0][3:], ["all", "--gtest_filter=Chan*"])

    def test_only_every_eleventh_repetition_has_what_ends_a_process(self):
        self.stress("--repetitions=3", "--seed=10")
        filters = {r[1]: r[3] for r in self.runs() if r[0] == "two"}
        self.assertRegex(filters["10"], r"-\*DeathTest\*:")
        self.assertEqual(filters["11"], "all")
        self.assertEqual(filters["12"], filters["10"])

    def test_what_is_asked_for_by_name_is_in_every_repetition_whole(self):
        self.env["LABELS"] = "//a:two"
        self.stress("--repetitions=3", "--seed=9", "//a:two")
        self.assertEqual([r[3] for r in self.runs()], ["all"] * 3)

    def test_what_is_done_in_other_libraries_is_in_every_eleventh(self):
        self.env["LABELS"] = "//debug/http:serve_test //a:two"
        self.script("bin/debug/http/serve_test", TEST)
        done = self.stress("--repetitions=23")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual([r[1] for r in self.runs() if r[0] == "serve_test"], ["11", "22"])

    def test_what_has_not_run_is_not_ok(self):
        self.env["LABELS"] = "//debug/http:serve_test //a:two"
        self.script("bin/debug/http/serve_test", TEST)
        done = self.stress("--repetitions=10")
        self.assertEqual(done.returncode, 3, done.stdout)
        self.assertRegex(done.stdout, r"ok +//a:two +10 repetitions\n")
        self.assertRegex(done.stdout, r"not run //debug/http:serve_test +0 repetitions\n")
        self.assertIn("0 tests failed; 1 have not run\n", done.stdout)

    def test_with_a_filter_or_without_delays_each_repetition_has_all(self):
        self.env["LABELS"] = "//netpoll:tls_test"
        self.script("bin/netpoll/tls_test", TEST)
        for argument in ("--filter=Tls*", "--no-delays"):
            done = self.stress("--repetitions=2", argument)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertRegex(done.stdout, r"ok +//netpoll:tls_test +2 repetitions\n")
        self.assertEqual([r[3] for r in self.runs()], ["all"] * 4)

    def under_nohup(self, *arguments):
        command = ["/bin/sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh", sys.executable, STRESS,
                   "--repetitions=1", *arguments]
        return subprocess.run(command, env=self.env, text=True, capture_output=True, timeout=120,
                              check=False)

    def test_tests_have_the_default_signals_under_nohup_too(self):
        self.env["DO_two"] = "kill -HUP $$; kill -INT $$"
        self.assertIn("FAILED //a:two, repetition 1: signal 1", self.under_nohup().stdout)

    def test_the_build_ignores_what_nohup_has_it_ignore(self):
        self.env["DO_build"] = "kill -HUP $$; kill -INT $$"
        done = self.under_nohup()
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_what_fails_is_named_with_its_output_and_how_to_repeat_it(self):
        self.env["DO_two"] = "[ $WEFT_DELAY_SEED != 2 ] || { echo details; exit 5; }"
        done = self.stress("--repetitions=3", f"--logs={self.path('logs')}")
        self.assertEqual(done.returncode, 1)
        self.assertIn("FAILED //a:two, repetition 2: exit status 5", done.stdout)
        self.assertRegex(done.stdout,
                         f"GTEST_FILTER='-[^']*' WEFT_DELAY_SEED=2 {self.path('bin/a/two')}")
        with open(self.path("logs/a-two-2.log"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "details\n")
        self.assertEqual(os.listdir(self.path("logs")), ["a-two-2.log"])
        self.assertRegex(done.stdout, r"ok +//a/b:one +3 repetitions\n")
        # ... at the end too.
        self.assertRegex(done.stdout, r"FAILED +//a:two +3 repetitions, 1 failed: 2\n"
                         r"  again:  \(cd .* WEFT_DELAY_SEED=2 .*/bin/a/two\)\n")

    def test_one_that_always_fails_is_given_up(self):
        self.env["DO_two"] = "kill -ABRT $$"
        done = self.stress("--repetitions=9")
        self.assertEqual(done.returncode, 1)
        self.assertIn("signal 6", done.stdout)
        self.assertEqual([r[0] for r in self.runs()].count("two"), 5)
        self.assertEqual([r[0] for r in self.runs()].count("one"), 9)

    def test_one_that_hangs_is_ended_with_its_children(self):
        self.env["DO_two"] = "sleep 100 & echo $! > $RECORD.child; sleep 100"
        done = self.stress("--repetitions=1", "--limit=1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("still running after 1.0 s", done.stdout)
        with open(self.path("record.child"), encoding="utf-8") as file:
            child = file.read().strip()
        # Gone, or dead and not yet collected by whoever inherited it.
        try:
            with open(f"/proc/{child}/stat", encoding="utf-8") as file:
                self.assertEqual(file.read().rsplit(")", 1)[1].split()[0], "Z")
        except (FileNotFoundError, ProcessLookupError):
            pass

    def test_when_time_is_up_it_says_what_is_missing(self):
        self.env["DO_one"] = "sleep 0.3"
        done = self.stress("--repetitions=1000", "--minutes=0.02")
        self.assertEqual(done.returncode, 3)
        self.assertIn("time was up, 2 have not had all repetitions", done.stdout)

    def test_what_does_not_build_or_is_not_there_is_one_line(self):
        self.env["BUILD_STATUS"] = "1"
        done = self.stress()
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"\Atools/stress: .* build .*: exit status 1\n\Z")
        self.env["LABELS"] = ""
        done = self.stress("//nothing")
        self.assertEqual((done.returncode, done.stderr),
                         (2, "tools/stress: no C++ tests in //nothing\n"))

    def test_bad_numbers_are_refused(self):
        for argument in ("--repetitions=0", "--seed=0", "--minutes=0", "--limit=x"):
            self.assertEqual(self.stress(argument).returncode, 2, argument)


if __name__ == "__main__":
    unittest.main()
