// Who waits for whose lock, and for how long.
#include "debug/blocked.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/sync/mutex.h"
#include "sched/sync/rw_mutex.h"
#include "sched/testing.h"
#include "stack/mode.h"

namespace weft::debug {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using weft::testing::Eventually;
using weft::testing::ForEachMaxProcs;

GoroutineTrace Waiter(uint64_t id, std::vector<uint64_t> holders) {
  static const int lock = 0;
  GoroutineTrace trace;
  trace.goroutine.id = id;
  trace.goroutine.status = 4;
  trace.goroutine.wait_reason = "sync.Mutex.Lock";
  trace.waiting = absl::Minutes(2);
  trace.waits_for = &lock;
  trace.holders = std::move(holders);
  return trace;
}

TEST(LockCyclesTest, AreFound) {
  EXPECT_THAT(LockCycles({}), IsEmpty());
  EXPECT_THAT(LockCycles({Waiter(7, {8}), Waiter(8, {9})}), IsEmpty()) << "9 does not wait";
  EXPECT_THAT(LockCycles({Waiter(7, {8}), Waiter(8, {7})}), ElementsAre(ElementsAre(7, 8)));
  EXPECT_THAT(LockCycles({Waiter(7, {7})}), ElementsAre(ElementsAre(7)));
  // 5 waits for one of a cycle that it is not in, 6 may be held up by 5 or 8.
  EXPECT_THAT(LockCycles({Waiter(5, {7}), Waiter(6, {5, 8}), Waiter(7, {6}), Waiter(8, {7})}),
              ElementsAre(ElementsAre(5, 7, 6)));
  EXPECT_THAT(LockCycles({Waiter(1, {2}), Waiter(2, {1}), Waiter(3, {4}), Waiter(4, {3})}),
              ElementsAre(ElementsAre(1, 2), ElementsAre(3, 4)));
}

TEST(LockCyclesTest, AreWrittenInALine) {
  EXPECT_EQ(
      FormatLockCycles({Waiter(7, {8}), Waiter(8, {9}), Waiter(9, {7})}),
      "lock cycle: goroutine 7 waits for a lock of 8, 8 for a lock of 9, 9 for a lock of 7\n");
  EXPECT_EQ(FormatLockCycles({Waiter(7, {8})}), "");
}

TEST(BlockedTest, ShowsThoseThatWaitForLong) {
  std::vector<GoroutineTrace> traces = {Waiter(7, {8}), Waiter(8, {}), Waiter(9, {})};
  traces[1].waiting = absl::Seconds(1);
  traces[2].goroutine.wait_reason = "IO wait";
  EXPECT_THAT(FormatBlocked(traces, absl::Minutes(1)),
              StartsWith("1 goroutine waits for longer than 1m\n\n"
                         "1 goroutine [sync.Mutex.Lock, 2 minutes, perhaps held by 8]: 7\n"));
  EXPECT_EQ(FormatBlocked(traces, absl::Hours(1)), "");
}

const GoroutineTrace* Of(const std::vector<GoroutineTrace>& traces, uint64_t id) {
  const auto found = std::find_if(traces.begin(), traces.end(),
                                  [id](const auto& trace) { return trace.goroutine.id == id; });
  return found == traces.end() ? nullptr : &*found;
}

// One goroutine holds `mutex` by a Guard and does `hold`, another one waits for it by `wait`.
template <typename Guard, typename Mutex, typename Wait, typename Hold>
void ExpectHolderIsFound(Mutex& mutex, Wait wait, Hold hold) {
  std::atomic<uint64_t> holder{0};
  std::atomic<uint64_t> waiter{0};
  std::atomic<bool> stop{false};
  std::atomic<int> left{2};
  Go([&] {
    {
      Guard guard(mutex);
      holder.store(GoroutineId());
      hold(stop);
    }
    left.fetch_sub(1);
  });
  EXPECT_TRUE(Eventually([&] { return holder.load() != 0; }));
  Go([&] {
    waiter.store(GoroutineId());
    wait();
    left.fetch_sub(1);
  });
  EXPECT_TRUE(Eventually([&] {
    const auto traces = GetGoroutineTraces({.signal = DefaultTraceSignal(), .locks = true});
    const GoroutineTrace* trace = Of(traces, waiter.load());
    return trace != nullptr && trace->waits_for == &mutex &&
           std::count(trace->holders.begin(), trace->holders.end(), holder.load()) == 1 &&
           std::count(trace->holders.begin(), trace->holders.end(), waiter.load()) == 0;
  }));
  stop.store(true);
  EXPECT_TRUE(Eventually([&] { return left.load() == 0 && NumGoroutine() == 0; }));
}

void SleepUntil(const std::atomic<bool>& stop) {
  while (!stop.load()) Sleep(absl::Milliseconds(5));
}

TEST(HoldersTest, AreFoundOnTheirStacks) {
  if (WEFT_ASAN) GTEST_SKIP() << "AddressSanitizer has locals elsewhere";
  ForEachMaxProcs([] {
    Mutex mutex;
    const auto lock = [&] { MutexLock guard(mutex); };
    ExpectHolderIsFound<MutexLock>(mutex, lock, SleepUntil);
#ifndef __OPTIMIZE__
    // (Optimized, it may have the address in a register alone while it runs.)
    ExpectHolderIsFound<MutexLock>(mutex, lock, [](const std::atomic<bool>& stop) {
      const BlockingSection section;
      while (!stop.load()) usleep(1000);
    });
#endif
    RWMutex rw_mutex;
    ExpectHolderIsFound<WriterLock>(rw_mutex, [&] { WriterLock guard(rw_mutex); }, SleepUntil);
    ExpectHolderIsFound<WriterLock>(rw_mutex, [&] { ReaderLock guard(rw_mutex); }, SleepUntil);
  });
}

TEST(HoldersTest, NobodyIsLookedForUnasked) {
  const Chan<int> c(0);
  std::atomic<uint64_t> id{0};
  Go([&] {
    id.store(GoroutineId());
    c.Recv();
  });
  EXPECT_TRUE(Eventually([&] { return id.load() != 0; }));
  for (const GoroutineTrace& trace : GetGoroutineTraces({.locks = true})) {
    EXPECT_EQ(trace.waits_for, nullptr);
    EXPECT_THAT(trace.holders, IsEmpty());
  }
  c.Close();
  EXPECT_TRUE(Eventually([] { return NumGoroutine() == 0; }));
}

TEST(LongWaitsTest, AreCountedOnce) {
  const Chan<int> c(0);
  std::atomic<bool> stop{false};
  Go([c] { c.Recv(); });
  Go([&stop] {
    while (!stop.load()) Sleep(absl::Milliseconds(200));
  });
  int count = 0;
  EXPECT_TRUE(Eventually([&] {
    NoteWaits();
    count += CountNewLongWaits(absl::Milliseconds(20));
    return count > 0;
  }));
  NoteWaits();
  EXPECT_EQ(count + CountNewLongWaits(absl::Milliseconds(20)), 1) << "who sleeps is not counted";
  stop.store(true);
  c.Close();
  EXPECT_TRUE(Eventually([] { return NumGoroutine() == 0; }));
}

}  // namespace
}  // namespace weft::debug
