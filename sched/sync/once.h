// Runs a function once, whoever asks first.
//
//   weft::Once once;
//   once.Do([&] { table = LoadTable(); });   // everyone returns when the table is there
//
// From goroutines and threads.
#ifndef WEFT_SCHED_SYNC_ONCE_H_
#define WEFT_SCHED_SYNC_ONCE_H_

#include <atomic>
#include <utility>

#include "sched/sync/mutex.h"

namespace weft {

class Once {
 public:
  constexpr Once() = default;
  Once(const Once&) = delete;
  Once& operator=(const Once&) = delete;

  // The first call runs `fn()`; the others return when it has ended, and see all it wrote. If fn
  // throws, or ends its goroutine by weft::Exit(), it counts as run: the exception passes out of
  // this call, and no later one runs anything (unlike std::call_once). May park. A Do() of the same
  // Once from within fn waits for ever.
  template <typename Fn>
  void Do(Fn&& fn) {
    // Acquire: pairs with the release in MarkDone.
    if (done_.load(std::memory_order_acquire)) [[likely]]
      return;
    MutexLock lock(mutex_);
    if (done_.load(std::memory_order_relaxed)) return;
    const MarkDone mark(done_);
    std::forward<Fn>(fn)();
  }

 private:
  class MarkDone {
   public:
    explicit MarkDone(std::atomic<bool>& done) : done_(done) {}
    ~MarkDone() { done_.store(true, std::memory_order_release); }
    MarkDone(const MarkDone&) = delete;
    MarkDone& operator=(const MarkDone&) = delete;

   private:
    std::atomic<bool>& done_;
  };

  std::atomic<bool> done_{false};
  Mutex mutex_;
};

}  // namespace weft

#endif  // WEFT_SCHED_SYNC_ONCE_H_
