// What the tests beside it run as processes of their own: `program NAME`.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "sched/goroutine.h"
#include "sched/waiter.h"
#include "stack/slots.h"

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

volatile int64_t sink = 0;

[[gnu::noinline]] int64_t Recurse(int64_t depth) {
  const int64_t below = depth == 0 ? 0 : Recurse(depth - 1);
  sink = below;
  return below + 1;
}

int Overflow() { return static_cast<int>(Recurse(int64_t{1} << 40)); }

// Has 8 KiB of its own, as the compiler does not know which of them it uses, and tells what has
// been thrown as part of another error.
[[gnu::noinline]] void Wrap(void (*function)()) {
  volatile char frame[8192];
  const int64_t at = sink % 8192;
  frame[at] = 'w';
  try {
    function();
  } catch (const std::exception& error) {
    const char first = frame[at];
    throw std::runtime_error(first + ("rap: " + std::string(error.what())));
  }
}

int RecursivePanic() {
  try {
    Wrap([] { throw std::runtime_error("bad"); });
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    std::fflush(stdout);
  }
  throw std::runtime_error("again");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc == 2 ? argv[1] : "";
  if (name == "overflow") weft::stack::SetMaxStack(1'474'560);
  return weft::Main([&] {
    if (name == "count") return Count();
    if (name == "count-and-dump") return CountAndDump();
    if (name == "overflow") return Overflow();
    if (name == "recursive-panic") return RecursivePanic();
    return 64;
  });
}
