// Stacks that move while somebody runs on them.
//
// A function's prologue calls __morestack (morestack.h), which saves the registers where
// weft_switch would have saved them, and goes off the stack. What it has left then looks like a
// stack that has been switched away from, and is moved by the same rules as one that wakes in
// another slot than it left (frames.h, residence.h): the slot that it goes to becomes its home.
//
// A stack that must not move stays: one with a foreign frame on it, one whose owner says no at the
// moment (an exception in flight, code inside the runtime), and all where the thread has not said
// where its own stack is (weft_thread_context).
#ifndef WEFT_STACK_GROW_H_
#define WEFT_STACK_GROW_H_

#include <cstdint>

#include "stack/context.h"
#include "stack/residence.h"

namespace weft::stack {

// Whose stacks may move: the scheduler's goroutines.
struct GrowHost {
  // The resident that `context`, which runs on this thread, belongs to, if its stack may be moved
  // now; else null. Called on the thread's own stack; takes no lock that a goroutine may have.
  Resident* (*movable)(Context& context) = nullptr;
};

// From now on stacks move for this host, where there is reason to. Before any of them runs.
void InstallGrowth(const GrowHost& host);

// Has the slots that moves keep, and the segments that nobody is on, be there for all, so that they
// go back to the system once they have been free for long. On a thread's own stack; on a goroutine
// it does nothing.
void ReleaseGrowthSpares();

// From now on each function entry that looks at the guard moves the stack to another slot, from the
// next use of each slot on. The memory that it has left is filled, has to be found so when it is
// used again, and is inaccessible until then every eighth time: who still has an address in it is
// found out. (With more than 64 KiB in use it is one entry for every 16 KiB.) For tests.
void MoveStacksAlways();

// Of running stacks, since the start.
struct GrowStats {
  uint64_t moves = 0;
  uint64_t growths = 0;  // of these, to a larger slot
  uint64_t bytes_moved = 0;
  // Were to move and did not, because of
  uint64_t kept_foreign_frame = 0;
  uint64_t kept_broken_chain = 0;
  uint64_t kept_held = 0;     // their owner
  uint64_t kept_no_slot = 0;  // none to be had, or not from there
};
GrowStats GetGrowStats();

}  // namespace weft::stack

#endif  // WEFT_STACK_GROW_H_
