#!/usr/bin/env python3
"""The page that traceview makes: of a trace that is known, and of a real one in a headless Chromium."""

import html
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = os.path.join(HERE, "traceview")
PROGRAM = os.path.abspath(sys.argv.pop(1))

loader = importlib.machinery.SourceFileLoader("traceview", TOOL)
traceview = importlib.util.module_from_spec(importlib.util.spec_from_loader("traceview", loader))
sys.dont_write_bytecode = True
loader.exec_module(traceview)

# A goroutine "</script>" that waits, is runnable while another one runs, and runs.
KNOWN = {
    "traceEvents": [
        {"ph": "M", "pid": 1, "tid": 0, "name": "thread_name", "args": {"name": "P0"}},
        {"ph": "X", "pid": 1, "tid": 0, "ts": 0.0, "dur": 30.5, "name": "G1 main", "args": {"g": 1}},
        {"ph": "X", "pid": 1, "tid": 0, "ts": 30.5, "dur": 9.5, "name": "G2 </script>", "args": {"g": 2}},
        {"ph": "M", "pid": 2, "tid": 1, "name": "thread_name", "args": {"name": "G1 main"}},
        {"ph": "M", "pid": 2, "tid": 2, "name": "thread_name", "args": {"name": "G2 </script>"}},
        {"ph": "X", "pid": 2, "tid": 1, "ts": 0.0, "dur": 30.5, "name": "running", "args": {"P": 0}},
        {"ph": "X", "pid": 2, "tid": 2, "ts": 0.0, "dur": 10.0, "name": "chan receive", "args": {}},
        {"ph": "X", "pid": 2, "tid": 2, "ts": 10.0, "dur": 20.5, "name": "runnable",
         "args": {"why": "woken by a goroutine", "by": 1}},
        {"ph": "X", "pid": 2, "tid": 2, "ts": 30.5, "dur": 9.5, "name": "running", "args": {"P": 0}},
        {"ph": "s", "cat": "wake", "id": 1, "pid": 1, "tid": 0, "ts": 10.0, "name": "wake"},
        {"ph": "f", "cat": "wake", "id": 1, "pid": 1, "tid": 0, "ts": 30.5, "name": "wake"},
        {"ph": "B", "pid": 4, "tid": 2, "ts": 31.0, "name": "outer", "args": {}},
        {"ph": "B", "pid": 4, "tid": 2, "ts": 32.0, "name": "inner", "args": {}},
        {"ph": "E", "pid": 4, "tid": 2, "ts": 33.0, "name": ""},
        {"ph": "i", "pid": 2, "tid": 2, "ts": 34.0, "name": "a log", "args": {"category": "c"}},
    ],
    "otherData": {"length_us": "40.000", "gaps": "0", "beginning_lost": "no"},
}


class Traceview(unittest.TestCase):

  def setUp(self):
    self.folder = tempfile.mkdtemp()
    self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

  def path(self, name):
    return os.path.join(self.folder, name)

  def run_tool(self, *arguments):
    return subprocess.run([sys.executable, "-B", TOOL, *arguments], capture_output=True, text=True,
                          check=False, timeout=60)

  def make_page(self, trace, name="known"):
    with open(self.path(name + ".json"), "w", encoding="utf-8") as file:
      json.dump(trace, file)
    run = self.run_tool(self.path(name + ".json"))
    self.assertEqual((run.returncode, run.stderr), (0, ""))
    self.assertEqual(run.stdout.strip(), self.path(name + ".html"))
    return self.path(name + ".html")

  def dom(self, page, fragment):
    """The text of the page as the browser has made it; None without a browser."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
      print("traceview_test: not looked at: chromium is not installed")
      return None
    run = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--enable-logging=stderr", "--user-data-dir=" + self.path("profile"),
         "--dump-dom", f"file://{page}#{fragment}"],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "HOME": self.folder})
    self.assertEqual(run.returncode, 0, run.stderr)
    # Neither an error of the script nor anything that it would fetch.
    self.assertNotIn("CONSOLE", run.stderr)
    body = re.sub(r"(?s)<script.*?</script>|<style.*?</style>", "", run.stdout)
    return html.unescape(re.sub(r"<[^>]*>", " ", body))

  def test_condenses_what_is_known(self):
    data = traceview.condense(KNOWN, "known")
    self.assertEqual(data["length"], 40_000)
    self.assertEqual([(t["group"], t["name"]) for t in data["tracks"]],
                     [("Ps", "P0"), ("goroutines", "G1 main"), ("goroutines", "G2 </script>"),
                      ("regions and tasks", "regions and tasks")])
    waiting = data["tracks"][2]
    self.assertEqual(waiting["t"], [0, 10_000, 30_500])
    self.assertEqual(waiting["d"], [10_000, 20_500, 9_500])
    self.assertEqual([data["names"][n] for n in waiting["n"]], ["chan receive", "runnable", "running"])
    self.assertEqual([m[0] for m in waiting["m"]], [34_000])
    regions = data["tracks"][3]
    # The outer one has not ended.
    self.assertEqual(list(zip(regions["t"], regions["d"], regions["y"])),
                     [(31_000, 9_000, 0), (32_000, 1_000, 1)])
    self.assertEqual(data["arrows"], [[0, 10_000, 0, 30_500]])

  def test_the_page_is_self_contained(self):
    with open(self.make_page(KNOWN), encoding="utf-8") as file:
      page = file.read()
    self.assertEqual(page.count("</script>"), 2)
    self.assertNotRegex(page, r"(?i)https?:|src=|@import|url\(|fetch\(|XMLHttpRequest")

  def test_says_why_a_goroutine_did_not_run(self):
    text = self.dom(self.make_page(KNOWN), "why=G2")
    if text is None:
      return
    self.assertIn("Why was G2 </script> not running?", text)
    self.assertIn("In the 40.00 µs shown it ran for 9.50 µs (24 %).", text)
    self.assertRegex(text, r"runnable\s+20\.50 µs\s+51 %\s+1\s+20\.50 µs\s+"
                           r"the Ps had meanwhile: G1 main 20\.50 µs")
    self.assertRegex(text, r"chan receive\s+10\.00 µs\s+25 %\s+1\s+10\.00 µs\s+ended by G1 main")
    self.assertIn("a log", text)

  def test_of_the_time_that_is_shown_only(self):
    text = self.dom(self.make_page(KNOWN), "from=20000&to=35000&why=G2")
    if text is None:
      return
    self.assertIn("In the 15.00 µs shown it ran for 4.50 µs (30 %).", text)
    self.assertNotIn("chan receive", text)

  def test_shows_a_real_trace(self):
    trace = self.path("real.json")
    environment = {**os.environ, "WEFTDEBUG": f"trace={trace}"}
    subprocess.run([PROGRAM], env=environment, check=True, timeout=60)
    run = self.run_tool(trace, "-o", self.path("real.html"))
    self.assertEqual((run.returncode, run.stderr), (0, ""))
    with open(trace, encoding="utf-8") as file:
      data = traceview.condense(json.load(file), "real")
    names = [t["name"] for t in data["tracks"]]
    self.assertIn("P0", names)
    self.assertTrue(any(n.endswith(" consumer") for n in names), names)
    text = self.dom(self.path("real.html"), "why=consumer")
    if text is None:
      return
    self.assertRegex(text, r"Why was G\d+ consumer not running\?")
    self.assertRegex(text, r"running\s+[\d.]+ ms\s+\d+ %")

  def test_says_what_it_cannot_read(self):
    run = self.run_tool(self.path("absent.json"))
    self.assertEqual(run.returncode, 1)
    self.assertIn("No such file", run.stderr)
    with open(self.path("other.json"), "w", encoding="utf-8") as file:
      file.write("[]")
    run = self.run_tool(self.path("other.json"))
    self.assertEqual(run.returncode, 1)
    self.assertIn("it has no traceEvents", run.stderr)


if __name__ == "__main__":
  unittest.main()
