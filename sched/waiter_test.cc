// What waiter.h promises, with the scheduler linked: from threads, from goroutines, and across.
// That the target works without one is what waiter_thread_test is for.
#include "sched/waiter.h"

#include <atomic>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::Eventually;
using testing::ForEachMaxProcs;
using testing::Rounds;
using testing::RunOnGoroutine;
using testing::RunOnThread;

// Runs `body` as a thread, then as a goroutine over several numbers of Ps.
void OnEachKind(absl::FunctionRef<void()> body) {
  RunOnThread(body);
  ForEachMaxProcs([&] { RunOnGoroutine(body); });
}

// Starts `fn` as the other kind of waiter, or the same.
void StartAs(Waiter::Kind kind, absl::AnyInvocable<void()> fn) {
  if (kind == Waiter::Kind::kGoroutine) {
    Go(std::move(fn));
  } else {
    std::thread(std::move(fn)).detach();
  }
}

TEST(WaiterTest, CurrentIsStableAndOfTheRightKind) {
  Waiter* thread = Waiter::Current();
  EXPECT_EQ(thread->kind(), Waiter::Kind::kThread);
  EXPECT_EQ(Waiter::Current(), thread);
  ForEachMaxProcs([&] {
    RunOnGoroutine([&] {
      Waiter* self = Waiter::Current();
      EXPECT_EQ(self->kind(), Waiter::Kind::kGoroutine);
      EXPECT_NE(self, thread);
      for (int i = 0; i < 100; ++i) {
        Yield();
        ASSERT_EQ(Waiter::Current(), self);
      }
    });
  });
  RunOnThread([&] { EXPECT_NE(Waiter::Current(), thread); });
}

TEST(WaiterTest, UnparkBeforeParkIsKept) {
  OnEachKind([] {
    Waiter* self = Waiter::Current();
    self->Unpark();
    self->Park(WaitReason::kSelect);
  });
}

TEST(WaiterTest, TwoUnparksAreOne) {
  OnEachKind([] {
    Waiter* self = Waiter::Current();
    self->Unpark();
    self->Unpark();
    EXPECT_TRUE(self->ParkUntil(Instant::Never(), WaitReason::kSelect));
    EXPECT_FALSE(self->ParkUntil(Instant::Now() + absl::Milliseconds(5), WaitReason::kSelect));
  });
}

TEST(WaiterTest, AParkPastItsDeadlineTakesATokenThatIsThere) {
  OnEachKind([] {
    Waiter* self = Waiter::Current();
    EXPECT_FALSE(self->ParkUntil(Instant(), WaitReason::kSelect));
    self->Unpark();
    EXPECT_TRUE(self->ParkUntil(Instant(), WaitReason::kSelect));
    EXPECT_FALSE(self->ParkUntil(Instant(), WaitReason::kSelect));
  });
}

TEST(WaiterTest, DeadlineIsNotEarly) {
  OnEachKind([] {
    Waiter* self = Waiter::Current();
    for (const absl::Duration wait : {absl::Nanoseconds(1), absl::Microseconds(1),
                                      absl::Microseconds(70), absl::Milliseconds(3)}) {
      const Instant deadline = Instant::Now() + wait;
      // A wake-up for no reason would say true.
      while (self->ParkUntil(deadline, WaitReason::kSelect)) {
      }
      EXPECT_GE(Instant::Now(), deadline);
    }
  });
}

TEST(WaiterTest, UnparkEndsAWaitLongBeforeItsDeadline) {
  for (const Waiter::Kind waker : {Waiter::Kind::kThread, Waiter::Kind::kGoroutine}) {
    OnEachKind([waker] {
      Waiter* self = Waiter::Current();
      auto done = std::make_shared<std::atomic<bool>>(false);
      StartAs(waker, [self, done] {
        Sleep(absl::Milliseconds(2));
        done->store(true, std::memory_order_release);
        self->Unpark();
      });
      const Instant start = Instant::Now();
      while (!done->load(std::memory_order_acquire)) {
        self->ParkUntil(start + absl::Hours(1), WaitReason::kSelect);
      }
      EXPECT_LT(Instant::Now() - start, absl::Seconds(30));
    });
  }
}

TEST(WaiterTest, UnparkingOneThatHasEndedIsHarmless) {
  std::vector<Waiter*> ended;
  for (int i = 0; i < 50; ++i) {
    RunOnThread([&] { ended.push_back(Waiter::Current()); });
    RunOnGoroutine([&] { ended.push_back(Waiter::Current()); });
  }
  for (Waiter* waiter : ended) waiter->Unpark();
  // Their successors meet a token that is not theirs, and wait properly all the same.
  for (int i = 0; i < 50; ++i) {
    auto wait = [] {
      const Instant deadline = Instant::Now() + absl::Microseconds(100);
      while (Waiter::Current()->ParkUntil(deadline, WaitReason::kSelect)) {
      }
      EXPECT_GE(Instant::Now(), deadline);
    };
    RunOnThread(wait);
    RunOnGoroutine(wait);
  }
}

TEST(WaiterTest, ScratchIsAlignedAndKept) {
  OnEachKind([] {
    Waiter* self = Waiter::Current();
    for (const size_t bytes : {size_t{1}, Waiter::kScratchBytes, Waiter::kScratchBytes + 1,
                               size_t{5'000}, size_t{100}}) {
      auto* scratch = static_cast<unsigned char*>(self->Scratch(bytes));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(scratch) % 16, 0u);
      for (size_t i = 0; i < bytes; ++i) scratch[i] = static_cast<unsigned char>(i * 7);
      self->ParkUntil(Instant::Now() + absl::Microseconds(50), WaitReason::kSelect);
      for (size_t i = 0; i < bytes; ++i) {
        ASSERT_EQ(scratch[i], static_cast<unsigned char>(i * 7));
      }
    }
    EXPECT_EQ(self->Scratch(4'000), self->Scratch(5'000)) << "an earlier call asked for as much";
  });
}

TEST(WaiterTest, BatchKeepsOrderAndReadiesThreadsAtOnce) {
  SetMaxProcs(2);
  RunOnGoroutine([] {
    // Three that wait, one after the other.
    std::vector<Waiter*> waiting;
    std::atomic<int> woken{0};
    std::atomic<int> ready{0};
    for (int i = 0; i < 3; ++i) {
      Go([&] {
        waiting.push_back(Waiter::Current());
        ready.fetch_add(1);
        Waiter::Current()->Park(WaitReason::kSelect);
        woken.fetch_add(1);
      });
      ASSERT_TRUE(Eventually([&] { return ready.load() == i + 1; }));
    }
    std::atomic<bool> thread_woken{false};
    std::atomic<Waiter*> thread_waiter{nullptr};
    std::thread thread([&] {
      thread_waiter.store(Waiter::Current());
      Waiter::Current()->Park(WaitReason::kSelect);
      thread_woken.store(true);
    });
    ASSERT_TRUE(Eventually([&] { return thread_waiter.load() != nullptr; }));
    WakeBatch batch;
    thread_waiter.load()->UnparkInto(batch);
    EXPECT_TRUE(batch.empty());
    ASSERT_TRUE(Eventually([&] { return thread_woken.load(); }));
    thread.join();
    // Unpark() gets along with batches that others build.
    for (Waiter* waiter : waiting) waiter->Unpark();
    EXPECT_TRUE(Eventually([&] { return woken.load() == 3; }));
  });
  SetMaxProcs(1);
}

TEST(WaiterTest, ReasonsHaveGosNames) {
  EXPECT_STREQ(WaitReasonName(WaitReason::kNone), "");
  EXPECT_STREQ(WaitReasonName(WaitReason::kIoWait), "IO wait");
  EXPECT_STREQ(WaitReasonName(WaitReason::kChanReceiveNilChan), "chan receive (nil chan)");
  EXPECT_STREQ(WaitReasonName(WaitReason::kChanSendNilChan), "chan send (nil chan)");
  EXPECT_STREQ(WaitReasonName(WaitReason::kSelect), "select");
  EXPECT_STREQ(WaitReasonName(WaitReason::kSelectNoCases), "select (no cases)");
  EXPECT_STREQ(WaitReasonName(WaitReason::kChanReceive), "chan receive");
  EXPECT_STREQ(WaitReasonName(WaitReason::kChanSend), "chan send");
  EXPECT_STREQ(WaitReasonName(WaitReason::kSemacquire), "semacquire");
  EXPECT_STREQ(WaitReasonName(WaitReason::kSleep), "sleep");
  EXPECT_STREQ(WaitReasonName(WaitReason::kCondWait), "sync.Cond.Wait");
  EXPECT_STREQ(WaitReasonName(WaitReason::kMutexLock), "sync.Mutex.Lock");
  EXPECT_STREQ(WaitReasonName(WaitReason::kRWMutexRLock), "sync.RWMutex.RLock");
  EXPECT_STREQ(WaitReasonName(WaitReason::kRWMutexLock), "sync.RWMutex.Lock");
  EXPECT_STREQ(WaitReasonName(WaitReason::kWaitGroupWait), "sync.WaitGroup.Wait");
}

// A condition and whoever waits for it.
struct Mailbox {
  std::atomic<int> letters{0};
  std::atomic<Waiter*> owner{nullptr};

  void Post() {
    letters.fetch_add(1, std::memory_order_release);
    owner.load(std::memory_order_acquire)->Unpark();
  }
  // Waits for a letter, in the given way.
  void Take(bool with_deadline) {
    while (letters.load(std::memory_order_acquire) == 0) {
      if (with_deadline) {
        owner.load()->ParkUntil(Instant::Now() + absl::Microseconds(20), WaitReason::kSelect);
      } else {
        owner.load()->Park(WaitReason::kSelect);
      }
    }
    letters.fetch_sub(1, std::memory_order_acq_rel);
  }
};

// A ring of threads and goroutines passes letters on; other threads unpark members for no reason. A
// lost wake-up stops the ring for ever, and the test's deadline shows it.
void RunRing(int members, int rounds, uint32_t seed) {
  std::vector<std::unique_ptr<Mailbox>> boxes;
  for (int i = 0; i < members; ++i) boxes.push_back(std::make_unique<Mailbox>());
  std::atomic<int> ready{0};
  std::atomic<int> left{members};
  std::atomic<bool> done{false};
  auto member = [&, rounds](int i) {
    Mailbox& own = *boxes[static_cast<size_t>(i)];
    own.owner.store(Waiter::Current(), std::memory_order_release);
    ready.fetch_add(1);
    // Some wait with deadlines that keep passing.
    for (int r = 0; r < rounds; ++r) {
      own.Take(i % 4 == 3);
      boxes[static_cast<size_t>((i + 1) % members)]->Post();
    }
    left.fetch_sub(1);
  };
  for (int i = 0; i < members; ++i) {
    StartAs(i % 3 == 0 ? Waiter::Kind::kThread : Waiter::Kind::kGoroutine,
            [&member, i] { member(i); });
  }
  ASSERT_TRUE(Eventually([&] { return ready.load() == members; }));
  std::thread noise([&] {
    std::mt19937 random(seed);
    while (!done.load()) {
      boxes[random() % boxes.size()]->owner.load()->Unpark();
      std::this_thread::yield();
    }
  });
  // Two letters, so that wakers and waiters also meet.
  boxes[0]->Post();
  boxes[boxes.size() / 2]->Post();
  // Each member passes `rounds` letters on; the two that come back at the end stay in their boxes.
  EXPECT_TRUE(Eventually([&] { return left.load() == 0; }, absl::Seconds(120)));
  done.store(true);
  noise.join();
}

TEST(WaiterStressTest, NoWakeUpIsLost) {
  ForEachMaxProcs([] { RunRing(7, Rounds(1'000), 1); });
}

TEST(WaiterStressTest, NoWakeUpIsLostWithDelays) {
  internal::EnableRandomDelays(42);
  ForEachMaxProcs([] { RunRing(7, Rounds(200, 40), 2); });
  internal::SetDelayHook(nullptr);
}

// Many wakers at once, of both kinds, for one waiter.
TEST(WaiterStressTest, ManyWakersOfOne) {
  for (const bool delays : AllInTurn({false, true})) {
    if (delays) internal::EnableRandomDelays(3);
    OnEachKind([] {
      constexpr int kWakers = 6;
      const int each = Rounds(300, 50);
      Mailbox box;
      box.owner.store(Waiter::Current());
      std::atomic<int> left{kWakers};
      for (int i = 0; i < kWakers; ++i) {
        StartAs(i % 2 == 0 ? Waiter::Kind::kThread : Waiter::Kind::kGoroutine, [&] {
          for (int n = 0; n < each; ++n) box.Post();
          left.fetch_sub(1);
        });
      }
      for (int i = 0; i < kWakers * each; ++i) box.Take(false);
      EXPECT_EQ(box.letters.load(), 0);
      // Until nobody uses what lies on this stack.
      EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
    });
    internal::SetDelayHook(nullptr);
  }
}

// Wake-ups that race with deadlines: whichever ends the wait, the letter is seen.
TEST(WaiterStressTest, UnparkRacesWithTheDeadline) {
  for (const bool delays : AllInTurn({false, true})) {
    if (delays) internal::EnableRandomDelays(5);
    ForEachMaxProcs([] {
      RunOnGoroutine([] {
        Mailbox box;
        box.owner.store(Waiter::Current());
        std::atomic<bool> done{false};
        std::atomic<int> asked{0};
        std::thread poster([&] {
          for (int seen = 0; !done.load();) {
            if (asked.load() == seen) {
              std::this_thread::yield();
              continue;
            }
            ++seen;
            box.Post();
          }
        });
        for (int i = 0; i < Rounds(300, 50); ++i) {
          asked.fetch_add(1);
          while (box.letters.load(std::memory_order_acquire) == 0) {
            Waiter::Current()->ParkUntil(Instant::Now() + absl::Microseconds(i % 50),
                                         WaitReason::kSelect);
          }
          box.letters.fetch_sub(1);
        }
        done.store(true);
        {
          BlockingSection section;
          poster.join();
        }
      });
    });
    internal::SetDelayHook(nullptr);
  }
}

}  // namespace
}  // namespace weft
