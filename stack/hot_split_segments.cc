// The hot split on linked segments, as libgcc's __morestack makes them: BM_HotSplit of
// stack_benchmark for a stack that Weft does not have. It is a program of its own because a program
// has one __morestack.
//
//     bazel run -c opt //stack:hot_split_segments
#include <cstdio>

#include "stack/benchmark_code.h"
#include "stack/hot_split.h"

int main() {
  for (const weft::stack::BenchmarkCode& code : weft::stack::split::kCode) {
    const weft::stack::HotSplit split = weft::stack::MeasureHotSplit(code.call_below);
    std::printf("BM_HotSplit/segmented/at:%d: a call usually takes %.2f ns, at worst %.2f ns\n",
                code.at, split.usual_ns, split.worst_ns);
  }
}
