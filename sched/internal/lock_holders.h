// Who may hold a lock that others wait for.
//
// A Mutex does not know: its Lock() is one instruction that nobody's name is in. But who has locked
// one has mostly kept its address, in a MutexLock or for the Unlock() to come, in what it has on
// its stacks. So these are looked through, word by word. Whoever has the address there, and does
// not wait for the lock itself, may hold it; or may just know it, or have left it in a frame. And
// who finds the lock again by another way, as a member of an object, holds it unnoticed.
#ifndef WEFT_SCHED_INTERNAL_LOCK_HOLDERS_H_
#define WEFT_SCHED_INTERNAL_LOCK_HOLDERS_H_

#include <cstdint>
#include <vector>

#include "sched/internal/g.h"
#include "sched/traces.h"

namespace weft::internal {

// The lock that a goroutine waits for, which has parked; null: none.
const void* LockThatStops(const G* g);

// Where the stacks of a goroutine that runs end at present, the pinned one where there is one.
struct RunningStacks {
  uint64_t id = 0;
  uintptr_t sp = 0;
  uintptr_t pinned = 0;
};
// Of the function that calls, which is on a goroutine or in a handler that has interrupted one.
[[gnu::always_inline]] inline uintptr_t PinnedStackPointer() {
#if WEFT_HAS_PINNED_STACK
  return reinterpret_cast<uintptr_t>(__builtin___get_unsafe_stack_ptr());
#else
  return 0;
#endif
}

// Sets GoroutineTrace::holders. The world is stopped; `traces` are sorted by number.
void AddHolders(const std::vector<RunningStacks>& running, std::vector<GoroutineTrace>& traces);

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_LOCK_HOLDERS_H_
