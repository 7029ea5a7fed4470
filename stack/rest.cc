#include "stack/rest.h"

#include <cstring>

#include "stack/frames.h"
#include "stack/mode.h"

namespace weft::stack {

namespace {

constexpr int kPoison = 0xdb;

std::atomic<bool> poison{false};

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

void Poison(void* memory, size_t bytes) {
  if (poison.load(std::memory_order_relaxed)) [[unlikely]]
    std::memset(memory, kPoison, bytes);
}

}  // namespace

void PoisonLeftStacks() { poison.store(true, std::memory_order_relaxed); }

bool StackMover::CopyOut(Resident& resident) {
  Context& context = resident.context;
  const size_t used = UsedBytes(context);
  if (used > kMostRestBytes) return Refuse(counts_.too_large);
  if (!MayRest(resident)) return Refuse(counts_.held);

  const Slot& pinned = *resident.pinned;
  const StackSurvey survey = SurveyStack(context, pinned.lo, pinned.hi);
  switch (survey.movability) {
    case Movability::kMovable:
      break;
    case Movability::kForeignFrame:
      return Refuse(counts_.foreign_frame);
    case Movability::kBrokenChain:
      return Refuse(counts_.broken_chain);
    case Movability::kDoubtfulWord:
      return Refuse(counts_.doubtful_word);
  }

  void* block = blocks_.Allocate(used);
  if (block == nullptr) return Refuse(counts_.no_memory);
  std::memcpy(block, context.sp, used);
  Poison(context.sp, used);
  context.block = block;
  Add(counts_.bytes_rested, used);
  if (context.pinned == pinned.hi && !survey.points_to_pinned) {
    Release(slots_, resident.pinned);
    resident.pinned = nullptr;
    Add(counts_.pinned_returned, 1);
  }
  return true;
}

bool StackMover::CopyIn(Resident& resident, Slot& slot) {
  Context& context = resident.context;
  if (resident.pinned == nullptr) {
    resident.pinned = Acquire(slots_, SizeClass::kPinned);
    if (resident.pinned == nullptr) return false;
    context.pinned = resident.pinned->hi;
  }

  const size_t used = UsedBytes(context);
  const auto sp = reinterpret_cast<uintptr_t>(context.sp);
  const auto hi = reinterpret_cast<uintptr_t>(context.stack_hi);
  const auto by = static_cast<ptrdiff_t>(reinterpret_cast<uintptr_t>(slot.hi) - hi);
  auto* words = reinterpret_cast<uintptr_t*>(slot.hi - used);
  std::memcpy(words, context.block, used);
  if (by != 0) {
    // Tops are at page boundaries, so frames that align themselves find the alignment that they
    // made.
    ShiftPointers(words, used / sizeof *words, sp, hi, by);
    context.sp = words;
    context.stack_lo = slot.lo;
    context.stack_hi = slot.hi;
    Add(counts_.moves, 1);
  }
  context.guard = GuardFor(slot);
  Poison(context.block, used);
  blocks_.Free(context.block, used);
  context.block = nullptr;
  resident.home = &slot;
  return true;
}

bool StackMover::Begin(Resident& resident, Slot& slot) {
  resident.pinned = Acquire(slots_, SizeClass::kPinned);
  if (resident.pinned == nullptr) return false;
  MakeContext(resident.context, slot.lo, slot.hi, resident.pinned->lo, resident.pinned->hi,
              GuardFor(slot), entry_, &resident);
  resident.home = &slot;
  return true;
}

void StackMover::End(Resident& resident) {
  Release(slots_, resident.pinned);
  resident.pinned = nullptr;
}

}  // namespace weft::stack
