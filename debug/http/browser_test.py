#!/usr/bin/env python3
"""Lets a headless Chromium open the pages of a program, at a desktop's and at a phone's width.

usage: browser_test.py PROGRAM [--shots=DIR]

PROGRAM is //debug/http:pages_program. What is checked is the page that the browser has made of the
answer: names with markup in them show as text, no script of theirs runs, nothing is loaded from
elsewhere, and the charts go on. Pictures, to be looked at, go to DIR, else where Bazel keeps a test's
outputs. Without Chromium it says so and succeeds.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import urllib.request

PROGRAM = None
SHOTS = os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
               None)
PAGES = ("", "goroutines", "goroutines?view=list", "goroutines?id=1", "sched", "stacks", "netpoll",
         "pprof/")
PICTURED = ("goroutines?q=ReceiveForEver", "sched", "stacks")
SIZES = {"desktop": "1200,900", "phone": "390,844"}


class BrowserTest(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    cls.work = tempfile.TemporaryDirectory()
    cls.program = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   text=True)
    cls.url = cls.program.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/debug/", cls.url), cls.url

  @classmethod
  def tearDownClass(cls):
    cls.program.stdin.close()
    status = cls.program.wait(timeout=60)
    cls.program.stdout.close()
    cls.work.cleanup()
    assert status == 0, status

  def browse(self, page, *flags, size="desktop", budget=1000):
    """The browser's output, after so many milliseconds of the page's own time."""
    profile = os.path.join(self.work.name, "profile")
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--hide-scrollbars", f"--user-data-dir={profile}",
         f"--window-size={SIZES[size]}", f"--virtual-time-budget={budget}",
         "--enable-logging=stderr", *flags, self.url + page],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "HOME": self.work.name})
    self.assertEqual(done.returncode, 0, done.stderr[-2000:])
    # What a page's policy has stopped, and errors of its script, come here.
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    self.assertEqual(said, [])
    return done.stdout

  def dom(self, page, **options):
    return self.browse(page, "--dump-dom", **options)

  def test_names_stay_text(self):
    for page in ("goroutines?view=list", "goroutines?q=script", "goroutines?q=%22%3E%3Cimg+src%3Dx"):
      dom = self.dom(page)
      self.assertNotIn("owned -", dom)
      self.assertNotIn("<img", dom)
      self.assertEqual(dom.count("<script"), 1)
      self.assertRegex(dom, r"<title>goroutines - pages_program</title>")
    self.assertIn("&lt;script&gt;document.title='owned'&lt;/script&gt;",
                  self.dom("goroutines?view=list"))

  def test_nothing_comes_from_elsewhere(self):
    for page in PAGES:
      with urllib.request.urlopen(self.url + page) as answer:
        text = answer.read().decode()
      for link in re.findall(r"(?:src|href|action)=\"([^\"]*)\"", text):
        self.assertRegex(link, r"^(/debug/|data:,$)", page)

  def test_charts_go_on(self):
    dom = self.dom("sched", budget=8000)
    lines = re.search(r'<pre id="lines">(.*?)</pre>', dom, re.S).group(1).splitlines()
    self.assertGreater(len(lines), 3, dom)
    for line in lines:
      self.assertRegex(line, r"^SCHED \d+ms: gomaxprocs=\d+ .* \[[\d ]+\]$")
    points = re.findall(r'<polyline[^>]* points="([^"]+)"', dom)
    self.assertEqual(len(points), 6)
    for each in points:
      self.assertGreater(len(each.split()), 2)
    self.assertRegex(dom, r'<span id="status" class="minutes"></span>')

  def test_groups_open_to_stacks(self):
    dom = self.dom("goroutines?q=ReceiveForEver&state=chan+receive")
    self.assertRegex(dom, r"<summary><b>120</b> <span class=\"state\">chan receive</span>")
    self.assertIn("debug/http/pages_program.cc:", dom)

  def test_pages_are_pictured(self):
    directory = SHOTS or self.work.name
    for size in SIZES:
      for page in PICTURED:
        name = re.sub(r"\W+", "-", page).strip("-") or "index"
        path = os.path.join(directory, f"{name}-{size}.png")
        self.browse(page, f"--screenshot={path}", size=size, budget=4000)
        self.assertGreater(os.path.getsize(path), 2000, path)


def main():
  global PROGRAM, SHOTS
  arguments = sys.argv[1:]
  if not arguments or arguments[0] in ("--help", "-h"):
    print(__doc__)
    sys.exit(0 if arguments else 2)
  for argument in list(arguments):
    if argument.startswith("--shots="):
      SHOTS = os.path.abspath(argument.removeprefix("--shots="))
      os.makedirs(SHOTS, exist_ok=True)
      arguments.remove(argument)
  PROGRAM = os.path.abspath(arguments.pop(0))
  if BROWSER is None:
    print("browser_test: skipped: chromium is not installed")
    return
  unittest.main(argv=[sys.argv[0], *arguments], verbosity=2)


if __name__ == "__main__":
  main()
