// Waits for a number of tasks to end.
//
//   weft::WaitGroup group;
//   for (Url& url : urls) group.Go([&] { Fetch(url); });
//   group.Wait();
//
// From goroutines and threads. The rules are Go's: an Add() that starts from zero happens before
// the Wait() that should see it, and a group is used again only after all its Wait()s have
// returned. Breaking them ends the program ("panic: sync: WaitGroup ...") where that is noticed,
// which is not always.
#ifndef WEFT_SCHED_SYNC_WAIT_GROUP_H_
#define WEFT_SCHED_SYNC_WAIT_GROUP_H_

#include <atomic>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

#include "sched/goroutine.h"

namespace weft {

class WaitGroup {
 public:
  constexpr WaitGroup() = default;
  WaitGroup(const WaitGroup&) = delete;
  WaitGroup& operator=(const WaitGroup&) = delete;

  // Adds `delta`, which may be negative, to the counter; wakes all who wait if it is zero then.
  // Below zero: "panic: sync: negative WaitGroup counter". Never parks.
  void Add(int delta) noexcept;

  // One task has ended. Everything it did is visible to those who return from Wait(). After the
  // last one the group may be destroyed by whoever has waited.
  void Done() noexcept { Add(-1); }

  // Adds one, and starts a goroutine that runs `fn()`; when that has returned, or has ended the
  // goroutine by weft::Exit(), it is destroyed, and then the task is done. An exception that leaves
  // it ends the program. Starts the scheduler if it is not running. Never parks.
  template <typename Fn>
  [[gnu::always_inline]] void Go(Fn&& fn) {
    Add(1);
    weft::Go(Task<std::decay_t<Fn>>{this, std::forward<Fn>(fn)});
  }

  // Waits until the counter is zero. May park.
  void Wait() noexcept;

 private:
  template <typename Fn>
  struct Task {
    WaitGroup* group;
    std::optional<Fn> fn;

    void operator()() {
      struct End {
        Task& task;
        ~End() {
          task.fn.reset();
          task.group->Done();
        }
      } const end{*this};
      (*fn)();
    }
  };

  // The counter in the upper half, those who wait in the lower one.
  std::atomic<uint64_t> state_{0};
};

}  // namespace weft

#endif  // WEFT_SCHED_SYNC_WAIT_GROUP_H_
