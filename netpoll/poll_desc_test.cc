#include "netpoll/poll_desc.h"

#include <sys/epoll.h>

#include <atomic>
#include <thread>

#include "gtest/gtest.h"
#include "netpoll/test_util.h"
#include "sched/clock.h"
#include "sched/internal/delay.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

// The state machine, with events made up by the test in the poller's place.
namespace weft::internal {
namespace {

using ::weft::testing::Eventually;
using ::weft::testing::ForEachSetting;
using ::weft::testing::Rounds;
using ::weft::testing::TaskGroup;
using ::weft::testing::TaskKind;

constexpr PollMode kModes[] = {PollMode::kRead, PollMode::kWrite};

uint32_t FlagFor(PollMode mode) { return mode == PollMode::kRead ? EPOLLIN : EPOLLOUT; }
PollModes BitFor(PollMode mode) { return mode == PollMode::kRead ? kReadMode : kWriteMode; }

// What the poller and the scheduler do with an event.
void Deliver(uint64_t event_data, uint32_t flags) {
  WakeBatch ready;
  const int woken = PollDesc::Deliver(event_data, flags, ready);
  if (woken != 0) PollDesc::SubtractWaiting(woken);
  while (Waiter* waiter = ready.PopFront()) WaitOps().ready(waiter);
}

class PollDescTest : public ::testing::Test {
 protected:
  PollDescTest() : desc_(PollDesc::Get()) { EXPECT_EQ(PollDesc::waiting(), 0); }
  ~PollDescTest() override {
    desc_->Evict();
    desc_->Put();
    EXPECT_EQ(PollDesc::waiting(), 0);
  }

  // What Wait() finds without waiting.
  bool IsReady(PollMode mode) {
    desc_->SetDeadline(BitFor(mode), Instant());
    const bool ready = desc_->Wait(mode) == PollResult::kReady;
    desc_->SetDeadline(BitFor(mode), Instant::Never());
    return ready;
  }

  // A fresh record, for the next setting of a test that has closed this one.
  void Renew() {
    desc_->Put();
    desc_ = PollDesc::Get();
  }

  PollDesc* desc_;
};

TEST_F(PollDescTest, AnEventIsKeptForTheNextWaitOfItsDirection) {
  for (const PollMode mode : kModes) {
    const PollMode other = mode == PollMode::kRead ? PollMode::kWrite : PollMode::kRead;
    Deliver(desc_->event_data(), FlagFor(mode));
    EXPECT_FALSE(IsReady(other));
    EXPECT_TRUE(IsReady(mode));
    EXPECT_FALSE(IsReady(mode));
  }
}

TEST_F(PollDescTest, ResetForgetsAnEvent) {
  for (const PollMode mode : kModes) {
    Deliver(desc_->event_data(), FlagFor(mode));
    desc_->Reset(mode);
    EXPECT_FALSE(IsReady(mode));
  }
}

TEST_F(PollDescTest, ErrorsAndHangUpsMakeBothDirectionsReadyAndStay) {
  for (const uint32_t flag : {EPOLLERR, EPOLLHUP}) {
    Deliver(desc_->event_data(), flag);
    EXPECT_TRUE(desc_->hung_up());
    EXPECT_TRUE(IsReady(PollMode::kRead));
    EXPECT_TRUE(IsReady(PollMode::kWrite));
    EXPECT_TRUE(desc_->hung_up());
    desc_->Evict();
    Renew();
    EXPECT_FALSE(desc_->hung_up());
  }
}

TEST_F(PollDescTest, EventsOfAnEarlierUseAreIgnored) {
  const uint64_t old = desc_->event_data();
  desc_->Evict();
  PollDesc* const before = desc_;
  Renew();
  ASSERT_EQ(desc_, before) << "the pool hands out what came back last";
  EXPECT_NE(desc_->event_data(), old);
  Deliver(old, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
  EXPECT_FALSE(desc_->hung_up());
  for (const PollMode mode : kModes) EXPECT_FALSE(IsReady(mode));
}

TEST_F(PollDescTest, EventWakesWhoWaits) {
  ForEachSetting([this](TaskKind kind) {
    for (const PollMode mode : kModes) {
      std::atomic<bool> woken{false};
      TaskGroup group(kind);
      group.Go([&] {
        EXPECT_EQ(desc_->Wait(mode), PollResult::kReady);
        woken.store(true);
      });
      EXPECT_TRUE(Eventually([] { return PollDesc::waiting() == 1; }));
      EXPECT_FALSE(woken.load());
      Deliver(desc_->event_data(), FlagFor(mode));
      group.Wait();
      EXPECT_EQ(PollDesc::waiting(), 0);
    }
  });
}

TEST_F(PollDescTest, PastDeadlineFailsAtOnceUntilItIsMoved) {
  for (const PollMode mode : kModes) {
    const PollMode other = mode == PollMode::kRead ? PollMode::kWrite : PollMode::kRead;
    desc_->SetDeadline(BitFor(mode), Instant());
    EXPECT_EQ(desc_->Check(mode), PollResult::kTimeout);
    EXPECT_EQ(desc_->Check(other), PollResult::kReady);
    EXPECT_EQ(desc_->Wait(mode), PollResult::kTimeout);
    desc_->SetDeadline(BitFor(mode), Instant::Now() + absl::Hours(1));
    EXPECT_EQ(desc_->Check(mode), PollResult::kReady);
    desc_->SetDeadline(kBothModes, Instant::Never());
  }
}

TEST_F(PollDescTest, DeadlineEndsAWaitNotBeforeItsTime) {
  ForEachSetting([this](TaskKind) {
    for (const PollMode mode : kModes) {
      const Instant deadline = Instant::Now() + absl::Milliseconds(2);
      desc_->SetDeadline(BitFor(mode), deadline);
      EXPECT_EQ(desc_->Wait(mode), PollResult::kTimeout);
      EXPECT_GE(Instant::Now(), deadline);
      desc_->SetDeadline(kBothModes, Instant::Never());
    }
  });
}

TEST_F(PollDescTest, DeadlinesOfBothDirectionsShareATimerWithoutLoss) {
  ForEachSetting([this](TaskKind kind) {
    for (int first = 0; first < 2; ++first) {
      const Instant now = Instant::Now();
      const Instant deadlines[] = {now + absl::Milliseconds(first == 0 ? 1 : 4),
                                   now + absl::Milliseconds(first == 0 ? 4 : 1)};
      for (const PollMode mode : kModes) {
        desc_->SetDeadline(BitFor(mode), deadlines[static_cast<int>(mode)]);
      }
      TaskGroup group(kind);
      for (const PollMode mode : kModes) {
        group.Go([&, mode] {
          EXPECT_EQ(desc_->Wait(mode), PollResult::kTimeout);
          EXPECT_GE(Instant::Now(), deadlines[static_cast<int>(mode)]);
        });
      }
      group.Wait();
      desc_->SetDeadline(kBothModes, Instant::Never());
    }
  });
}

TEST_F(PollDescTest, MovingTheDeadlineMovesAWaitThatIsUnderWay) {
  ForEachSetting([this](TaskKind kind) {
    const Instant first = Instant::Now() + absl::Milliseconds(20);
    desc_->SetDeadline(kReadMode, first);
    std::atomic<bool> ended{false};
    TaskGroup group(kind);
    group.Go([&] {
      EXPECT_EQ(desc_->Wait(PollMode::kRead), PollResult::kTimeout);
      ended.store(true);
    });
    EXPECT_TRUE(Eventually([&] { return PollDesc::waiting() == 1 || ended.load(); }));
    // Later: the timer, which stays where it was, must not end the wait.
    desc_->SetDeadline(kReadMode, Instant::Now() + absl::Hours(1));
    // On a machine that was too slow the first deadline has passed, and there is nothing to see.
    if (Instant::Now() < first) {
      Sleep(absl::Milliseconds(25));
      EXPECT_FALSE(ended.load());
    }
    // Earlier.
    desc_->SetDeadline(kReadMode, Instant::Now() + absl::Milliseconds(1));
    group.Wait();
    desc_->SetDeadline(kReadMode, Instant::Never());
  });
}

TEST_F(PollDescTest, EvictEndsBothWaitsAndForbidsMore) {
  ForEachSetting([this](TaskKind kind) {
    TaskGroup group(kind);
    for (const PollMode mode : kModes) {
      group.Go([this, mode] { EXPECT_EQ(desc_->Wait(mode), PollResult::kClosing); });
    }
    EXPECT_TRUE(Eventually([] { return PollDesc::waiting() == 2; }));
    desc_->Evict();
    group.Wait();
    EXPECT_EQ(PollDesc::waiting(), 0);
    for (const PollMode mode : kModes) {
      EXPECT_EQ(desc_->Check(mode), PollResult::kClosing);
      EXPECT_EQ(desc_->Wait(mode), PollResult::kClosing);
      desc_->SetDeadline(BitFor(mode), Instant());
      EXPECT_EQ(desc_->Check(mode), PollResult::kClosing);
    }
    Renew();
    EXPECT_EQ(desc_->Check(PollMode::kRead), PollResult::kReady);
  });
}

// With the threads held up at random between the steps of the protocol.
class PollDescRaceTest : public PollDescTest {
 protected:
  PollDescRaceTest() { EnableRandomDelays(::testing::UnitTest::GetInstance()->random_seed() + 1); }
  ~PollDescRaceTest() override { SetDelayHook(nullptr); }
};

// The consumer follows the rule "reset, look, wait if there was nothing". If an event could be lost
// it would stop for ever with work in front of it.
TEST_F(PollDescRaceTest, NoEventIsLost) {
  const int count = Rounds(2000);
  ForEachSetting([this, count](TaskKind kind) {
    std::atomic<int> items[2] = {0, 0};
    TaskGroup group(kind);
    for (const PollMode mode : kModes) {
      std::atomic<int>& available = items[static_cast<int>(mode)];
      group.Go([this, mode, count, &available] {
        for (int taken = 0; taken < count;) {
          desc_->Reset(mode);
          const int n = available.exchange(0);
          taken += n;
          if (n == 0) {
            EXPECT_EQ(desc_->Wait(mode), PollResult::kReady);
          }
        }
      });
    }
    std::thread poller([&] {
      for (int i = 0; i < count; ++i) {
        for (auto& available : items) available.fetch_add(1);
        Deliver(desc_->event_data(), EPOLLIN | EPOLLOUT);
      }
    });
    group.Wait();
    poller.join();
    EXPECT_EQ(PollDesc::waiting(), 0);
    for (const PollMode mode : kModes) desc_->Reset(mode);
  });
}

// Deadlines jump about, in the past, a moment ahead and away, while the consumer waits. No wait may
// outlast a deadline that stays, and no time-out may be reported that was never set.
TEST_F(PollDescRaceTest, DeadlinesThatMoveConstantlyEndEveryWait) {
  ForEachSetting([this](TaskKind kind) {
    std::atomic<bool> stop{false};
    std::atomic<int> timeouts{0};
    TaskGroup group(kind);
    for (const PollMode mode : kModes) {
      group.Go([&, mode] {
        do {
          desc_->Reset(mode);
          if (desc_->Wait(mode) == PollResult::kTimeout) {
            timeouts.fetch_add(1);
            Yield();
          }
        } while (!stop.load());
      });
    }
    // On a busy machine, until those who wait have come to it.
    const int rounds = Rounds(500, 100);
    for (int i = 0; i < rounds || (timeouts.load() == 0 && i < 1'000'000); ++i) {
      const Instant now = Instant::Now();
      const Instant choices[] = {Instant(), now + absl::Microseconds(2),
                                 now + absl::Microseconds(100), now + absl::Hours(1),
                                 Instant::Never()};
      desc_->SetDeadline(static_cast<PollModes>(1 + i % 3), choices[i % 5]);
      if (i % 7 == 0) Deliver(desc_->event_data(), EPOLLIN | EPOLLOUT);
      Yield();
    }
    stop.store(true);
    desc_->SetDeadline(kBothModes, Instant::Now() + absl::Milliseconds(1));
    group.Wait();
    EXPECT_GT(timeouts.load(), 0);
    desc_->SetDeadline(kBothModes, Instant::Never());
  });
}

// Records change hands while events and timers of their earlier uses are still on their way.
TEST_F(PollDescRaceTest, EvictAgainstEventsAndTimersLeavesRecordsReusable) {
  ForEachSetting([](TaskKind kind) {
    for (int round = 0; round < Rounds(100, 20); ++round) {
      PollDesc* const desc = PollDesc::Get();
      const uint64_t data = desc->event_data();
      TaskGroup group(kind);
      for (const PollMode mode : kModes) {
        group.Go([=] {
          while (desc->Wait(mode) != PollResult::kClosing) {
          }
        });
      }
      group.Go([=] {
        for (int i = 0; i < 10; ++i) Deliver(data, EPOLLIN | EPOLLOUT);
      });
      desc->SetDeadline(kBothModes, Instant::Now() + absl::Microseconds(round));
      if (round % 2 == 0) desc->SetDeadline(kBothModes, Instant::Never());
      desc->Evict();
      group.Wait();
      desc->Put();
      EXPECT_EQ(PollDesc::waiting(), 0);
    }
  });
}

}  // namespace
}  // namespace weft::internal
