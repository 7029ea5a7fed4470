#include "stack/slots.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <new>

#include "absl/time/clock.h"
#include "stack/internal/arena.h"
#include "stack/internal/memcheck.h"
#include "stack/internal/stacks_lock.h"

#if WEFT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif

namespace weft::stack {

using internal::Arena;
using internal::GuardMethod;
using internal::Piece;
using internal::Shape;
using internal::StacksLock;

namespace internal {
constinit std::atomic<bool> poison_guards{false};
}

namespace {

constexpr size_t kKiB = 1024;
constexpr size_t kMiB = 1024 * kKiB;
constexpr size_t kGiB = 1024 * kMiB;

constexpr size_t kMaxMargin = 256 * kKiB;
constexpr size_t kMaxStackBytes = kGiB;

// Room below the guard for callees that do not look at it. Where the smallest stacks are for all
// goroutines, half of it: 32 KiB do for nearly all of libc.
constexpr size_t Margin(size_t stack_bytes, SizeClass size_class) {
  return std::min(stack_bytes / (IsCopyClass(size_class) ? 2 : 4), kMaxMargin);
}

// 17 pages: wider than most frames that skip a guard, and an odd number (Shape).
constexpr size_t kDenseGap = 68 * kKiB;

constexpr Shape Dense(size_t size, size_t gap) {
  return {.size = size,
          .pitch = size + gap,
          .spare = 0,
          .stagger = 0,
          .limit = UINT32_MAX,
          .wanted = GuardMethod::kMarkers};
}

// In the middle of 4 GiB, gigabytes from the next. By mprotect: markers would need two pages of
// page tables beside the two that a slot's top takes, against the 200 bytes of a mapping; and
// 16,384 slots leave half of the mappings.
constexpr Shape kLargeShape = {.size = kMaxStackBytes + kMaxMargin,
                               .pitch = 4 * kGiB,
                               .spare = kGiB + kGiB / 2,
                               .stagger = 256,
                               .limit = 16384,
                               .wanted = GuardMethod::kMprotect};

// Nothing checks a pinned stack's pointer, so the gap below must be wider than a frame: the build
// refuses frames above 256 KiB. A wider one would leave something for alloca too, but markers take
// 36 ns and 8 bytes of page tables a page, and there may be a million of these: too many for
// mappings of their own.
//
// The ordinary one's addresses are no more because of page tables: one of those covers 2 MiB, and a
// pinned stack that has only its top in use shares it with three others. With 1 MiB of addresses it
// would take 2.5 KiB of page tables instead of 1, in each of a million goroutines, for recursion
// that would still be no deeper than four times as much.
constexpr size_t kPinnedGap = 260 * kKiB;
constexpr Shape kPinnedShape = Dense(256 * kKiB, kPinnedGap);

// On both sides, the other one being the next slot's.
constexpr size_t kCopyGap = 260 * kKiB;
constexpr Shape CopyShape(int doublings) { return Dense(64 * kKiB << doublings, kCopyGap); }

constexpr std::array<Shape, kSizeClasses> kShapes = {
    Dense(64 * kKiB, kDenseGap),
    Dense(256 * kKiB, kDenseGap),
    Dense(kMiB, kDenseGap),
    Dense(8 * kMiB, kDenseGap),
    Dense(64 * kMiB, kDenseGap),
    kLargeShape,
    kPinnedShape,
    Dense(64 * kMiB, kPinnedGap),
    Dense(kGiB, kPinnedGap),
    CopyShape(0),
    CopyShape(1),
    CopyShape(2),
    CopyShape(3),
    CopyShape(4),
    CopyShape(5),
    CopyShape(6),
    CopyShape(7),
    CopyShape(8),
    CopyShape(9),
    CopyShape(10),
    CopyShape(11),
    CopyShape(12),
    CopyShape(13),
    CopyShape(14),
};

// What there is instead where a class gives no more; the class itself: nothing. For a goroutine
// that gets no large slot: a quarter of what it gets is the margin, and it grows by segments, so
// the smallest class would be too small for what ordinary libraries use.
constexpr SizeClass InsteadOf(SizeClass size_class) {
  switch (size_class) {
    case SizeClass::kLarge:
      return SizeClass::k256KiB;
    case SizeClass::kPinned64MiB:
      return SizeClass::kPinned;
    case SizeClass::kPinned1GiB:
      return SizeClass::kPinned64MiB;
    default:
      return size_class;
  }
}

constexpr size_t Index(SizeClass size_class) { return static_cast<size_t>(size_class); }

std::atomic<size_t> max_stack{kMaxStackBytes};
std::atomic<int> stack_growth{-1};  // a Growth, once it is known

// Under asan a stack that is handed out is searched for pointers when leaks are looked for, and
// forgets what the frames of its former user had poisoned.
void AsanAcquired([[maybe_unused]] Slot* slot) {
#if WEFT_ASAN
  __lsan_register_root_region(slot->lo, slot->hi - slot->lo);
#endif
}

void AsanReleased([[maybe_unused]] Slot* slot) {
#if WEFT_ASAN
  __lsan_unregister_root_region(slot->lo, slot->hi - slot->lo);
  // A stack that was left by SwitchFinal has no poison. One that was abandoned has at its top.
  const size_t bytes = std::min<size_t>(slot->hi - slot->lo, 8 * kMiB);
  __asan_unpoison_memory_region(slot->hi - bytes, bytes);
#endif
}

// Slots in the order in which they were freed.
struct FreeList {
  Slot* newest = nullptr;
  Slot* oldest = nullptr;
  size_t size = 0;

  void PushNewest(Slot* slot) {
    slot->newer = nullptr;
    slot->older = newest;
    (newest != nullptr ? newest->newer : oldest) = slot;
    newest = slot;
    ++size;
  }
  Slot* PopNewest() {
    Slot* slot = newest;
    if (slot == nullptr) return nullptr;
    newest = slot->older;
    (newest != nullptr ? newest->newer : oldest) = nullptr;
    --size;
    return slot;
  }
  Slot* PopOldest() {
    Slot* slot = oldest;
    if (slot == nullptr) return nullptr;
    oldest = slot->newer;
    (oldest != nullptr ? oldest->older : newest) = nullptr;
    --size;
    return slot;
  }
};

}  // namespace

// What all caches share: the free slots that none of them holds, and the arenas. It is taken for a
// batch of slots or for a new one, whose system calls cost far more than the lock. Needs no
// destruction.
struct Central {
  struct Class {
    constexpr explicit Class(const Shape& shape) : arena(shape) {}
    Arena arena;
    std::array<FreeList, SlotCache::kPlaces> warm;  // by place
    FreeList trimmed;                               // which have no memory anywhere
    size_t made = 0;
    std::atomic<Slot*> newest{nullptr};
    Slot* unfinished = nullptr;  // a descriptor without a stack
  };

  StacksLock lock;
  std::array<Class, kSizeClasses> classes = {
      Class(kShapes[0]),  Class(kShapes[1]),  Class(kShapes[2]),  Class(kShapes[3]),
      Class(kShapes[4]),  Class(kShapes[5]),  Class(kShapes[6]),  Class(kShapes[7]),
      Class(kShapes[8]),  Class(kShapes[9]),  Class(kShapes[10]), Class(kShapes[11]),
      Class(kShapes[12]), Class(kShapes[13]), Class(kShapes[14]), Class(kShapes[15]),
      Class(kShapes[16]), Class(kShapes[17]), Class(kShapes[18]), Class(kShapes[19]),
      Class(kShapes[20]), Class(kShapes[21]), Class(kShapes[22]), Class(kShapes[23])};
  SlotCache* caches = nullptr;

  // Memory for descriptors: a piece of a mapping, as malloc may be anybody's.
  Slot* spare_descriptors = nullptr;
  size_t spare_count = 0;

  Slot* NewDescriptor();
  Slot* NewSlot(SizeClass size_class);
  void Refill(SlotCache::Stack& stack, SizeClass size_class, uint8_t place);
  void Flush(SlotCache::Stack& stack, SizeClass size_class, uint32_t how_many);
  size_t Trim(Class& c, absl::Duration idle_for);
  size_t Trim(Class& c, FreeList& warm, absl::Duration idle_for);
  size_t TrimAgain(Class& c);
  void Register(SlotCache* cache);
  void Unregister(SlotCache* cache);
  Stats Snapshot();
};

namespace {

constinit Central central;

// The pinned stack that goes with a free slot has nothing on it either. For who has the slot.
void GiveBackSpare(Slot& slot) {
  if (Slot* pinned = slot.spare_pinned; pinned != nullptr) GiveBackBelow(*pinned, pinned->hi);
}

}  // namespace

Slot* Central::NewDescriptor() {
  constexpr size_t kBatch = 512;
  if (spare_count == 0) {
    void* memory = mmap(nullptr, kBatch * sizeof(Slot), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    spare_descriptors = static_cast<Slot*>(memory);
    spare_count = kBatch;
  }
  --spare_count;
  return new (spare_descriptors++) Slot;
}

Slot* Central::NewSlot(SizeClass size_class) {
  Class& c = classes[Index(size_class)];
  // One that got no stack the last time is the first to get one.
  if (c.unfinished == nullptr) c.unfinished = NewDescriptor();
  Slot* slot = c.unfinished;
  Piece stack;
  if (slot == nullptr || !c.arena.Make(slot, stack)) return nullptr;
  slot->size_class = size_class;
  slot->lo = stack.lo;
  slot->hi = stack.hi;
  if (!IsPinnedClass(size_class)) internal::NoteStack(slot->lo, slot->hi);
  slot->made_before = c.newest.load(std::memory_order_relaxed);
  // Release: with NewestSlot().
  c.newest.store(slot, std::memory_order_release);
  c.unfinished = nullptr;
  ++c.made;
  return slot;
}

void Central::Refill(SlotCache::Stack& stack, SizeClass size_class, uint8_t place) {
  std::lock_guard<StacksLock> hold(lock);
  Class& c = classes[Index(size_class)];
  uint32_t count = 0;
  while (count < SlotCache::kCapacity / 2 && c.warm[place].size > 0) {
    stack.slots[count++] = c.warm[place].PopNewest();
  }
  // The newest is to be on top.
  std::reverse(stack.slots.begin(), stack.slots.begin() + count);
  // One without memory at a time: its faults cost more than the lock, and it may not be needed.
  if (count == 0) {
    Slot* slot = c.trimmed.PopNewest();
    if (slot == nullptr) slot = NewSlot(size_class);
    if (slot != nullptr) {
      slot->place = place;
    } else {
      // Better far than none.
      for (FreeList& warm : c.warm) {
        if (slot == nullptr) slot = warm.PopNewest();
      }
    }
    if (slot != nullptr) stack.slots[count++] = slot;
  }
  stack.count.store(count, std::memory_order_relaxed);
}

void Central::Flush(SlotCache::Stack& stack, SizeClass size_class, uint32_t how_many) {
  const absl::Time now = absl::Now();
  const uint32_t count = stack.count.load(std::memory_order_relaxed);
  {
    std::lock_guard<StacksLock> hold(lock);
    auto& warm = classes[Index(size_class)].warm;
    for (uint32_t i = 0; i < how_many; ++i) {
      stack.slots[i]->freed_at = now;
      warm[stack.slots[i]->place].PushNewest(stack.slots[i]);
    }
  }
  std::move(stack.slots.begin() + how_many, stack.slots.begin() + count, stack.slots.begin());
  stack.count.store(count - how_many, std::memory_order_relaxed);
}

void Central::Register(SlotCache* cache) {
  std::lock_guard<StacksLock> hold(lock);
  cache->next_ = caches;
  if (caches != nullptr) caches->previous_ = cache;
  caches = cache;
}

void Central::Unregister(SlotCache* cache) {
  std::lock_guard<StacksLock> hold(lock);
  (cache->previous_ != nullptr ? cache->previous_->next_ : caches) = cache->next_;
  if (cache->next_ != nullptr) cache->next_->previous_ = cache->previous_;
}

Stats Central::Snapshot() {
  std::lock_guard<StacksLock> hold(lock);
  Stats stats;
  for (size_t i = 0; i < kSizeClasses; ++i) {
    const Class& c = classes[i];
    Stats::Class& s = stats.classes[i];
    s.stack_bytes = kShapes[i].size;
    s.made = c.made;
    s.trimmed = c.trimmed.size;
    s.central = c.trimmed.size;
    for (const FreeList& warm : c.warm) s.central += warm.size;
    for (const SlotCache* cache = caches; cache != nullptr; cache = cache->next_) {
      s.cached += cache->stacks_[i].count.load(std::memory_order_relaxed);
    }
    // The caches' counts are read while their owners change them.
    s.in_use = s.made - std::min(s.made, s.central + s.cached);
  }
  const internal::ArenaTotals totals = internal::GetArenaTotals();
  stats.bytes_reserved = totals.bytes_reserved;
  stats.mappings = totals.mappings;
  stats.guard_markers = totals.guard_markers;
  return stats;
}

SizeClass SizeClassFor(size_t bytes) {
  if (kHasPinnedStack) return SizeClass::kLarge;
  for (size_t i = 0; i < Index(SizeClass::kLarge); ++i) {
    if (bytes <= kShapes[i].size) return static_cast<SizeClass>(i);
  }
  return SizeClass::kLarge;
}

SizeClass PinnedClassFor(size_t bytes) {
  for (const SizeClass size_class : {SizeClass::kPinned, SizeClass::kPinned64MiB}) {
    if (bytes <= kShapes[Index(size_class)].size) return size_class;
  }
  return SizeClass::kPinned1GiB;
}

size_t StackBytes(SizeClass size_class) { return kShapes[Index(size_class)].size; }

SlotCache::SlotCache() { central.Register(this); }

SlotCache::~SlotCache() {
  Drain(*this);
  central.Unregister(this);
}

Slot* Acquire(SlotCache& cache, SizeClass size_class) {
  SlotCache::Stack& stack = cache.stacks_[Index(size_class)];
  uint32_t count = stack.count.load(std::memory_order_relaxed);
  if (count == 0) {
    central.Refill(stack, size_class, cache.place_);
    count = stack.count.load(std::memory_order_relaxed);
    if (count == 0) {
      const SizeClass instead = InsteadOf(size_class);
      return instead == size_class ? nullptr : Acquire(cache, instead);
    }
  }
  Slot* slot = stack.slots[count - 1];
  stack.count.store(count - 1, std::memory_order_relaxed);
  AsanAcquired(slot);
  return slot;
}

void Release(SlotCache& cache, Slot* slot) {
  AsanReleased(slot);
  SlotCache::Stack& stack = cache.stacks_[Index(slot->size_class)];
  uint32_t count = stack.count.load(std::memory_order_relaxed);
  if (count == SlotCache::kCapacity) {
    central.Flush(stack, slot->size_class, SlotCache::kCapacity / 2);
    count = stack.count.load(std::memory_order_relaxed);
  }
  stack.slots[count] = slot;
  stack.count.store(count + 1, std::memory_order_relaxed);
}

void Drain(SlotCache& cache) {
  for (size_t i = 0; i < kSizeClasses; ++i) {
    SlotCache::Stack& stack = cache.stacks_[i];
    const uint32_t count = stack.count.load(std::memory_order_relaxed);
    if (count > 0) central.Flush(stack, static_cast<SizeClass>(i), count);
  }
}

size_t Central::Trim(Class& c, absl::Duration idle_for) {
  size_t trimmed = 0;
  for (FreeList& warm : c.warm) trimmed += Trim(c, warm, idle_for);
  return trimmed;
}

size_t Central::Trim(Class& c, FreeList& warm, absl::Duration idle_for) {
  const absl::Time now = absl::Now();
  size_t trimmed = 0;
  // One at a time, so that nobody waits for more than one list operation.
  for (;;) {
    Slot* slot = nullptr;
    {
      std::lock_guard<StacksLock> hold(lock);
      if (warm.oldest == nullptr || warm.oldest->freed_at > now - idle_for) break;
      slot = warm.PopOldest();
    }
    // Acquire: pairs with the release of whoever was there last.
    uint64_t owner = Slot::kFree;
    const bool is_free = slot->owner.compare_exchange_strong(
        owner, Slot::kTaken, std::memory_order_seq_cst, std::memory_order_relaxed);
    if (is_free) {
      madvise(slot->lo, slot->hi - slot->lo, MADV_DONTNEED);
      GiveBackSpare(*slot);
      slot->owner.store(Slot::kFree, std::memory_order_release);
      ++trimmed;
    }
    std::lock_guard<StacksLock> hold(lock);
    // Somebody has come home to it: it was in use after all.
    if (!is_free) slot->freed_at = now + absl::Nanoseconds(1);
    (is_free ? c.trimmed : warm).PushNewest(slot);
  }
  return trimmed;
}

// Those that somebody has come home to, and left for good, since they were trimmed.
size_t Central::TrimAgain(Class& c) {
  size_t left = 0;
  {
    std::lock_guard<StacksLock> hold(lock);
    left = c.trimmed.size;
  }
  size_t trimmed = 0;
  for (; left > 0; --left) {
    Slot* slot = nullptr;
    {
      std::lock_guard<StacksLock> hold(lock);
      slot = c.trimmed.PopOldest();
    }
    if (slot == nullptr) break;
    uint64_t owner = Slot::kFree;
    if (slot->owner.compare_exchange_strong(owner, Slot::kTaken, std::memory_order_seq_cst,
                                            std::memory_order_relaxed)) {
      if (GiveBackBelow(*slot, slot->hi)) ++trimmed;
      GiveBackSpare(*slot);
      slot->owner.store(Slot::kFree, std::memory_order_release);
    }
    std::lock_guard<StacksLock> hold(lock);
    c.trimmed.PushNewest(slot);
  }
  return trimmed;
}

size_t TrimIdle(absl::Duration idle_for) {
  size_t trimmed = 0;
  for (Central::Class& c : central.classes) {
    if (kMayMove && &c == &central.classes[Index(RestingSizeClass())]) continue;
    trimmed += central.Trim(c, idle_for);
  }
  return trimmed;
}

size_t TrimIdleRestPlaces(absl::Duration idle_for) {
  if (!kMayMove) return 0;
  Central::Class& c = central.classes[Index(RestingSizeClass())];
  return central.Trim(c, idle_for) + central.TrimAgain(c);
}

bool GiveBackBelow(Slot& slot, const void* used_from) {
  constexpr size_t kPage = 4096;
  constexpr size_t kLook = 16;
  const auto* const from = static_cast<const char*>(used_from);
  if (from < slot.lo || from > slot.hi) return false;
  auto* const end = reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(used_from) & ~(kPage - 1));
  std::array<unsigned char, kLook> resident{};
  const size_t look = std::min(kLook * kPage, static_cast<size_t>(end - slot.lo));
  if (look == 0 || mincore(end - look, look, resident.data()) != 0) return false;
  const bool any = std::any_of(resident.begin(), resident.end(),
                               [](unsigned char page) { return (page & 1) != 0; });
  return any && madvise(slot.lo, static_cast<size_t>(end - slot.lo), MADV_DONTNEED) == 0;
}

Slot* NewestSlot(SizeClass size_class) {
  return central.classes[Index(size_class)].newest.load(std::memory_order_acquire);
}

Slot* FindSlot(const void* address) { return internal::FindOwner(address); }

SlotPart PartOf(const Slot& slot, const void* address) {
  const auto* byte = static_cast<const char*>(address);
  return byte >= slot.lo && byte < slot.hi ? SlotPart::kStack : SlotPart::kGuard;
}

size_t SetMaxStack(size_t bytes) {
  return max_stack.exchange(std::min(bytes, kMaxStackBytes), std::memory_order_relaxed);
}

size_t MaxStack() { return max_stack.load(std::memory_order_relaxed); }

void* GuardFor(const Slot& slot) {
  if (!kHasGuardWord) return nullptr;
  if (GuardsArePoisoned()) [[unlikely]]
    return reinterpret_cast<void*>(kGuardPoison);
  return slot.hi - LimitOf(slot);
}

size_t RoomIn(SizeClass size_class) {
  const size_t size = StackBytes(size_class);
  return size - Margin(size, size_class);
}

size_t LimitOf(const Slot& slot) {
  const size_t size = slot.hi - slot.lo;
  return kHasGuardWord ? std::min(size - Margin(size, slot.size_class), MaxStack()) : size;
}

Growth StackGrowth() {
  int growth = stack_growth.load(std::memory_order_relaxed);
  if (growth < 0) {
    SetStackGrowth(kMayMove && internal::AddressesAreLimited() ? Growth::kCopy : Growth::kInPlace);
    growth = stack_growth.load(std::memory_order_relaxed);
  }
  return static_cast<Growth>(growth);
}

void SetStackGrowth(Growth growth) {
  stack_growth.store(static_cast<int>(growth), std::memory_order_relaxed);
}

void PoisonGuards() { internal::poison_guards.store(true, std::memory_order_relaxed); }

bool InSlots() { return StacksLock::HeldHere(); }

Stats GetStats() { return central.Snapshot(); }

const char* WhyNoSlot() {
  std::lock_guard<StacksLock> hold(central.lock);
  return internal::WhyNot();
}

}  // namespace weft::stack
