// The same code, compiled in several ways, for stack_benchmark and hot_split_segments: `plain` as
// any library is, `checked` with the flags of this build's stack mode, `split` on linked segments
// that libgcc provides.
#ifndef WEFT_STACK_BENCHMARK_CODE_H_
#define WEFT_STACK_BENCHMARK_CODE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::stack {

struct BenchmarkCode {
  int at;  // where it begins, in bytes from the beginning of a line of the instruction cache
  // Nothing but calls.
  int64_t (*fibonacci)(int n);
  // Sorts by a comparison that is called by its address, then searches as many times in a tree of
  // small nodes.
  int64_t (*sort_and_search)(std::vector<int64_t> numbers);
  // `bytes` further down the stack, calls a function with half a KiB of locals in a loop.
  int64_t (*call_below)(size_t bytes, int64_t calls);
};

}  // namespace weft::stack

// The functions of BenchmarkCode, and GoDown, which uses `bytes` of stack.
//
// A loop that does nothing but call takes up to a sixth more or less by where its branches lie in
// the cache's lines, whatever else it does: so there are four of each, a quarter of a line apart,
// and what is compared are their means.
#define WEFT_DECLARE_BENCHMARK_CODE_AT(name, offset)                                    \
  namespace weft::stack::name {                                                         \
  int64_t Fibonacci(int n);                                                             \
  int64_t SortAndSearch(std::vector<int64_t> numbers);                                  \
  int64_t CallBelow(size_t bytes, int64_t calls);                                       \
  int64_t GoDown(size_t bytes);                                                         \
  inline constexpr BenchmarkCode kCode = {offset, Fibonacci, SortAndSearch, CallBelow}; \
  }
#define WEFT_DECLARE_BENCHMARK_CODE(kind)                                                        \
  WEFT_DECLARE_BENCHMARK_CODE_AT(kind##0, 0)                                                     \
  WEFT_DECLARE_BENCHMARK_CODE_AT(kind##16, 16)                                                   \
  WEFT_DECLARE_BENCHMARK_CODE_AT(kind##32, 32)                                                   \
  WEFT_DECLARE_BENCHMARK_CODE_AT(kind##48, 48)                                                   \
  namespace weft::stack::kind {                                                                  \
  inline constexpr BenchmarkCode kCode[] = {kind##0 ::kCode, kind##16 ::kCode, kind##32 ::kCode, \
                                            kind##48 ::kCode};                                   \
  }

WEFT_DECLARE_BENCHMARK_CODE(plain)
WEFT_DECLARE_BENCHMARK_CODE(checked)
WEFT_DECLARE_BENCHMARK_CODE(split)

#endif  // WEFT_STACK_BENCHMARK_CODE_H_
