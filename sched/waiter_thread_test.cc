// Waiters of plain threads, in a program that links no scheduler.
#include <pthread.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/internal/delay.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace weft {
namespace {

TEST(WaiterThreadTest, WaitsAndWakes) {
  std::atomic<Waiter*> waiter{nullptr};
  std::atomic<bool> done{false};
  std::thread thread([&] {
    waiter.store(Waiter::Current());
    while (!done.load(std::memory_order_acquire)) {
      Waiter::Current()->Park(WaitReason::kSelect);
    }
  });
  while (waiter.load() == nullptr) std::this_thread::yield();
  done.store(true, std::memory_order_release);
  waiter.load()->Unpark();
  thread.join();
}

TEST(WaiterThreadTest, PingPong) {
  const int rounds = testing::Rounds(3'000, 300);
  for (const bool delays : {false, true}) {
    if (delays) internal::EnableRandomDelays(9);
    std::atomic<int> turn{0};
    std::atomic<Waiter*> waiters[2] = {{nullptr}, {nullptr}};
    auto player = [&](int self) {
      waiters[self].store(Waiter::Current());
      while (waiters[1 - self].load() == nullptr) std::this_thread::yield();
      for (int i = 0; i < rounds; ++i) {
        while (turn.load(std::memory_order_acquire) != self) {
          Waiter::Current()->Park(WaitReason::kSelect);
        }
        turn.store(1 - self, std::memory_order_release);
        waiters[1 - self].load()->Unpark();
      }
    };
    std::thread other([&] { player(1); });
    player(0);
    other.join();
    internal::SetDelayHook(nullptr);
  }
}

TEST(WaiterThreadTest, ThreadsThatEndLeaveTheirWaiterToOthers) {
  std::vector<Waiter*> seen;
  for (int i = 0; i < 20; ++i) {
    std::thread([&] { seen.push_back(Waiter::Current()); }).join();
  }
  for (Waiter* waiter : seen) EXPECT_EQ(waiter, seen[0]);
}

std::atomic<int> waits_at_exit{0};

// Waits once more when its thread is ending.
struct WaitsAtThreadExit {
  ~WaitsAtThreadExit() {
    Waiter::Current()->Unpark();
    Waiter::Current()->Park(WaitReason::kSelect);
    waits_at_exit.fetch_add(1);
  }
};

TEST(WaiterThreadTest, DestructorsOfThreadLocalsMayWait) {
  for (int i = 0; i < 10; ++i) {
    std::thread([] {
      static thread_local WaitsAtThreadExit waits;
      static_cast<void>(&waits);
      Waiter::Current()->ParkUntil(Instant::Now() + absl::Microseconds(10), WaitReason::kSelect);
    }).join();
  }
  EXPECT_EQ(waits_at_exit.load(), 10);
}

// The same from the older kind of thread-local data, whose destructors run after the waiter's own.
TEST(WaiterThreadTest, DestructorsOfThreadSpecificDataMayWait) {
  waits_at_exit.store(0);
  pthread_key_t key;
  ASSERT_EQ(pthread_key_create(&key, [](void*) { WaitsAtThreadExit(); }), 0);
  for (int i = 0; i < 10; ++i) {
    std::thread([&] {
      Waiter::Current()->Unpark();
      pthread_setspecific(key, &key);
    }).join();
  }
  EXPECT_EQ(waits_at_exit.load(), 10);
  pthread_key_delete(key);
}

}  // namespace
}  // namespace weft
