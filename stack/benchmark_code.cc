#include "stack/benchmark_code.h"

#include <algorithm>
#include <map>

namespace weft::stack::WEFT_BENCHMARK_CODE {
namespace {

// A compiler that cannot tell where in an array something is stored must keep all of it; one that
// can tell that it is inside need not pin it.

__attribute__((noinline)) bool IsLess(int64_t a, int64_t b) { return a < b; }

__attribute__((noinline)) int64_t WithLocals(int64_t n) {
  volatile char locals[512];
  locals[n & 511] = 1;
  return locals[n & 511];
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
  volatile char locals[kFrame - 64];
  locals[calls & 127] = 1;
  return bytes < kFrame ? CallInLoop(calls)
                        : CallBelow(bytes - kFrame, calls) + locals[calls & 127];
}

__attribute__((noinline)) int64_t GoDown(size_t bytes) {
  constexpr size_t kFrame = 1024;
  volatile char locals[kFrame - 64];
  locals[bytes & 511] = 1;
  return bytes < kFrame ? 1 : GoDown(bytes - kFrame) + locals[bytes & 511];
}

}  // namespace weft::stack::WEFT_BENCHMARK_CODE
