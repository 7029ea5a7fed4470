// The programs that the tests here run as processes of their own: `program NAME`.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "netpoll/net.h"
#include "sched/goroutine.h"
#include "sched/waiter.h"

namespace {

void Print(int64_t number) {
  std::printf("%lld\n", static_cast<long long>(number));
  std::fflush(stdout);
}

int Count() {
  Print(weft::NumGoroutine());
  return 0;
}

int CountAndDump() {
  std::atomic<int> waiting{0};
  for (int i = 0; i < 50; ++i) {
    weft::Go([&] {
      waiting.fetch_add(1);
      for (;;) weft::Waiter::Current()->Park(weft::WaitReason::kChanReceive);
    });
  }
  // Ended ones do not count.
  for (int i = 0; i < 50; ++i) weft::Go([] {});
  while (waiting.load() < 50 || weft::NumGoroutine() > 51) weft::Yield();
  Print(weft::NumGoroutine());
  for (;;) weft::Waiter::Current()->Park(weft::WaitReason::kSelect);
}

// What connects is another process, made before there are threads: in this one nobody but the
// kernel can wake main.
int port_pipe[2];
pid_t client;

bool StartClient() {
  if (pipe(port_pipe) != 0) return false;
  client = fork();
  if (client != 0) {
    close(port_pipe[0]);
    return client > 0;
  }
  uint16_t port;
  if (read(port_pipe[0], &port, sizeof(port)) != sizeof(port)) _exit(1);
  sleep(1);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  _exit(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 ? 0 : 1);
}

int Accept() {
  const absl::StatusOr<weft::Listener> listener = weft::Listen("tcp", "127.0.0.1:0");
  if (!listener.ok()) return 1;
  const uint16_t port = listener->addr().port();
  if (write(port_pipe[1], &port, sizeof(port)) != sizeof(port)) return 1;
  if (!listener->Accept().ok()) return 1;
  std::puts("accepted");
  return waitpid(client, nullptr, 0) == client ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc == 2 ? argv[1] : "";
  if (name == "accept" && !StartClient()) return 1;
  return weft::Main([&] {
    if (name == "count") return Count();
    if (name == "count-and-dump") return CountAndDump();
    if (name == "accept") return Accept();
    return 64;
  });
}
