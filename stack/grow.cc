#include "stack/grow.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "stack/frames.h"
#include "stack/internal/memcheck.h"
#include "stack/internal/writer.h"
#include "stack/morestack.h"
#include "stack/segment.h"
#include "stack/slots.h"

namespace weft::stack {

namespace {

// Constant once the handler is set.
GrowHost host;

struct Counts {
  std::atomic<uint64_t> moves{0};
  std::atomic<uint64_t> growths{0};
  std::atomic<uint64_t> bytes_moved{0};
  std::atomic<uint64_t> foreign_frame{0};
  std::atomic<uint64_t> broken_chain{0};
  std::atomic<uint64_t> held{0};
  std::atomic<uint64_t> no_slot{0};
};
constinit Counts counts;

void Add(std::atomic<uint64_t>& count, uint64_t n) {
  count.fetch_add(n, std::memory_order_relaxed);
}

// The slots that moves take and leave. They belong to no P, as code on a goroutine may lose its P
// at any moment and a move would have to wait for one. All of this runs on threads' own stacks, and
// so nobody is interrupted by a move while he has the lock.
class Places {
 public:
  // While there is memory.
  void Prepare() {
    std::lock_guard<std::mutex> hold(lock_);
    if (cache_ == nullptr) cache_ = new SlotCache;
  }

  // A slot that the caller has from now on, in nobody's name. Null: none.
  Slot* Take(SizeClass size_class) {
    std::lock_guard<std::mutex> hold(lock_);
    // A free slot may be in use by somebody whose home it is: the next one then, and those go back.
    Slot* skipped = nullptr;
    Slot* slot;
    while ((slot = Acquire(*cache_, size_class)) != nullptr) {
      uint64_t owner = Slot::kFree;
      // Acquire: with who has left it.
      if (slot->owner.compare_exchange_strong(owner, Slot::kTaken, std::memory_order_acquire,
                                              std::memory_order_relaxed)) {
        break;
      }
      // Not by next_kept, as it may be among the traps.
      slot->older = skipped;
      skipped = slot;
    }
    while (skipped != nullptr) {
      Slot* next = skipped->older;
      stack::Release(*cache_, skipped);
      skipped = next;
    }
    // Nobody lists it, or will find it when it is free, unless who has it then sees to that.
    if (slot != nullptr) slot->managed = false;
    return slot;
  }

  // The caller has the slot and is done with it.
  void GiveBack(Slot& slot) {
    if (slot.managed) {
      // Some P lists it, or it is in some cache.
      slot.owner.store(Slot::kFree, std::memory_order_release);
      return;
    }
    slot.managed = true;
    slot.owner.store(Slot::kFree, std::memory_order_release);
    std::lock_guard<std::mutex> hold(lock_);
    stack::Release(*cache_, &slot);
  }

  // Whoever has the lock must not come to Take(): not for goroutines.
  void Release() {
    std::lock_guard<std::mutex> hold(lock_);
    if (cache_ != nullptr) Drain(*cache_);
  }

 private:
  std::mutex lock_;
  SlotCache* cache_ = nullptr;
};
constinit Places places;

// What fills memory that a stack has left, in tests.
constexpr int kFill = 0xdb;

// For tests: the slots that stacks have left, all of kLarge, in the order in which they did. Their
// used part is filled, and has to be found so when they are used again; and every eighth is
// inaccessible meanwhile (not all of them: that takes two system calls, and the other threads'
// processors have to be interrupted for each; under Valgrind none: it makes notes on the whole
// GiB).
class Traps {
 public:
  // The caller has the slot, and left it at `sp`.
  void Set(Slot& slot, void* sp) {
    slot.left_at = static_cast<char*>(sp);
    std::memset(sp, kFill, static_cast<size_t>(slot.hi - slot.left_at));
    std::lock_guard<std::mutex> hold(lock_);
    if (set_++ % kInaccessible == 0 && !internal::under_valgrind) {
      slot.left_at = nullptr;
      mprotect(slot.lo, slot.hi - slot.lo, PROT_NONE);
    }
    slot.next_kept = nullptr;
    *end_ = &slot;
    end_ = &slot.next_kept;
    ++count_;
  }

  // A slot to go to. Null: none.
  Slot* Take() {
    Slot* slot = nullptr;
    {
      std::lock_guard<std::mutex> hold(lock_);
      if (count_ >= kLeast) {
        slot = first_;
        first_ = slot->next_kept;
        if (first_ == nullptr) end_ = &first_;
        --count_;
      }
    }
    if (slot == nullptr) return places.Take(SizeClass::kLarge);
    if (slot->left_at == nullptr) {
      if (mprotect(slot->lo, slot->hi - slot->lo, PROT_READ | PROT_WRITE) != 0) std::abort();
    } else if (!std::all_of(slot->left_at, slot->hi,
                            [](char byte) { return byte == static_cast<char>(kFill); })) {
      internal::Writer(STDERR_FILENO)
          .Text("weft: stackmove=always: somebody has written to a stack after it had moved\n");
      std::abort();
    }
    return slot;
  }

 private:
  static constexpr size_t kInaccessible = 8;
  static constexpr size_t kLeast = 4;

  std::mutex lock_;
  Slot* first_ = nullptr;
  Slot** end_ = &first_;
  size_t count_ = 0;
  size_t set_ = 0;
};
constinit Traps traps;

// Null if its stack has to stay.
Resident* MayMove(const StackCheck& check) {
  Resident* resident = check.may_move ? host.movable(*check.context) : nullptr;
  // On a segment, what its boundary looks like from the outer stack is not known here.
  if (resident == nullptr || check.context->stack_hi != resident->home->hi) {
    Add(counts.held, 1);
    return nullptr;
  }
  switch (SurveyStack(check.sp, *resident->home).movability) {
    case Movability::kMovable:
      return resident;
    case Movability::kForeignFrame:
      Add(counts.foreign_frame, 1);
      break;
    case Movability::kBrokenChain:
      Add(counts.broken_chain, 1);
      break;
  }
  return nullptr;
}

// Makes `to`, which the caller has, the resident's home. Returns where the saved registers are now.
// The slot that it has left is the caller's.
void* Move(void* sp, Resident& resident, Slot& to) {
  Context& context = resident.context;
  auto* const hi = static_cast<char*>(context.stack_hi);
  const auto used = static_cast<size_t>(hi - static_cast<char*>(sp));
  char* const new_sp = to.hi - used;
  internal::NoteWrites(new_sp, to.hi);
  std::memcpy(new_sp, sp, used);
  // Tops are at page boundaries: what is aligned stays so.
  ShiftFramePointers(new_sp, to.hi - hi);
  // Before the old place is anybody's: who looks for the frames meanwhile looks from there.
  context.sp = new_sp;
  context.stack_lo = to.lo;
  context.stack_hi = to.hi;
  context.guard = GuardFor(to);
  resident.SetHome(&to);
  ++resident.moves;
  to.owner.store(Residence::Runs(resident), std::memory_order_release);
  Add(counts.moves, 1);
  Add(counts.bytes_moved, used);
  return new_sp;
}

// Whether this is an entry at which a test's stack moves: each, but of large stacks one for every
// 16 KiB, or deep recursion would take quadratic time.
bool IsTurnToMove(const StackCheck& check) {
  constexpr size_t kOften = 64 * 1024;
  constexpr size_t kPart = 16 * 1024;
  static constinit std::atomic<uint64_t> entries{0};
  const auto used = static_cast<size_t>(static_cast<char*>(check.context->stack_hi) -
                                        static_cast<char*>(check.sp));
  return used <= kOften || entries.fetch_add(1, std::memory_order_relaxed) % (used / kPart) == 0;
}

void* MoveForTest(const StackCheck& check) {
  if (!IsTurnToMove(check)) return nullptr;
  Resident* resident = MayMove(check);
  if (resident == nullptr) return nullptr;
  Slot& from = *resident->home;
  const bool trap = from.size_class == SizeClass::kLarge;
  Slot* to = trap                           ? traps.Take()
             : IsCopyClass(from.size_class) ? places.Take(from.size_class)
                                            : nullptr;
  if (to == nullptr) {
    Add(counts.no_slot, 1);
    return nullptr;
  }
  void* sp = Move(check.sp, *resident, *to);
  if (trap) {
    // Whoever else has its home there goes elsewhere: the word says that somebody runs there.
    from.owner.store(Slot::kTaken, std::memory_order_relaxed);
    traps.Set(from, check.sp);
  } else {
    std::memset(check.sp, kFill, static_cast<size_t>(from.hi - static_cast<char*>(check.sp)));
    places.GiveBack(from);
  }
  return sp;
}

// --- growth by copying ---

// A slot in which a stack can be `bytes` large before it reaches the limit. Null: the system gives
// none.
Slot* LargerPlace(SizeClass than, size_t bytes) {
  for (auto c = static_cast<size_t>(than) + 1; c < kSizeClasses; ++c) {
    const auto size_class = static_cast<SizeClass>(c);
    if (RoomIn(size_class) >= bytes) return places.Take(size_class);
  }
  return nullptr;
}

StackAnswer AtLimit(const StackCheck& check, const char* reason) {
  weft_stack_limit_reason = reason;
  const bool has_handler = weft_stack_limit_handler.load(std::memory_order_acquire) != nullptr;
  return {check.sp, has_handler ? StackAnswer::kLimit : StackAnswer::kGoOn};
}

// What does not grow in any other way goes on on a segment.
StackAnswer GrowBySegment(const StackCheck& check) {
  const char* reason = nullptr;
  const uintptr_t verdict = LinkSegment(check, &reason);
  return verdict != StackAnswer::kLimit ? StackAnswer{check.sp, verdict} : AtLimit(check, reason);
}

// Returns where the saved registers are now; null: the stack stays.
void* MoveToLarger(const StackCheck& check, size_t bytes) {
  Resident* resident = MayMove(check);
  if (resident == nullptr) return nullptr;
  Slot& from = *resident->home;
  Slot* to = LargerPlace(from.size_class, bytes);
  if (to == nullptr) {
    Add(counts.no_slot, 1);
    return nullptr;
  }
  void* sp = Move(check.sp, *resident, *to);
  to->small_parks = 0;
  to->checks_to_skip = 0;
  places.GiveBack(from);
  Add(counts.growths, 1);
  return sp;
}

StackAnswer Grow(const StackCheck& check, Slot& slot) {
  const size_t used = reinterpret_cast<uintptr_t>(slot.hi) - check.at.sp;
  const size_t most = std::min(MaxStack(), RoomIn(SizeClass::kLastCopy));
  if (check.wanted > most || used + check.wanted > most) return AtLimit(check, nullptr);

  // Whether it may takes time by the size of the stack, and a call in a loop may come here each
  // time: so after a no it is asked again after as many checks as it has parts of 16 KiB.
  constexpr size_t kPart = 16 * 1024;
  if (slot.checks_to_skip > 0) {
    --slot.checks_to_skip;
  } else if (void* sp = MoveToLarger(check, used + check.wanted); sp != nullptr) {
    return {sp, StackAnswer::kGoOn};
  } else {
    slot.checks_to_skip = used / kPart;
  }
  // Half of the room for callees that do not look at the limit is left for those.
  const auto lo = reinterpret_cast<uintptr_t>(slot.lo);
  const auto limit = reinterpret_cast<uintptr_t>(slot.hi) - LimitOf(slot);
  if (check.at.sp - check.wanted >= lo + (limit - lo) / 2) return {check.sp, StackAnswer::kGoOn};
  return GrowBySegment(check);
}

StackAnswer OnCheck(const StackCheck& check) {
  // A slot could not be had: this is in a few calls, or a signal handler in one of them. They have
  // the room for callees that do not look at the limit.
  if (InSlots()) return {check.sp, StackAnswer::kGoOn};
  Slot* slot = FindSlot(check.context->stack_lo);
  const bool poisoned = reinterpret_cast<uintptr_t>(check.context->guard) == kGuardPoison;
  const bool fits = check.fits || (poisoned && slot != nullptr && check.at.sp >= check.wanted &&
                                   check.at.sp - check.wanted >=
                                       reinterpret_cast<uintptr_t>(slot->hi - LimitOf(*slot)));
  if (fits && poisoned) {
    if (void* sp = MoveForTest(check); sp != nullptr) return {sp, StackAnswer::kGoOn};
  }
  if (fits) return {check.sp, StackAnswer::kGoOn};
  if (slot != nullptr && IsCopyClass(slot->size_class)) return Grow(check, *slot);
  // It has had all that a stack may have.
  if (slot == nullptr || slot->size_class == SizeClass::kLarge) return AtLimit(check, nullptr);
  return GrowBySegment(check);
}

}  // namespace

void InstallGrowth(const GrowHost& h) {
  host = h;
  places.Prepare();
  PrepareSegments();
  // Release: the prologue that finds the handler sees the host.
  weft_stack_grow_handler.store(OnCheck, std::memory_order_release);
}

void ReleaseGrowthSpares() {
  if (weft_current_context != nullptr) return;
  places.Release();
  ReleaseFreeSegments();
}

void MoveStacksAlways() {
  if (!kMayMove) return;
  PoisonGuards();
}

GrowStats GetGrowStats() {
  const auto value = [](const std::atomic<uint64_t>& count) {
    return count.load(std::memory_order_relaxed);
  };
  return {.moves = value(counts.moves),
          .growths = value(counts.growths),
          .bytes_moved = value(counts.bytes_moved),
          .kept_foreign_frame = value(counts.foreign_frame),
          .kept_broken_chain = value(counts.broken_chain),
          .kept_held = value(counts.held),
          .kept_no_slot = value(counts.no_slot)};
}

}  // namespace weft::stack
