// Goroutines in many states, with names that are markup if they are not escaped, and their pages,
// whose address it prints. Ends when its standard input does.
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "debug/http/serve.h"
#include "sched/goroutine.h"
#include "sched/sync/mutex.h"

namespace {

std::atomic<uint64_t> work{0};

[[gnu::noinline]] void ReceiveForEver(const weft::Chan<int>& channel) {
  channel.Recv();
  work.fetch_add(1, std::memory_order_relaxed);  // no tail call
}

// As a busy server does: a moment of work, then another's turn.
[[gnu::noinline]] void WorkNowAndThen() {
  while (true) {
    for (int i = 0; i < 20'000; ++i) work.fetch_add(1, std::memory_order_relaxed);
    weft::Sleep(absl::Milliseconds(1));
  }
}

[[gnu::noinline]] void WaitForLock(weft::Mutex& mutex) {
  const weft::MutexLock lock(mutex);
  work.fetch_add(1, std::memory_order_relaxed);
}

int Run() {
  const absl::StatusOr<weft::debug::HttpServer> server = weft::debug::Serve(":0");
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", std::string(server.status().message()).c_str());
    return 1;
  }
  const weft::Chan<int> never(0);
  for (int i = 0; i < 120; ++i) {
    weft::Go({.name = "reader"}, [never] { ReceiveForEver(never); });
  }
  weft::Go({.name = "<script>document.title='owned'</script>"}, [never] { ReceiveForEver(never); });
  weft::Go({.name = "\"><img src=x onerror=document.title='owned'>"},
           [never] { ReceiveForEver(never); });
  static weft::Mutex mutex;
  const weft::MutexLock lock(mutex);
  for (int i = 0; i < 7; ++i) weft::Go({.name = "locker"}, [] { WaitForLock(mutex); });
  for (int i = 0; i < 8; ++i) weft::Go({.name = "worker"}, [] { WorkNowAndThen(); });
  for (int i = 0; i < 3; ++i) {
    weft::Go({.name = "sleeper"}, [] { weft::Sleep(absl::Hours(1)); });
  }
  std::printf("%s\n", server->url().c_str());
  std::fflush(stdout);
  const weft::BlockingSection section(weft::BlockingSection::Expect::kLong);
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}

}  // namespace

int main() { return weft::Main(Run); }
