#!/usr/bin/env python3
"""What httpd answers, from outside, with curl and with raw sockets; over several numbers of Ps."""

import concurrent.futures
import contextlib
import email.parser
import hashlib
import os
import re
import socket
import unittest
import urllib.parse

import httpd_testing
from httpd_testing import Client, Server, Tree, curl, get


class HttpdTests:
  """Mixed into a class for each number of Ps. One server for all tests of a class."""

  procs = None
  flags = ("--access_log=off",)

  @classmethod
  def setUpClass(cls):
    cls.tree = Tree()
    cls.server = Server(cls.tree.root, *cls.flags, procs=cls.procs)

  @classmethod
  def tearDownClass(cls):
    cls.server.close()
    cls.tree.close()

  def client(self):
    client = Client(self.server)
    self.addCleanup(client.close)
    return client

  def ask(self, text, head_only=False):
    with Client(self.server) as client:
      return client.ask(text, head_only)

  # What curl makes of it.

  def test_curl_gets_a_file(self):
    self.assertEqual(curl(self.server.url("/hello.txt")), b"Hello, world")

  def test_curl_gets_a_large_file_whole(self):
    self.assertEqual(hashlib.sha256(curl(self.server.url("/big.bin"))).digest(),
                     hashlib.sha256(self.tree.big).digest())

  def test_curl_resumes_a_large_file(self):
    path = os.path.join(self.tree.base, f"part-{self.procs}")
    with open(path, "wb") as file:
      file.write(self.tree.big[:12345678])
    curl("-C", "-", "-o", path, self.server.url("/big.bin"))
    with open(path, "rb") as file:
      self.assertEqual(file.read(), self.tree.big)

  def test_curl_follows_the_redirect_of_a_directory(self):
    self.assertEqual(curl("-L", self.server.url("/sub")), b"<p>the index</p>")

  def test_curl_reads_the_head(self):
    head = curl("-I", self.server.url("/hello.txt")).decode()
    self.assertRegex(head, r"^HTTP/1\.1 200 OK\r\n")
    self.assertIn("\r\nContent-Length: 12\r\n", head)

  def test_curl_revalidates_by_etag_and_date(self):
    path = os.path.join(self.tree.base, f"etag-{self.procs}")
    url = self.server.url("/hello.txt")
    curl("--etag-save", path, url)
    status = ("-o", "/dev/null", "-w", "%{http_code}")
    self.assertEqual(curl(*status, "--etag-compare", path, url), b"304")
    self.assertEqual(curl(*status, "-z", os.path.join(self.tree.root, "hello.txt"), url), b"304")

  def test_curl_reuses_a_connection(self):
    out = curl("-w", "%{num_connects}\n", self.server.url("/1k.bin"), self.server.url("/hello.txt"),
               "-o", "/dev/null", "-o", "/dev/null")
    self.assertEqual(out, b"1\n0\n")

  def test_curl_sends_a_body_that_is_dropped(self):
    body = os.path.join(self.tree.base, "hello-body")
    with open(body, "wb") as file:
      file.write(b"b" * 50000)
    for expect in ("Expect:", "Expect: 100-continue"):
      self.assertEqual(curl("-X", "GET", "-H", expect, "--data-binary", "@" + body,
                            self.server.url("/hello.txt")), b"Hello, world")

  def test_curl_uploads_are_refused_with_an_answer(self):
    # Long enough that the server closes with much of it unread.
    body = os.path.join(self.tree.base, "upload")
    with open(body, "wb") as file:
      file.write(b"u" * 3000000)
    for how in (("-T", body), ("--data-binary", "@" + body),
                ("-H", "Transfer-Encoding: chunked", "--data-binary", "@" + body)):
      out = curl("-H", "Expect:", "-o", "/dev/null", "-w", "%{http_code}", *how,
                 self.server.url("/hello.txt"))
      self.assertEqual(out, b"405")

  # Ranges.

  def test_serves_single_ranges_of_large_files(self):
    size = len(self.tree.big)
    for field, begin, end in (("0-0", 0, 1), ("100-", 100, size), ("-7", size - 7, size),
                              ("1000000-29999999", 1000000, 30000000)):
      response = self.ask(get("/big.bin", f"Range: bytes={field}\r\n"))
      self.assertEqual(response.status, 206)
      self.assertEqual(response.fields["content-range"], f"bytes {begin}-{end - 1}/{size}")
      self.assertEqual(response.body, self.tree.big[begin:end])

  def test_serves_several_ranges_as_multipart(self):
    wanted = [(5, 10), (2000000, 4000001), (0, 1)]
    field = ",".join(f"{begin}-{end - 1}" for begin, end in wanted)
    response = self.ask(get("/big.bin", f"Range: bytes={field}\r\n"))
    self.assertEqual(response.status, 206)
    message = email.parser.BytesParser().parsebytes(
        b"Content-Type: " + response.fields["content-type"].encode() + b"\r\n\r\n" + response.body)
    self.assertTrue(message.is_multipart())
    boundary = message.get_boundary().encode()
    parts = re.split(rb"\r\n--" + boundary + rb"(?:--)?\r\n", response.body)
    self.assertEqual(len(parts), len(wanted) + 2)
    for part, (begin, end) in zip(parts[1:], wanted):
      head, body = part.split(b"\r\n\r\n", 1)
      self.assertIn(f"Content-Range: bytes {begin}-{end - 1}/{len(self.tree.big)}".encode(), head)
      self.assertEqual(body, self.tree.big[begin:end])

  def test_refuses_ranges_outside(self):
    response = self.ask(get("/hello.txt", "Range: bytes=12-\r\n"))
    self.assertEqual(response.status, 416)
    self.assertEqual(response.fields["content-range"], "bytes */12")

  # Connections.

  def test_keeps_connections_alive(self):
    client = self.client()
    for target in ("/hello.txt", "/missing", "/big.bin", "/listed/", "/1k.bin"):
      self.assertIsNotNone(client.ask(get(target)))
    self.assertEqual(client.ask(get("/hello.txt", "Connection: close\r\n")).body, b"Hello, world")
    self.assertTrue(client.at_end())

  def test_answers_pipelined_requests_in_order(self):
    client = self.client()
    targets = ["/hello.txt", "/1k.bin", "/missing", "/big.bin", "/sub/", "/listed"] * 20
    requests = "".join(get(t) for t in targets)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      sending = pool.submit(client.send, requests)
      for target in targets:
        response = client.read()
        self.assertEqual(response.status, {"/missing": 404, "/listed": 301}.get(target, 200))
        if target == "/1k.bin":
          self.assertEqual(response.body, bytes(range(256)) * 4)
      sending.result()

  def test_answers_pipelined_requests_however_they_are_cut(self):
    requests = get("/hello.txt") + get("/1k.bin", "Content-Length: 5\r\n") + "12345" + get("/sub/")
    for step in (1, 7, 50, 64):
      client = self.client()
      client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
      for i in range(0, len(requests), step):
        client.send(requests[i:i + step])
      self.assertEqual([client.read().body for _ in range(3)],
                       [b"Hello, world", bytes(range(256)) * 4, b"<p>the index</p>"])

  def test_speaks_http_1_0(self):
    client = self.client()
    response = client.ask("GET /hello.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    self.assertEqual(response.fields["connection"], "keep-alive")
    response = client.ask("GET /hello.txt HTTP/1.0\r\n\r\n")
    self.assertEqual(response.body, b"Hello, world")
    self.assertEqual(response.fields["connection"], "close")
    self.assertTrue(client.at_end())

  def test_half_closed_clients_get_their_answer(self):
    client = self.client()
    client.send(get("/big.bin"))
    client.socket.shutdown(socket.SHUT_WR)
    self.assertEqual(client.read().body, self.tree.big)
    self.assertTrue(client.at_end())

  def test_head_has_the_fields_of_get_and_no_body(self):
    client = self.client()
    for target in ("/hello.txt", "/big.bin", "/listed/", "/missing", "/sub"):
      head = client.ask(f"HEAD {target} HTTP/1.1\r\nHost: h\r\n\r\n", head_only=True)
      full = client.ask(get(target))
      self.assertEqual(head.status, full.status)
      for response in (head, full):
        response.fields.pop("date")
      self.assertEqual(head.fields, full.fields)

  def test_conditional_requests(self):
    client = self.client()
    first = client.ask(get("/hello.txt"))
    etag, date = first.fields["etag"], first.fields["last-modified"]
    for fields, status in ((f"If-None-Match: {etag}", 304), (f"If-None-Match: W/{etag}, \"x\"", 304),
                           ('If-None-Match: "x"', 200), (f"If-Modified-Since: {date}", 304),
                           ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", 200),
                           ('If-Match: "x"', 412), (f"If-Match: {etag}", 200),
                           ("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT", 412),
                           (f"Range: bytes=0-1\r\nIf-Range: {etag}", 206),
                           (f"Range: bytes=0-1\r\nIf-Range: {date}", 206),
                           ('Range: bytes=0-1\r\nIf-Range: "x"', 200)):
      self.assertEqual(client.ask(get("/hello.txt", fields + "\r\n")).status, status, fields)

  def test_a_changed_file_is_seen_at_once(self):
    client = self.client()
    path = self.tree.write("changing.txt", b"one")
    self.assertEqual(client.ask(get("/changing.txt")).body, b"one")
    self.tree.write("changing.txt", b"two!")
    self.assertEqual(client.ask(get("/changing.txt")).body, b"two!")
    os.remove(path)
    self.assertEqual(client.ask(get("/changing.txt")).status, 404)

  # Refusals.

  def test_nothing_outside_the_root_is_served(self):
    for target in ("/../secret.txt", "/%2e%2e/secret.txt", "/.%2E/secret.txt", "/sub/../../secret.txt",
                   "/..%2fsecret.txt", "/..\\secret.txt", "/..%5csecret.txt", "/escape.txt",
                   "/parent/secret.txt", "/etc/passwd", "//etc/passwd", "/%2fetc/passwd",
                   "/%00/../secret.txt", "/hello.txt%00/../../secret.txt", "/%252e%252e/secret.txt",
                   "/%c0%ae%c0%ae/secret.txt", "http://h/../secret.txt", "/../root/../secret.txt",
                   "file:///etc/passwd", "/proc/self/environ", "../secret.txt", "secret.txt"):
      response = self.ask(get(target))
      self.assertIn(response.status, (400, 404), target)
      self.assertNotIn(self.tree.secret, response.body, target)
      self.assertNotIn(b"root:", response.body, target)
    self.assertEqual(curl("--path-as-is", "-o", "/dev/null", "-w", "%{http_code}",
                          self.server.url("/../secret.txt")), b"400")
    self.assertEqual(self.ask(get("/link.txt")).body, b"Hello, world")

  def test_refusals_say_what_is_wrong(self):
    long = "x" * 9000
    for text, status, words in (
        ("GARBAGE\r\n\r\n", 400, b"method"),
        ("GET /hello.txt HTTP/1.1\r\n\r\n", 400, b"Host"),
        (get("/%zz"), 400, b"percent-encoding"),
        (get("/hello.txt", "Bad Field: x\r\n"), 400, b"header field"),
        (get("/hello.txt", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400, b"length"),
        (get("/missing"), 404, b"/missing"),
        ("POST /hello.txt HTTP/1.1\r\nHost: h\r\n\r\n", 405, b"GET and HEAD"),
        (get("/" + long), 414, b"too long"),
        (get("/hello.txt", "Expect: tea\r\n"), 417, b"expectation"),
        (get("/hello.txt", f"X: {long}\r\n"), 431, b"too long"),
        (get("/hello.txt", "".join(f"X{i}: y\r\n" for i in range(2000))), 431, b"too long"),
        ("BREW /hello.txt HTTP/1.1\r\nHost: h\r\n\r\n", 501, b"not known"),
        (get("/hello.txt", "Transfer-Encoding: gzip\r\n"), 501, b"Transfer-Encoding"),
        ("GET /hello.txt HTTP/3.0\r\nHost: h\r\n\r\n", 505, b"HTTP/1.1"),
    ):
      response = self.ask(text)
      self.assertEqual(response.status, status, text[:60])
      self.assertTrue(response.body.startswith(str(status).encode()), response.body)
      self.assertIn(words, response.body)
      self.assertEqual(response.fields["content-type"], "text/plain; charset=utf-8")
    self.assertEqual(self.ask("PUT / HTTP/1.1\r\nHost: h\r\n\r\n").fields["allow"], "GET, HEAD")

  def test_a_refusal_arrives_while_much_is_still_being_sent(self):
    # Without lingering the unread bytes would make a reset of the close, and take the answer along.
    for _ in range(20):
      client = self.client()
      with contextlib.suppress(ConnectionError):
        client.send(get("/" + "x" * 9000) + "y" * 2000000)
      self.assertEqual(client.read().status, 414)

  def test_chunked_bodies_end_the_connection(self):
    client = self.client()
    client.send(get("/hello.txt", "Transfer-Encoding: chunked\r\n") + "5\r\n12345\r\n0\r\n\r\n" +
                get("/1k.bin"))
    response = client.read()
    self.assertEqual(response.body, b"Hello, world")
    self.assertEqual(response.fields["connection"], "close")
    self.assertTrue(client.at_end())

  def test_expect_continue(self):
    client = self.client()
    client.send(get("/hello.txt", "Content-Length: 4\r\nExpect: 100-continue\r\n"))
    self.assertEqual(client.read().status, 100)
    client.send("body" + get("/1k.bin"))
    self.assertEqual(client.read().body, b"Hello, world")
    self.assertEqual(len(client.read().body), 1024)
    # Refused before the body is sent.
    client.send("PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    response = client.read()
    self.assertEqual(response.status, 405)
    self.assertEqual(response.fields["connection"], "close")

  def test_bodies_beyond_the_limit_end_the_connection(self):
    client = self.client()
    client.send(get("/hello.txt", f"Content-Length: {1 << 40}\r\n") + "start of it")
    response = client.read()
    self.assertEqual(response.body, b"Hello, world")
    self.assertEqual(response.fields["connection"], "close")
    self.assertTrue(client.at_end())

  # Pages.

  def test_lists_directories(self):
    response = self.ask(get("/listed/"))
    page = response.body.decode()
    self.assertEqual(response.fields["content-type"], "text/html; charset=utf-8")
    self.assertIn('<a href="a%20b%26c%3Cd%3E.txt">a b&amp;c&lt;d&gt;.txt</a>', page)
    self.assertIn('<a href="inner/">inner/</a>', page)
    self.assertIn('<a href="../">', page)
    links = re.findall(r'href="([^"]*)"', page)
    self.assertEqual(links[0], "../")
    names = [urllib.parse.unquote_to_bytes(link) for link in links[1:]]
    self.assertEqual(names, sorted(names))
    self.assertEqual(len(names), 3)
    for link in links:
      self.assertEqual(self.ask(get("/listed/" + link if link != "../" else "/")).status, 200)

  def test_content_types(self):
    self.assertEqual(self.ask(get("/hello.txt")).fields["content-type"],
                     "text/plain; charset=utf-8")
    self.assertEqual(self.ask(get("/sub/")).fields["content-type"], "text/html; charset=utf-8")
    self.assertEqual(self.ask(get("/1k.bin")).fields["content-type"], "application/octet-stream")

  # Clients that misbehave, and many at once.

  def test_survives_aborted_transfers(self):
    for read in (0, 1, 100000):
      for linger in (False, True):
        for _ in range(10):
          connection = self.server.connect()
          if linger:  # close with a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
          connection.sendall(get("/big.bin").encode())
          if read > 0:
            connection.recv(read)
          connection.close()
    for text in ("G", "GET / HTTP/1.1\r\nHo", "\r\n", "\x00" * 100, get("/1k.bin") * 100):
      with Client(self.server) as client:
        client.send(text)
    self.assertEqual(self.ask(get("/hello.txt")).body, b"Hello, world")

  def test_slow_readers_hold_nobody_up(self):
    slow = [self.client() for _ in range(50)]
    for client in slow:
      client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131072)
      client.send(get("/big.bin"))
    for _ in range(100):
      self.assertEqual(self.ask(get("/hello.txt")).body, b"Hello, world")
    self.assertEqual(slow[0].read().body, self.tree.big)

  def test_slow_writers_hold_nobody_up(self):
    slow = [self.client() for _ in range(50)]
    for byte in get("/hello.txt"):
      for client in slow:
        client.send(byte)
      self.assertEqual(self.ask(get("/hello.txt")).body, b"Hello, world")
    for client in slow:
      self.assertEqual(client.read().body, b"Hello, world")

  def test_hundreds_at_once(self):
    targets = ("/hello.txt", "/1k.bin", "/sub/", "/listed/", "/missing")
    clients = [self.client() for _ in range(400)]
    for round_number in range(3):
      for i, client in enumerate(clients):
        client.send(get(targets[(i + round_number) % 5]))
      for i, client in enumerate(clients):
        response = client.read()
        self.assertEqual(response.status, 404 if (i + round_number) % 5 == 4 else 200)
        if (i + round_number) % 5 == 1:
          self.assertEqual(response.body, bytes(range(256)) * 4)

  def test_large_files_to_many_at_once(self):
    want = hashlib.sha256(self.tree.big).digest()

    def fetch(_):
      with Client(self.server) as client:
        return hashlib.sha256(client.ask(get("/big.bin")).body).digest()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      self.assertEqual(set(pool.map(fetch, range(8))), {want})

  def test_random_bytes_never_break_it(self):
    seed = get("/hello.txt", "Range: bytes=0-4\r\nContent-Length: 3\r\n").encode() + b"abc"
    for i in range(200):
      noise = hashlib.sha512(f"{i}".encode()).digest()
      text = bytearray(seed)
      for j in range(0, 2 * (1 + i % 4), 2):
        text[noise[j] % len(text)] = noise[j + 1]
      connection = self.server.connect()
      connection.sendall(bytes(text))
      connection.shutdown(socket.SHUT_WR)
      answer = connection.makefile("rb").read()
      connection.close()
      self.assertTrue(answer == b"" or answer.startswith(b"HTTP/1.1 "), answer[:100])


class WithOneP(HttpdTests, unittest.TestCase):
  procs = 1


class WithTwoPs(HttpdTests, unittest.TestCase):
  procs = 2


class WithEightPs(HttpdTests, unittest.TestCase):
  procs = 8


if __name__ == "__main__":
  httpd_testing.main(__doc__)
