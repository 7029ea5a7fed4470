// The same code, compiled in several ways, for stack_benchmark and hot_split_segments: `plain` as
// any library is, `checked` with the flags of this build's stack mode, `split` on linked segments
// that libgcc provides.
#ifndef WEFT_STACK_BENCHMARK_CODE_H_
#define WEFT_STACK_BENCHMARK_CODE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#define WEFT_DECLARE_BENCHMARK_CODE(kind)                                                     \
  namespace weft::stack::kind {                                                               \
  /* Nothing but calls. */                                                                    \
  int64_t Fibonacci(int n);                                                                   \
  /* Sorts by a comparison that is called by its address, then searches as many times in a    \
     tree of small nodes. */                                                                  \
  int64_t SortAndSearch(std::vector<int64_t> numbers);                                        \
  /* `bytes` further down the stack, calls a function with half a KiB of locals in a loop. */ \
  int64_t CallBelow(size_t bytes, int64_t calls);                                             \
  /* Uses `bytes` of stack. */                                                                \
  int64_t GoDown(size_t bytes);                                                               \
  }

WEFT_DECLARE_BENCHMARK_CODE(plain)
WEFT_DECLARE_BENCHMARK_CODE(checked)
WEFT_DECLARE_BENCHMARK_CODE(split)

#endif  // WEFT_STACK_BENCHMARK_CODE_H_
