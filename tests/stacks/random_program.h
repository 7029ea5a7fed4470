// What the programs of generate_programs.py are made with.
#ifndef WEFT_TESTS_STACKS_RANDOM_PROGRAM_H_
#define WEFT_TESTS_STACKS_RANDOM_PROGRAM_H_

#include <alloca.h>

#include <array>
#include <atomic>
#include <coroutine>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
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
  // For pointers to members, beside one that is virtual.
  uint64_t StepOfAll(uint64_t value, Fuel*, int) { return Mix(Paused(value), 11); }
};

// A coroutine that yields numbers.
class Numbers {
 public:
  struct promise_type {
    Numbers get_return_object() {
      return Numbers(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    std::suspend_always yield_value(uint64_t v) {
      value = v;
      return {};
    }
    void return_void() {}
    void unhandled_exception() { throw; }
    uint64_t value = 0;
  };
  Numbers(Numbers&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  ~Numbers() {
    if (handle_) handle_.destroy();
  }
  // Whether there is another one.
  bool Next() {
    handle_.resume();
    return !handle_.done();
  }
  uint64_t value() const { return handle_.promise().value; }

 private:
  explicit Numbers(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_;
};

// Clang refuses variadic definitions that check their stack.
#if defined(__clang__)
#define WEFT_RANDOM_VARIADIC __attribute__((no_split_stack, noinline))
#else
#define WEFT_RANDOM_VARIADIC __attribute__((noinline))
#endif

// Values of this type are in registers that no call keeps, so they are on the stack meanwhile.
using Wide [[gnu::vector_size(32)]] = double;
#define WEFT_RANDOM_AVX __attribute__((target("avx"), noinline))

}  // namespace weft::testing

#endif  // WEFT_TESTS_STACKS_RANDOM_PROGRAM_H_
