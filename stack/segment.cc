#include "stack/segment.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>

#include "stack/internal/memcheck.h"
#include "stack/morestack_layout.h"

namespace weft::stack {

#if WEFT_HAS_GUARD_WORD

static_assert(offsetof(Segment, outer_lo) == WEFT_SEGMENT_OUTER_LO);
static_assert(offsetof(Segment, outer_hi) == WEFT_SEGMENT_OUTER_HI);
static_assert(offsetof(Segment, outer_guard) == WEFT_SEGMENT_OUTER_GUARD);
static_assert(offsetof(Segment, next) == WEFT_SEGMENT_NEXT);

extern "C" {
// Where __morestack puts those that are left, by compare-exchange. They are taken all at once, so
// that nobody depends on the second while the first comes and goes.
extern __attribute__((visibility("hidden"))) std::atomic<Segment*> weft_free_segments;
}

namespace {

constexpr std::array kClasses = {SizeClass::k64KiB, SizeClass::k256KiB, SizeClass::k1MiB,
                                 SizeClass::k8MiB, SizeClass::k64MiB};
// The alignment that arguments on the stack may count on, as it was where they came from.
constexpr uintptr_t kPage = 4096;

std::atomic<uint64_t> links{0};
std::atomic<size_t> made{0};

class Pool {
 public:
  void Prepare() {
    std::lock_guard<std::mutex> hold(lock_);
    if (cache_ == nullptr) cache_ = new SlotCache;
  }

  Segment* Take(size_t index) {
    std::lock_guard<std::mutex> hold(lock_);
    CollectLeft();
    if (Segment* segment = free_[index]; segment != nullptr) {
      free_[index] = segment->next;
      return segment;
    }
    return Make(index);
  }

  // Whoever has the lock must not come to __morestack and so to Take(): not for goroutines.
  void ReleaseFree() {
    SlotCache taken;  // drains at its end
    std::lock_guard<std::mutex> hold(lock_);
    if (cache_ == nullptr) return;
    CollectLeft();
    for (Segment*& list : free_) {
      while (list != nullptr) {
        Slot* slot = list->slot;
        list = list->next;
        slot->segment = nullptr;
        made.fetch_sub(1, std::memory_order_relaxed);
        Release(taken, slot);
      }
    }
    Drain(*cache_);
  }

 private:
  void CollectLeft() {
    // Acquire: with the exchanges of who leaves them.
    Segment* left = weft_free_segments.exchange(nullptr, std::memory_order_acquire);
    while (left != nullptr) {
      Segment* next = left->next;
      Segment*& list = free_[ClassIndex(*left)];
      left->next = list;
      list = left;
      left = next;
    }
  }
  static size_t ClassIndex(const Segment& segment) {
    return static_cast<size_t>(
        std::find(kClasses.begin(), kClasses.end(), segment.slot->size_class) - kClasses.begin());
  }
  Segment* Make(size_t index) {
    Slot* slot = Acquire(*cache_, kClasses[index]);
    if (slot == nullptr) return nullptr;
    made.fetch_add(1, std::memory_order_relaxed);
    auto* segment = reinterpret_cast<Segment*>(slot->hi) - 1;
    internal::NoteWrites(segment, slot->hi);
    segment->slot = slot;
    return segment;
  }

  std::mutex lock_;
  SlotCache* cache_ = nullptr;
  std::array<Segment*, kClasses.size()> free_ = {};
};
constinit Pool pool;

// That which is the stack of [lo, ...), null: none.
Segment* SegmentAt(const void* lo) {
  const Slot* slot = FindSlot(lo);
  return slot != nullptr ? slot->segment : nullptr;
}

bool IsIn(uintptr_t address, const void* lo, const void* hi) {
  return address >= reinterpret_cast<uintptr_t>(lo) && address < reinterpret_cast<uintptr_t>(hi);
}

// As __morestack leaves one.
void Leave(Segment& segment, Context& context) {
  const auto inner = reinterpret_cast<uintptr_t>(context.guard);
  context.stack_lo = segment.outer_lo;
  context.stack_hi = segment.outer_hi;
  context.guard = segment.outer_guard;
  // A request in the guard word stays there.
  uintptr_t expected = inner;
  __atomic_compare_exchange_n(GuardWord(), &expected, reinterpret_cast<uintptr_t>(context.guard),
                              false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  segment.next = weft_free_segments.load(std::memory_order_relaxed);
  // Release: with CollectLeft().
  while (!weft_free_segments.compare_exchange_weak(
      segment.next, &segment, std::memory_order_release, std::memory_order_relaxed)) {
  }
}

void LeaveSegments(Context& context, uintptr_t sp) {
  // Code on a stack that the program has made is on none of these, and leaves them as they are.
  const Segment* outermost_left = SegmentAt(context.stack_lo);
  while (outermost_left != nullptr &&
         !IsIn(sp, outermost_left->outer_lo, outermost_left->outer_hi)) {
    outermost_left = SegmentAt(outermost_left->outer_lo);
  }
  if (outermost_left == nullptr) return;
  // As __morestack does, for signal handlers.
  weft_current_context = nullptr;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  while (!IsIn(sp, context.stack_lo, context.stack_hi)) {
    Leave(*SegmentAt(context.stack_lo), context);
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  weft_current_context = &context;
}

}  // namespace

void PrepareSegments() {
  pool.Prepare();
  // Release: who finds it finds the pool.
  weft_stack_leave_segments.store(LeaveSegments, std::memory_order_release);
}

void ReleaseFreeSegments() {
  if (weft_current_context == nullptr) pool.ReleaseFree();
}

uintptr_t LinkSegment(const StackCheck& check, const char** reason) {
  *reason = nullptr;
  Context& context = *check.context;
  if (check.arguments == nullptr) return StackAnswer::kLimit;

  const auto size = static_cast<size_t>(static_cast<char*>(context.stack_hi) -
                                        static_cast<char*>(context.stack_lo));
  const Slot* current = FindSlot(context.stack_lo);
  const bool linked = current != nullptr && current->segment != nullptr;
  const size_t outer = size + (linked ? current->segment->outer_bytes : 0);
  const size_t needed = check.wanted + check.argument_bytes + sizeof(Segment) + 2 * kPage;
  if (check.wanted > MaxStack() || outer + needed > MaxStack()) return StackAnswer::kLimit;
  size_t index = 0;
  while (index < kClasses.size() &&
         (RoomIn(kClasses[index]) < needed ||
          (StackBytes(kClasses[index]) < outer && index + 1 < kClasses.size()))) {
    ++index;
  }
  Segment* segment = index < kClasses.size() ? pool.Take(index) : nullptr;
  if (segment == nullptr) {
    *reason = WhyNoSlot();
    return StackAnswer::kLimit;
  }
  segment->outer_lo = context.stack_lo;
  segment->outer_hi = context.stack_hi;
  segment->outer_guard = context.guard;
  segment->outer_bytes = outer;
  segment->outer_used =
      static_cast<size_t>(static_cast<char*>(context.stack_hi) - static_cast<char*>(check.sp)) +
      (linked ? current->segment->outer_used : 0);
  segment->depth = linked ? current->segment->depth + 1 : 1;

  const auto from = reinterpret_cast<uintptr_t>(check.arguments);
  const uintptr_t top = reinterpret_cast<uintptr_t>(segment) - check.argument_bytes;
  const uintptr_t to = top - (top - from) % kPage;
  internal::NoteWrites(reinterpret_cast<void*>(to), segment);
  std::memcpy(reinterpret_cast<void*>(to), check.arguments, check.argument_bytes);

  Slot& slot = *segment->slot;
  slot.segment = segment;
  context.stack_lo = slot.lo;
  context.stack_hi = slot.hi;
  context.guard = slot.hi - LimitOf(slot);
  *check.segment = segment;
  links.fetch_add(1, std::memory_order_relaxed);
  return to;
}

SegmentStats GetSegmentStats() {
  return {.links = links.load(std::memory_order_relaxed),
          .made = made.load(std::memory_order_relaxed)};
}

#else

// Nobody asks.
void PrepareSegments() {}
void ReleaseFreeSegments() {}
uintptr_t LinkSegment(const StackCheck&, const char**) { return StackAnswer::kLimit; }
SegmentStats GetSegmentStats() { return {}; }

#endif

}  // namespace weft::stack
