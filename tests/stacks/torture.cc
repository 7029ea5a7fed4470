#include "tests/stacks/torture.h"

#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "sched/waiter.h"
#include "stack/mode.h"

namespace weft::testing {
namespace {

constexpr int kSignalsPerSecond = 1000;

std::atomic<int64_t> signals{0};
std::atomic<uint32_t> pauses{0};

// Whom Pause() waits for: a goroutine that sends as long as somebody receives. Null outside
// OnGoroutines(); changed only while no goroutine of a test runs.
const Chan<int>* bell = nullptr;

[[gnu::noinline]] void Fill(volatile char* bytes, int count) {
  for (int i = 0; i < count; ++i) bytes[i] = static_cast<char>(i);
}

// On the stack that the signal interrupts: the goroutine's own, mostly.
void OnProfilingSignal(int) {
  const int saved = errno;
  volatile char pinned[200];
  Fill(pinned, sizeof pinned);
  if (UseStack(500) + pinned[7] < 7) std::abort();
  signals.fetch_add(1, std::memory_order_relaxed);
  errno = saved;
}

class Profiling : public ::testing::Environment {
 public:
  void SetUp() override {
    struct sigaction action{};
    action.sa_handler = OnProfilingSignal;
    action.sa_flags = SA_RESTART;
    ASSERT_EQ(sigaction(SIGPROF, &action, nullptr), 0);
    Set({0, 1'000'000 / kSignalsPerSecond});
  }
  void TearDown() override { Set({0, 0}); }

 private:
  static void Set(timeval interval) {
    const itimerval timer = {interval, interval};
    ASSERT_EQ(setitimer(ITIMER_PROF, &timer, nullptr), 0);
  }
};

[[maybe_unused]] const auto* const profiling = ::testing::AddGlobalTestEnvironment(new Profiling);

}  // namespace

bool StacksMustRest(int procs) {
  if (!stack::kMayMove || HasDebugSetting("stackrest=off")) return false;
  return procs == 1 || HasDebugSetting("stackrest=always");
}

int Depth(int depth) {
  static const bool quadratic = HasDebugSetting("stackmove=always");
  return quadratic ? std::min(depth, 500) : depth;
}

int64_t ProfilingSignals() { return signals.load(std::memory_order_relaxed); }

[[gnu::noinline]] int UseStack(int bytes) {
  volatile char frame[64];
  for (char i = 0; i < 64; ++i) frame[static_cast<int>(i)] = i;
  const int below = bytes < 100 ? 0 : UseStack(bytes - 100);
  int sum = 0;
  for (int i = 0; i < 64; ++i) sum += frame[i];
  // What the frame holds must still be there.
  if (sum != 63 * 64 / 2) std::abort();
  return below + 1;
}

void Pause() {
  const uint32_t n = pauses.fetch_add(1, std::memory_order_relaxed);
  if (n % 5 == 0) UseStack(static_cast<int>(n % 7) * 1000);
  if (bell == nullptr || GoroutineId() == 0) return;
  if (n % 64 == 63) {
    Sleep(absl::Microseconds(20));
  } else if (n % 3 == 0) {
    bell->Recv();
  } else {
    Yield();
  }
}

void OnGoroutines(absl::FunctionRef<void(int)> body, int count) {
  RunOnGoroutine([&] {
    const Chan<int> ringing(0);
    bell = &ringing;
    WaitGroup ringer;
    ringer.Add(1);
    Go({.name = "bell"}, [&ringer, ringing] {
      while (ringing.Send(1)) Yield();
      ringer.Done();
    });
    WaitGroup all;
    all.Add(count);
    for (int i = 0; i < count; ++i) {
      Go({.name = "construct", .stack_bytes = kLargeStack}, [&all, body, i] {
        body(i);
        all.Add(1);
        Go({.name = "passer-by"}, [&all] {
          UseStack(2000);
          Yield();
          all.Done();
        });
        all.Done();
      });
    }
    all.Wait();
    ringing.Close();
    ringer.Wait();
    bell = nullptr;
  });
}

}  // namespace weft::testing
