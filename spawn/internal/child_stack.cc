#include "spawn/internal/child_stack.h"

#include <errno.h>
#include <sys/mman.h>

#include <atomic>
#include <utility>

namespace weft::spawn::internal {
namespace {

constexpr size_t kGuard = 4096;
constexpr int kKept = 4;

// Null: no stack is kept here.
std::atomic<char*> kept[kKept];

char* Map(int* error) {
  void* const mapping = mmap(nullptr, kGuard + ChildStack::kBytes, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    *error = errno;
    return nullptr;
  }
  char* const stack = static_cast<char*>(mapping);
  if (mprotect(stack + kGuard, ChildStack::kBytes, PROT_READ | PROT_WRITE) != 0) {
    *error = errno;
    munmap(mapping, kGuard + ChildStack::kBytes);
    return nullptr;
  }
  return stack;
}

}  // namespace

ChildStack::ChildStack() {
  for (std::atomic<char*>& place : kept) {
    // Acquire: the last user's child has left the stack. Pairs with the release below.
    mapping_ = place.exchange(nullptr, std::memory_order_acquire);
    if (mapping_ != nullptr) return;
  }
  mapping_ = Map(&error_);
}

ChildStack::~ChildStack() {
  if (mapping_ == nullptr) return;
  for (std::atomic<char*>& place : kept) {
    char* expected = nullptr;
    if (place.compare_exchange_strong(expected, mapping_, std::memory_order_release,
                                      std::memory_order_relaxed)) {
      return;
    }
  }
  munmap(mapping_, kGuard + kBytes);
}

void* ChildStack::base() const { return mapping_ + kGuard; }

}  // namespace weft::spawn::internal
