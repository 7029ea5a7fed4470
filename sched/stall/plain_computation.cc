#include "sched/stall/plain_computation.h"

namespace {

// With calls, as a real one has.
__attribute__((noinline)) uint32_t Step(uint32_t sum, uint32_t byte) {
  sum ^= byte;
  for (int bit = 0; bit < 8; ++bit) sum = (sum >> 1) ^ (0xedb88320u & (0u - (sum & 1)));
  return sum;
}

}  // namespace

uint32_t ComputePlainly(int rounds) {
  uint32_t sum = ~0u;
  for (int round = 0; round < rounds; ++round) {
    for (uint32_t i = 0; i < 1024; ++i) sum = Step(sum, i ^ static_cast<uint32_t>(round));
  }
  return sum;
}
