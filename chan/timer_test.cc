// Timers and tickers with channels, and AfterFunc. What of Go's tests concerns them: TM-02 to
// TM-23.
#include "chan/timer.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/select.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/sync/testing.h"
#include "sched/sync/wait_group.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Eventually;
using testing::Rounds;
using testing::Shortened;
using testing::Tasks;

class TimerTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, TimerTest, testing::Worlds(), testing::WorldName);

constexpr absl::Duration kLongest = absl::Nanoseconds(std::numeric_limits<int64_t>::max());
constexpr absl::Duration kShortest = absl::Nanoseconds(std::numeric_limits<int64_t>::min());

TEST_P(TimerTest, TM02_AFunctionMaySetItsTimerAgainAndSleep) {
  Run([] {
    struct Chain {
      Chan<bool> done{1};
      std::atomic<int> links{0};
      WaitGroup sleepers;
      Timer timer;
    };
    Chain chain;
    constexpr int kLinks = 10;
    const absl::Duration sleep = absl::Milliseconds(Rounds(1000, 100));
    chain.sleepers.Add(kLinks);
    const Instant start = Instant::Now();
    Chan<bool> is_set(0);
    chain.timer = AfterFunc(absl::ZeroDuration(), [&, is_set] {
      is_set.Recv();  // closed once `chain.timer` is there
      if (chain.links.fetch_add(1) + 1 < kLinks) {
        chain.timer.Reset(absl::ZeroDuration());
      } else {
        chain.done.Send(true);
      }
      Sleep(sleep);
      chain.sleepers.Done();
    });
    is_set.Close();
    chain.done.Recv();
    EXPECT_LT(Instant::Now() - start, kLinks * sleep) << "they wait for each other";
    chain.sleepers.Wait();
  });
}

TEST_P(TimerTest, TM04_FiresInTimeAndSendsTheTime) {
  Run([] {
    const absl::Duration wait = absl::Milliseconds(Rounds(100, 10));
    const absl::Time start = absl::Now();
    const Instant started = Instant::Now();
    const std::optional<absl::Time> sent = AfterChan(wait).Recv();
    EXPECT_GE(Instant::Now() - started, wait);
    // The two clocks may differ a little.
    EXPECT_GE(*sent, start + wait - absl::Milliseconds(1));
    EXPECT_LE(*sent, absl::Now());

    const Instant ten = Instant::Now();
    for (int i = 0; i < 10; ++i) Timer(wait).C().Recv();
    EXPECT_GE(Instant::Now() - ten, 10 * wait);
  });
}

TEST_P(TimerTest, TM05_StoppedTimersDoNotFire) {
  Run([] {
    std::atomic<int> calls{0};
    const Timer channel(absl::Milliseconds(50));
    const Timer function = AfterFunc(absl::Milliseconds(50), [&] { ++calls; });
    EXPECT_TRUE(channel.Stop());
    EXPECT_TRUE(function.Stop());
    EXPECT_FALSE(channel.Stop());
    EXPECT_FALSE(function.Stop());
    Timer(absl::Milliseconds(80)).C().Recv();
    EXPECT_EQ(channel.C().TryRecv().result, TryResult::kWouldBlock);
    EXPECT_EQ(calls, 0);
    // And one that has fired.
    const Timer fired(absl::ZeroDuration());
    fired.C().Recv();
    EXPECT_FALSE(fired.Stop());
  });
}

// What makes Go 1.23's timers different: nothing has to be drained.
TEST_P(TimerTest, NoStaleValueAfterStopOrReset) {
  Run([] {
    const Timer timer(absl::ZeroDuration());
    const Timer other(absl::ZeroDuration());
    other.C().Recv();
    // It is due, and has sent its value perhaps.
    Timer(absl::Milliseconds(5)).C().Recv();
    EXPECT_EQ(timer.C().len(), 0);
    EXPECT_EQ(timer.C().cap(), 0);
    EXPECT_TRUE(timer.Stop()) << "nobody has received it";
    EXPECT_EQ(timer.C().TryRecv().result, TryResult::kWouldBlock);
    EXPECT_FALSE(timer.Stop());
    EXPECT_FALSE(timer.Reset(absl::ZeroDuration()));
    Timer(absl::Milliseconds(5)).C().Recv();
    const Instant start = Instant::Now();
    EXPECT_TRUE(timer.Reset(absl::Milliseconds(30)));
    timer.C().Recv();
    EXPECT_GE(Instant::Now() - start, absl::Milliseconds(30)) << "a value of the time before";
  });
}

TEST_P(TimerTest, NoStaleValueWhileItFires) {
  Run([] {
    std::minstd_rand random(1);
    const Timer timer(absl::Hours(1));
    for (int i = 0; i < Rounds(2000, 150); ++i) {
      timer.Reset(absl::Microseconds(random() % 40));
      for (unsigned n = random() % 60; n > 0; --n) Yield();
      if (i % 2 == 0) {
        timer.Stop();
        EXPECT_EQ(timer.C().TryRecv().result, TryResult::kWouldBlock) << i;
      } else {
        timer.Reset(absl::Hours(1));
        EXPECT_EQ(timer.C().TryRecv().result, TryResult::kWouldBlock) << i;
        EXPECT_TRUE(timer.Stop());
      }
    }
  });
}

TEST_P(TimerTest, TM07_StoppedFunctionsAreNotCalled) {
  Run([] {
    std::atomic<int> calls{0};
    std::atomic<int> too_late{0};
    Tasks tasks;
    const absl::Duration wait = Shortened(absl::Seconds(2));
    for (int i = 0; i < 100; ++i) {
      tasks.Go([&] {
        const Instant start = Instant::Now();
        const Timer timer = AfterFunc(wait, [&] { ++calls; });
        Sleep(wait / 2);
        if (timer.Stop()) return;
        // A busy machine has let it sleep for so long.
        ++too_late;
        EXPECT_GE(Instant::Now() - start, wait);
      });
    }
    tasks.Wait();
    Sleep(wait);
    EXPECT_TRUE(Eventually([&] { return calls == too_late; }));
  });
}

TEST_P(TimerTest, TM10_LongestAndShortestWaits) {
  Run([] {
    const Timer longest(kLongest);
    const RecvChan<absl::Time> infinite = AfterChan(absl::InfiniteDuration());
    EXPECT_EQ(
        Select(longest.C().OnRecv(), infinite.OnRecv(), AfterChan(absl::Milliseconds(25)).OnRecv()),
        2);
    EXPECT_TRUE(AfterChan(kShortest).Recv().has_value());
    EXPECT_TRUE(AfterChan(-absl::InfiniteDuration()).Recv().has_value());
  });
}

TEST(TimerDeathTest, TM11_NobodysTimersCannotBeStoppedOrReset) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const ::testing::ExitedWithCode fatal(2);
  EXPECT_EXIT(Timer().Stop(), fatal, "panic: time: Stop called on uninitialized Timer");
  EXPECT_EXIT(Timer().Reset(absl::Seconds(1)), fatal,
              "panic: time: Reset called on uninitialized Timer");
}

TEST_P(TimerTest, TM13_MovingEarlierIsNeverLost) {
  Run([] {
    std::vector<Timer> timers;
    for (int i = 0; i < Rounds(1000, 50); ++i) {
      const Timer timer(absl::Hours(1));
      for (int n = 0; n < 10; ++n) {
        timer.Stop();
        timer.Reset(-absl::Hours(24));
      }
      timers.push_back(timer);
      EXPECT_EQ(Select(timer.C().OnRecv(), AfterChan(absl::Seconds(8)).OnRecv()), 0);
    }
  });
}

TEST_P(TimerTest, TM14_ResetAndStopTellWhatWasPending) {
  Run([] {
    std::minstd_rand random(7);
    struct Subject {
      Timer timer;
      int step = 0;
    };
    std::vector<Subject> subjects(static_cast<size_t>(Rounds(100)));
    const auto advance = [](Subject& s) {
      switch (s.step++) {
        case 0:
          s.timer = Timer(absl::ZeroDuration());
          break;
        case 1:
          s.timer.C().Recv();
          break;
        case 2:
          EXPECT_FALSE(s.timer.Reset(absl::Minutes(1)));
          break;
        case 3:
        case 5:
        case 7:
          EXPECT_TRUE(s.timer.Stop());
          break;
        case 4:
          EXPECT_FALSE(s.timer.Reset(absl::Minutes(3)));
          break;
        case 6:
          EXPECT_FALSE(s.timer.Reset(absl::Minutes(2)));
          break;
        case 8:
          EXPECT_FALSE(s.timer.Reset(absl::ZeroDuration()));
          break;
        default:
          EXPECT_EQ(Select(s.timer.C().OnRecv(), After(absl::Seconds(30))), 0);
          return false;
      }
      return true;
    };
    while (!subjects.empty()) {
      const size_t i = random() % subjects.size();
      if (advance(subjects[i])) continue;
      subjects[i] = subjects.back();
      subjects.pop_back();
    }
  });
}

TEST_P(TimerTest, TM16_TickersComeAndGo) {
  Run([] {
    for (int i = 0; i < 3; ++i) {
      const Ticker ticker(absl::Milliseconds(2));
      EXPECT_TRUE(ticker.C().Recv().has_value());
      ticker.Stop();
    }
    const Ticker nobodys;
    nobodys.Stop();
    EXPECT_TRUE(nobodys.C().is_nil());
  });
}

TEST(TimerDeathTest, TM17_PeriodsArePositive) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_TRUE(Tick(-absl::Seconds(1)).is_nil());
  EXPECT_TRUE(Tick(absl::ZeroDuration()).is_nil());
  const ::testing::ExitedWithCode fatal(2);
  EXPECT_EXIT(Ticker(-absl::Nanoseconds(1)), fatal, "panic: non-positive interval for NewTicker");
  EXPECT_EXIT(Ticker(absl::Seconds(1)).Reset(absl::ZeroDuration()), fatal,
              "panic: non-positive interval for Ticker.Reset");
  EXPECT_EXIT(Ticker().Reset(absl::Seconds(1)), fatal,
              "panic: time: Reset called on uninitialized Ticker");
}

TEST_P(TimerTest, TickerKeepsItsPaceAndDropsWhatIsNotReceived) {
  Run([] {
    const absl::Duration period = absl::Milliseconds(Rounds(10, 5));
    const Instant start = Instant::Now();
    const Ticker ticker(period);
    int ticks = 0;
    for (absl::Time t : ticker.C()) {
      EXPECT_GT(t, absl::UnixEpoch());
      if (++ticks == 10) break;
    }
    EXPECT_GE(Instant::Now() - start, 10 * period);
    // Not received for long: one is there at most.
    Sleep(5 * period);
    ticker.Stop();
    EXPECT_EQ(ticker.C().TryRecv().result, TryResult::kWouldBlock);
    ticker.Reset(period);
    const Instant again = Instant::Now();
    ticker.C().Recv();
    EXPECT_GE(Instant::Now() - again, period - absl::Milliseconds(1));
  });
}

TEST_P(TimerTest, TM19_ReceiversThatWaitSeeResetsAndStops) {
  Run([] {
    const Timer timer(absl::Hours(1));
    const Chan<bool> stop(0);
    std::atomic<int> received{0};
    std::atomic<int> ended{0};
    Tasks tasks;
    for (int i = 0; i < 2; ++i) {
      tasks.Go([&] {
        bool more = true;
        while (more) {
          Select(timer.C().OnRecv([&] { ++received; }), stop.OnRecv([&] { more = false; }));
        }
        ++ended;
      });
    }
    for (int round = 1; round <= Rounds(50); ++round) {
      timer.Reset(absl::Hours(1));
      for (int n = 0; n < 10; ++n) Yield();
      EXPECT_EQ(received, round - 1);
      timer.Reset(absl::Nanoseconds(1));
      EXPECT_TRUE(Eventually([&] { return received == round; }));
      timer.Stop();
      for (int n = 0; n < 10; ++n) Yield();
      EXPECT_EQ(received, round) << "one wakes one";
      EXPECT_EQ(ended, 0);
    }
    stop.Close();
    tasks.Wait();
    EXPECT_EQ(ended, 2);
  });
}

// A function that says when it is destroyed.
struct Tracker {
  explicit Tracker(std::atomic<int>& n) : alive(std::make_shared<Counted>(n)) {}
  void operator()() const {}
  struct Counted {
    explicit Counted(std::atomic<int>& n) : count(n) { ++count; }
    ~Counted() { --count; }
    std::atomic<int>& count;
  };
  std::shared_ptr<Counted> alive;
};

TEST_P(TimerTest, TM20_AbandonedTimersAreFreed) {
  // That their memory is freed is for the leak checker to say; that they left the heap, for the
  // next test, which would take for ever otherwise.
  Run([] {
    for (int i = 0; i < Rounds(10'000, 500); ++i) {
      AfterChan(absl::Hours(1));
      Tick(absl::Hours(1));
      const Timer timer(absl::Hours(1));
      const Ticker ticker(absl::Microseconds(1));
    }
    std::atomic<int> alive{0};
    for (int i = 0; i < 100; ++i) {
      const Timer stopped = AfterFunc(absl::Hours(1), Tracker(alive));
      EXPECT_EQ(alive, 1);
      EXPECT_TRUE(stopped.Stop());
    }
    EXPECT_EQ(alive, 0) << "a function outlives its timer";
    // One that has not been stopped is called, and then is gone.
    AfterFunc(absl::Milliseconds(1), Tracker(alive));
    EXPECT_TRUE(Eventually([&] { return alive == 0; }));
  });
}

TEST_P(TimerTest, TM22_AbandonedTimersCostTheOthersLittle) {
  Run([] {
    const Chan<int> work(0);
    const int batches = Rounds(2000, 50);
    constexpr int kItems = 20;
    const Instant start = Instant::Now();
    const Timer watchdog = AfterFunc(absl::Minutes(1), [] { ADD_FAILURE() << "too slow"; });
    Tasks tasks;
    tasks.Go([&] {
      for (int i = 0; i < batches * kItems; ++i) work.Send(i);
      work.Close();
    });
    int read = 0;
    bool more = true;
    while (more) {
      Select(work.OnRecv([&](std::optional<int> item) {
        more = item.has_value();
        read += more ? 1 : 0;
      }),
             AfterChan(absl::Seconds(30)).OnRecv([&] {
               ADD_FAILURE() << "failed to read work";
               more = false;
             }));
    }
    tasks.Wait();
    EXPECT_EQ(read, batches * kItems);
    EXPECT_TRUE(watchdog.Stop());
    EXPECT_LT(Instant::Now() - start, absl::Minutes(1));
  });
}

TEST_P(TimerTest, FunctionsThatAreResetRunAgain) {
  Run([] {
    std::atomic<int> calls{0};
    const Timer timer = AfterFunc(absl::Hours(1), [&] { ++calls; });
    EXPECT_TRUE(timer.C().is_nil());
    for (int i = 1; i <= 5; ++i) {
      EXPECT_EQ(timer.Reset(absl::Microseconds(100)), i == 1);
      EXPECT_TRUE(Eventually([&] { return calls == i; }));
    }
    EXPECT_FALSE(timer.Stop());
  });
}

TEST_P(TimerTest, ManyStopAndResetAtOnce) {
  Run([] {
    const Timer timer(absl::Microseconds(10));
    const auto counted = std::make_shared<std::atomic<int>>(0);
    const Timer function = AfterFunc(absl::Microseconds(10), [counted] { ++*counted; });
    std::atomic<bool> stop{false};
    Tasks tasks;
    for (int t = 0; t < 3; ++t) {
      tasks.Go([&, t] {
        std::minstd_rand random(static_cast<unsigned>(t) + 1);
        for (int i = 0; i < Rounds(500); ++i) {
          const absl::Duration wait = absl::Microseconds(random() % 50);
          if (random() % 4 == 0) {
            timer.Stop();
            function.Stop();
          } else {
            timer.Reset(wait);
            function.Reset(wait);
          }
          if (random() % 8 == 0) Yield();
        }
      });
    }
    tasks.Go([&] {
      while (!stop) {
        timer.C().TryRecv();
        Yield();
      }
    });
    Sleep(absl::Milliseconds(5));
    stop = true;
    tasks.Wait();
    function.Stop();
    timer.Reset(absl::ZeroDuration());
    EXPECT_TRUE(timer.C().Recv().has_value());
  });
}

}  // namespace
}  // namespace weft
