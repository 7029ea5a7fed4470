// How a profile learns of contention for locks, without locks knowing of profiles.
#ifndef WEFT_SCHED_INTERNAL_CONTENTION_H_
#define WEFT_SCHED_INTERNAL_CONTENTION_H_

#include <atomic>
#include <cstdint>

namespace weft::internal {

// Called where a lock was passed on, by the one who did so, after it: others have waited for it for
// so many nanoseconds together.
using ContentionObserver = void (*)(int64_t nanos, int events) noexcept;

// Null: nobody wants to know, and when waits began is not noted either.
extern constinit std::atomic<ContentionObserver> contention_observer;

inline bool ContentionIsObserved() {
  return contention_observer.load(std::memory_order_relaxed) != nullptr;
}

inline void ReportContention(int64_t nanos, int events) noexcept {
  // Null, if that has changed since.
  const ContentionObserver observer = contention_observer.load(std::memory_order_relaxed);
  if (observer != nullptr) observer(nanos, events);
}

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_CONTENTION_H_
