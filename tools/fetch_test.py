#!/usr/bin/env python3
"""fetch against httpd, with a proxy between them that cuts connections.

Run by Bazel as `fetch_test.py path/to/httpd path/to/fetch`; further arguments go to unittest.
"""

import glob
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import httpd_testing
from httpd_testing import DEADLINE, Server, wait_for

FETCH = None  # the program's path
SEED = 17


class CuttingProxy:
  """Passes connections on to a server. Of every two one ends after a random number of bytes."""

  def __init__(self, port, cut=True, most=100_000):
    self.target = port
    self.random = random.Random(SEED)
    self.cut = cut
    self.most = most
    self.lock = threading.Lock()
    self.connections = 0
    self.cuts = 0
    self.held = threading.Event()
    self.held.set()
    self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    self.port = self.listener.getsockname()[1]
    threading.Thread(target=self.accept, daemon=True).start()

  def accept(self):
    while True:
      try:
        client, _ = self.listener.accept()
      except OSError:
        return
      threading.Thread(target=self.carry, args=(client,), daemon=True).start()

  def carry(self, client):
    with self.lock:
      self.connections += 1
      limit = self.random.randrange(self.most) if self.cut and self.random.random() < 0.5 else None
    server = socket.create_connection(("127.0.0.1", self.target))
    threading.Thread(target=self.up, args=(client, server), daemon=True).start()
    try:
      while data := server.recv(65536):
        self.held.wait()
        if limit is not None and len(data) >= limit:
          client.sendall(data[:limit])
          with self.lock:
            self.cuts += 1
          break
        client.sendall(data)
        if limit is not None:
          limit -= len(data)
    except OSError:
      pass
    for connection in (client, server):
      try:
        connection.shutdown(socket.SHUT_RDWR)
      except OSError:
        pass
      connection.close()

  def up(self, client, server):
    try:
      while data := client.recv(65536):
        server.sendall(data)
    except OSError:
      pass

  def close(self):
    self.held.set()
    self.listener.close()


def fetch(*arguments, stdin=None, env=None):
  return subprocess.run([FETCH, *arguments], capture_output=True, text=True, input=stdin,
                        timeout=2 * DEADLINE, env={**os.environ, **(env or {})})


def threads_of(pid):
  """Those that the program has made: the kernel's own, io_uring's workers, are among its tasks too."""
  count = 0
  for path in glob.glob(f"/proc/{pid}/task/*/comm"):
    try:
      with open(path, encoding="utf-8") as file:
        count += not file.read().startswith("iou-")
    except (FileNotFoundError, ProcessLookupError):
      pass
  return count


class FetchTest(unittest.TestCase):

  def setUp(self):
    self.tree = httpd_testing.Tree()
    self.server = Server(self.tree.root, "--access_log=off")
    self.out = os.path.join(self.tree.base, "out")

  def tearDown(self):
    self.server.close()
    self.tree.close()

  def read(self, name):
    with open(os.path.join(self.out, name), "rb") as file:
      return file.read()

  def test_many_files_over_connections_that_break(self):
    count = 200
    numbers = random.Random(SEED)
    files = {}
    for i in range(count):
      size = numbers.choice([0, 1, 1000, 20_000, 200_000, 1_000_000])
      files[f"f{i}"] = numbers.randbytes(size)
      self.tree.write(f"f{i}", files[f"f{i}"])
    proxy = CuttingProxy(self.server.port)
    urls = "".join(f"http://127.0.0.1:{proxy.port}/{name}\n" for name in files)
    process = subprocess.Popen(
        [FETCH, "--input=-", f"--output_dir={self.out}", f"--jobs={count}", "--retries=30",
         "--backoff=20ms", "--progress=none"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdin.write(urls)
    process.stdin.close()
    most = 0
    end = time.monotonic() + 2 * DEADLINE
    while process.poll() is None and time.monotonic() < end:
      most = max(most, threads_of(process.pid))
      time.sleep(0.005)
    process.kill()
    out, errors = process.stdout.read(), process.stderr.read()
    self.assertEqual(process.wait(), 0, out + errors)
    self.assertEqual(errors, "")
    self.assertIn(f"fetched {count} of {count} files", out)
    for name, data in files.items():
      self.assertEqual(self.read(name), data, name)
    self.assertEqual(sorted(os.listdir(self.out)), sorted(files))
    # Every other one is to be, at a byte that some never come to.
    self.assertGreater(proxy.cuts, 10)
    if not httpd_testing.has_sanitizer():
      self.assertLessEqual(most, count // 10)
    print(f"{proxy.connections} connections, {proxy.cuts} cut, {most} threads")
    proxy.close()

  def test_goes_on_where_an_earlier_run_was_interrupted(self):
    proxy = CuttingProxy(self.server.port, cut=False)
    url = f"http://127.0.0.1:{proxy.port}/big.bin"
    process = subprocess.Popen([FETCH, f"--output_dir={self.out}", "--progress=none", url],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part = os.path.join(self.out, "big.bin.part")

    def some():
      if os.path.exists(part) and os.path.getsize(part) > 100_000:
        proxy.held.clear()
        return True
      return False

    wait_for(some, "the first bytes")
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=DEADLINE)
    self.assertEqual(process.returncode, 130, out + errors)
    self.assertIn("interrupted", errors)
    have = os.path.getsize(part)
    proxy.held.set()
    done = fetch(f"--output_dir={self.out}", url)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(self.read("big.bin"), self.tree.big)
    if have < len(self.tree.big):
      self.assertNotIn(f"{len(self.tree.big) / (1 << 20):.1f} MiB", done.stdout)
    self.assertEqual(os.listdir(self.out), ["big.bin"])
    proxy.close()

  def test_begins_anew_when_the_file_is_another(self):
    os.mkdir(self.out)
    for name, text in (("hello.txt.part", "HELL"), ("hello.txt.part.etag", '"other"')):
      with open(os.path.join(self.out, name), "w") as file:
        file.write(text)
    done = fetch(f"--output_dir={self.out}", self.server.url("/hello.txt"))
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(self.read("hello.txt"), b"Hello, world")

  def test_checks_checksums(self):
    good = hashlib.sha256(b"Hello, world").hexdigest()
    lines = (f"# two\n\n{self.server.url('/hello.txt')} name=good sha256={good.upper()}\n"
             f"{self.server.url('/hello.txt')} name=bad sha256={'0' * 64}\n")
    done = fetch("--input=-", f"--output_dir={self.out}", stdin=lines)
    self.assertEqual(done.returncode, 1)
    self.assertIn("fetched 1 of 2 files", done.stdout)
    self.assertIn(f"its SHA-256 is {good}, not 000", done.stderr)
    self.assertEqual(os.listdir(self.out), ["good"])

  def test_says_what_failed(self):
    done = fetch(f"--output_dir={self.out}", self.server.url("/hello.txt"),
                 self.server.url("/missing"))
    self.assertEqual(done.returncode, 1)
    self.assertIn(f"fetch: {self.server.url('/missing')}: the server answers 404\n", done.stderr)
    self.assertEqual(self.read("hello.txt"), b"Hello, world")
    done = fetch(f"--output_dir={self.out}", "--retries=2", "--backoff=1ms",
                 "http://127.0.0.1:1/nobody")
    self.assertEqual(done.returncode, 1)
    self.assertIn("2 attempts again", done.stdout)

  def test_an_answer_that_ends_in_its_head_is_none(self):
    heads = ["HTTP/1.1 200 OK\r\nDate: ", "HTTP/1.1 200 OK\r\n",
             "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole"]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
      for head in heads:
        client, _ = listener.accept()
        with client:
          client.recv(65536)
          client.sendall(head.encode())

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    done = fetch(f"--output_dir={self.out}", "--retries=5", "--backoff=1ms",
                 f"http://127.0.0.1:{listener.getsockname()[1]}/file")
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(self.read("file"), b"whole")
    server.join()
    listener.close()

  def test_draws_bars(self):
    done = fetch(f"--output_dir={self.out}", "--progress=bars", self.server.url("/big.bin"))
    self.assertEqual(done.returncode, 0)
    self.assertIn("1 of 1 files", done.stderr)
    self.assertEqual(self.read("big.bin"), self.tree.big)

  def test_without_io_uring(self):
    done = fetch(f"--output_dir={self.out}", self.server.url("/big.bin"),
                 env={"WEFTDEBUG": "files=blocking"})
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(self.read("big.bin"), self.tree.big)

  def test_refuses_mistakes(self):
    for arguments, problem in (
        ([], "nothing to fetch"),
        (["ftp://h/f"], "not an http or https URL"),
        (["http://h/"], "gives no name"),
        (["http://h/a", "http://i/a"], "two downloads would be 'a'"),
        (["--jobs=0", "http://h/a"], "--jobs"),
        (["--progress=maybe", "http://h/a"], "--progress"),
        (["--input=/nonexistent"], "cannot read"),
    ):
      done = fetch(*arguments)
      self.assertEqual(done.returncode, 2, arguments)
      self.assertIn(problem, done.stderr)
    done = fetch("--help")
    self.assertEqual(done.returncode, 0)
    self.assertIn("--output_dir=.", done.stdout)


if __name__ == "__main__":
  if len(sys.argv) > 2 and sys.argv[1] not in ("--help", "-h"):
    FETCH = os.path.abspath(sys.argv.pop(2))
  httpd_testing.main(__doc__)
