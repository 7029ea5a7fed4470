// Waits for a number of tasks to end.
//
//   weft::WaitGroup group;
//   for (Url& url : urls) {
//     group.Add(1);
//     weft::Go([&] { Fetch(url); group.Done(); });
//   }
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

namespace weft {

class WaitGroup {
 public:
  constexpr WaitGroup() = default;
  WaitGroup(const WaitGroup&) = delete;
  WaitGroup& operator=(const WaitGroup&) = delete;

  // Adds `delta`, which may be negative, to the counter; wakes all who wait if it is zero then.
  // Below zero: "panic: sync: negative WaitGroup counter". Never parks.
  void Add(int delta);

  // One task has ended. Everything it did is visible to those who return from Wait(). After the
  // last one the group may be destroyed by whoever has waited.
  void Done() { Add(-1); }

  // Waits until the counter is zero. May park.
  void Wait();

 private:
  // The counter in the upper half, those who wait in the lower one.
  std::atomic<uint64_t> state_{0};
};

}  // namespace weft

#endif  // WEFT_SCHED_SYNC_WAIT_GROUP_H_
