#include "stack/text_range.h"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace weft::stack {

// The bounds of the section, which the linker defines in each program or shared object that has it.
// Weak, for those that have not; hidden, so that they are this one's own.
extern "C" {
extern const char __start_weft_text[] __attribute__((weak, visibility("hidden")));
extern const char __stop_weft_text[] __attribute__((weak, visibility("hidden")));
}

namespace {

// Free while hi is null. Whoever takes it writes lo first.
struct Range {
  std::atomic<const char*> lo{nullptr};
  std::atomic<const char*> hi{nullptr};
};

// One more than can be registered, for the program's own.
constexpr size_t kMaxRanges = 257;

constinit Range ranges[kMaxRanges] = {{__start_weft_text, __stop_weft_text}};
// How many of them to look at.
constinit std::atomic<size_t> used{1};
constinit std::atomic_flag writing;

// Among those who register: the loader's lock does not cover destructors at exit.
class Writing {
 public:
  Writing() {
    while (writing.test_and_set(std::memory_order_acquire)) {  // pairs with ~Writing
    }
  }
  ~Writing() { writing.clear(std::memory_order_release); }
};

}  // namespace

bool IsMovableCode(const void* pc) {
  const char* const at = static_cast<const char*>(pc);
  const size_t count = used.load(std::memory_order_acquire);  // pairs with the store in register
  for (size_t i = 0; i < count; ++i) {
    const Range& range = ranges[i];
    const char* const hi = range.hi.load(std::memory_order_acquire);  // pairs with register's store
    if (at >= hi) continue;
    // Had the entry been given to another range in between, lo would be that one's. An entry
    // changes hands by way of a null hi, so lo and hi belong together if hi is still the same.
    const char* const lo = range.lo.load(std::memory_order_acquire);
    if (at >= lo && range.hi.load(std::memory_order_relaxed) == hi) return true;
  }
  return false;
}

extern "C" {

void weft_register_movable_code(const void* lo, const void* hi) {
  if (lo >= hi) return;
  const Writing guard;
  const size_t count = used.load(std::memory_order_relaxed);
  size_t free = 1;
  while (free < count && ranges[free].hi.load(std::memory_order_relaxed) != nullptr) ++free;
  if (free == kMaxRanges) return;
  ranges[free].lo.store(static_cast<const char*>(lo), std::memory_order_release);
  ranges[free].hi.store(static_cast<const char*>(hi), std::memory_order_release);
  if (free == count) used.store(count + 1, std::memory_order_release);
}

void weft_deregister_movable_code(const void* lo, const void* hi) {
  const Writing guard;
  const size_t count = used.load(std::memory_order_relaxed);
  for (size_t i = 1; i < count; ++i) {
    Range& range = ranges[i];
    if (range.lo.load(std::memory_order_relaxed) == lo &&
        range.hi.load(std::memory_order_relaxed) == hi) {
      range.hi.store(nullptr, std::memory_order_release);
      return;
    }
  }
}
}

}  // namespace weft::stack
