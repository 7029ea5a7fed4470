#!/usr/bin/env python3
"""Tests tools/torture as far as that goes without Bazel: what it would run, and what it refuses."""

import os
import subprocess
import sys
import unittest

TORTURE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torture")


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


if __name__ == "__main__":
    unittest.main()
