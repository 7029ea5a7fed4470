// One end of a conversation of 64 bytes to and fro, for echo_syscalls_test.py to look on.
//
//   echo_program server TRIPS          prints its port
//   echo_program client TRIPS PORT
//
// The same number of round trips goes before, unobserved. Each end calls getppid() before the first
// of those that count and after the last one, which nothing else here does.
#include <sys/syscall.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "netpoll/net.h"
#include "netpoll/syscall.h"
#include "sched/goroutine.h"

namespace {

enum class Side { kServer, kClient };

int Fail(absl::string_view what) {
  std::fprintf(stderr, "echo_program: %s\n", std::string(what).c_str());
  return 1;
}

bool Talk(const weft::Conn& conn, Side side, int trips) {
  // More room than a message needs, so that a read tells that there is no more.
  char buffer[128] = {};
  const absl::string_view message(buffer, 64);
  for (int i = 0; i < 2 * trips; ++i) {
    if (i == trips) weft::internal::RawSyscall(SYS_getppid);
    if (side == Side::kClient && !conn.Write(message).ok()) return false;
    const absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(buffer));
    if (!n.ok() || *n != message.size()) return false;
    if (side == Side::kServer && !conn.Write(message).ok()) return false;
  }
  weft::internal::RawSyscall(SYS_getppid);
  return true;
}

int Serve(int trips) {
  const absl::StatusOr<weft::Listener> listener = weft::Listen("tcp", "127.0.0.1:0");
  if (!listener.ok()) return Fail(listener.status().message());
  std::printf("%d\n", listener->addr().port());
  std::fflush(stdout);
  const absl::StatusOr<weft::Conn> conn = listener->Accept();
  if (!conn.ok()) return Fail(conn.status().message());
  return Talk(*conn, Side::kServer, trips) ? 0 : Fail("the client went away");
}

int Ask(int trips, absl::string_view port) {
  const absl::StatusOr<weft::Conn> conn = weft::Dial("tcp", absl::StrCat("127.0.0.1:", port));
  if (!conn.ok()) return Fail(conn.status().message());
  return Talk(*conn, Side::kClient, trips) ? 0 : Fail("the server went away");
}

}  // namespace

int main(int argc, char** argv) {
  int trips = 0;
  if (argc < 3 || !absl::SimpleAtoi(argv[2], &trips)) return Fail("which side, and how often?");
  const std::string side = argv[1];
  if (side == "client" && argc < 4) return Fail("which port?");
  return weft::Main([&] { return side == "server" ? Serve(trips) : Ask(trips, argv[3]); });
}
