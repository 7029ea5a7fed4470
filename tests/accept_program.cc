// For reports_test: what a wait for the network, and one for another goroutine that is like it, has
// to do with deadlocks. `accept_program NAME`.
#include <sys/timerfd.h>

#include <atomic>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "netpoll/net.h"
#include "netpoll/pipe.h"
#include "netpoll/pollfd.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/sysmon.h"
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

// Of a pipe in memory nobody else has an end.
int WaitsForAPipe() {
  const weft::PipePair pipe = weft::Pipe();
  char byte;
  return pipe.a.Read(absl::MakeSpan(&byte, 1)).ok() ? 3 : 4;
}

int WaitsForAPipesReader() {
  const weft::PipePair pipe = weft::Pipe();
  return pipe.a.Write("x").ok() ? 3 : 4;
}

std::atomic<int> timer{-1};
std::atomic<bool> held{false};

// If it is the timer that has come, which it may not have yet.
void HoldUpWhoComesFromThePoller(const char* point) {
  if (std::string_view(point) != "proc.poll_returned") return;
  itimerspec left;
  timerfd_gettime(timer.load(), &left);
  if (left.it_value.tv_sec != 0 || left.it_value.tv_nsec != 0) return;
  held.store(true);
  weft::internal::WakeMonitor();
  absl::SleepFor(absl::Milliseconds(100));
}

// What it waits for comes, and the thread that has seen it is held up while the monitor looks.
int WaitsWhileTheMonitorLooks() {
  const int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  timer.store(fd);
  weft::internal::SetDelayHook(HoldUpWhoComesFromThePoller);
  // Sometimes a thread sees it that does not wait in the poller, but looks there in passing.
  for (int i = 0; i < 100 && !held.load(); ++i) {
    itimerspec soon = {};
    soon.it_value.tv_nsec = 50'000'000;
    if (timerfd_settime(fd, 0, &soon, nullptr) != 0) return 3;
    if (!weft::PollFd(fd, weft::kReadable).ok()) return 4;
  }
  if (held.load()) std::puts("held");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 64;
  const std::string name = argv[1];
  return weft::Main([&] {
    if (name == "accept") return WaitsInAccept();
    if (name == "read") return WaitsInRead();
    if (name == "pipe-read") return WaitsForAPipe();
    if (name == "pipe-write") return WaitsForAPipesReader();
    if (name == "held") return WaitsWhileTheMonitorLooks();
    return WaitsAfterwards();
  });
}
