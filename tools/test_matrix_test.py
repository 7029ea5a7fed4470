#!/usr/bin/env python3
"""Tests what tools/test makes of what Bazel says."""

import contextlib
import io
import json
import os
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "internal"))

import test_matrix  # pylint: disable=wrong-import-position


class TestMatrixTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = directory.name

    def file(self, name, text):
        path = os.path.join(self.root, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def outcome(self, *events, rest=""):
        lines = "".join(json.dumps(event) + "\n" for event in events)
        return test_matrix.read_outcome(self.file("events.json", lines + rest))

    @staticmethod
    def configured(label):
        return {"id": {"targetConfigured": {"label": label}}, "configured": {"testSize": "SMALL"}}

    @staticmethod
    def summary(label, status):
        return {"id": {"testSummary": {"label": label}}, "testSummary": {"overallStatus": status}}

    def test_a_test_without_a_summary_has_failed(self):
        tests, broken, _ = self.outcome(
            self.configured("//a:a"), self.configured("//a:b"), self.configured("//a:c"),
            self.summary("//a:a", "PASSED"), self.summary("//a:b", "FLAKY"),
            {"id": {"targetCompleted": {"label": "//a:c"}}, "completed": {}},
            rest='{"id": {"testSummary')
        self.assertEqual(tests, {"//a:a": True, "//a:b": False, "//a:c": False})
        self.assertEqual(broken, {"//a:c"})

    def test_the_logs_of_what_failed_are_found(self):
        def result(label, status, path):
            return {"id": {"testResult": {"label": label}}, "testResult": {
                "status": status,
                "testActionOutput": [{"name": "test.log", "uri": f"file://{path}"},
                                     {"name": "test.xml", "uri": "file:///x.xml"}]}}
        _, _, logs = self.outcome(result("//a:a", "PASSED", "/a.log"),
                                  result("//a:b", "FAILED", "/b.log"),
                                  result("//a:c", "TIMEOUT", "/c.log"))
        self.assertEqual(logs, {"//a:b": "/b.log", "//a:c": "/c.log"})

    def test_what_says_most_of_a_log_stands_beside_the_name(self):
        log = self.file("test.log", "\n".join(
            ["[ RUN      ] A.B"] * 40 + ["a/b_test.cc:7: Failure", "Value of: x", "  Actual: false"]
            + ["later"] * 40))
        results = test_matrix.Results()
        results.add("asan: //a:a", True, log)
        results.add("asan: //a:b", False, log)
        results.add("asan: //a:gone", False, os.path.join(self.root, "gone"))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            self.assertEqual(test_matrix.report(results, time.monotonic()), 1)
        self.assertIn("=== asan: //a:b\n    a/b_test.cc:7: Failure\n    Value of: x\n", printed.getvalue())
        self.assertNotIn("[ RUN", printed.getvalue())
        self.assertTrue(printed.getvalue().endswith(
            "FAILED  asan: //a:b\nFAILED  asan: //a:gone\n1 passed, 2 failed\n"))

    def test_a_log_that_says_nothing_is_shown_from_its_end(self):
        log = self.file("test.log", "\n".join(str(i) for i in range(100)))
        self.assertEqual(test_matrix.excerpt(log)[-1], "99")
        self.assertLessEqual(len(test_matrix.excerpt(log)), 20)


if __name__ == "__main__":
    unittest.main()
