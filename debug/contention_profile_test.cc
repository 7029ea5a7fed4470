// Profiles of waiting: that each wait is counted, for as long as it was, at the right place.
#include <algorithm>
#include <atomic>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "debug/profile.h"
#include "debug/profile_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/thread.h"
#include "sched/profiles.h"
#include "sched/snapshot.h"
#include "sched/sync/mutex.h"
#include "sched/sync/rw_mutex.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "tests/rounds.h"

namespace weft::debug {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using weft::testing::DecodedProfile;
using weft::testing::DecodeProfile;
using weft::testing::Eventually;
using weft::testing::ForEachMaxProcs;
using weft::testing::GooglePprof;
using weft::testing::Rounds;
using weft::testing::RunOnGoroutine;
using weft::testing::Write;

constexpr absl::Duration kHeld = absl::Milliseconds(20);

// What a profile says of stacks with `function`, in a stretch of time.
class Difference {
 public:
  Difference(absl::string_view profile, absl::string_view function)
      : profile_(profile), function_(function), before_(Read()) {}

  int64_t count() const { return Read().count - before_.count; }
  absl::Duration delay() const { return absl::Nanoseconds(Read().nanos - before_.nanos); }

 private:
  struct Figures {
    int64_t count;
    int64_t nanos;
  };
  Figures Read() const {
    const DecodedProfile profile = DecodeProfile(Write(profile_));
    return {profile.Sum(function_, 0), profile.Sum(function_, 1)};
  }

  const std::string profile_;
  const std::string function_;
  const Figures before_;
};

// Goroutines that wait for this.
int Waiting(absl::string_view reason) {
  int count = 0;
  for (const GoroutineSnapshot& g : GetGoroutineSnapshots()) {
    count += g.status == 4 && reason == g.wait_reason ? 1 : 0;
  }
  return count;
}

__attribute__((noinline)) void ReceiveHere(const Chan<int>& c) {
  c.Recv();
  asm volatile("");  // not a call that comes last, for which there would be no frame
}

// `count` goroutines wait in ReceiveHere() for kHeld.
void BlockSeveral(int count) {
  const Chan<int> c(0);
  WaitGroup all;
  all.Add(count);
  for (int i = 0; i < count; ++i) {
    Go([&] {
      ReceiveHere(c);
      all.Done();
    });
  }
  EXPECT_TRUE(Eventually([&] { return Waiting("chan receive") >= count; }));
  Sleep(kHeld);
  c.Close();
  all.Wait();
}

TEST(BlockProfileTest, CountsEachWaitWhereItWas) {
  ForEachMaxProcs([] {
    SetBlockProfileRate(absl::Nanoseconds(1));
    const Difference here("block", "ReceiveHere");
    const Difference sleeps("block", "weft::Sleep");
    BlockSeveral(5);
    SetBlockProfileRate(absl::ZeroDuration());
    EXPECT_EQ(here.count(), 5);
    EXPECT_GE(here.delay(), 5 * kHeld);
    EXPECT_EQ(sleeps.count(), 0);
    // Those that wait while it is off count neither.
    BlockSeveral(3);
    EXPECT_EQ(here.count(), 5);
  });
  const DecodedProfile profile = DecodeProfile(Write("block"));
  EXPECT_THAT(profile.sample_types, ElementsAre("contentions/count", "delay/nanoseconds"));
  EXPECT_EQ(profile.period_type, "contentions/count");
  EXPECT_EQ(profile.period, 1);
  // The innermost function is the program's.
  const DecodedProfile::Sample* sample = profile.Find("ReceiveHere");
  ASSERT_NE(sample, nullptr);
  EXPECT_THAT(sample->stack.front().lines.back().function, HasSubstr("ReceiveHere"));
  EXPECT_THAT(Write("block", ProfileFormat::kText),
              ContainsRegex("^--- contention:\ncycles/second=1000000000\n"
                            "[0-9]+ [0-9]+ @( 0x[0-9a-f]+)+\n#\t0x"));
}

__attribute__((noinline)) void ReceiveShortly(const Chan<int>& c, absl::Duration& total) {
  const Instant since = Instant::Now();
  c.Recv();
  total += Instant::Now() - since;
}

// Waits that are much shorter than the rate: few are looked at, and stand for all.
TEST(BlockProfileTest, ShortWaitsCountByChance) {
  RunOnGoroutine([] {
    // Waits of a tenth of a millisecond, and a rate at which 200 of them all are looked at.
    constexpr absl::Duration kWait = absl::Microseconds(100);
    const int waits = Rounds(4'000, 1'000);
    SetBlockProfileRate(waits * kWait / 200);
    const Difference here("block", "ReceiveShortly");
    const Chan<int> c(0);
    absl::Duration total;
    WaitGroup done;
    done.Add(1);
    Go([&] {
      for (int i = 0; i < waits; ++i) ReceiveShortly(c, total);
      done.Done();
    });
    for (int i = 0; i < waits; ++i) {
      while (Waiting("chan receive") == 0) Yield();
      const Instant until = Instant::Now() + kWait;
      while (Instant::Now() < until) Yield();
      c.Send(i);
    }
    done.Wait();
    SetBlockProfileRate(absl::ZeroDuration());
    // All together at least as long as 200 rates, so 200 are looked at: within half of it in all
    // but one case of a million. What a receiver does before and after it waits takes time too.
    EXPECT_GT(here.delay(), waits * kWait / 2);
    EXPECT_LT(here.delay(), total * 3 / 2);
    EXPECT_GT(here.count(), waits / 4);
  });
}

__attribute__((noinline)) void UnlockHere(Mutex& mutex) ABSL_UNLOCK_FUNCTION(mutex) {
  mutex.Unlock();
  asm volatile("");
}

__attribute__((noinline)) void LockAndGo(Mutex& mutex) {
  mutex.Lock();
  mutex.Unlock();
  asm volatile("");
}

TEST(MutexProfileTest, BlamesTheOneWhoHeldIt) {
  ForEachMaxProcs([] {
    EXPECT_EQ(SetMutexProfileFraction(1), 0);
    EXPECT_EQ(SetMutexProfileFraction(-1), 1);
    const Difference holder("mutex", "UnlockHere");
    const Difference all("mutex", "");
    Mutex mutex;
    WaitGroup done;
    mutex.Lock();
    done.Add(3);
    for (int i = 0; i < 3; ++i) {
      Go([&] {
        LockAndGo(mutex);
        done.Done();
      });
    }
    EXPECT_TRUE(Eventually([] { return Waiting("sync.Mutex.Lock") == 3; }));
    Sleep(kHeld);
    UnlockHere(mutex);
    done.Wait();
    SetMutexProfileFraction(0);
    // All three have waited for that one.
    EXPECT_EQ(holder.count(), 1);
    EXPECT_GE(holder.delay(), 3 * kHeld);
    // One was woken by it, and the others by those who had it then.
    EXPECT_GE(all.count(), 3);
  });
  const DecodedProfile profile = DecodeProfile(Write("mutex"));
  EXPECT_THAT(profile.sample_types, ElementsAre("contentions/count", "delay/nanoseconds"));
  const std::string top = GooglePprof(Write("mutex", ProfileFormat::kGperftools));
  if (!top.empty()) {
    EXPECT_THAT(top, HasSubstr("UnlockHere"));
    EXPECT_THAT(top, HasSubstr("seconds"));
  }
}

__attribute__((noinline)) void WriterUnlocks(RWMutex& mutex) ABSL_UNLOCK_FUNCTION(mutex) {
  mutex.Unlock();
  asm volatile("");
}

__attribute__((noinline)) void ReaderUnlocks(RWMutex& mutex) ABSL_UNLOCK_FUNCTION(mutex) {
  mutex.RUnlock();
  asm volatile("");
}

TEST(MutexProfileTest, BlamesWritersAndReaders) {
  ForEachMaxProcs([] {
    SetMutexProfileFraction(1);
    const Difference writer("mutex", "WriterUnlocks");
    const Difference reader("mutex", "ReaderUnlocks");
    RWMutex mutex;
    WaitGroup readers;
    WaitGroup done;
    mutex.Lock();
    readers.Add(2);
    for (int i = 0; i < 2; ++i) {
      Go([&] {
        {
          const ReaderLock lock(mutex);
        }
        readers.Done();
      });
    }
    EXPECT_TRUE(Eventually([] { return Waiting("sync.RWMutex.RLock") == 2; }));
    Sleep(kHeld);
    WriterUnlocks(mutex);
    // The last of the readers is blamed, which has to be the one below.
    readers.Wait();
    mutex.RLock();
    done.Add(1);
    Go([&] {
      const WriterLock lock(mutex);
      done.Done();
    });
    EXPECT_TRUE(Eventually([] { return Waiting("sync.RWMutex.Lock") == 1; }));
    Sleep(kHeld);
    ReaderUnlocks(mutex);
    done.Wait();
    SetMutexProfileFraction(0);
    EXPECT_EQ(writer.count(), 2);
    EXPECT_GE(writer.delay(), 2 * kHeld);
    EXPECT_EQ(reader.count(), 1);
    EXPECT_GE(reader.delay(), kHeld);
  });
}

__attribute__((noinline)) void StartSeveral(int count, WaitGroup& done) {
  done.Add(count);
  for (int i = 0; i < count; ++i) {
    Go([&done] { done.Done(); });
  }
}

TEST(SchedLatencyProfileTest, SaysWhoWaitedForItsTurn) {
  RunOnGoroutine([] {
    const int procs = SetMaxProcs(1);
    EXPECT_EQ(SetSchedLatencyProfileFraction(1), 0);
    const Difference started("schedlatency", "StartSeveral");
    const Difference received("schedlatency", "ReceiveHere");
    const Chan<int> c(0);
    WaitGroup done;
    done.Add(1);
    // The countdowns to the next look are from before the change.
    for (int i = 0; i < 1000; ++i) Yield();
    Go([&] {
      ReceiveHere(c);
      done.Done();
    });
    while (Waiting("chan receive") == 0) Yield();
    {
      // No monitor takes the P from within the runtime, so that all of them wait.
      const internal::RuntimeSection section;
      StartSeveral(10, done);
      c.Send(1);
      const Instant until = Instant::Now() + absl::Milliseconds(3);
      while (Instant::Now() < until) {
      }
    }
    done.Wait();
    SetSchedLatencyProfileFraction(0);
    EXPECT_EQ(started.count(), 10);
    EXPECT_GE(started.delay(), 10 * absl::Milliseconds(3));
    EXPECT_GE(received.count(), 1);
    EXPECT_GE(received.delay(), absl::Milliseconds(3));
    SetMaxProcs(procs);
  });
  EXPECT_THAT(DecodeProfile(Write("schedlatency")).sample_types,
              ElementsAre("turns/count", "delay/nanoseconds"));
}

TEST(ThreadCreateProfileTest, CountsThreadsWhereTheyWereMade) {
  RunOnGoroutine([] {
    const auto total = [] { return DecodeProfile(Write("threadcreate")).Sum(""); };
    const int64_t before = total();
    std::atomic<int> inside{0};
    std::atomic<bool> stop{false};
    WaitGroup done;
    constexpr int kBlocked = 12;
    done.Add(kBlocked);
    for (int i = 0; i < kBlocked; ++i) {
      Go([&] {
        const BlockingSection section(BlockingSection::Expect::kLong);
        inside.fetch_add(1);
        while (!stop.load()) absl::SleepFor(absl::Milliseconds(1));
        done.Done();
      });
    }
    // Each of them has a thread of its own now.
    EXPECT_TRUE(Eventually([&] { return inside.load() == kBlocked; }));
    stop.store(true);
    done.Wait();
    EXPECT_GE(total(), std::max<int64_t>(kBlocked, before));
    const DecodedProfile profile = DecodeProfile(Write("threadcreate"));
    EXPECT_THAT(profile.sample_types, ElementsAre("threadcreate/count"));
    EXPECT_GE(profile.Sum("BlockingSection"), 1);
  });
}

}  // namespace
}  // namespace weft::debug
