// How a stack rests: its used bytes, 150 to 500 of them mostly, go to a block of that size, and
// come back to the addresses that they left, or, shifted, to another slot. When that is done, and
// by whom, is residence.h's.
//
// What may not rest stays in its slot: a stack with a frame of code that was not built for it or
// with a word in doubt (frames.h), one whose owner says no, and one that is so large that nothing
// would be saved.
//
// The pinned stack is a slot of its own (SizeClass::kPinned). A resident has one from its first run
// to its end, but for the times when it rests with nothing on it.
#ifndef WEFT_STACK_REST_H_
#define WEFT_STACK_REST_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "stack/context.h"
#include "stack/internal/block_cache.h"
#include "stack/residence.h"
#include "stack/slots.h"

namespace weft::stack {

// Beyond this a stack stays in its slot: the pages that it takes there would not be given back.
inline constexpr size_t kMostRestBytes = 32 * 1024;

// Fills the memory that a stack has left with a pattern, from now on: for tests.
void PoisonLeftStacks();

// A P's means to have residents rest and wake. Not thread-safe: for the holder of the P.
class StackMover : public Mover {
 public:
  // Why residents stayed, and what was moved.
  struct Counts {
    std::atomic<uint64_t> bytes_rested{0};  // of all rests so far
    std::atomic<uint64_t> moves{0};         // to another slot
    std::atomic<uint64_t> pinned_returned{0};
    std::atomic<uint64_t> foreign_frame{0};
    std::atomic<uint64_t> broken_chain{0};
    std::atomic<uint64_t> doubtful_word{0};
    std::atomic<uint64_t> too_large{0};
    std::atomic<uint64_t> held{0};  // their owner said so
    std::atomic<uint64_t> no_memory{0};
  };

  // Residents begin with entry(resident). Slots come from `slots` and go there.
  StackMover(SlotCache& slots, Entry entry) : slots_(slots), entry_(entry) {}

  bool CopyOut(Resident& resident) override;
  bool CopyIn(Resident& resident, Slot& slot) override;
  bool Begin(Resident& resident, Slot& slot) override;
  Slot* TakeSlot() override { return Acquire(slots_, SizeClass::kLarge); }
  void GiveSlot(Slot& slot) override { Release(slots_, &slot); }
  bool IsRestPlace(const Slot& slot) const override { return slot.size_class == SizeClass::kLarge; }

  // Gives back what a resident has besides its slot, once it has ended.
  void End(Resident& resident);

  // Gives the free blocks back, as when the P goes away.
  void Drain() { blocks_.Drain(); }

  const Counts& counts() const { return counts_; }

 protected:
  ~StackMover() = default;
  // Whether its owner lets the resident rest: not one with an exception in flight, say.
  virtual bool MayRest(const Resident& resident) const = 0;

 private:
  SlotCache& slots_;
  const Entry entry_;
  internal::BlockCache blocks_;
  Counts counts_;
};

}  // namespace weft::stack

#endif  // WEFT_STACK_REST_H_
