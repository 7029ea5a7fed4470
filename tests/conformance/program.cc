// What scheduler_test runs as processes of their own: `program NAME`.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>

#include "sched/goroutine.h"
#include "sched/waiter.h"

namespace {

void PrintCount() {
  std::printf("%lld\n", static_cast<long long>(weft::NumGoroutine()));
  std::fflush(stdout);
}

int Count() {
  PrintCount();
  return 0;
}

// ... of main and fifty that wait; those that have ended do not count. It dies of a deadlock.
int CountAndDump() {
  std::atomic<int> waiting{0};
  for (int i = 0; i < 50; ++i) {
    weft::Go([&] {
      waiting.fetch_add(1);
      for (;;) weft::Waiter::Current()->Park(weft::WaitReason::kChanReceive);
    });
    weft::Go([] {});
  }
  while (waiting.load() < 50 || weft::NumGoroutine() > 51) weft::Yield();
  PrintCount();
  for (;;) weft::Waiter::Current()->Park(weft::WaitReason::kSelect);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc == 2 ? argv[1] : "";
  return weft::Main([&] {
    if (name == "count") return Count();
    if (name == "count-and-dump") return CountAndDump();
    return 64;
  });
}
