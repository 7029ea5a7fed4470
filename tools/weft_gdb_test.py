#!/usr/bin/env python3
"""Checks tools/weft-gdb.py with gdb itself, on a live process and on a core file. Arguments: the
script, a program whose goroutines wait, block and compute (debug/goroutines_program.cc)."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

LIMIT = 120


def environment(settings):
    env = {name: value for name, value in os.environ.items() if not name.startswith("WEFT")}
    env.update(WEFTDEBUG=settings, WEFTMAXPROCS="2")
    return env


def start(settings, cwd):
    """The program, when all of its goroutines are where they shall be."""
    def before():
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    process = subprocess.Popen([PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=cwd,
                               env=environment(settings), text=True, preexec_fn=before)
    assert process.stdout.readline() == "ready\n"
    return process


def gdb(target, *commands):
    arguments = ["gdb", "-q", "-nx", "-batch", "-ex", "set debuginfod enabled off", "-x", SCRIPT]
    for command in commands:
        arguments += ["-ex", command]
    done = subprocess.run([*arguments, PROGRAM, target], check=False, text=True, timeout=LIMIT,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout


def core_file(process, directory):
    """Of the process, which it ends."""
    process.send_signal(signal.SIGABRT)
    process.wait(LIMIT)
    process.stdout.close()
    cores = [name for name in os.listdir(directory) if name.startswith("core")]
    return os.path.join(directory, cores[0]) if cores else None


class GdbTest(unittest.TestCase):
    def setUp(self):
        if shutil.which("gdb") is None:
            self.fail("gdb: not found (tools/setup installs it)")
        # A directory for cores, which a program dumps where it is.
        # pylint: disable=consider-using-with
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def check(self, target, rests):
        listed = gdb(target, "info goroutines")
        if "ptrace: Operation not permitted" in listed:
            self.skipTest("ptrace is forbidden here")
        receiver = re.search(r"^(\d+) \[chan receive(, rests)?\] .*ReceiveForEver", listed, re.M)
        self.assertTrue(receiver, listed)
        self.assertEqual(receiver[2] is not None, rests, listed)
        # It has said that all is ready, and may not have come any further.
        self.assertRegex(listed, r"(?m)^1 \[(sleep|running|runnable)")
        spinner = re.search(r"^(\d+) \[(?:running|preempted|runnable)\] .*created by", listed, re.M)
        self.assertTrue(spinner, listed)
        self.assertRegex(listed, r"(?m)^\d+ \[syscall\] thread \d+, created by .*main")

        number = receiver[1]
        trace = gdb(target, f"goroutine {number} bt")
        functions = re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?([^(\n]*(?:\(anonymous namespace\))?[^(\n]*)",
                               trace, re.M)
        names = " ".join(functions)
        self.assertRegex(names, r"ReceiveForEver.*Closure.*weft_context_start", trace)
        self.assertRegex(trace, r"ReceiveForEver\(.*\) \(.*goroutines_program\.cc:\d+")
        # The thread's own frames are not in it.
        self.assertNotRegex(trace, r"__lll_lock_wait|syscall \(|epoll_wait|main \(argc")
        # As a shell: its frame is the current one, until it is left.
        inside = gdb(target, f"goroutine {number}", "up 3", "info frame", f"goroutine {number} stacks",
                     "goroutine off", "bt 1")
        self.assertIn("stack: 0x", inside)
        self.assertEqual("it rests" in inside, rests, inside)

        everything = gdb(target, "goroutine all bt")
        for function in ("ReceiveForEver", "ComputeForEver", "BlockForEver"):
            self.assertIn(function, everything)
        if "Goroutine 1 [sleep]" in everything:
            self.assertIn("weft::Sleep", everything)
        self.assertIn("no goroutine 777", gdb(target, "goroutine 777 bt"))

    def on_live(self, settings, rests):
        process = start(settings, self.directory.name)
        try:
            self.check(str(process.pid), rests)
            self.assertIsNone(process.poll())
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def on_core(self, settings, rests):
        process = start(settings, self.directory.name)
        core = core_file(process, self.directory.name)
        if core is None:
            self.skipTest("the system writes no core files here (/proc/sys/kernel/core_pattern)")
        self.check(core, rests)

    def test_live(self):
        self.on_live("stackrest=off", False)

    def test_core(self):
        self.on_core("stackrest=off", False)

    def test_live_at_rest(self):
        self.on_live("stackrest=always,stackpoison=1", MAY_REST)

    def test_core_at_rest(self):
        self.on_core("stackrest=always,stackpoison=1", MAY_REST)

    def test_another_program(self):
        text = subprocess.run(["gdb", "-q", "-nx", "-batch", "-x", SCRIPT, "-ex", "info goroutines",
                               "/bin/true"], check=False, text=True, timeout=LIMIT,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
        self.assertIn("Is this a program with Weft's scheduler", text)


if __name__ == "__main__":
    SCRIPT, PROGRAM = (os.path.abspath(path) for path in sys.argv[1:3])
    # Where stacks do not move the escape pass's section is not there.
    MAY_REST = "weft_text" in subprocess.run(["readelf", "-SW", PROGRAM], check=True, text=True,
                                             stdout=subprocess.PIPE).stdout
    unittest.main(argv=sys.argv[:1], verbosity=2)
