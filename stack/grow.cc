#include "stack/grow.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "stack/frames.h"
#include "stack/internal/writer.h"
#include "stack/morestack.h"
#include "stack/slots.h"

namespace weft::stack {

namespace {

// Constant once the handler is set.
GrowHost host;

struct Counts {
  std::atomic<uint64_t> moves{0};
  std::atomic<uint64_t> bytes_moved{0};
  std::atomic<uint64_t> words_shifted{0};
  std::atomic<uint64_t> foreign_frame{0};
  std::atomic<uint64_t> broken_chain{0};
  std::atomic<uint64_t> doubtful_word{0};
  std::atomic<uint64_t> guessed_word{0};
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
  // A slot that the caller has from now on, in nobody's name. Null: none.
  Slot* Take(SizeClass size_class) {
    // Acquire() would want the lock that the interrupted code has.
    if (InSlots()) return nullptr;
    std::lock_guard<std::mutex> hold(lock_);
    if (cache_ == nullptr) cache_ = new SlotCache;
    // A free slot may be in use by somebody whose home it is: the next one then, and those go back.
    Slot* skipped = nullptr;
    Slot* slot;
    while ((slot = Acquire(*cache_, size_class)) != nullptr) {
      uint64_t owner = Slot::kFree;
      // Acquire: with who has left it.
      if (slot->owner.compare_exchange_strong(owner, kTaken, std::memory_order_acquire,
                                              std::memory_order_relaxed)) {
        break;
      }
      slot->next_kept = skipped;
      skipped = slot;
    }
    while (skipped != nullptr) {
      Slot* next = skipped->next_kept;
      Release(*cache_, skipped);
      skipped = next;
    }
    // Nobody lists it, or will find it when it is free, unless who has it then sees to that.
    if (slot != nullptr) slot->managed = false;
    return slot;
  }

  // The owner word of a slot that is here, or is being moved to: that of a resident which runs.
  static const uint64_t kTaken;

 private:
  std::mutex lock_;
  SlotCache* cache_ = nullptr;
};
constinit Resident mover_itself;
const uint64_t Places::kTaken = Residence::Runs(mover_itself);
constinit Places places;

// For tests: the slots that stacks have left, all of kLarge, in the order in which they did. Their
// used part is filled, and has to be found so when they are used again; and every eighth is
// inaccessible meanwhile (not all of them: that takes two system calls, and the other threads'
// processors have to be interrupted for each).
class Traps {
 public:
  // The caller has the slot, and left it at `sp`.
  void Set(Slot& slot, void* sp) {
    slot.left_at = static_cast<char*>(sp);
    std::memset(sp, kFill, static_cast<size_t>(slot.hi - slot.left_at));
    std::lock_guard<std::mutex> hold(lock_);
    if (set_++ % kInaccessible == 0) {
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
  static constexpr int kFill = 0xdb;
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
  if (resident == nullptr) {
    Add(counts.held, 1);
    return nullptr;
  }
  switch (SurveyStack(check.sp, check.context->stack_hi).movability) {
    case Movability::kMovable:
      return resident;
    case Movability::kForeignFrame:
      Add(counts.foreign_frame, 1);
      break;
    case Movability::kBrokenChain:
      Add(counts.broken_chain, 1);
      break;
    case Movability::kDoubtfulWord:
      Add(counts.doubtful_word, 1);
      break;
    case Movability::kGuessedWord:
      Add(counts.guessed_word, 1);
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
  auto* words = reinterpret_cast<uintptr_t*>(to.hi - used);
  std::memcpy(words, sp, used);
  // Tops are at page boundaries: what is aligned stays so.
  const size_t shifted = ShiftPointers(words, used / sizeof *words, reinterpret_cast<uintptr_t>(sp),
                                       reinterpret_cast<uintptr_t>(hi), to.hi - hi);
  context.stack_lo = to.lo;
  context.stack_hi = to.hi;
  context.guard = GuardFor(to);
  resident.home = &to;
  to.owner.store(Residence::Runs(resident), std::memory_order_release);
  Add(counts.moves, 1);
  Add(counts.bytes_moved, used);
  Add(counts.words_shifted, shifted);
  return words;
}

void* MoveForTest(const StackCheck& check) {
  Resident* resident = MayMove(check);
  if (resident == nullptr) return nullptr;
  Slot& from = *resident->home;
  Slot* to = from.size_class == SizeClass::kLarge ? traps.Take() : nullptr;
  if (to == nullptr) {
    Add(counts.no_slot, 1);
    return nullptr;
  }
  void* sp = Move(check.sp, *resident, *to);
  // Whoever else would have it at home there goes elsewhere: its word says that somebody runs
  // there.
  from.owner.store(Places::kTaken, std::memory_order_relaxed);
  traps.Set(from, check.sp);
  return sp;
}

StackAnswer OnCheck(const StackCheck& check) {
  const Slot* slot = FindSlot(check.context->stack_lo);
  const bool poisoned = reinterpret_cast<uintptr_t>(check.context->guard) == kGuardPoison;
  const bool fits = check.fits || (poisoned && slot != nullptr && check.at.sp >= check.wanted &&
                                   check.at.sp - check.wanted >=
                                       reinterpret_cast<uintptr_t>(slot->hi - LimitOf(*slot)));
  if (fits && poisoned) {
    if (void* sp = MoveForTest(check); sp != nullptr) return {sp, StackVerdict::kGoOn};
  }
  if (fits) return {check.sp, StackVerdict::kGoOn};
  const bool has_handler = weft_stack_limit_handler.load(std::memory_order_acquire) != nullptr;
  return {check.sp, has_handler ? StackVerdict::kLimit : StackVerdict::kGoOn};
}

}  // namespace

void InstallGrowth(const GrowHost& h) {
  host = h;
  // Release: the prologue that finds the handler sees the host.
  weft_stack_grow_handler.store(OnCheck, std::memory_order_release);
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
          .bytes_moved = value(counts.bytes_moved),
          .words_shifted = value(counts.words_shifted),
          .kept_foreign_frame = value(counts.foreign_frame),
          .kept_broken_chain = value(counts.broken_chain),
          .kept_doubtful_word = value(counts.doubtful_word),
          .kept_guessed_word = value(counts.guessed_word),
          .kept_held = value(counts.held),
          .kept_no_slot = value(counts.no_slot)};
}

}  // namespace weft::stack
