#include "stack/benchmark_code.h"

#include <algorithm>
#include <map>

// So far from the beginning of a line all that follows begins.
asm(".text\n.balign 64\n.fill " WEFT_BENCHMARK_OFFSET ", 1, 0x90\n");

namespace weft::stack::WEFT_BENCHMARK_CODE {
namespace {

// 64 bytes of stack that no compiler does without, as it cannot tell that `n`, a number, is not
// negative. Not an array: of that it keeps no more than is used, and with an index the stack has to
// stay where it is (escape_pass/README.md).
#define TAKE_64_BYTES(name, n)                                                                     \
  [[maybe_unused]] volatile int64_t name##0, name##1, name##2, name##3, name##4, name##5, name##6, \
      name##7;                                                                                     \
  if ((n) < 0) [[unlikely]] {                                                                      \
    name##0 = (n);                                                                                 \
    name##1 = (n);                                                                                 \
    name##2 = (n);                                                                                 \
    name##3 = (n);                                                                                 \
    name##4 = (n);                                                                                 \
    name##5 = (n);                                                                                 \
    name##6 = (n);                                                                                 \
    name##7 = (n);                                                                                 \
  }

// A call that is not the last thing that a function does.
int64_t NotInItsPlace(int64_t result) {
  asm volatile("" : "+r"(result));
  return result;
}

__attribute__((noinline)) bool IsLess(int64_t a, int64_t b) { return a < b; }

__attribute__((noinline)) int64_t WithLocals(int64_t n) {
  TAKE_64_BYTES(a, n);
  TAKE_64_BYTES(b, n);
  TAKE_64_BYTES(c, n);
  TAKE_64_BYTES(d, n);
  TAKE_64_BYTES(e, n);
  TAKE_64_BYTES(f, n);
  TAKE_64_BYTES(g, n);
  TAKE_64_BYTES(h, n);
  h7 = 1;
  return h7;
}

__attribute__((noinline)) int64_t CallInLoop(int64_t calls) {
  int64_t sum = 0;
  for (int64_t i = 0; i < calls; ++i) sum += WithLocals(i);
  return sum;
}

}  // namespace

__attribute__((noinline)) int64_t Fibonacci(int n) {
  return n < 2 ? n : Fibonacci(n - 1) + Fibonacci(n - 2);
}

__attribute__((noinline)) int64_t SortAndSearch(std::vector<int64_t> numbers) {
  std::map<int64_t, int64_t> places;
  for (size_t i = 0; i < numbers.size(); ++i) places[numbers[i]] = static_cast<int64_t>(i);
  std::sort(numbers.begin(), numbers.end(), &IsLess);
  int64_t sum = 0;
  for (const int64_t number : numbers) sum += places.find(number)->second;
  return sum;
}

__attribute__((noinline)) int64_t CallBelow(size_t bytes, int64_t calls) {
  constexpr size_t kFrame = 256;
  TAKE_64_BYTES(a, calls);
  TAKE_64_BYTES(b, calls);
  TAKE_64_BYTES(c, calls);
  return NotInItsPlace(bytes < kFrame ? CallInLoop(calls) : CallBelow(bytes - kFrame, calls));
}

__attribute__((noinline)) int64_t GoDown(size_t bytes) {
  constexpr size_t kFrame = 512;
  const auto n = static_cast<int64_t>(bytes);
  TAKE_64_BYTES(a, n);
  TAKE_64_BYTES(b, n);
  TAKE_64_BYTES(c, n);
  TAKE_64_BYTES(d, n);
  TAKE_64_BYTES(e, n);
  TAKE_64_BYTES(f, n);
  TAKE_64_BYTES(g, n);
  return NotInItsPlace(bytes < kFrame ? 1 : GoDown(bytes - kFrame));
}

#undef TAKE_64_BYTES

}  // namespace weft::stack::WEFT_BENCHMARK_CODE
