#!/usr/bin/env python3
"""HTTPS as httpd speaks it, with curl, openssl s_client and Python's ssl; over several numbers of Ps."""

import concurrent.futures
import hashlib
import os
import re
import signal
import socket
import ssl
import subprocess
import unittest

import httpd_testing
from httpd_testing import DEADLINE, Client, Server, Tree, curl, get, wait_for

MAKE_CERTIFICATES = """
set -e
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
for ca in ca ca2; do
  openssl req -x509 $key -keyout $ca.key -out $ca.pem -subj /CN=$ca -days 30 \
      -addext basicConstraints=critical,CA:TRUE
done
openssl req $key -keyout server.key -out server.csr -subj /CN=server
echo subjectAltName=DNS:server.test,IP:127.0.0.1 >ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext \
    -out server.pem
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days -1 -extfile ext \
    -out expired.pem
"""


class TlsServer(Server):
  """One that listens for HTTP and HTTPS; `port` is the latter's."""

  def __init__(self, tree, *flags, procs=None, certificate="server"):
    super().__init__(
        tree.root, "--https=127.0.0.1:0", f"--tls_cert={tree.base}/{certificate}.pem",
        f"--tls_key={tree.base}/server.key", *flags, procs=procs,
        pattern=r"httpd: listening on http://127\.0\.0\.1:\d+/ and "
        r"https://127\.0\.0\.1:(\d+)/, serving (.*)\n")
    self.context = ssl.create_default_context(cafile=f"{tree.base}/ca.pem")

  def url(self, path):
    return f"https://127.0.0.1:{self.port}{path}"

  def connect_plain(self):
    return super().connect()

  def connect(self, timeout=DEADLINE):
    return self.context.wrap_socket(super().connect(timeout), server_hostname="server.test",
                                    suppress_ragged_eofs=False)


class CertifiedTree(Tree):
  def __init__(self):
    super().__init__()
    subprocess.run(["sh", "-c", MAKE_CERTIFICATES], cwd=self.base, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class HttpsTests:
  """Mixed into a class for each number of Ps. One server for all tests of a class."""

  procs = None

  @classmethod
  def setUpClass(cls):
    cls.tree = CertifiedTree()
    cls.server = TlsServer(cls.tree, "--access_log=off", procs=cls.procs)
    cls.ca = ("--cacert", f"{cls.tree.base}/ca.pem")

  @classmethod
  def tearDownClass(cls):
    cls.server.close()
    cls.tree.close()

  def test_curl_gets_files(self):
    for version in (("--tls-max", "1.2"), ("--tlsv1.3",)):
      self.assertEqual(curl(*self.ca, *version, self.server.url("/hello.txt")), b"Hello, world")
      self.assertEqual(
          hashlib.sha256(curl(*self.ca, *version, self.server.url("/big.bin"))).digest(),
          hashlib.sha256(self.tree.big).digest())

  def test_curl_resumes_a_large_file(self):
    path = os.path.join(self.tree.base, "part")
    with open(path, "wb") as file:
      file.write(self.tree.big[:12345678])
    curl(*self.ca, "-C", "-", "-o", path, self.server.url("/big.bin"))
    with open(path, "rb") as file:
      self.assertEqual(file.read(), self.tree.big)

  def test_curl_reuses_a_connection(self):
    out = curl(*self.ca, "-w", "%{num_connects}\n", self.server.url("/1k.bin"),
               self.server.url("/hello.txt"), "-o", "/dev/null", "-o", "/dev/null")
    self.assertEqual(out, b"1\n0\n")

  def test_curl_uploads_are_refused_with_an_answer(self):
    body = os.path.join(self.tree.base, "upload")
    with open(body, "wb") as file:
      file.write(b"u" * 3000000)
    out = curl(*self.ca, "-H", "Expect:", "-o", "/dev/null", "-w", "%{http_code}", "-T", body,
               self.server.url("/hello.txt"))
    self.assertEqual(out, b"405")

  def test_curl_knows_whom_to_trust(self):
    port = self.server.port
    for arguments in ((self.server.url("/hello.txt"),),
                      ("--cacert", f"{self.tree.base}/ca2.pem", self.server.url("/hello.txt")),
                      (*self.ca, "--resolve", f"wrong.test:{port}:127.0.0.1",
                       f"https://wrong.test:{port}/hello.txt")):
      done = subprocess.run(["curl", "-sS", "--max-time", str(DEADLINE), *arguments],
                            capture_output=True, timeout=2 * DEADLINE)
      self.assertEqual(done.returncode, 60, done.stderr)
    self.assertEqual(
        curl(*self.ca, "--resolve", f"server.test:{port}:127.0.0.1",
             f"https://server.test:{port}/hello.txt"), b"Hello, world")

  def test_openssl_reads_a_whole_answer(self):
    for more in (("-tls1_2",), ("-tls1_3", "-alpn", "h2,http/1.1")):
      done = subprocess.run(
          ["openssl", "s_client", "-connect", f"127.0.0.1:{self.server.port}", "-CAfile",
           f"{self.tree.base}/ca.pem", "-verify_return_error", "-verify_ip", "127.0.0.1", "-ign_eof",
           *more], input=get("/1k.bin", "Connection: close\r\n").encode(), capture_output=True,
          timeout=DEADLINE)
      self.assertEqual(done.returncode, 0, done.stderr)
      self.assertIn(b"Verify return code: 0 (ok)", done.stdout)
      self.assertIn(bytes(range(256)) * 4, done.stdout)
      if "-alpn" in more:
        self.assertIn(b"ALPN protocol: http/1.1", done.stdout)

  def test_old_versions_are_refused(self):
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{self.server.port}", "-tls1_1", "-cipher",
         "DEFAULT@SECLEVEL=0"], stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE)
    self.assertNotEqual(done.returncode, 0)
    self.assertIn(b"alert protocol version", done.stderr)

  def test_http_on_the_port_of_https_harms_nobody(self):
    with self.server.connect_plain() as connection:
      connection.sendall(get("/hello.txt").encode())
      received = b""
      while block := connection.recv(4096):
        received += block
    self.assertNotIn(b"Hello", received)
    with Client(self.server) as client:
      self.assertEqual(client.ask(get("/hello.txt")).body, b"Hello, world")

  def test_requests_in_pieces_and_at_once(self):
    with Client(self.server) as client:
      for byte in get("/hello.txt"):
        client.send(byte)
      self.assertEqual(client.read().body, b"Hello, world")
      targets = ["/hello.txt", "/big.bin", "/1k.bin", "/missing"] * 3
      # Little enough to be sent before anything is read: a second thread may not use the same SSL*.
      client.send("".join(get(t) for t in targets))
      for target in targets:
        response = client.read()
        self.assertEqual(response.status, 404 if target == "/missing" else 200)
        if target == "/big.bin":
          self.assertEqual(hashlib.sha256(response.body).digest(),
                           hashlib.sha256(self.tree.big).digest())
      self.assertEqual(client.ask(get("/hello.txt", "Connection: close\r\n")).status, 200)
      # By a close_notify: without one this would be an error.
      self.assertTrue(client.at_end())

  def test_many_at_a_time(self):
    def ask(_):
      with Client(self.server) as client:
        for _ in range(10):
          self.assertEqual(client.ask(get("/1k.bin")).body, bytes(range(256)) * 4)
        return client.ask(get("/big.bin")).body == self.tree.big

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
      self.assertTrue(all(pool.map(ask, range(32))))


class HttpsWithOneP(HttpsTests, unittest.TestCase):
  procs = 1


class HttpsWithTwoPs(HttpsTests, unittest.TestCase):
  procs = 2


class HttpsWithFourPs(HttpsTests, unittest.TestCase):
  procs = 4


class HttpsLifeTest(unittest.TestCase):
  @classmethod
  def setUpClass(cls):
    cls.tree = CertifiedTree()

  @classmethod
  def tearDownClass(cls):
    cls.tree.close()

  def start(self, *flags, **options):
    server = TlsServer(self.tree, "--access_log=off", *flags, **options)
    self.addCleanup(server.process.kill)
    return server

  def test_an_expired_certificate_is_noticed(self):
    server = self.start(certificate="expired")
    with self.assertRaisesRegex(ssl.SSLError, "certificate has expired"):
      server.connect()
    server.close()

  def test_handshakes_have_a_time_limit(self):
    server = self.start("--header_timeout=300ms")
    for begin in (b"", b"\x16\x03\x01"):
      with server.connect_plain() as connection:
        connection.settimeout(DEADLINE)
        connection.sendall(begin)
        self.assertEqual(connection.recv(1), b"")
    server.close()

  def test_idle_connections_are_closed_with_a_word(self):
    server = self.start("--idle_timeout=300ms")
    with Client(server) as client:
      self.assertEqual(client.ask(get("/hello.txt")).status, 200)
      self.assertTrue(client.at_end())
    server.close()

  def test_clients_that_do_not_read_are_given_up(self):
    server = self.start("--write_timeout=300ms")
    with Client(server) as client:
      client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
      client.send(get("/big.bin"))
      # All but the listener of HTTPS, which is one more.
      wait_for(lambda: httpd_testing.count_connections(server) == 1, "the server gives up")
    server.close()

  def test_stop_does_not_wait_for_who_has_no_request(self):
    server = self.start("--drain=1h")
    silent = server.connect_plain()
    idle = [Client(server) for _ in range(10)]
    for client in idle[:5]:
      self.assertEqual(client.ask(get("/hello.txt")).status, 200)
    wait_for(lambda: httpd_testing.count_connections(server) == 12, "the server accepts")
    server.signal(signal.SIGTERM)
    self.assertEqual(server.wait(), 0)
    silent.close()
    for client in idle:
      client.close()
    server.close()

  def test_stop_lets_answers_in_flight_end(self):
    server = self.start("--drain=1h")
    with Client(server) as client:
      client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
      client.send(get("/big.bin"))
      status, fields = client.read_head()
      self.assertEqual(status, 200)
      server.signal(signal.SIGTERM)
      wait_for(lambda: httpd_testing.refuses(server), "the server stops accepting")
      self.assertEqual(client.file.read(int(fields["content-length"])), self.tree.big)
    self.assertEqual(server.wait(), 0)
    server.close()

  def test_mistakes_in_the_flags_are_said(self):
    base = self.tree.base
    for flags, words in (
        (["--https=:0"], "--https, --tls_cert and --tls_key go together"),
        ([f"--tls_cert={base}/server.pem"], "--https, --tls_cert and --tls_key go together"),
        (["--http="], "--http and --https are both empty"),
        (["--https=127.0.0.1:0", f"--tls_cert={base}/none.pem", f"--tls_key={base}/server.key"],
         "none.pem: no such file or directory"),
        (["--https=127.0.0.1:0", f"--tls_cert={base}/server.pem", f"--tls_key={base}/ca.key"],
         "the private key does not belong to the certificate"),
        (["--https=127.0.0.1:0", f"--tls_cert={base}/server.key", f"--tls_key={base}/server.key"],
         "no certificates in the certificate's chain")):
      done = subprocess.run(
          [httpd_testing.HTTPD, "--http=127.0.0.1:0", f"--root={self.tree.root}", *flags],
          capture_output=True, text=True, timeout=DEADLINE)
      self.assertEqual(done.returncode, 1, (flags, done.stderr))
      self.assertIn(words, done.stderr)
      self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

  def test_https_alone(self):
    process = subprocess.Popen(
        [httpd_testing.HTTPD, "--http=", "--https=127.0.0.1:0", f"--root={self.tree.root}",
         f"--tls_cert={self.tree.base}/server.pem", f"--tls_key={self.tree.base}/server.key"],
        stdout=subprocess.PIPE, text=True)
    self.addCleanup(process.stdout.close)
    self.addCleanup(process.kill)
    line = process.stdout.readline()
    match = re.match(r"httpd: listening on (https://127\.0\.0\.1:\d+/), ", line)
    self.assertIsNotNone(match, line)
    self.assertEqual(curl("--cacert", f"{self.tree.base}/ca.pem", match.group(1) + "hello.txt"),
                     b"Hello, world")
    process.send_signal(signal.SIGTERM)
    self.assertEqual(process.wait(DEADLINE), 0)


if __name__ == "__main__":
  httpd_testing.main(__doc__)
