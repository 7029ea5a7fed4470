// A P for which no thread can be had, as all that there may be are in use: it waits for one of
// those, and no longer than until one has nothing else to do. Whoever waits here polls an atomic,
// or takes a snapshot, and calls nothing else of the runtime, which could wake what is asleep.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/snapshot.h"
#include "sched/testing.h"
#include "sched/timer.h"

namespace weft {
namespace {

using testing::RunOnGoroutine;

template <typename Done>
bool Comes(Done done) {
  const Instant limit = Instant::Now() + absl::Seconds(20);
  while (!done()) {
    if (Instant::Now() > limit) return false;
    usleep(100);
  }
  return true;
}

// A place at which one thread at a time can be held up.
struct Gate {
  std::atomic<bool> closed{false};
  std::atomic<bool> reached{false};

  void Pass() {
    if (!closed.load()) return;
    reached.store(true);
    while (closed.load()) usleep(100);
  }
  void Close() {
    reached.store(false);
    closed.store(true);
  }
  void Open() { closed.store(false); }
};

Gate none;       // no thread is to be had for a P
Gate stop;       // a thread without a P is about to sleep
Gate to_poller;  // or to wait in the poller
Gate spare;      // the monitor has a thread in hand, for a P that it is about to take

void HoldUp(const char* point) {
  const std::string_view at = point;
  if (at == "threads.none") none.Pass();
  if (at == "threads.stop") stop.Pass();
  if (at == "proc.to_poller") to_poller.Pass();
  if (at == "retake.spare") spare.Pass();
}

// A goroutine that blocks its thread, and has given up its P for that, as often as it is told to.
struct Blocker {
  std::atomic<int> sections{0};        // that it has entered
  std::atomic<int> may_leave{0};       // so many of them
  std::atomic<bool> goes_on{false};    // after the first, to the second
  std::atomic<bool> is_silent{false};  // blocks in between too, and does not say so, for as long
  std::atomic<bool> starts{false};     // another goroutine in between
  std::atomic<bool> ended{false};
  std::atomic<bool> other_ran{false};
};

void Block(Blocker& self) {
  const BlockingSection section(BlockingSection::Expect::kLong);
  const int count = self.sections.fetch_add(1) + 1;
  while (self.may_leave.load() < count) usleep(100);
}

// With one P.
class ThreadLimitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SetMaxProcs(1);
    RunOnGoroutine([] {});
    ASSERT_TRUE(IsIdle());
    before_ = SetMaxThreads(10'000);
    internal::SetDelayHook(HoldUp);
  }

  void TearDown() override {
    none.Open();
    stop.Open();
    to_poller.Open();
    spare.Open();
    for (const auto& blocker : blockers_) {
      blocker->is_silent.store(false);
      blocker->may_leave.store(2);
    }
    SetMaxThreads(before_);
    for (const auto& blocker : blockers_) {
      EXPECT_TRUE(Comes([&] { return blocker->ended.load(); }));
    }
    internal::SetDelayHook(nullptr);
  }

  static bool IsIdle() {
    return Comes([] {
      const SchedSnapshot now = GetSchedSnapshot();
      return now.idle_procs == now.max_procs && now.spinning_threads == 0;
    });
  }

  // As many threads as there are may there be from now on, but at least three Ms; and all of these
  // but so many are blocked.
  void BlockAllBut(int free) {
    const int limit = std::max(GetSchedSnapshot().threads, 4);
    SetMaxThreads(limit);
    // One is the monitor.
    while (static_cast<int>(blockers_.size()) < limit - 1 - free) {
      blockers_.push_back(std::make_shared<Blocker>());
      Go([self = blockers_.back()] {
        Block(*self);
        if (self->goes_on.load()) {
          while (self->is_silent.load()) usleep(20'000);
          if (self->starts.load()) Go([self] { self->other_ran.store(true); });
          Block(*self);
        }
        self->ended.store(true);
      });
      ASSERT_TRUE(Comes([&] { return blockers_.back()->sections.load() == 1; }));
      ASSERT_TRUE(IsIdle());
    }
  }

  Blocker& blocker(size_t i) { return *blockers_[i]; }

  // The first one leaves its section, starts a goroutine, and is held up when it enters the next
  // section, which finds no thread for the P and that goroutine.
  void HoldUpTheFirst() {
    none.Close();
    blocker(0).starts.store(true);
    blocker(0).goes_on.store(true);
    blocker(0).may_leave.store(1);
    ASSERT_TRUE(Comes([] { return none.reached.load(); }));
    EXPECT_FALSE(blocker(0).other_ran.load());
  }

 private:
  std::vector<std::shared_ptr<Blocker>> blockers_;
  int before_ = 0;
};

TEST_F(ThreadLimitTest, TheThreadThatWaitsInThePollerIsWoken) {
  BlockAllBut(1);
  ASSERT_EQ(GetSchedSnapshot().idle_threads, 0) << "it waits in the poller";
  const auto ran = std::make_shared<std::atomic<bool>>(false);
  Go([ran] { ran->store(true); });
  EXPECT_TRUE(Comes([&] { return ran->load(); }));
}

TEST_F(ThreadLimitTest, AThreadThatIsAboutToWaitInThePollerTakesThePThatWaits) {
#ifdef NDEBUG
  GTEST_SKIP() << "no delay points";
#endif
  BlockAllBut(1);
  to_poller.Close();
  Go([] {});
  ASSERT_TRUE(Comes([] { return to_poller.reached.load(); }));
  const auto ran = std::make_shared<std::atomic<bool>>(false);
  Go([ran] { ran->store(true); });
  ASSERT_TRUE(IsIdle());
  EXPECT_FALSE(ran->load());
  to_poller.Open();
  EXPECT_TRUE(Comes([&] { return ran->load(); }));
}

TEST_F(ThreadLimitTest, AHigherLimitIsMadeUseOf) {
  BlockAllBut(0);
  const auto ran = std::make_shared<std::atomic<bool>>(false);
  Go([ran] { ran->store(true); });
  ASSERT_TRUE(IsIdle());
  EXPECT_FALSE(ran->load());
  SetMaxThreads(10'000);
  EXPECT_TRUE(Comes([&] { return ran->load(); }));
}

// While the P is nobody's: the thread had to look for one of its own, and has found none.
TEST_F(ThreadLimitTest, AThreadThatHasComeToSleepMeanwhileIsFound) {
#ifdef NDEBUG
  GTEST_SKIP() << "no delay points";
#endif
  BlockAllBut(0);
  HoldUpTheFirst();
  blocker(1).may_leave.store(1);
  ASSERT_TRUE(Comes([] { return GetSchedSnapshot().idle_threads == 1; }));
  none.Open();
  EXPECT_TRUE(Comes([&] { return blocker(0).other_ran.load() && blocker(1).ended.load(); }));
}

TEST_F(ThreadLimitTest, AThreadThatIsAboutToSleepTakesThePThatWaits) {
#ifdef NDEBUG
  GTEST_SKIP() << "no delay points";
#endif
  BlockAllBut(0);
  HoldUpTheFirst();
  stop.Close();
  blocker(1).may_leave.store(1);
  ASSERT_TRUE(Comes([] { return stop.reached.load(); }));
  none.Open();
  ASSERT_TRUE(IsIdle());
  EXPECT_FALSE(blocker(0).other_ran.load());
  stop.Open();
  EXPECT_TRUE(Comes([&] { return blocker(0).other_ran.load() && blocker(1).ended.load(); }));
}

// It gives the thread back, as there is nothing to take any more.
TEST_F(ThreadLimitTest, TheThreadThatTheMonitorHasInHandTakesThePThatWaits) {
#ifdef NDEBUG
  GTEST_SKIP() << "no delay points";
#endif
  BlockAllBut(1);
  spare.Close();
  blocker(0).starts.store(true);
  blocker(0).is_silent.store(true);
  blocker(0).goes_on.store(true);
  blocker(0).may_leave.store(1);
  ASSERT_TRUE(Comes([] { return GetSchedSnapshot().idle_procs == 0; }));
  // The other one leaves the poller for it, and sleeps, as it finds no P.
  CallbackTimer timer([](CallbackTimer&) {});
  timer.Start(Instant::Now() + absl::Hours(1));
  ASSERT_TRUE(Comes([] { return spare.reached.load(); }));
  blocker(0).is_silent.store(false);
  ASSERT_TRUE(Comes([&] { return blocker(0).sections.load() == 2; }));
  ASSERT_TRUE(IsIdle());
  EXPECT_FALSE(blocker(0).other_ran.load());
  spare.Open();
  EXPECT_TRUE(Comes([&] { return blocker(0).other_ran.load(); }));
  timer.Stop();
}

// Whoever stops the world has counted those that are idle before.
TEST_F(ThreadLimitTest, TheWorldStopsWhileAPHasNoThread) {
#ifdef NDEBUG
  GTEST_SKIP() << "no delay points";
#endif
  BlockAllBut(0);
  HoldUpTheFirst();
  const auto changed = std::make_shared<std::atomic<bool>>(false);
  std::thread([changed] {
    SetMaxProcs(2);
    changed->store(true);
  }).detach();
  ASSERT_TRUE(Comes([] { return GetSchedSnapshot().stopping; }));
  none.Open();
  EXPECT_TRUE(Comes([&] { return changed->load(); }));
}

}  // namespace
}  // namespace weft
