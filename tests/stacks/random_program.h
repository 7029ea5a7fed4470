// What the programs of generate_programs.py are made with.
#ifndef WEFT_TESTS_STACKS_RANDOM_PROGRAM_H_
#define WEFT_TESTS_STACKS_RANDOM_PROGRAM_H_

#include <alloca.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "tests/stacks/pause.h"

namespace weft::testing {

// A program: a function of a number, which makes a number of it, in a way that nobody can foresee.
struct RandomProgram {
  uint64_t seed;
  const char* level;  // of optimization
  uint64_t (*run)(uint64_t input);
};

// The level as a text, in the generated code.
#define WEFT_RANDOM_QUOTE(name) #name
#define WEFT_RANDOM_NAME(name) WEFT_RANDOM_QUOTE(name)

// All that are linked in.
std::vector<RandomProgram>& RandomPrograms();

struct RegisterRandomProgram {
  explicit RegisterRandomProgram(const RandomProgram& program) {
    RandomPrograms().push_back(program);
  }
};

// --- for the programs ---

// How many calls are left: programs recurse at random, and have to end.
struct Fuel {
  int calls;
};

inline uint64_t Mix(uint64_t a, uint64_t b) {
  const uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15U + (a << 6) + (a >> 2))) * 0xff51afd7ed558ccdU;
  return x ^ (x >> 33);
}

struct Failure {
  uint64_t code;
};

// An address that leaves its function: written through by somebody whom the compiler cannot see.
void Touch(uint64_t* address);
uint64_t Call(const std::function<uint64_t(uint64_t)>& function, uint64_t value);
// C's way to call back: qsort with a comparison that parks.
void SortAndPause(uint64_t* values, size_t count);

// Told by an atomic exchange alone, and written through by Collect().
using Mailbox = std::atomic<uint64_t*>;
void Collect(Mailbox& mailbox, uint64_t value);

struct Base {
  virtual ~Base() = default;
  virtual uint64_t Step(uint64_t value, Fuel* fuel, int depth) = 0;
};

}  // namespace weft::testing

#endif  // WEFT_TESTS_STACKS_RANDOM_PROGRAM_H_
