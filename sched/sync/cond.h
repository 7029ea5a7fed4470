// Waits until somebody says that something has changed.
//
//   weft::Mutex mutex;
//   weft::Cond not_empty;
//   // who waits                                   // who changes it
//   weft::MutexLock lock(mutex);                   {
//   while (queue.empty()) not_empty.Wait(mutex);     weft::MutexLock lock(mutex);
//   Use(queue.front());                              queue.push(x);
//                                                  }
//                                                  not_empty.Signal();
//
// As Go's sync.Cond: Signal() wakes the one that has waited longest, of those that were in Wait()
// when it was called; one that comes later cannot take its place. Unlike Go's, it is not tied to
// one mutex, but all who wait at a time should use the same. There are no wake-ups for no reason,
// yet the loop is needed: between the signal and the lock others may have had the mutex.
//
// From goroutines and threads. Four bytes; whoever is woken last may destroy it.
#ifndef WEFT_SCHED_SYNC_COND_H_
#define WEFT_SCHED_SYNC_COND_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "sched/sync/mutex.h"
#include "sched/sync/rw_mutex.h"

namespace weft {

class Cond {
 public:
  constexpr Cond() = default;
  Cond(const Cond&) = delete;
  Cond& operator=(const Cond&) = delete;

  // Unlocks `mutex`, waits for a Signal() or Broadcast(), and locks it again. No signal that is
  // given after the unlocking is missed. Parks.
  void Wait(Mutex& mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // The same for one that is held for writing.
  void Wait(RWMutex& mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // Wakes the first of those who wait, if any does. The caller need not hold the mutex, if it has
  // held it since it changed what is waited for. Never parks.
  void Signal();

  // Wakes all of them.
  void Broadcast();

 private:
  template <typename L>
  void WaitWith(L& mutex) noexcept ABSL_NO_THREAD_SAFETY_ANALYSIS;

  // How many wait. Written under the lock of the bucket, see internal/parking_table.h.
  std::atomic<uint32_t> waiting_{0};
};

}  // namespace weft

#endif  // WEFT_SCHED_SYNC_COND_H_
