#include "stack/rest.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "stack/frames.h"
#include "stack/internal/memcheck.h"
#include "stack/internal/stacks_lock.h"
#include "stack/mode.h"
#include "stack/segment.h"

namespace weft::stack {

namespace {

constexpr int kPoison = 0xdb;

// While this thread has all residents of a P's slots rest: each is looked at, as once it is in a
// block nobody does.
constinit thread_local bool draining = false;

std::atomic<bool> poison{false};
std::atomic<uint64_t> given_back{0};

void GiveBack(Slot& slot, const void* used_from) {
  if (GiveBackBelow(slot, used_from)) given_back.fetch_add(1, std::memory_order_relaxed);
}

// Of a stack that is in use from `sp` on, all but what it keeps. Where `sp` lies elsewhere, on a
// stack that the program has made, how much of this one is in use is not known.
void GiveBackUnder(Slot& slot, const void* sp) {
  const auto* const from = static_cast<const char*>(sp);
  if (from < slot.lo || from > slot.hi) return;
  if (static_cast<size_t>(from - slot.lo) > kKeptBytes) GiveBack(slot, from - kKeptBytes);
}

// Counters have one writer.
void Add(std::atomic<uint64_t>& counter, uint64_t n) {
  counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

bool Refuse(std::atomic<uint64_t>& reason) {
  Add(reason, 1);
  return false;
}

size_t UsedBytes(const Context& context) {
  return static_cast<size_t>(static_cast<char*>(context.stack_hi) - static_cast<char*>(context.sp));
}

// Of all movers; the counts of those that are gone are added up in `past`.
struct Movers {
  internal::StacksLock lock;
  StackMover* first = nullptr;
  RestStats past;
};
constinit Movers movers;

void Poison(void* memory, size_t bytes) {
  if (poison.load(std::memory_order_relaxed)) [[unlikely]]
    std::memset(memory, kPoison, bytes);
}

}  // namespace

void PoisonLeftStacks() { poison.store(true, std::memory_order_relaxed); }

StackMover::StackMover(SlotCache& slots, Entry entry, RestPolicy policy, size_t budget)
    : slots_(slots), entry_(entry), residence_(*this, policy, budget) {
  std::lock_guard<internal::StacksLock> hold(movers.lock);
  next_ = movers.first;
  if (next_ != nullptr) next_->previous_ = this;
  movers.first = this;
}

StackMover::~StackMover() {
  std::lock_guard<internal::StacksLock> hold(movers.lock);
  AddTo(movers.past);
  (previous_ != nullptr ? previous_->next_ : movers.first) = next_;
  if (next_ != nullptr) next_->previous_ = previous_;
}

bool StackMover::CopyOut(Resident& resident) {
  Context& context = resident.context;
  const size_t used = UsedBytes(context);
  if (used > kMostRestBytes) return Refuse(counts_.too_large);
  if (!MayRest(resident)) return Refuse(counts_.held);

  switch (SurveyStack(context.sp, *resident.home).movability) {
    case Movability::kMovable:
      break;
    case Movability::kForeignFrame:
      return Refuse(counts_.foreign_frame);
    case Movability::kBrokenChain:
      return Refuse(counts_.broken_chain);
  }

  void* block = blocks_.Allocate(used);
  if (block == nullptr) return Refuse(counts_.no_memory);
  std::memcpy(block, context.sp, used);
  Poison(context.sp, used);
  if (++resident.home->rests % kRestsBetweenLooks == 0 || draining) [[unlikely]] {
    GiveBackUnder(*resident.home, resident.home->hi - kMostRestBytes);
    GiveBackUnder(*resident.pinned, context.pinned);
  }
  resident.block = block;
  Add(counts_.bytes_rested, used);
  if (context.pinned == resident.pinned->hi) {
    Release(slots_, resident.pinned);
    resident.SetPinned(nullptr);
    Add(counts_.pinned_returned, 1);
  }
  return true;
}

bool StackMover::CopyIn(Resident& resident, Slot& slot) {
  Context& context = resident.context;
  if (resident.pinned == nullptr) {
    resident.SetPinned(PinnedFor(resident, slot));
    if (resident.pinned == nullptr) return false;
    // No function keeps the old one's pointer while there is nothing on it (escape_pass/README.md).
    context.pinned = resident.pinned->hi;
  }

  const size_t used = UsedBytes(context);
  const ptrdiff_t by = slot.hi - static_cast<char*>(context.stack_hi);
  char* const sp = slot.hi - used;
  internal::NoteWrites(sp, slot.hi);
  std::memcpy(sp, resident.block, used);
  if (by != 0) {
    // Tops are at page boundaries, so frames that align themselves find the alignment that they
    // made.
    ShiftFramePointers(sp, by);
    context.sp = sp;
    context.stack_lo = slot.lo;
    context.stack_hi = slot.hi;
    ++resident.moves;
    Add(counts_.moves, 1);
  }
  context.guard = GuardFor(slot);
  Poison(resident.block, used);
  blocks_.Free(resident.block, used);
  resident.block = nullptr;
  resident.SetHome(&slot);
  return true;
}

bool StackMover::ShouldLeave(const Resident& resident, Slot& slot) const {
  if (!IsCopyClass(slot.size_class) || slot.size_class == RestingSizeClass()) return false;
  slot.small_parks = UsedBytes(resident.context) <= kSmallStackBytes ? slot.small_parks + 1 : 0;
  if (slot.small_parks < kParksWhileSmall) return false;
  slot.small_parks = 0;
  return true;
}

bool StackMover::Begin(Resident& resident, Slot& slot) {
  resident.SetPinned(PinnedFor(resident, slot));
  if (resident.pinned == nullptr) return false;
  MakeContext(resident.context, slot, resident.pinned, entry_, &resident);
  resident.moves = 0;
  resident.SetHome(&slot);
  return true;
}

void StackMover::Drain() {
  draining = true;
  residence_.Drain();
  draining = false;
  blocks_.Drain();
}

void StackMover::GiveBackUnused() {
  // Residents have slots of several classes: where stacks are copied, where there was no large one.
  for (size_t i = 0; i < kSizeClasses; ++i) {
    for (Slot* slot = NewestSlot(static_cast<SizeClass>(i)); slot != nullptr;
         slot = slot->made_before) {
      Residence::Borrow(*slot, *this, [slot](const Resident& occupant) {
        const Context& context = occupant.context;
        // Below what is in use on a segment, that is; what the outer ones do not use is not known.
        Slot* current = context.stack_hi == slot->hi ? slot : FindSlot(context.stack_lo);
        if (current != nullptr) GiveBackUnder(*current, context.sp);
        // Functions lower the pinned stack's pointer before they use what is above.
        if (occupant.pinned != nullptr) GiveBackUnder(*occupant.pinned, context.pinned);
      });
    }
  }
}

void StackMover::GiveBackFree(absl::Duration idle_for) {
  given_back.fetch_add(TrimIdleRestPlaces(idle_for), std::memory_order_relaxed);
}

namespace {

const char* ModeOf(const Slot& home) {
  if (!kHasGuardWord) return "fixed";
  const bool may_rest = home.size_class == RestingSizeClass() || IsCopyClass(home.size_class);
  if (kMayMove && may_rest) return "copying";
  return home.size_class == SizeClass::kLarge ? "reserved" : "segmented";
}

size_t MostOf(const Slot& home) {
  // One that is copied may go to a larger slot, one of another small class on to segments.
  return kHasGuardWord && home.size_class != SizeClass::kLarge ? MaxStack() : LimitOf(home);
}

}  // namespace

// What it reads of the context, and with it the block and the moves, may change at the same time: a
// word each, of which a number is made that is not exact then. So may what a segment's memory says.
// The slots' fields do not change, and memory of slots stays readable.
__attribute__((no_sanitize("thread"))) StackUse UseOf(const Resident& resident) {
  const Slot* home = resident.HomeFromOutside();
  const Context& context = resident.context;
  if (home == nullptr) return {};
  StackUse use;
  use.mode = ModeOf(*home);
  use.limit = MostOf(*home);
  // Not by UsedBytes(), in which the sanitizer would look.
  const auto* const sp = static_cast<const char*>(context.sp);
  const auto* const hi = static_cast<const char*>(context.stack_hi);
  if (sp >= context.stack_lo && sp <= hi) use.used = static_cast<size_t>(hi - sp);
  if (hi != home->hi) {
    const Slot* current = FindSlot(context.stack_lo);
    if (const Segment* segment = current != nullptr ? current->segment : nullptr;
        segment != nullptr) {
      use.segments = segment->depth;
      use.used += segment->outer_used;
    }
  }
  use.used = std::min(use.used, use.limit);
  if (resident.block != nullptr) use.rest = internal::BlockCache::BytesOf(use.used);
  // A free slot's pinned stack has nothing on it.
  if (const Slot* pinned = resident.PinnedFromOutside(); pinned != nullptr) {
    use.pinned = static_cast<size_t>(pinned->hi - static_cast<char*>(context.pinned));
    if (use.pinned > static_cast<size_t>(pinned->hi - pinned->lo)) use.pinned = 0;
  }
  use.moves = resident.moves;
  return use;
}

void StackMover::AddTo(RestStats& stats) const {
  const auto add = [](uint64_t& sum, const std::atomic<uint64_t>& count) {
    sum += count.load(std::memory_order_relaxed);
  };
  const Residence::Counts& residence = residence_.counts();
  add(stats.rests, residence.rests);
  add(stats.wakes_at_home, residence.wakes_at_home);
  add(stats.left_to_copier, residence.left_to_copier);
  add(stats.bytes_rested, counts_.bytes_rested);
  add(stats.moves, counts_.moves);
  add(stats.pinned_returned, counts_.pinned_returned);
  add(stats.kept_foreign_frame, counts_.foreign_frame);
  add(stats.kept_broken_chain, counts_.broken_chain);
  add(stats.kept_too_large, counts_.too_large);
  add(stats.kept_held, counts_.held);
  add(stats.kept_no_memory, counts_.no_memory);
}

RestStats GetRestStats() {
  std::lock_guard<internal::StacksLock> hold(movers.lock);
  RestStats stats = movers.past;
  for (const StackMover* m = movers.first; m != nullptr; m = m->next_) m->AddTo(stats);
  stats.given_back = given_back.load(std::memory_order_relaxed);
  stats.block_bytes = internal::SlabBytes();
  return stats;
}

}  // namespace weft::stack
