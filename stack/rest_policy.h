// The numbers by which it is decided who rests, and what memory stacks keep: here and nowhere else,
// with what speaks for each. BM_Budget and BM_Rest of stack_benchmark vary the first two.
#ifndef WEFT_STACK_REST_POLICY_H_
#define WEFT_STACK_REST_POLICY_H_

#include <cstddef>
#include <cstdint>

namespace weft::stack {

// How many slots a P lists (Residence). With that many goroutines a P nobody's stack is ever
// copied. Beyond, a wake copies two, of some 300 bytes, for about 60 ns; but in this few slots,
// whose used parts fit into the first-level cache and whose pages into the first-level TLB (64
// entries on most processors), everything else is fast. Fewer have stacks copied that need not be;
// more have TLB misses.
inline constexpr size_t kSlotBudget = 64;

// How many slots that were freed a P remembers, to take the warmest first: as many as it lists.
inline constexpr uint32_t kMostFreed = kSlotBudget;

// Beyond this a stack stays in its slot: to copy it out and in takes longer than the page faults
// that a slot of its own costs once, and the pages that it takes there would not be given back.
inline constexpr size_t kMostRestBytes = 32 * 1024;

// What of its pages a stack keeps below what it uses, when the others are given back: most calls
// need no more, and a page fault takes half a microsecond.
inline constexpr size_t kKeptBytes = 16 * 1024;

// A slot that is never idle is looked at after so many stacks that were copied out of it, whether
// one of them was deep: that takes a system call, and to copy one out and another one in takes 40
// ns.
inline constexpr uint32_t kRestsBetweenLooks = 256;

// A stack that has grown by being copied goes back to the smallest slot when it has parked so many
// times in a row with no more in use. Twice as much has to fit the smallest with room to spare; who
// grows again at once would pay more for it than the slot is worth.
inline constexpr size_t kSmallStackBytes = 16 * 1024;
inline constexpr uint32_t kParksWhileSmall = 16;

}  // namespace weft::stack

#endif  // WEFT_STACK_REST_POLICY_H_
