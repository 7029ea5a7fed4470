"""What httpd's tests share: the program, raw connections to it, and files for it to serve.

A test is run by Bazel as `test.py path/to/httpd`; further arguments go to unittest. Deadlines are
generous, and waits are for conditions: a loaded machine makes a test slower, not wrong.
"""

import contextlib
import hashlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HTTPD = None  # the program's path
DEADLINE = 60.0  # seconds, for anything that must happen


def wait_for(condition, what, deadline=DEADLINE):
  end = time.monotonic() + deadline
  while time.monotonic() < end:
    value = condition()
    if value:
      return value
    time.sleep(0.01)
  raise AssertionError(f"not within {deadline} s: {what}")


class Server:
  """A running httpd, on a free port of 127.0.0.1."""

  PATTERN = r"httpd: listening on http://127\.0\.0\.1:(\d+)/, serving (.*)\n"

  def __init__(self, root, *flags, procs=None, pattern=PATTERN):
    env = dict(os.environ)
    env.pop("WEFTDEBUG", None)
    if procs is not None:
      env["WEFTMAXPROCS"] = str(procs)
    self.stderr = tempfile.TemporaryFile(mode="w+")
    self.process = subprocess.Popen(
        [HTTPD, "--http=127.0.0.1:0", f"--root={root}", *flags],
        stdout=subprocess.PIPE, stderr=self.stderr, text=True, env=env)
    line = self.process.stdout.readline()
    match = re.fullmatch(pattern, line)
    if not match:
      self.process.kill()
      raise AssertionError(f"unexpected first line {line!r}; stderr: {self.errors()}")
    self.port = int(match.group(1))
    self.root = match.group(2)

  def errors(self):
    self.stderr.seek(0)
    return self.stderr.read()

  def url(self, path):
    return f"http://127.0.0.1:{self.port}{path}"

  def connect(self, timeout=DEADLINE):
    return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

  def signal(self, number):
    self.process.send_signal(number)

  def wait(self):
    return self.process.wait(timeout=DEADLINE)

  def close(self):
    """Stops it at once, and fails if it had anything to complain about or did not end well."""
    if self.process.poll() is None:
      self.signal(signal.SIGTERM)
    status = self.wait()
    self.process.stdout.close()
    errors = self.errors()
    self.stderr.close()
    assert status == 0, f"httpd ended with {status}: {errors}"
    assert errors == "", errors


class Response:
  def __init__(self, status, fields, body):
    self.status = status
    self.fields = fields
    self.body = body


class Client:
  """A raw connection: sends bytes, and reads one response at a time."""

  def __init__(self, server, timeout=DEADLINE):
    self.socket = server.connect(timeout)
    self.file = self.socket.makefile("rb")

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()

  def close(self):
    self.file.close()
    self.socket.close()

  def send(self, text):
    self.socket.sendall(text if isinstance(text, bytes) else text.encode("latin-1"))

  def read_head(self):
    line = self.file.readline().decode("latin-1")
    if not line:
      return None
    match = re.fullmatch(r"HTTP/1\.1 (\d{3}) ([A-Za-z ]+)\r\n", line)
    assert match, f"bad status line {line!r}"
    fields = {}
    while True:
      line = self.file.readline().decode("latin-1")
      if line == "\r\n":
        return int(match.group(1)), fields
      name, value = line.rstrip("\r\n").split(": ", 1)
      assert name.lower() not in fields, f"{name} comes twice"
      fields[name.lower()] = value

  def read(self, head_only=False):
    """The next response, or None at the end of the stream."""
    head = self.read_head()
    if head is None:
      return None
    status, fields = head
    body = b""
    if not head_only and status not in (100, 304):
      length = int(fields["content-length"])
      body = self.file.read(length)
      assert len(body) == length, f"{len(body)} of {length} bytes"
    return Response(status, fields, body)

  def ask(self, text, head_only=False):
    self.send(text)
    return self.read(head_only)

  def at_end(self):
    """Waits for the stream's end; a reset is none."""
    return self.file.read(1) == b""


def get(target, fields=""):
  return f"GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"


def curl(*arguments):
  done = subprocess.run(["curl", "-sS", "--max-time", str(DEADLINE), *arguments],
                        capture_output=True, timeout=2 * DEADLINE)
  if done.returncode != 0:
    raise AssertionError(f"curl {arguments}: {done.returncode}: {done.stderr.decode()}")
  return done.stdout


class Tree:
  """The files that are served: root/, beside what must never be."""

  def __init__(self):
    self.base = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))
    self.root = os.path.join(self.base, "root")
    os.mkdir(self.root)
    self.secret = b"TOP SECRET"
    self.write("../secret.txt", self.secret)
    self.write("hello.txt", b"Hello, world")
    self.write("1k.bin", bytes(range(256)) * 4)
    # More than any socket buffer, and of no period that could hide a wrong offset.
    block = b"".join(hashlib.sha256(i.to_bytes(4, "big")).digest() for i in range(1 << 15))
    self.big = b"".join(i.to_bytes(8, "big") + block for i in range(40))
    self.write("big.bin", self.big)
    self.write("sub/index.html", b"<p>the index</p>")
    self.write("listed/a b&c<d>.txt", b"x")
    self.write("listed/\u00e9.txt", b"x")
    os.mkdir(os.path.join(self.root, "listed/inner"))
    os.symlink("../secret.txt", os.path.join(self.root, "escape.txt"))
    os.symlink("..", os.path.join(self.root, "parent"))
    os.symlink("/etc", os.path.join(self.root, "etc"))
    os.symlink("hello.txt", os.path.join(self.root, "link.txt"))

  def write(self, name, data):
    path = os.path.join(self.root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
      file.write(data)
    return path

  def close(self):
    shutil.rmtree(self.base)


def select_readable(connection):
  return bool(select.select([connection], [], [], 0)[0])


def refuses(server):
  # Not by TLS: while the server stops, it may end a handshake that it has begun.
  try:
    socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE).close()
    return False
  except ConnectionError:
    return True


def tcp_rows():
  """(local port, remote port, state, receive queue) of this machine's IPv4 connections."""
  with open("/proc/net/tcp") as file:
    for line in file.readlines()[1:]:
      fields = line.split()
      yield (int(fields[1].split(":")[1], 16), int(fields[2].split(":")[1], 16), fields[3],
             int(fields[4].split(":")[1], 16))


def unread_by_server(server, client):
  ours = client.socket.getsockname()[1]
  for local, remote, _, queue in tcp_rows():
    if local == server.port and remote == ours:
      return queue
  return None


def count_connections(server):
  """Sockets that the server process has, but for the one that listens."""
  directory = f"/proc/{server.process.pid}/fd"
  count = -1
  for name in os.listdir(directory):
    with contextlib.suppress(FileNotFoundError):
      count += os.readlink(os.path.join(directory, name)).startswith("socket:")
  return count


def has_sanitizer():
  with open(HTTPD, "rb") as file:
    return re.search(rb"__(asan|tsan|ubsan)_", file.read()) is not None


def resident_kib(server):
  with open(f"/proc/{server.process.pid}/status") as file:
    return int(re.search(r"VmRSS:\s*(\d+) kB", file.read()).group(1))


def main(documentation):
  """Runs the tests of the program that calls."""
  global HTTPD
  if len(sys.argv) < 2 or sys.argv[1] in ("--help", "-h"):
    print(documentation)
    sys.exit(0 if len(sys.argv) > 1 else 2)
  HTTPD = os.path.abspath(sys.argv.pop(1))
  if shutil.which("curl") is None:
    sys.exit(f"{os.path.basename(sys.argv[0])}: curl is not installed (package curl)")
  # Sockets that a failed test leaves open are not worth a warning each.
  unittest.main(verbosity=2, warnings="ignore")
