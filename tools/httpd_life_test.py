#!/usr/bin/env python3
"""How httpd starts, limits and logs what it does, and stops, from outside."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
import unittest

import httpd_testing
from httpd_testing import (Client, DEADLINE, Server, Tree, count_connections, curl, get,
                           has_sanitizer, refuses, resident_kib, select_readable, unread_by_server,
                           wait_for)


class LifeTest(unittest.TestCase):
  """Starting, time limits, and stopping; a server for each test."""

  def setUp(self):
    self.tree = Tree()
    self.addCleanup(self.tree.close)

  def start(self, *flags):
    if not any(f.startswith("--access_log") for f in flags):
      flags += ("--access_log=off",)
    return Server(self.tree.root, *flags)

  def run_httpd(self, *arguments):
    return subprocess.run([httpd_testing.HTTPD, *arguments], capture_output=True, text=True,
                          timeout=DEADLINE)

  def test_help(self):
    done = self.run_httpd("--help")
    self.assertEqual(done.returncode, 0)
    self.assertTrue(done.stdout.startswith("usage: httpd"))
    for flag in ("http", "root", "access_log", "debug", "drain", "idle_timeout", "header_timeout",
                 "write_timeout", "max_header_bytes"):
      self.assertIn(f"\n  --{flag}=", done.stdout)
    self.assertEqual(done.stderr, "")

  def test_mistakes_are_one_clear_line(self):
    server = self.start()
    taken = f"--http=127.0.0.1:{server.port}"
    root = f"--root={self.tree.root}"
    for arguments, words in (((taken, root), "address already in use"),
                             (("--http=127.0.0.1:0", "--root=/no/such/dir"), "/no/such/dir"),
                             (("--http=127.0.0.1:0", root, "--access_log=/no/such/log"), "/no/such/log"),
                             (("--http=nonsense", root), "nonsense"),
                             (("--http=127.0.0.1:0", root, f"--debug=127.0.0.1:{server.port}"),
                              "address already in use"),
                             ((root, "--idle_timeout=0s"), "--idle_timeout"),
                             ((root, "--max_header_bytes=1"), "--max_header_bytes"),
                             ((root, "stray"), "stray"),
                             ((root, "--no_such_flag=1"), "no_such_flag")):
      done = self.run_httpd("--access_log=off", *arguments)
      self.assertEqual(done.returncode, 1, arguments)
      self.assertEqual(done.stdout, "")
      self.assertIn(words, done.stderr)
      self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
    server.close()

  def test_idle_connections_are_closed(self):
    server = self.start("--idle_timeout=300ms")
    with Client(server) as fresh, Client(server) as used:
      self.assertEqual(used.ask(get("/hello.txt")).status, 200)
      self.assertTrue(used.at_end())
      self.assertTrue(fresh.at_end())
    server.close()

  def test_requests_that_come_too_slowly_get_408(self):
    server = self.start("--header_timeout=300ms")
    with Client(server) as client:
      client.send("GET /hello.txt HTTP/1.1\r\nHost:")
      response = client.read()
      self.assertEqual(response.status, 408)
      self.assertEqual(response.fields["connection"], "close")
      self.assertTrue(client.at_end())
    # Bytes that trickle in do not buy time.
    with Client(server) as client:
      with contextlib.suppress(ConnectionError):
        for byte in "GET /" + "x" * 4000:
          client.send(byte)
          time.sleep(0.005)
          if select_readable(client.socket):
            break
      self.assertEqual(client.read().status, 408)
    server.close()

  def test_clients_that_do_not_read_are_given_up(self):
    server = self.start("--write_timeout=300ms")
    with Client(server) as client:
      client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
      client.send(get("/big.bin"))
      wait_for(lambda: count_connections(server) == 0, "the server gives up")
    server.close()

  def test_stops_with_status_0_and_frees_the_port(self):
    for number in (signal.SIGTERM, signal.SIGINT):
      server = self.start()
      server.signal(number)
      self.assertEqual(server.wait(), 0)
      with self.assertRaises(ConnectionError):
        server.connect()
      server.close()

  def test_stop_closes_idle_connections_at_once(self):
    server = self.start("--drain=1h")
    clients = [Client(server) for _ in range(100)]
    for client in clients[:50]:
      self.assertEqual(client.ask(get("/hello.txt")).status, 200)
    # The kernel resets connections that wait to be accepted when the listener closes.
    wait_for(lambda: count_connections(server) == len(clients), "the server accepts")
    server.signal(signal.SIGTERM)
    self.assertEqual(server.wait(), 0)
    for client in clients:
      self.assertTrue(client.at_end())
      client.close()
    server.close()

  def test_stop_lets_requests_in_flight_end(self):
    server = self.start("--drain=1h")
    with Client(server) as sending, Client(server) as reading:
      reading.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
      reading.send(get("/big.bin"))
      status, fields = reading.read_head()
      self.assertEqual(status, 200)
      sending.send("GET /hello.txt HT")
      # The server has read the first part when it is no longer in the socket.
      wait_for(lambda: unread_by_server(server, sending) == 0, "the server reads")
      server.signal(signal.SIGTERM)
      wait_for(lambda: refuses(server), "the server stops accepting")
      sending.send("TP/1.1\r\nHost: h\r\n\r\n")
      response = sending.read()
      self.assertEqual(response.body, b"Hello, world")
      self.assertEqual(response.fields["connection"], "close")
      self.assertIsNone(server.process.poll())
      body = reading.file.read(int(fields["content-length"]))
      self.assertEqual(hashlib.sha256(body).digest(), hashlib.sha256(self.tree.big).digest())
    self.assertEqual(server.wait(), 0)
    server.close()

  def test_stop_does_not_wait_longer_than_drain(self):
    server = self.start("--drain=300ms")
    with Client(server) as client:
      client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
      client.send(get("/big.bin"))
      client.read_head()
      server.signal(signal.SIGTERM)
      self.assertEqual(server.wait(), 0)
    server.close()

  def test_second_signal_ends_it_at_once(self):
    server = self.start("--drain=1h")
    with Client(server) as client:
      client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
      client.send(get("/big.bin"))
      client.read_head()
      server.signal(signal.SIGTERM)
      wait_for(lambda: refuses(server), "the server stops accepting")
      self.assertIsNone(server.process.poll())
      server.signal(signal.SIGINT)
      self.assertEqual(server.wait(), 128 + signal.SIGINT)
    server.process.stdout.close()
    server.stderr.close()

  def test_pages_about_itself_are_apart(self):
    server = self.start("--debug=:0")
    line = server.process.stdout.readline()
    match = re.fullmatch(r"httpd: pages about itself at (http://127\.0\.0\.1:\d+/debug/)\n", line)
    self.assertTrue(match, line)
    url = match.group(1)
    with Client(server) as client:
      self.assertEqual(client.ask(get("/hello.txt")).status, 200)
      goroutines = curl(url + "goroutines?view=list&state=IO+wait").decode()
      self.assertIn("<td>http connection<", goroutines)
      self.assertRegex(curl(url + "metrics").decode(), r"\nweft_sched_goroutines_goroutines \d+\n")
      json.loads(curl(url + "vars"))
      # Who has the files does not have the pages.
      for path in ("/debug/", "/debug/vars", "/debug/pprof/goroutine"):
        self.assertEqual(client.ask(get(path)).status, 404)
    server.close()
    server = self.start()
    server.signal(signal.SIGTERM)
    self.assertEqual(server.process.stdout.read(), "")
    server.close()

  def test_access_log(self):
    path = os.path.join(self.tree.base, "access.log")
    server = self.start(f"--access_log={path}")
    with Client(server) as client:
      client.ask(get("/hello.txt"))
      client.ask(get('/"quoted"'))
      client.ask(get("/big.bin"))
      client.ask("nonsense\r\n\r\n")
    server.close()
    with open(path) as file:
      lines = file.readlines()
    stamp = r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
    for line, rest in zip(lines, (r'"GET /hello\.txt HTTP/1\.1" 200 12\n',
                                  r'"GET /\\x22quoted\\x22 HTTP/1\.1" 404 \d+\n',
                                  rf'"GET /big\.bin HTTP/1\.1" 200 {len(self.tree.big)}\n',
                                  r'"-" 400 \d+\n')):
      self.assertRegex(line, "^" + stamp + rest + "$")
    self.assertEqual(len(lines), 4)

  def test_access_log_goes_to_standard_output_by_default(self):
    server = Server(self.tree.root)
    with Client(server) as client:
      client.ask(get("/hello.txt"))
      self.assertIn('"GET /hello.txt HTTP/1.1" 200 12', server.process.stdout.readline())
    server.close()

  def test_a_thousand_idle_connections_cost_little(self):
    server = self.start()
    with Client(server) as client:
      client.ask(get("/hello.txt"))
      before = resident_kib(server)
      idle = [Client(server) for _ in range(1000)]
      for other in idle:
        other.send(get("/1k.bin"))
      for other in idle:
        self.assertEqual(other.read().status, 200)
      each = (resident_kib(server) - before) / len(idle)
      # No read buffer: one alone would be 16 KiB more. Sanitizers have shadows and redzones.
      if not has_sanitizer():
        self.assertLess(each, 24)
      self.assertEqual(client.ask(get("/hello.txt")).status, 200)
      for other in idle:
        self.assertEqual(other.ask(get("/hello.txt")).body, b"Hello, world")
        other.close()
      wait_for(lambda: count_connections(server) == 1, "the server closes them too")
    server.close()

  def test_goes_on_when_descriptors_run_out(self):
    command = ["bash", "-c", 'ulimit -n 64 && exec "$0" "$@"', httpd_testing.HTTPD,
               "--http=127.0.0.1:0", f"--root={self.tree.root}", "--access_log=off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
      port = int(re.search(r":(\d+)/", process.stdout.readline()).group(1))
      crowd = [socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) for _ in range(100)]
      self.assertIn("too many open files", process.stderr.readline().lower())
      for connection in crowd:
        connection.close()
      connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
      connection.request("GET", "/hello.txt")
      self.assertEqual(connection.getresponse().read(), b"Hello, world")
      connection.close()
      process.send_signal(signal.SIGTERM)
      self.assertEqual(process.wait(timeout=DEADLINE), 0)


if __name__ == "__main__":
  httpd_testing.main(__doc__)
