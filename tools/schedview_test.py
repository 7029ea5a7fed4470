#!/usr/bin/env python3
"""Tests tools/schedview: lines in Go's forms and ours, broken ones, its two drawings, and live."""

import contextlib
import fcntl
import importlib.machinery
import importlib.util
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest
import xml.etree.ElementTree as ET

TOOLS = os.path.dirname(os.path.abspath(__file__))
SCHEDVIEW = os.path.join(TOOLS, "schedview")
PROGRAM = None  # prints a trace of its own, if it is given
DEADLINE = 60

sys.dont_write_bytecode = True
_loader = importlib.machinery.SourceFileLoader("schedview", SCHEDVIEW)
schedview = importlib.util.module_from_spec(importlib.util.spec_from_loader("schedview", _loader))
_loader.exec_module(schedview)


def line(ms, queues=(0, 0), shared=0, idle=0, threads=5):
  return (f"SCHED {ms}ms: gomaxprocs={len(queues)} idleprocs={idle} threads={threads} "
          f"spinningthreads=1 idlethreads=2 runqueue={shared} [{' '.join(map(str, queues))}]\n")


def detail(ms, queues=(0, 0), goroutines=("4(sleep)", "2()")):
  text = (f"SCHED {ms}ms: gomaxprocs={len(queues)} idleprocs=0 threads=4 spinningthreads=0 "
          "idlethreads=1 runqueue=6 gcwaiting=0 nmidlelocked=0 stopwait=0 sysmonwait=0\n")
  for p, queue in enumerate(queues):
    text += (f"  P{p}: status=1 schedtick=2356 syscalltick=19060 m=11 runqsize={queue} "
             "gfreecnt=0\n")
  text += ("  M11: p=1 curg=6160 mallocing=0 throwing=0 preemptoff= locks=2 dying=0 helpgc=0 "
           "spinning=false blocked=false lockedg=-1\n")
  for g, status in enumerate(goroutines, 1):
    text += f"  G{g}: status={status} m=-1 lockedm=-1\n"
  return text


def read(text, last=None):
  reader = schedview.Reader(last)
  for each in text.splitlines(keepends=True):
    reader.feed(each)
  reader.flush()
  return reader


def run(*arguments, stdin="", **options):
  return subprocess.run([SCHEDVIEW, *arguments], input=stdin, capture_output=True, text=True,
                        timeout=DEADLINE, **options)


def wait_until(condition):
  end = time.monotonic() + DEADLINE
  while not condition():
    if time.monotonic() > end:
      raise AssertionError("not within a minute")
    time.sleep(0.01)


def is_asleep(process):
  """It waits for input: what it has read it has dealt with."""
  with open(f"/proc/{process.pid}/stat") as file:
    return file.read().rsplit(") ", 1)[1].startswith("S")


class ReaderTest(unittest.TestCase):

  def test_reads_a_line(self):
    reader = read("SCHED 6016ms: gomaxprocs=4 idleprocs=0 threads=26 spinningthreads=0 "
                  "idlethreads=20 runqueue=1 [3 4 0 10]\n")
    (sample,) = reader.samples
    self.assertEqual(sample.milliseconds, 6016)
    self.assertEqual(sample.queues, [3, 4, 0, 10])
    self.assertEqual(sample.queued, 18)
    self.assertEqual((sample.get("threads"), sample.get("idlethreads")), (26, 20))
    self.assertEqual(reader.problems, 0)

  def test_reads_what_newer_releases_of_go_print(self):
    reader = read("SCHED 0ms: gomaxprocs=2 idleprocs=1 threads=5 spinningthreads=1 needspinning=0 "
                  "idlethreads=0 runqueue=0 [0 7 ] schedticks=[ 13 5 ]\n"
                  "SCHED 100ms: gomaxprocs=2 idleprocs=0 threads=5 spinningthreads=0 needspinning=1 "
                  "idlethreads=2 runqueue=0 gcwaiting=false nmidlelocked=1 stopwait=0 "
                  "sysmonwait=false\n"
                  "  P0: status=1 schedtick=0 syscalltick=0 m=nil runqsize=3 gfreecnt=0 timerslen=0\n"
                  "  P1: status=1 schedtick=3 syscalltick=0 m=3 runqsize=4 gfreecnt=0 timerslen=0\n"
                  "  M3: p=0 curg=1 mallocing=0 throwing=0 preemptoff= locks=2 dying=0 "
                  "spinning=false blocked=false lockedg=nil\n"
                  "  G1: status=2() m=3 lockedm=nil\n"
                  "  G2: status=4(force gc (idle)) m=nil lockedm=nil\n")
    self.assertEqual(reader.problems, 0, reader.first_problem)
    self.assertEqual([s.queues for s in reader.samples], [[0, 7], [3, 4]])
    self.assertEqual(reader.samples[1].states, {"running": 1, "waiting": 1})

  def test_reads_details(self):
    reader = read(detail(0, (11, 2)) + "noise\n" + detail(50, (0, 0), ["4(a)", "4(b)", "1()", "77()"]))
    self.assertEqual(reader.problems, 0)
    first, second = reader.samples
    self.assertEqual((first.queues, first.queued), ([11, 2], 19))
    self.assertEqual(first.states, {"waiting": 1, "running": 1})
    self.assertEqual(second.states, {"waiting": 2, "runnable": 1, "other": 1})

  def test_other_output_is_passed_over(self):
    reader = read("hello\n  P0: status=1 runqsize=3\n" + line(0) + "2026 INFO  x\n\n" + line(10))
    self.assertEqual((len(reader.samples), reader.problems), (2, 0))

  def test_a_line_may_begin_behind_other_output(self):
    self.assertEqual(len(read("listening... " + line(0)).samples), 1)

  def test_what_is_broken_is_counted_and_left_out(self):
    good = line(0, (1, 2)).rstrip("\n")
    for broken in (good[:-1], good[:60], good.replace("gomaxprocs=2", "gomaxprocs=3"),
                   good.replace("idleprocs=0 ", ""), good.replace("0ms", "xms"),
                   good.replace("[1 2]", "[1 x]"), good.replace("[1 2]", "[1 -2]"),
                   good.replace("runqueue=0", "runqueue="), "SCHED ", "SCHED 0ms:",
                   good.replace("gomaxprocs=2", "gomaxprocs=-2")):
      reader = read(line(0) + broken + "\n" + line(20))
      self.assertEqual((len(reader.samples), reader.problems), (2, 1), broken)
      self.assertTrue(reader.first_problem.startswith("line 2: "), reader.first_problem)

  def test_every_cut_of_a_line_is_broken_or_no_trace_at_all(self):
    good = line(100, (12, 345))
    for n in range(len(good) - 1):
      self.assertEqual(read(good[:n] + "\n").samples, [], good[:n])

  def test_details_that_were_cut_are_left_out(self):
    cut = detail(10).split("  P1")[0]
    reader = read(detail(0) + cut + detail(20))
    self.assertEqual([s.milliseconds for s in reader.samples], [0, 20])
    self.assertIn("1 of 2 Ps", reader.first_problem)

  def test_a_trace_that_starts_again_replaces_the_first(self):
    reader = read(line(0) + line(100) + line(0) + line(50))
    self.assertEqual([s.milliseconds for s in reader.samples], [0, 50])
    self.assertIn("the last of 2 traces", reader.summary())

  def test_the_last_ones_alone(self):
    reader = read("".join(line(i) for i in range(20)), last=3)
    self.assertEqual([s.milliseconds for s in reader.samples], [17, 18, 19])


class TerminalTest(unittest.TestCase):

  def test_draws_what_a_pipe_brings(self):
    trace = "".join(line(10 * i, (i, 0), shared=1, idle=1) for i in range(11))
    done = run(stdin=trace)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn("in queues 11", done.stdout)
    self.assertIn("idle Ps 1", done.stdout)
    self.assertIn("threads 5", done.stdout)
    self.assertRegex(done.stdout, r"P0 queue 10 +.*█\n")
    self.assertRegex(done.stdout, r"P1 queue 0\n")
    self.assertRegex(done.stdout, r"0\.0 s +0\.1 s\n$")
    self.assertEqual(done.stderr, "schedview: 11 samples, 0.1 s\n")

  def test_heights_are_in_proportion(self):
    rows = schedview.bars([0, 1, 50, 100], 4, 100, True)
    self.assertEqual(["".join(row[i] for row in rows) for i in range(4)],
                     ["    ", "   .", "  ||", "||||"])

  def test_columns_keep_peaks(self):
    values = [0] * 1000
    values[417] = 9
    drawn = schedview.columns(values, 80, max)
    self.assertEqual((len(drawn), max(drawn)), (80, 9))
    self.assertEqual(schedview.columns([1, 2], 80, max), [1, 2])

  def test_ascii(self):
    done = run("--ascii", stdin=line(0, (3, 4)) + line(10))
    self.assertTrue(done.stdout.isascii(), done.stdout)
    done = run(stdin=line(0, (3, 4)), env={**os.environ, "PYTHONIOENCODING": "ascii"})
    self.assertTrue(done.stdout.isascii(), done.stdout)
    self.assertEqual(done.returncode, 0, done.stderr)

  def test_width_is_kept(self):
    trace = "".join(line(i, range(40)) for i in range(500))
    done = run("--title=" + "x" * 300, stdin=trace, env={**os.environ, "COLUMNS": "72"})
    self.assertLessEqual(max(map(len, done.stdout.splitlines())), 72)
    self.assertIn("and 8 more Ps", done.stdout)

  def test_bytes_that_are_no_text(self):
    done = subprocess.run([SCHEDVIEW], input=b"\xff\xfe\0\n" + line(0).encode() + b"\x80",
                          capture_output=True, timeout=DEADLINE)
    self.assertEqual(done.returncode, 0, done.stderr)

  def test_live_on_a_terminal(self):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen([SCHEDVIEW], stdin=subprocess.PIPE, stdout=theirs,
                          stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONIOENCODING": "utf-8",
                                                          "COLUMNS": "", "LINES": ""}) as process:
      os.close(theirs)
      seen = ""

      def wait_for(words):
        nonlocal seen
        end = time.monotonic() + DEADLINE
        while words not in seen and time.monotonic() < end:
          if select.select([ours], [], [], 0.1)[0]:
            seen += os.read(ours, 1 << 16).decode(errors="replace")
        self.assertIn(words, seen)

      # A first line shows before the second one comes, and the input goes on.
      process.stdin.write(line(0, (7, 0)).encode())
      process.stdin.flush()
      wait_for("in queues 7")
      process.stdin.write(line(1000, (8, 1)).encode())
      process.stdin.close()
      wait_for("in queues 9")
      self.assertEqual(process.wait(DEADLINE), 0)
    os.close(ours)


class SvgTest(unittest.TestCase):

  def setUp(self):
    directory = tempfile.TemporaryDirectory()
    self.addCleanup(directory.cleanup)
    self.path = os.path.join(directory.name, "trace.svg")

  def draw(self, trace, *arguments):
    done = run(f"--svg={self.path}", *arguments, stdin=trace)
    self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
    return ET.parse(self.path).getroot()

  def tags(self, root, name):
    return list(root.iter("{http://www.w3.org/2000/svg}" + name))

  def test_charts_have_all_samples_within_them(self):
    root = self.draw("".join(line(100 * i, (i, 2 * i, 0, 1), shared=i, idle=i % 3) for i in range(30)))
    width, height = map(float, root.get("viewBox").split()[2:])
    polygons, polylines = self.tags(root, "polygon"), self.tags(root, "polyline")
    self.assertEqual((len(polygons), len(polylines)), (2, 5))
    for shape, points in [(p, 60) for p in polygons] + [(p, 30) for p in polylines]:
      pairs = [tuple(map(float, pair.split(","))) for pair in shape.get("points").split()]
      self.assertEqual(len(pairs), points)
      for x, y in pairs:
        self.assertTrue(0 <= x <= width and 0 <= y <= height, (x, y))
    words = [text.text for text in self.tags(root, "text")]
    for word in ("goroutines in queues", "Ps", "threads", "30 samples, 2.9 s"):
      self.assertIn(word, words)
    heat = [r for r in self.tags(root, "rect") if r.get("class") == "heat"]
    self.assertEqual(len(heat), 29 + 29 + 30)  # of queues that are not empty

  def test_states_of_goroutines_with_details(self):
    root = self.draw(detail(0) + detail(50, goroutines=["4(a)", "1()", "9()"]))
    self.assertIn("goroutines", [text.text for text in self.tags(root, "text")])
    self.assertEqual(len(self.tags(root, "polygon")), 2 + 4)

  def test_one_sample_and_all_zero(self):
    self.draw(line(0))

  def test_title_is_escaped(self):
    root = self.draw(line(0), "--title=<script>&\"")
    self.assertIn("<script>&\"", [text.text for text in self.tags(root, "text")])
    self.assertEqual(self.tags(root, "script"), [])

  def test_interrupted_it_draws_what_it_has(self):
    with subprocess.Popen([SCHEDVIEW, f"--svg={self.path}"], stdin=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
      process.stdin.write(line(0) + line(10) + "SCHED 20ms")
      process.stdin.flush()
      def has_read_all():
        left = struct.unpack("i", fcntl.ioctl(process.stdin, termios.FIONREAD, b"\0" * 4))[0]
        return left == 0 and is_asleep(process)

      wait_until(has_read_all)
      process.send_signal(signal.SIGINT)
      _, err = process.communicate(timeout=DEADLINE)
    self.assertEqual((process.returncode, err), (0, "schedview: 2 samples, 0.0 s\n"))
    ET.parse(self.path)


class CommandTest(unittest.TestCase):

  def test_help(self):
    done = run("--help")
    self.assertEqual(done.returncode, 0)
    for flag in ("--svg", "--title", "--follow", "--last", "--ascii"):
      self.assertIn(f"\n  {flag}", done.stdout)

  def test_mistakes(self):
    for arguments in (("--svg=",), ("--last=0",), ("--last=x",), ("--nothing",), ("a", "b"),
                      ("--follow",), ("/no/such/file",), ("/",)):
      done = run(*arguments)
      self.assertEqual(done.returncode, 2, arguments)
      self.assertTrue(done.stderr.startswith("schedview: "), done.stderr)
      self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
    done = run("--svg=/no/such/dir/x.svg", stdin=line(0))
    self.assertEqual(done.returncode, 2)

  def test_nothing_to_draw(self):
    for text in ("", "hello\n", "SCHED\n"):
      done = run(stdin=text)
      self.assertEqual((done.returncode, done.stdout), (1, ""))
      self.assertIn("no sample", done.stderr)

  def test_follows_a_file_that_grows(self):
    with tempfile.NamedTemporaryFile("w", suffix=".trace") as file:
      svg = file.name + ".svg"
      self.addCleanup(lambda: os.path.exists(svg) and os.remove(svg))
      file.write(line(0) + line(10)[:30])
      file.flush()
      with subprocess.Popen([SCHEDVIEW, "--follow", f"--svg={svg}", file.name],
                            stderr=subprocess.PIPE, text=True) as process:
        # Its place in the file says how far it has come.
        def has_read_all():
          for fd in os.listdir(f"/proc/{process.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
              if os.readlink(f"/proc/{process.pid}/fd/{fd}") == file.name:
                with open(f"/proc/{process.pid}/fdinfo/{fd}") as info:
                  at = int(re.search(r"pos:\s*(\d+)", info.read()).group(1))
                return at >= file.tell() and is_asleep(process)
          return False

        wait_until(has_read_all)
        file.write(line(10)[30:] + line(20))
        file.flush()
        wait_until(has_read_all)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE)
      self.assertEqual((process.returncode, err), (0, "schedview: 3 samples, 0.0 s\n"))

  def test_of_a_program_of_ours(self):
    if PROGRAM is None:
      self.skipTest("no program was given")
    # It ends after so many lines, of which a detailed sample has dozens.
    for setting, lines, samples in (("schedtrace=5", "11", 10),
                                    ("schedtrace=5,scheddetail=1", "1000", 2)):
      traced = subprocess.run([PROGRAM, "busy", lines], capture_output=True, text=True,
                              timeout=DEADLINE, env={**os.environ, "WEFTDEBUG": setting})
      self.assertEqual(traced.returncode, 0)
      # The program may have ended in the middle of the last one.
      whole = traced.stderr[:traced.stderr.rindex("SCHED ")]
      reader = read(whole)
      self.assertEqual(reader.problems, 0, reader.first_problem)
      self.assertGreaterEqual(len(reader.samples), samples)
      self.assertEqual(run(stdin=whole).returncode, 0)


if __name__ == "__main__":
  if len(sys.argv) > 1 and not sys.argv[1].startswith("-") and os.path.exists(sys.argv[1]):
    PROGRAM = os.path.abspath(sys.argv.pop(1))
  unittest.main(verbosity=2)
