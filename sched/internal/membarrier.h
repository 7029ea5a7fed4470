// A full memory barrier in every thread of the process, paid for by the caller alone.
#ifndef WEFT_SCHED_INTERNAL_MEMBARRIER_H_
#define WEFT_SCHED_INTERNAL_MEMBARRIER_H_

namespace weft::internal {

// Whether the kernel does it: from Linux 4.14, unless a filter forbids it. Asks once.
bool HaveMembarrier();

// Makes every running thread of the process pass a full barrier between the call and its return;
// about 4 us. False: refused, and nothing has happened.
bool Membarrier();

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_MEMBARRIER_H_
