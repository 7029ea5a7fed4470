// A computation in a library that knows nothing of goroutines.
#ifndef WEFT_SCHED_STALL_PLAIN_COMPUTATION_H_
#define WEFT_SCHED_STALL_PLAIN_COMPUTATION_H_

#include <cstdint>

// A checksum over `rounds` KiB, some 5 us each.
uint32_t ComputePlainly(int rounds);

#endif  // WEFT_SCHED_STALL_PLAIN_COMPUTATION_H_
