#include "netpoll/epoll_poller.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "netpoll/poll_desc.h"
#include "sched/clock.h"
#include "tests/rounds.h"

// The poller alone, driven by the test's own thread: no goroutines.
namespace weft::internal {
namespace {

class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe2(fds_, O_NONBLOCK | O_CLOEXEC), 0); }
  ~Pipe() {
    close(fds_[0]);
    CloseWriter();
  }
  Pipe(const Pipe&) = delete;

  int reader() const { return fds_[0]; }
  int writer() const { return fds_[1]; }
  void Fill() { EXPECT_EQ(write(fds_[1], "x", 1), 1); }
  void CloseWriter() {
    if (fds_[1] >= 0) close(fds_[1]);
    fds_[1] = -1;
  }

 private:
  int fds_[2];
};

// What the scheduler's idle M does: waits in Poll(), again and again.
class Driver {
 public:
  explicit Driver(EpollPoller& poller)
      : poller_(poller), thread_([this] {
          while (!stop_.load(std::memory_order_acquire)) {
            WakeBatch ready;
            poller_.Poll(Instant::Never(), ready);
            // Only threads wait here, and those are woken at once.
            EXPECT_TRUE(ready.empty());
          }
        }) {}
  ~Driver() {
    stop_.store(true, std::memory_order_release);
    poller_.Break();
    thread_.join();
  }

 private:
  EpollPoller& poller_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class Desc {
 public:
  Desc() : desc_(PollDesc::Get()) {}
  ~Desc() {
    desc_->Evict();
    desc_->Put();
  }
  Desc(const Desc&) = delete;
  PollDesc& operator*() { return *desc_; }
  PollDesc* operator->() { return desc_; }

 private:
  PollDesc* desc_;
};

TEST(EpollPollerTest, EventWakesAWaitingThread) {
  EpollPoller poller;
  Driver driver(poller);
  Pipe pipe;
  Desc desc;
  ASSERT_EQ(poller.Register(pipe.reader(), *desc), 0);
  for (int i = 0; i < testing::Rounds(1000); ++i) {
    std::thread filler([&] { pipe.Fill(); });
    EXPECT_EQ(desc->Wait(PollMode::kRead), PollResult::kReady);
    char c;
    EXPECT_EQ(read(pipe.reader(), &c, 1), 1);
    filler.join();
  }
  poller.Unregister(pipe.reader());
}

TEST(EpollPollerTest, WhatIsReadyAtRegistrationIsReported) {
  EpollPoller poller;
  Pipe pipe;
  pipe.Fill();
  Desc reader, writer;
  ASSERT_EQ(poller.Register(pipe.reader(), *reader), 0);
  ASSERT_EQ(poller.Register(pipe.writer(), *writer), 0);
  WakeBatch ready;
  poller.Poll(Instant(), ready);
  EXPECT_EQ(reader->Wait(PollMode::kRead), PollResult::kReady);
  EXPECT_EQ(writer->Wait(PollMode::kWrite), PollResult::kReady);
}

TEST(EpollPollerTest, HangUpIsRemembered) {
  EpollPoller poller;
  Pipe pipe;
  Desc desc;
  ASSERT_EQ(poller.Register(pipe.reader(), *desc), 0);
  pipe.Fill();
  WakeBatch ready;
  poller.Poll(Instant::Never(), ready);
  EXPECT_FALSE(desc->hung_up());
  pipe.CloseWriter();
  poller.Poll(Instant::Never(), ready);
  EXPECT_TRUE(desc->hung_up());
}

TEST(EpollPollerTest, UnregisteredDescriptorsAreSilent) {
  EpollPoller poller;
  Pipe pipe;
  Desc desc;
  ASSERT_EQ(poller.Register(pipe.reader(), *desc), 0);
  poller.Unregister(pipe.reader());
  pipe.Fill();
  WakeBatch ready;
  poller.Poll(Instant(), ready);
  desc->SetDeadline(kReadMode, Instant());
  EXPECT_EQ(desc->Wait(PollMode::kRead), PollResult::kTimeout);
}

TEST(EpollPollerTest, RegularFilesAreRefusedWithEperm) {
  EpollPoller poller;
  char name[] = "/tmp/epoll_poller_test_XXXXXX";
  const int file = mkstemp(name);
  ASSERT_GE(file, 0);
  unlink(name);
  Desc desc;
  EXPECT_EQ(poller.Register(file, *desc), EPERM);
  close(file);
}

TEST(EpollPollerTest, TheSecondRegistrationIsRefusedWithEexist) {
  EpollPoller poller;
  Pipe pipe;
  Desc a, b;
  EXPECT_EQ(poller.Register(pipe.reader(), *a), 0);
  EXPECT_EQ(poller.Register(pipe.reader(), *b), EEXIST);
}

TEST(EpollPollerTest, MoreEventsThanOneCallCollectsAllArrive) {
  constexpr int kPipes = 300;
  EpollPoller poller;
  std::vector<Pipe> pipes(kPipes);
  std::vector<Desc> descs(kPipes);
  for (int i = 0; i < kPipes; ++i) {
    ASSERT_EQ(poller.Register(pipes[i].reader(), *descs[i]), 0);
    pipes[i].Fill();
  }
  Driver driver(poller);
  for (Desc& desc : descs) EXPECT_EQ(desc->Wait(PollMode::kRead), PollResult::kReady);
}

class EpollPollerClockTest : public ::testing::TestWithParam<EpollPoller::Clock> {
 protected:
  EpollPoller poller_{GetParam()};
  WakeBatch ready_;
};

TEST_P(EpollPollerClockTest, WaitsUntilItsDeadlineAndNotMuchLonger) {
  for (const auto wait : {absl::Microseconds(200), absl::Milliseconds(3)}) {
    const Instant deadline = Instant::Now() + wait;
    poller_.Poll(deadline, ready_);
    const Instant now = Instant::Now();
    EXPECT_GE(now, deadline);
    EXPECT_LT(now, deadline + absl::Seconds(10));
  }
}

TEST_P(EpollPollerClockTest, ReturnsAtOnceWithNoDeadlineToWaitFor) {
  const Instant start = Instant::Now();
  for (int i = 0; i < 100; ++i) poller_.Poll(Instant(), ready_);
  poller_.Poll(start, ready_);
  EXPECT_LT(Instant::Now(), start + absl::Seconds(10));
}

// SC-21
TEST_P(EpollPollerClockTest, BreakEndsThePollThatWaits) {
  std::atomic<int> returned{0};
  std::thread waiting([&] {
    for (int i = 0; i < 100; ++i) {
      WakeBatch ready;
      poller_.Poll(i % 2 == 0 ? Instant::Never() : Instant::Now() + absl::Hours(1), ready);
      returned.fetch_add(1);
    }
  });
  while (returned.load() < 100) {
    poller_.Break();
    std::this_thread::yield();
  }
  waiting.join();
}

TEST_P(EpollPollerClockTest, BreakEndsTheNextPollThatWouldWaitAndOnlyThatOne) {
  for (int i = 0; i < 3; ++i) poller_.Break();
  poller_.Poll(Instant::Never(), ready_);
  const Instant deadline = Instant::Now() + absl::Milliseconds(5);
  poller_.Poll(deadline, ready_);
  EXPECT_GE(Instant::Now(), deadline);
}

TEST_P(EpollPollerClockTest, LookingLeavesABreakToWhoWaits) {
  poller_.Break();
  poller_.Poll(Instant(), ready_);
  poller_.Poll(Instant(), ready_);
  poller_.Poll(Instant::Never(), ready_);
}

INSTANTIATE_TEST_SUITE_P(Clocks, EpollPollerClockTest,
                         ::testing::Values(EpollPoller::Clock::kBest,
                                           EpollPoller::Clock::kMilliseconds));

}  // namespace
}  // namespace weft::internal
