#include "tests/stacks/torture.h"

#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "sched/waiter.h"
#include "stack/grow.h"
#include "stack/mode.h"
#include "stack/rest.h"

namespace weft::testing {
namespace {

constexpr int kSignalsPerSecond = 1000;

// More than the slots that a P lists (64, sched/stacks.cc) and has at hand of those that were
// listed by Ps which are gone (64, stack/residence.h): with as many at a time some have to rest.
constexpr int kMoreThanSlots = 140;

std::atomic<int64_t> signals{0};
std::atomic<uint32_t> pauses{0};
std::atomic<int64_t> parks{0};

// Whom Pause() waits for: a goroutine that sends as long as somebody receives. Null outside
// OnGoroutines(); changed only while no goroutine of a test runs.
const Chan<int>* bell = nullptr;

// Where all wait for each other, once. By a channel, as what waits for one may rest in every build.
class Meeting {
 public:
  explicit Meeting(int count) : missing_(count) {}
  void Wait() {
    if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      all_here_.Close();
    } else {
      all_here_.Recv();
    }
  }

 private:
  std::atomic<int> missing_;
  const Chan<int> all_here_{0};
};
// As `bell`, for Meet().
Meeting* meeting = nullptr;

// --- what became of stacks ---

// Of stacks that were to do something, how many did, and how many did not and why.
struct Share {
  uint64_t did = 0;
  uint64_t foreign = 0;  // a frame that stays
  uint64_t large = 0;
  uint64_t held = 0;  // by the scheduler: exceptions, and code inside the runtime
};

Share RestShare(const stack::RestStats& s) {
  return {s.rests, s.kept_foreign_frame, s.kept_too_large, s.kept_held};
}
Share MoveShare(const stack::GrowStats& s) {
  return {s.moves, s.kept_foreign_frame, 0, s.kept_held};
}

// That `did` is at least so much of a thousand `of`, by the environment; and something, if there is
// nothing about it there. What is done little, as when one test is run alone, says nothing.
void ExpectAtLeast(const char* what, uint64_t did, uint64_t of, const char* least_of) {
  constexpr uint64_t kTelling = 1000;
  const uint64_t share = 1000 * did / std::max<uint64_t>(of, 1);
  std::printf("stacks: %s %" PRIu64 " of %" PRIu64 ", %" PRIu64 " of a thousand\n", what, did, of,
              share);
  uint64_t least = 0;
  const char* const text = std::getenv(least_of);
  if (text != nullptr) ASSERT_TRUE(absl::SimpleAtoi(text, &least)) << least_of;
  if (of < kTelling) return;
  EXPECT_GT(did, 0u) << what;
  EXPECT_GE(share, least) << what;
}

void Print(const char* what, const Share& share) {
  std::printf("stacks: %s %" PRIu64 "; stayed: foreign %" PRIu64 ", large %" PRIu64
              ", held %" PRIu64 "\n",
              what, share.did, share.foreign, share.large, share.held);
}

void ExpectThatStacksMoved() {
  if (!stack::kMayMove) return;
  const stack::RestStats rest = stack::GetRestStats();
  const stack::GrowStats grow = stack::GetGrowStats();
  // Whatever the code: frames lead to each other, and there is memory.
  EXPECT_EQ(rest.kept_broken_chain, 0u);
  EXPECT_EQ(grow.kept_broken_chain, 0u);
  EXPECT_EQ(rest.kept_no_memory, 0u);
  EXPECT_EQ(grow.kept_no_slot, 0u);
  const Share rests = RestShare(rest);
  const Share moves = MoveShare(grow);
  Print("rested", rests);
  Print("moved while they ran", moves);
  if (HasDebugSetting("stackrest=always")) {
    ExpectAtLeast("rested", rests.did, rests.did + rests.foreign + rests.large + rests.held,
                  "WEFT_LEAST_RESTS");
    // Each wakes elsewhere.
    ExpectAtLeast("woke elsewhere", rest.moves, rest.moves + rest.wakes_at_home,
                  "WEFT_LEAST_WAKES");
  }
  if (HasDebugSetting("stackmove=always")) {
    // Most functions' entries are inside the runtime, and held.
    ExpectAtLeast("moved", moves.did, moves.did + moves.foreign, "WEFT_LEAST_MOVES");
    EXPECT_GE(moves.did, static_cast<uint64_t>(parks.load()));
  }
  if (HasDebugSetting("stackgrow=copy")) {
    // One that cannot grow by a copy tries again at each call.
    ExpectAtLeast("grew", grow.growths, static_cast<uint64_t>(parks.load()), "WEFT_LEAST_GROWS");
  }
}

// --- SIGPROF ---

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

class Torture : public ::testing::Environment {
 public:
  void SetUp() override {
    struct sigaction action{};
    action.sa_handler = OnProfilingSignal;
    action.sa_flags = SA_RESTART;
    ASSERT_EQ(sigaction(SIGPROF, &action, nullptr), 0);
    began_ = std::clock();
    Set({0, 1'000'000 / kSignalsPerSecond});
  }
  void TearDown() override {
    Set({0, 0});
    const double seconds = static_cast<double>(std::clock() - began_) / CLOCKS_PER_SEC;
    std::printf("stacks: %" PRId64 " parks, %" PRId64 " signals in %.1f s\n", parks.load(),
                signals.load(), seconds);
    if (seconds > 0.05) EXPECT_GT(signals.load(), 0);
    ExpectThatStacksMoved();
  }

 private:
  static void Set(timeval interval) {
    const itimerval timer = {interval, interval};
    ASSERT_EQ(setitimer(ITIMER_PROF, &timer, nullptr), 0);
  }
  std::clock_t began_ = 0;
};

[[maybe_unused]] const auto* const torture = ::testing::AddGlobalTestEnvironment(new Torture);

bool MovesAlways() {
  static const bool moves = HasDebugSetting("stackmove=always");
  return moves;
}

}  // namespace

int Crowd() {
  if (MovesAlways()) return 30;
  // Where they rest in any case, it is about who runs at the same time.
  if (HasDebugSetting("stackgrow=copy")) return 30 * MaxProcs();
  if (HasDebugSetting("stackrest=always")) return 80 * MaxProcs();
  return kMoreThanSlots * MaxProcs();
}

bool StacksMustRest() {
  if (!stack::kMayMove || HasDebugSetting("stackrest=off")) return false;
  return HasDebugSetting("stackrest=always") || Crowd() >= kMoreThanSlots * MaxProcs();
}

int Depth(int depth) {
  constexpr int kDeepest = 500;
  return MovesAlways() && depth > kDeepest ? kDeepest : depth;
}

// Without an array that a loop goes through: with one it would be foreign, and the stack stay as
// soon as one frame is on it.
[[gnu::noinline]] int UseStack(int bytes) {
  volatile int64_t a = bytes + 1, b = bytes + 2, c = bytes + 3, d = bytes + 4;
  volatile int64_t e = bytes + 5, f = bytes + 6, g = bytes + 7, h = bytes + 8;
  const int below = bytes < 100 ? 0 : UseStack(bytes - 100);
  // What the frame holds must still be there.
  if (a + b + c + d + e + f + g + h != int64_t{8} * bytes + 36) std::abort();
  return below + 1;
}

void Pause() {
  // Where stacks grow by copying, it is often beyond the smallest slot.
  static const int bytes = HasDebugSetting("stackgrow=copy") ? 12'000 : 1'000;
  const uint32_t n = pauses.fetch_add(1, std::memory_order_relaxed);
  if (n % 5 == 0) UseStack(static_cast<int>(n % 7) * bytes);
  if (bell == nullptr || GoroutineId() == 0) return;
  parks.fetch_add(1, std::memory_order_relaxed);
  if (n % 64 == 63) {
    Sleep(absl::Microseconds(20));
  } else if (n % 3 == 0) {
    bell->Recv();
  } else {
    Yield();
  }
}

void Meet() { meeting->Wait(); }

void OnGoroutines(absl::FunctionRef<void(int)> body, int count) {
  const uint64_t rests = stack::GetRestStats().rests;
  RunOnGoroutine([&] {
    const Chan<int> ringing(0);
    bell = &ringing;
    Meeting begin(count);
    Meeting middle(count);
    meeting = &middle;
    WaitGroup ringer;
    ringer.Add(1);
    Go({.name = "bell"}, [&ringer, ringing] {
      while (ringing.Send(1)) Yield();
      ringer.Done();
    });
    WaitGroup all;
    all.Add(count);
    for (int i = 0; i < count; ++i) {
      Go({.name = "construct", .stack_bytes = kLargeStack}, [&begin, &all, body, i] {
        // By then, if they are a crowd, some have rested.
        begin.Wait();
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
    meeting = nullptr;
  });
  if (count >= Crowd() && StacksMustRest()) EXPECT_GT(stack::GetRestStats().rests, rests);
}

}  // namespace weft::testing
