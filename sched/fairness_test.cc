// Who does not wait does not starve who does: the cases of Go's tests that need channels.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/select.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::ForEachMaxProcs;
using testing::Rounds;
using testing::RunOnGoroutine;

// SC-02.
TEST(FairnessTest, AGoroutineThatPollsAndYieldsLetsASenderThrough) {
  ForEachMaxProcs([] {
    RunOnGoroutine([] {
      Chan<bool> asked(0);
      Chan<bool> answered(0);
      Go([=] {
        for (;;) {
          if (asked.TryRecv().result == TryResult::kDone) {
            answered.Send(true);
            return;
          }
          Yield();
        }
      });
      Sleep(absl::Milliseconds(10));
      asked.Send(true);
      EXPECT_TRUE(answered.Recv().has_value());
    });
  });
}

// SC-06: two that send without end to one that also waits for a timer.
TEST(FairnessTest, SendersDoNotStarveATimer) {
  ForEachMaxProcs([] {
    RunOnGoroutine([] {
      Chan<int> numbers(0);
      Chan<bool> stop(0);
      Chan<bool> ended(2);
      for (int i = 0; i < 2; ++i) {
        Go([=] {
          bool running = true;
          while (running) Select(numbers.OnSend(1), stop.OnRecv([&] { running = false; }));
          ended.Send(true);
        });
      }
      const Instant start = Instant::Now();
      Chan<bool> tick(1);
      Go([=] {
        Sleep(absl::Milliseconds(20));
        tick.Send(true);
      });
      bool ticked = false;
      while (!ticked) Select(numbers.OnRecv(), tick.OnRecv([&] { ticked = true; }));
      EXPECT_LT(Instant::Now() - start, absl::Seconds(10));
      stop.Close();
      ended.Recv();
      ended.Recv();
    });
  });
}

// SC-12: one P, two goroutines that make one short system call after the other, and a sleeper.
TEST(FairnessTest, ShortSystemCallsDoNotStarveTimers) {
  SetMaxProcs(1);
  RunOnGoroutine([] {
    std::atomic<bool> stop{false};
    Chan<bool> ended(2);
    for (int i = 0; i < 2; ++i) {
      Go([&stop, ended] {
        const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        while (!stop.load()) {
          BlockingSection section;
          if (write(null, "x", 1) != 1) break;
        }
        close(null);
        ended.Send(true);
      });
    }
    const Instant start = Instant::Now();
    Sleep(absl::Milliseconds(10));
    EXPECT_LT(Instant::Now() - start, absl::Seconds(10));
    stop.store(true);
    ended.Recv();
    ended.Recv();
  });
}

// A goroutine from a plain thread waits in the queue that all share; two that keep waking each
// other must not keep it there.
TEST(FairnessTest, PairsDoNotStarveTheGlobalQueue) {
  ForEachMaxProcs([] {
    std::atomic<bool> stop{false};
    std::atomic<int> left{2 * MaxProcs()};
    for (int i = 0; i < MaxProcs(); ++i) {
      Chan<int> a(0);
      Chan<int> b(0);
      Go([&, a, b] {
        while (!stop.load()) {
          a.Send(1);
          b.Recv();
        }
        a.Close();
        left.fetch_sub(1);
      });
      Go([&, a, b] {
        for (const int n : a) b.Send(n);
        left.fetch_sub(1);
      });
    }
    for (int i = 0; i < Rounds(50); ++i) {
      const Instant start = Instant::Now();
      RunOnGoroutine([] {});
      EXPECT_LT(Instant::Now() - start, absl::Seconds(10));
    }
    stop.store(true);
    EXPECT_TRUE(testing::Eventually([&] { return left.load() == 0; }));
  });
}

}  // namespace
}  // namespace weft
