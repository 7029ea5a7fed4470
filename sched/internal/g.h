// A goroutine (G): a function with a stack. Never freed: who lists all of them, or wakes one late,
// reads it without a lock.
#ifndef WEFT_SCHED_INTERNAL_G_H_
#define WEFT_SCHED_INTERNAL_G_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "sched/internal/closure.h"
#include "sched/timer.h"
#include "sched/waiter.h"
#include "stack/residence.h"
#include "stack/slots.h"

namespace weft::internal {

struct G;
struct M;

// The numbers are Go's, as schedtrace prints them.
//
// A thread that has no P may make a goroutine wait or runnable while the world is stopped. So these
// are stored with release: who looks at all goroutines then (traces.cc) acquires with them what
// lies on their stacks.
enum class GStatus : uint8_t {
  kIdle = 0,      // just made
  kRunnable = 1,  // in a run queue, or on its way to one
  kRunning = 2,
  kSyscall = 3,  // in a BlockingSection
  kWaiting = 4,
  kDead = 6,
  kPreempted = 9,  // its thread waits for a P in the middle of its code
};

// What the C++ runtime keeps for a thread's exceptions (the Itanium C++ ABI's __cxa_eh_globals): it
// belongs to the goroutine and is swapped at each switch.
struct ExceptionState {
  void* caught = nullptr;
  unsigned int uncaught = 0;
};

// A string's address and size in one word, so that nobody finds those of two strings: addresses of
// a process have 47 bits.
class PackedName {
 public:
  constexpr PackedName() = default;
  // As much of `name` as fits.
  explicit PackedName(absl::string_view name)
      : word_(reinterpret_cast<uintptr_t>(name.data()) | std::min<uint64_t>(name.size(), UINT16_MAX)
                                                             << kAddressBits) {}
  absl::string_view Get() const {
    constexpr uint64_t kAddress = (uint64_t{1} << kAddressBits) - 1;
    return {reinterpret_cast<const char*>(word_ & kAddress), word_ >> kAddressBits};
  }

 private:
  static constexpr int kAddressBits = 48;
  uint64_t word_ = 0;
};

// There may be millions, and most of them wait: five cache lines.
struct alignas(64) G : Waiter {
  G();

  // --- touched by every switch: with the Waiter two cache lines ---
  std::atomic<WaitReason> wait_reason{WaitReason::kNone};  // the latest
  stack::SizeClass stack_class{};
  std::atomic<GStatus> status{GStatus::kIdle};
  int16_t runtime_depth = 0;       // Thread::in_runtime while it is not on a thread
  int16_t blocking_sections = 0;   // open ones
  uint32_t runnable_since = 0;     // see Stamp(); 0: nobody wants to know
  std::atomic<uint16_t> turns{0};  // that it has had: tells one wait from the next
  bool bound = false;              // only the thread of `m` may run it, see bound.cc
  bool has_labels = false;         // `labels` is not 0
  std::atomic<M*> m{nullptr};      // who runs it, or alone may
  ExceptionState exceptions;
  stack::Resident stack;  // in part

  // --- when it starts ---
  // For who lists all goroutines, who may find one that is being reused.
  std::atomic<uint64_t> id{0};
  std::atomic<uint64_t> creator_id{0};
  std::atomic<const void*> creation_site{nullptr};
  std::atomic<PackedName> name{PackedName()};
  Closure closure;

  // --- some waits ---
  ScratchSpace scratch_space;
  [[no_unique_address]] CallbackTimer wait_timer;  // ends a wait with a deadline

  std::atomic<uint32_t> labels{0};  // the number of a set, see labels.cc
};
static_assert(WEFT_ASAN || WEFT_TSAN || sizeof(G) == 320);

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_G_H_
