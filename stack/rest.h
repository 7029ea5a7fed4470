// How a stack rests: its used bytes, 150 to 500 of them mostly, go to a block of that size, and
// come back to the addresses that they left, or, shifted, to another slot. When that is done, and
// by whom, is residence.h's.
//
// What may not rest stays in its slot: a stack with a frame of code that was not built for it
// (frames.h), one whose owner says no, and one that is so large that nothing would be saved.
//
// The pinned stack is a slot of its own (SizeClass::kPinned). A resident has one from its first run
// to its end, but for the times when it rests with nothing on it.
#ifndef WEFT_STACK_REST_H_
#define WEFT_STACK_REST_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/time/time.h"
#include "stack/context.h"
#include "stack/internal/block_cache.h"
#include "stack/residence.h"
#include "stack/rest_policy.h"
#include "stack/slots.h"

namespace weft::stack {

// Fills the memory that a stack has left with a pattern, from now on: for tests.
void PoisonLeftStacks();

// What has become of stacks that left their slots, or did not. Sums over all Ps since the start.
struct RestStats {
  uint64_t rests = 0;            // copied out
  uint64_t bytes_rested = 0;     // by these
  uint64_t wakes_at_home = 0;    // copied in where they came from
  uint64_t moves = 0;            // or to another slot
  uint64_t left_to_copier = 0;   // had to wait for the end of a copy
  uint64_t pinned_returned = 0;  // pinned stacks with nothing on them
  // Stayed in their slots, though these were wanted, because of
  uint64_t kept_foreign_frame = 0;
  uint64_t kept_broken_chain = 0;
  uint64_t kept_too_large = 0;
  uint64_t kept_held = 0;  // exceptions under way
  uint64_t kept_no_memory = 0;
  // Slots of which unused pages went back to the system.
  uint64_t given_back = 0;
  // Memory for stacks at rest, now.
  uint64_t block_bytes = 0;
};
RestStats GetRestStats();

// What one resident's stacks take, in bytes. Of one that is running: when it was last switched to.
struct StackUse {
  // "copying": it can rest, as far as its slot is concerned; "segmented": it grows by segments, as
  // in the mode of that name, and in mode copying where there was no large slot for it; "reserved":
  // it grows where it is, and cannot rest; "fixed". "" without a slot.
  const char* mode = "";
  size_t limit = 0;  // the most that its stack may grow to
  // Of its slot and all segments. 0 of one that was left for a stack of the program's own.
  size_t used = 0;
  uint32_t segments = 0;  // that it is on, beside its slot
  size_t rest = 0;        // of the block where its stack rests; 0: it is in its slot
  size_t pinned = 0;
  uint32_t moves = 0;
};
// From any thread; a snapshot of something that changes meanwhile.
StackUse UseOf(const Resident& resident);

// Gives the memory of blocks that nobody rests in, as far as no cache has them, back to the system.
inline void TrimBlocks() { internal::TrimSlabs(); }

// A P's residence and its means to have residents rest and wake. Not thread-safe: for the holder of
// the P.
class StackMover : public Mover {
 public:
  // Residents begin with entry(resident). Slots come from `slots` and go there.
  StackMover(SlotCache& slots, Entry entry, RestPolicy policy, size_t budget);

  Residence& residence() { return residence_; }

  bool CopyOut(Resident& resident) override;
  bool CopyIn(Resident& resident, Slot& slot) override;
  bool Begin(Resident& resident, Slot& slot) override;
  Slot* TakeSlot() override { return Acquire(slots_, RestingSizeClass()); }
  void GiveSlot(Slot& slot) override { Release(slots_, &slot); }
  bool IsRestPlace(const Slot& slot) const override {
    return slot.size_class == RestingSizeClass();
  }
  bool ShouldLeave(const Resident& resident, Slot& slot) const override;

  // Gives back the stacks of a resident that has ended: both to the next in this slot, if possible.
  void End(Resident& resident) {
    Slot& slot = *resident.home;
    if (slot.spare_pinned == nullptr && resident.pinned->size_class == SizeClass::kPinned) {
      slot.spare_pinned = resident.pinned;
    } else {
      Release(slots_, resident.pinned);
    }
    resident.SetPinned(nullptr);
    residence_.End(resident);
  }

  // As Residence::Drain(), and gives the free blocks back.
  void Drain();

  // Gives the pages below what is in use, but for kKeptBytes, back to the system, of all slots and
  // segments whose residents do not run at this moment, and of their pinned stacks. Some 2 us a
  // stack.
  void GiveBackUnused();

  // The same for slots that are free, and nobody has had for `idle_for`: TrimIdleRestPlaces().
  static void GiveBackFree(absl::Duration idle_for);

 protected:
  ~StackMover();
  // Whether its owner lets the resident rest: not one with an exception in flight, say.
  virtual bool MayRest(const Resident& resident) const = 0;

 private:
  // A pinned stack for a resident that is to run in `slot`.
  Slot* PinnedFor(const Resident& resident, Slot& slot) {
    if (resident.pinned_class == SizeClass::kPinned) {
      if (Slot* spare = std::exchange(slot.spare_pinned, nullptr); spare != nullptr) return spare;
    }
    return Acquire(slots_, resident.pinned_class);
  }

  friend RestStats GetRestStats();
  struct Counts {
    std::atomic<uint64_t> bytes_rested{0};
    std::atomic<uint64_t> moves{0};
    std::atomic<uint64_t> pinned_returned{0};
    std::atomic<uint64_t> foreign_frame{0};
    std::atomic<uint64_t> broken_chain{0};
    std::atomic<uint64_t> too_large{0};
    std::atomic<uint64_t> held{0};
    std::atomic<uint64_t> no_memory{0};
  };

  void AddTo(RestStats& stats) const;

  SlotCache& slots_;
  const Entry entry_;
  internal::BlockCache blocks_;
  Residence residence_;
  Counts counts_;
  StackMover* next_ = nullptr;
  StackMover* previous_ = nullptr;
};

}  // namespace weft::stack

#endif  // WEFT_STACK_REST_H_
