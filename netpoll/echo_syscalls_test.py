#!/usr/bin/env python3
"""What strace sees of an echo in steady state: three system calls for a round trip, on either side.

Run as `echo_syscalls_test.py path/to/echo_program`. Each side is one process under strace. The
monitor's thread, which sleeps and looks, is told by that it neither sends nor receives.
"""

import collections
import os
import re
import subprocess
import sys
import tempfile
import unittest

PROGRAM = None
# Enough for what each P learns anew, when it takes the conversation over (some ten looks at the
# poller in vain, sched/internal/poll_history.h), to be as rare as the bounds below have it.
TRIPS = 5000
DEADLINE = 240.0  # seconds


def may_trace():
  try:
    done = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True,
                          timeout=DEADLINE)
  except FileNotFoundError:
    return False
  return done.returncode == 0


def observed(path):
  """The calls of each thread between the two marks, those that were interrupted counted once."""
  threads = collections.defaultdict(collections.Counter)
  marks = 0
  with open(path) as file:
    for line in file:
      match = re.match(r"(\d+) +(\w+)\(", line)
      if not match:
        continue  # the rest of a call, a signal, an end
      if match.group(2) == "getppid":
        marks += 1
      elif marks == 1:
        threads[match.group(1)][match.group(2)] += 1
  assert marks == 2, f"{marks} marks in {path}"
  return threads


class EchoSyscallsTest(unittest.TestCase):
  def start(self, directory, procs, *arguments):
    trace = os.path.join(directory, arguments[0])
    env = {name: value for name, value in os.environ.items() if not name.startswith("WEFT")}
    process = subprocess.Popen(["strace", "-f", "-qq", "-s0", "-o", trace, PROGRAM, *arguments],
                               stdout=subprocess.PIPE, text=True,
                               env={**env, "WEFTMAXPROCS": str(procs),
                                    # The search for leaks does not work under strace.
                                    "ASAN_OPTIONS": "detect_leaks=0"})
    self.addCleanup(process.stdout.close)
    self.addCleanup(process.kill)
    return process, trace

  def test_three_calls_a_side(self):
    for procs in (1, 2):
      with self.subTest(procs=procs), tempfile.TemporaryDirectory() as directory:
        server, server_trace = self.start(directory, procs, "server", str(TRIPS))
        port = server.stdout.readline().strip()
        client, client_trace = self.start(directory, procs, "client", str(TRIPS), port)
        self.assertEqual(client.wait(DEADLINE), 0)
        self.assertEqual(server.wait(DEADLINE), 0)
        for trace in (server_trace, client_trace):
          calls = collections.Counter()
          monitor = collections.Counter()
          for of_thread in observed(trace).values():
            if of_thread["recvfrom"] or of_thread["sendto"]:
              calls += of_thread
            else:
              monitor += of_thread
          print(procs, os.path.basename(trace), dict(calls), dict(monitor), flush=True)
          self.assertEqual(calls["sendto"], TRIPS)
          self.assertLessEqual(calls["recvfrom"], 1.02 * TRIPS)
          # (Sanitizers come between with the one without a mask.)
          looks = calls["epoll_pwait"] + calls["epoll_wait"]
          conversation = calls["recvfrom"] + calls["sendto"] + looks
          # A look at the poller in vain now and then, see sched/internal/poll_history.h: by the time that
          # counts one in a thousand round trips.
          self.assertLessEqual(conversation, 3.01 * TRIPS)
          # The monitor sleeps when all wait for long, as they do under strace on a busy machine, and
          # has to be woken then.
          self.assertLessEqual(sum(calls.values()) - conversation, monitor["futex"] + 0.05 * TRIPS)


if __name__ == "__main__":
  if len(sys.argv) < 2 or sys.argv[1] in ("--help", "-h"):
    print(__doc__)
    sys.exit(0 if len(sys.argv) > 1 else 2)
  PROGRAM = os.path.abspath(sys.argv.pop(1))
  if not may_trace():
    print("skipped: strace is not installed, or nobody may be traced here")
    sys.exit(0)
  unittest.main(verbosity=2)
