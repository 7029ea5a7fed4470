// Whether to wake another M for a goroutine that is about to run here anyway.
//
// A goroutine that wakes another and then waits itself (a ping-pong, a full or empty buffer, a
// lock handed on) leaves its P to the one it has woken: with or without an idle P, that runs next
// here. Waking an M for it costs two system calls, and then both Ms fight for one goroutine. But
// where the waker computes on instead, the other must run in parallel, and at once.
//
// So each P remembers how its last hand-offs went. Each that is put in an empty queue and taken
// from there by the P itself counts one; after kTrust of them in a row no M is woken for the next.
// Every kSample-th is timed: if the waker kept it waiting, or made another one ready meanwhile, the
// count starts again, and the first sample comes before trust does. For a waker that has earned
// trust and then computes for long, the monitor wakes an M after two looks that find the same
// hand-off waiting.
#ifndef WEFT_SCHED_INTERNAL_HANDOFF_H_
#define WEFT_SCHED_INTERNAL_HANDOFF_H_

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace weft::internal {

// For the holder of the P alone.
class HandoffHistory {
 public:
  // A goroutine was put in the empty queue, to run next. True: it will be taken soon.
  bool Put() {
    if (count_ % kSample == kSample / 2) stamp_ = Cycles();
    return count_ >= kTrust;
  }

  // It was taken by this P, as the one to run next.
  void Taken() {
    if (stamp_ != 0) {
      const bool slow = Cycles() - stamp_ > kSoonCycles;
      stamp_ = 0;
      if (slow) {
        count_ = 0;
        return;
      }
    }
    ++count_;
  }

  // It was not: another one came before, or somebody else took it.
  void Missed() {
    count_ = 0;
    stamp_ = 0;
  }

 private:
  static constexpr uint32_t kTrust = 16;
  static constexpr uint32_t kSample = 16;
  // 3 to 8 us, by the processor: what waking an M takes.
  static constexpr uint64_t kSoonCycles = 16'000;

  static uint64_t Cycles() {
#if defined(__x86_64__)
    return __rdtsc();
#else
#error "HandoffHistory: give the cycle counter of this architecture"
#endif
  }

  uint32_t count_ = 0;
  uint64_t stamp_ = 0;
};

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_HANDOFF_H_
