// Slots: the places where goroutines run. A slot is a machine stack or, in mode `copying`, a pinned
// stack; they are reused while warm, and they are never given back to the system as addresses, only
// as memory.
//
//     weft::stack::SlotCache cache;                         // one per P
//     weft::stack::Slot* slot = weft::stack::Acquire(cache, weft::stack::DefaultSizeClass());
//     if (slot == nullptr) ... weft::stack::WhyNoSlot() ... // said, not crashed
//     weft::stack::Slot* pinned = weft::stack::AcquirePinned(cache);
//     MakeContext(context, *slot, pinned, entry, arg);
//     ...
//     weft::stack::Release(cache, slot);
//     weft::stack::ReleasePinned(cache, pinned);
//
// Sizes are of address space: memory is committed page by page as a stack first reaches it. A slot
// whose first page is touched takes 5.0 to 5.4 KiB in the dense classes (4.1 and 0.9 to 1.3 of page
// tables), 14.9 in kLarge, and 5.1 in kPinned (slots_benchmark).
#ifndef WEFT_STACK_SLOTS_H_
#define WEFT_STACK_SLOTS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "stack/context.h"
#include "stack/mode.h"

namespace weft::stack {

// The dense classes lie side by side, 68 KiB of guard below each. Slots of kLarge are 4 GiB apart,
// so that a stack grows where it is up to MaxStack(), and nothing else is anywhere near; there are
// 16,384 of those at most, and none where the address space is limited.
// kPinned is for pinned stacks: 256 KiB each, with a wide gap below, as nothing checks their
// pointer. kPinned64MiB and kPinned1GiB are for those who ask for more: a pinned stack can be
// neither moved nor continued elsewhere, so that it has all its addresses from the beginning, and
// the page tables of its top, a page of them, are nobody else's.
// kFirstCopy to kLastCopy are for stacks that grow by being copied (Growth): 64 KiB, and each class
// twice the size of the one before, up to 1 GiB. On both sides is a gap that is wider than a frame
// can be, so that pointers that the compiler has offset by an index can be told from others.
enum class SizeClass : uint8_t {
  k64KiB,
  k256KiB,
  k1MiB,
  k8MiB,
  k64MiB,
  kLarge,
  kPinned,
  kPinned64MiB,
  kPinned1GiB,
  kFirstCopy,
  kLastCopy = kFirstCopy + 14,
};
inline constexpr size_t kSizeClasses = static_cast<size_t>(SizeClass::kLastCopy) + 1;

constexpr bool IsCopyClass(SizeClass size_class) { return size_class >= SizeClass::kFirstCopy; }
constexpr bool IsPinnedClass(SizeClass size_class) {
  return size_class >= SizeClass::kPinned && size_class <= SizeClass::kPinned1GiB;
}

// How stacks grow that may rest and move.
enum class Growth : uint8_t {
  kInPlace,  // in slots of kLarge
  kCopy,     // to a slot of twice the size, where address space or commit is limited
};
// kCopy from the start where RLIMIT_AS is set, or vm.overcommit_memory is 2, or under Valgrind,
// which has 128 GiB of addresses for a program; else kInPlace. To be set before any slot is used.
// Where stacks do not move it means nothing.
Growth StackGrowth();
void SetStackGrowth(Growth growth);

// What such a stack begins with.
inline SizeClass RestingSizeClass() {
  return StackGrowth() == Growth::kCopy ? SizeClass::kFirstCopy : SizeClass::kLarge;
}

// What a goroutine gets that asked for nothing: kLarge in mode `copying`, else k256KiB.
constexpr SizeClass DefaultSizeClass() {
  return kHasPinnedStack ? SizeClass::kLarge : SizeClass::k256KiB;
}

// The class for a goroutine that asked for `bytes` of stack: the smallest that holds them, or
// kLarge, the largest there is. In mode `copying` always kLarge: its unused part costs nothing.
SizeClass SizeClassFor(size_t bytes);

// The class of the pinned stack for such a goroutine: the smallest that holds `bytes`, or
// kPinned1GiB. For 0, who asks for nothing, kPinned.
SizeClass PinnedClassFor(size_t bytes);

// Bytes of stack that a slot of the class has.
size_t StackBytes(SizeClass size_class);

struct Segment;

struct alignas(64) Slot {
  // Constant once the slot is made. The stack is [lo, hi). Accesses just outside of it fault.
  char* lo = nullptr;
  char* hi = nullptr;
  SizeClass size_class = SizeClass::k256KiB;

  // Who may touch the bytes of the stack: kFree, or what residence.h says. Slots whose users do not
  // rest stay kFree.
  static constexpr uint64_t kFree = 0;
  static constexpr uint64_t kTaken = 2;  // by nobody who runs there
  std::atomic<uint64_t> owner{kFree};

  // Whether somebody will find it once it is free: a P that lists it (residence.h), or a cache. For
  // whoever has made the owner word RUN.
  bool managed = false;

  // In which memory it is, see SlotCache::SetPlace(): of the cache that had it first. Under the
  // lock of slots.cc.
  uint8_t place = 0;

  // How often who was here has been copied out. Likewise.
  uint32_t rests = 0;

  // The pinned stack that whoever had this slot last has left for the next. Likewise.
  Slot* spare_pinned = nullptr;

  // For grow.cc: in a list of those that it keeps, and where the used part began that was left.
  Slot* next_kept = nullptr;
  char* left_at = nullptr;

  // The one of its class that was made before it.
  Slot* made_before = nullptr;

  // The segment that this is (segment.h), null for all other slots.
  Segment* segment = nullptr;

  // For grow.cc: at how many checks it need not ask again whether the stack may move.
  size_t checks_to_skip = 0;

  // At how many parks in a row its stack has been small, for whoever has made the owner word RUN.
  uint32_t small_parks = 0;

  // For slots.cc, under its lock. A free slot may be in use by somebody whose home it is.
  Slot* newer = nullptr;
  Slot* older = nullptr;
  absl::Time freed_at;
};

// A P's own warm slots, last out first in. Not thread-safe: for the holder of the P.
class SlotCache {
 public:
  SlotCache();
  ~SlotCache();  // drains
  SlotCache(const SlotCache&) = delete;
  SlotCache& operator=(const SlotCache&) = delete;

  // Where the memory is of who uses this cache, on a machine that has several (sched/topology.h):
  // 0, as at first, to kPlaces - 1. Memory is where it is first touched, which is the user's part;
  // from now on the cache is filled with slots of this place, or new ones, and not with what has
  // been in use elsewhere as long as there can be new ones. What other caches release of this
  // place's slots comes back here. For the holder of the cache.
  static constexpr int kPlaces = 16;
  void SetPlace(int place) { place_ = static_cast<uint8_t>(place); }

 private:
  friend Slot* Acquire(SlotCache& cache, SizeClass size_class);
  friend void Release(SlotCache& cache, Slot* slot);
  friend void Drain(SlotCache& cache);
  friend struct Central;

  static constexpr uint32_t kCapacity = 64;
  struct Stack {
    // Read by GetStats() as well.
    std::atomic<uint32_t> count{0};
    std::array<Slot*, kCapacity> slots;
  };
  std::array<Stack, kSizeClasses> stacks_;
  uint8_t place_ = 0;
  SlotCache* next_ = nullptr;
  SlotCache* previous_ = nullptr;
};

// A slot of the class: the cache's warmest, else one freed by others, else a new one. When kLarge
// has run out it is a k256KiB, and when a larger class of pinned stacks has, the next smaller one:
// see slot->size_class. Null when the system gives no more;
// WhyNoSlot() then says why. About 2 ns from the cache; up to 30 us with the page faults of a new
// one.
Slot* Acquire(SlotCache& cache, SizeClass size_class);

// Returns a slot whose stack nobody uses any more, to any cache. Its memory stays warm.
void Release(SlotCache& cache, Slot* slot);

// A pinned stack to go with a slot; null where the mode has none, and where the system gives no
// more.
inline Slot* AcquirePinned(SlotCache& cache, SizeClass size_class = SizeClass::kPinned) {
  return kHasPinnedStack ? Acquire(cache, size_class) : nullptr;
}

// Null is none.
inline void ReleasePinned(SlotCache& cache, Slot* pinned) {
  if (pinned != nullptr) Release(cache, pinned);
}

// Gives all of the cache's slots to the others, as when its P goes away.
void Drain(SlotCache& cache);

// Gives the memory of slots that nobody has used for `idle_for` back to the system; the addresses
// stay. Not of those in caches, nor of large ones where stacks rest. Returns how many slots that
// were. For a monitor: each costs 1 to 4 us.
size_t TrimIdle(absl::Duration idle_for);

// The same for large ones where stacks rest. A goroutine may come home to a free one any moment, so
// this is for who holds some P (ResidenceSharing).
size_t TrimIdleRestPlaces(absl::Duration idle_for);

// Gives the pages below `used_from` back to the system, where some of the first 16 of them are
// there: on a stack that was deeper once they are. Nothing where that is no address on the stack,
// nor its end. For who has the slot. True: it did.
bool GiveBackBelow(Slot& slot, const void* used_from);

// The slot of a class that was made last, null: none. From there `made_before` leads to all of
// them. Any thread.
Slot* NewestSlot(SizeClass size_class);

// The slot to whose stacks, or the gaps that guard them, `address` belongs; null if none.
// Lock-free, and for signal handlers too. The answer stays valid for ever: descriptors are never
// freed.
Slot* FindSlot(const void* address);

// In which part of its slot an address lies.
enum class SlotPart { kStack, kGuard };
SlotPart PartOf(const Slot& slot, const void* address);

// The most that a goroutine's stack may grow to; 1 GiB unless set, and at most that. It takes
// effect for a goroutine when it next gets a slot. Only instrumented code is bounded by it, at
// GuardFor(); other code, and all code in mode `fixed`, goes on to the end of the slot. Returns the
// former value.
size_t SetMaxStack(size_t bytes);
size_t MaxStack();

// What Context::guard should be on this slot: the address below which an instrumented function may
// not extend the stack. Null in mode `fixed`. Below it there is always room for a callee that is
// not instrumented, and so does not look: a quarter of the slot, at most 256 KiB. (glibc's largest
// frames are those of the resolver and of locale code, up to 64 KiB and rarely two at once.)
void* GuardFor(const Slot& slot);

// Has every prologue call __morestack, from the next use of each slot on (grow.h, for tests):
// GuardFor() then answers kGuardPoison, while LimitOf() stays what it is. The number is above every
// address, and is not kGuardRequest (morestack.h).
inline constexpr uintptr_t kGuardPoison = INT64_MAX - 1;
void PoisonGuards();
namespace internal {
extern constinit std::atomic<bool> poison_guards;
}
inline bool GuardsArePoisoned() { return internal::poison_guards.load(std::memory_order_relaxed); }

// Whether this thread is in one of the functions above, or of rest.h, with a lock of theirs in
// hand, so that none of them may be called: for what interrupts other code.
bool InSlots();

// MakeContext (context.h) on a slot, with its limit. `pinned` may be null where the mode has none.
inline void MakeContext(Context& context, const Slot& slot, const Slot* pinned, Entry entry,
                        void* arg) {
  MakeContext(context, slot.lo, slot.hi, pinned == nullptr ? nullptr : pinned->lo,
              pinned == nullptr ? nullptr : pinned->hi, GuardFor(slot), entry, arg);
}

// How large a stack on this slot can get before it has to move, or has reached MaxStack().
size_t LimitOf(const Slot& slot);
// The same for any slot of the class, before it reaches MaxStack().
size_t RoomIn(SizeClass size_class);

struct Stats {
  struct Class {
    size_t stack_bytes = 0;
    size_t made = 0;     // in_use + cached + central
    size_t in_use = 0;   // handed out
    size_t cached = 0;   // in a P's cache
    size_t central = 0;  // free for all, trimmed ones among them
    size_t trimmed = 0;  // of these, without memory
  };
  std::array<Class, kSizeClasses> classes;
  size_t bytes_reserved = 0;   // address space of all slots and gaps
  size_t mappings = 0;         // how many of vm.max_map_count they take
  bool guard_markers = false;  // guards by MADV_GUARD_INSTALL; else all by mprotect
};
// A snapshot, from any thread. `in_use` and `cached` are approximate while other threads run.
Stats GetStats();

// Why the last Acquire() that returned null did so, in words for the program's user.
const char* WhyNoSlot();

}  // namespace weft::stack

#endif  // WEFT_STACK_SLOTS_H_
