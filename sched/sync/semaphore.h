// A number of units that tasks take some of, and give back.
//
//   weft::Semaphore memory(64 << 20);              // bytes
//   memory.Acquire(image.bytes());                 // waits until there are so many
//   ...
//   memory.Release(image.bytes());
//
// First come, first served, as in golang.org/x/sync/semaphore: while one waits for many units,
// those that come later wait behind it even where there would be enough for them; so nobody
// starves.
//
// From goroutines and threads. Whoever releases last may destroy it right after. Where nobody
// waits, each operation is one locked instruction.
#ifndef WEFT_SCHED_SYNC_SEMAPHORE_H_
#define WEFT_SCHED_SYNC_SEMAPHORE_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "sched/clock.h"
#include "sched/sync/internal/interruption.h"

namespace weft {

namespace internal {
struct ParkRecord;
}

class Semaphore {
 public:
  // With `units` units, none of them taken, from 0 to 2^62.
  explicit Semaphore(int64_t units);
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  // Takes `n` units, waiting for them. More than there ever are: "panic: semaphore: acquired more
  // than its size". May park.
  void Acquire(int64_t n = 1) noexcept;

  // The same if there are so many now, and nobody waits. Never parks.
  bool TryAcquire(int64_t n = 1) {
    uint64_t state = state_.load(std::memory_order_relaxed);
    while ((state & kWaits) == 0 && Units(state) >= n) {
      // Acquire: pairs with the release of those that gave the units back.
      if (state_.compare_exchange_weak(state, state - Change(n), std::memory_order_acquire,
                                       std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }

  // The same, waiting for `timeout` at most. False: nothing has been taken. May park.
  bool AcquireFor(absl::Duration timeout, int64_t n = 1) noexcept;

  // The same, until `context` (a weft::Context, chan/context.h) is done: then its error, and
  // nothing has been taken. Also where it is done before. More than there ever are: waits for that.
  // May park.
  template <internal::Interrupting Context>
  absl::Status Acquire(const Context& context, int64_t n = 1) {
    if (absl::Status error = context.Err(); !error.ok()) return error;
    if (TryAcquire(n)) return absl::OkStatus();
    if (AcquireUnless(InterruptionOf(context), n)) return absl::OkStatus();
    return context.Err();
  }

  // Gives `n` units back, and wakes those who can be served now. More than have been taken: "panic:
  // semaphore: released more than held". Never parks.
  void Release(int64_t n = 1) noexcept;

  // Units that nobody has, as of some moment during the call.
  int64_t available() const { return Units(state_.load(std::memory_order_relaxed)); }

 private:
  // The state: units that nobody has, and whether somebody waits.
  static constexpr uint64_t kWaits = 1;
  static int64_t Units(uint64_t state) { return static_cast<int64_t>(state >> 1); }
  static uint64_t Change(int64_t n) { return static_cast<uint64_t>(n) << 1; }

  bool AcquireUnless(internal::Interruption interruption, int64_t n) noexcept;
  void CheckSize(int64_t n) const;
  bool MustQueue(int64_t n);
  internal::ParkRecord* Serve(int64_t released);
  bool Leave(internal::ParkRecord* record) noexcept;
  template <typename Sleep>
  bool Wait(Waiter* self, internal::ParkRecord* record, int64_t n, Sleep sleep) noexcept;

  const int64_t size_;
  std::atomic<uint64_t> state_;
};

}  // namespace weft

#endif  // WEFT_SCHED_SYNC_SEMAPHORE_H_
