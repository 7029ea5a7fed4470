// How long a lock is looked at before its waiter parks, where that may pay (MaySpin()).
//
// The looks are far apart on purpose: between two of them a holder that locks and unlocks in a loop
// does so many times without losing the cache line. Doubling pauses, some microseconds in all.
#ifndef WEFT_SCHED_SYNC_INTERNAL_SPIN_H_
#define WEFT_SCHED_SYNC_INTERNAL_SPIN_H_

namespace weft::internal {

inline constexpr int kLooks = 6;
inline constexpr int kFirstPauses = 8;

inline void PauseBeforeLook(int look) {
  for (int i = 0; i < kFirstPauses << look; ++i) __builtin_ia32_pause();
}

}  // namespace weft::internal

#endif  // WEFT_SCHED_SYNC_INTERNAL_SPIN_H_
