// For reports_test: what a wait for the network has to do with deadlocks. `accept_program NAME`.
#include <cstdio>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "netpoll/net.h"
#include "sched/goroutine.h"
#include "sched/waiter.h"

namespace {

// The only goroutine waits for a connection that does not come.
int WaitsInAccept() {
  auto listener = weft::Listen("tcp", "127.0.0.1:0");
  if (!listener.ok()) return 3;
  return listener->Accept().ok() ? 4 : 5;
}

// ... or for bytes of the only one there is, which it would have to write itself.
int WaitsInRead() {
  auto listener = weft::Listen("tcp", "127.0.0.1:0");
  if (!listener.ok()) return 3;
  auto client = weft::Dial("tcp", listener->addr().ToString());
  if (!client.ok()) return 4;
  auto server = listener->Accept();
  if (!server.ok()) return 5;
  char byte;
  return server->Read(absl::MakeSpan(&byte, 1)).ok() ? 6 : 7;
}

// All that could come has come; then main waits for ever.
int WaitsAfterwards() {
  auto listener = weft::Listen("tcp", "127.0.0.1:0");
  if (!listener.ok()) return 3;
  weft::Go([listener = *listener] {
    auto conn = listener.Accept();
    weft::Sleep(absl::Milliseconds(20));
    static_cast<void>(listener.Close());
  });
  {
    auto conn = weft::Dial("tcp", listener->addr().ToString());
    if (!conn.ok()) return 4;
    char byte;
    static_cast<void>(conn->Read(absl::MakeSpan(&byte, 1)));
  }
  for (;;) weft::Waiter::Current()->Park(weft::WaitReason::kSelect);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 64;
  const std::string name = argv[1];
  return weft::Main([&] {
    if (name == "accept") return WaitsInAccept();
    if (name == "read") return WaitsInRead();
    return WaitsAfterwards();
  });
}
