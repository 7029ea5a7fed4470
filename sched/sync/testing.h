// For tests of what must work from goroutines and plain threads alike: the same test runs in
// several worlds, which differ in what its tasks are.
//
//   class ChanTest : public weft::testing::WorldTest {};
//   TEST_P(ChanTest, SendWakesReceiver) {
//     Run([] {
//       weft::testing::Tasks tasks;
//       tasks.Go([&] { ... });
//       tasks.Wait();
//     });
//   }
//   INSTANTIATE_TEST_SUITE_P(, ChanTest, weft::testing::Worlds(), weft::testing::WorldName);
#ifndef WEFT_SCHED_SYNC_TESTING_H_
#define WEFT_SCHED_SYNC_TESTING_H_

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/testing.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace weft::testing {

struct World {
  enum class TasksAre { kThreads, kGoroutines, kBoth };
  TasksAre tasks;
  int procs;  // of SetMaxProcs, where there are goroutines
};

// All five, or where the test is repeated (tests/rounds.h) one of them.
inline auto Worlds() {
  return ::testing::ValuesIn(
      AllInTurn({World{World::TasksAre::kThreads, 1}, World{World::TasksAre::kGoroutines, 1},
                 World{World::TasksAre::kGoroutines, 2}, World{World::TasksAre::kGoroutines, 4},
                 World{World::TasksAre::kBoth, 2}}));
}

inline std::string WorldName(const ::testing::TestParamInfo<World>& info) {
  switch (info.param.tasks) {
    case World::TasksAre::kThreads:
      return "Threads";
    case World::TasksAre::kGoroutines:
      return "Procs" + std::to_string(info.param.procs);
    case World::TasksAre::kBoth:
      return "Both";
  }
  return "";
}

inline World current_world;

// Runs tasks of the current world, and waits for them. Where they are goroutines and threads, they
// alternate.
class Tasks {
 public:
  Tasks() = default;
  Tasks(const Tasks&) = delete;
  Tasks& operator=(const Tasks&) = delete;
  ~Tasks() { Wait(); }

  // From any task.
  void Go(std::function<void()> fn) {
    running_.fetch_add(1, std::memory_order_relaxed);
    auto task = [this, fn = std::move(fn)] {
      fn();
      Waiter* owner = owner_;
      // Release: Wait() sees what the task has written.
      if (running_.fetch_sub(1, std::memory_order_release) == 1) owner->Unpark();
    };
    const World::TasksAre are = current_world.tasks;
    if (are == World::TasksAre::kThreads ||
        (are == World::TasksAre::kBoth &&
         next_is_thread_.fetch_xor(1, std::memory_order_relaxed))) {
      const std::lock_guard<std::mutex> lock(mutex_);
      threads_.emplace_back(std::move(task));
    } else {
      weft::Go({.name = "task"}, std::move(task));
    }
  }

  // Waits for all. Only by who made this.
  void Wait() {
    while (running_.load(std::memory_order_acquire) != 0) owner_->Park(WaitReason::kWaitGroupWait);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  Waiter* const owner_ = Waiter::Current();
  std::atomic<int> running_{0};
  std::atomic<int> next_is_thread_{0};
  std::mutex mutex_;
  std::vector<std::thread> threads_;
};

class WorldTest : public ::testing::TestWithParam<World> {
 protected:
  // Runs `body`, the test, as a task of the world.
  void Run(absl::FunctionRef<void()> body) {
    current_world = GetParam();
    if (current_world.tasks == World::TasksAre::kThreads) {
      body();
      return;
    }
    const int before = SetMaxProcs(current_world.procs);
    RunOnGoroutine(body);
    SetMaxProcs(before);
  }
};

}  // namespace weft::testing

#endif  // WEFT_SCHED_SYNC_TESTING_H_
