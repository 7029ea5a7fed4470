// The hot split on linked segments, as libgcc's __morestack makes them: BM_HotSplit of
// stack_benchmark for a stack that Weft does not have. It is a program of its own because a program
// has one __morestack.
//
//     bazel run -c opt //stack:hot_split_segments
#include <cstdio>

#include "stack/benchmark_code.h"
#include "stack/hot_split.h"

int main() {
  const weft::stack::HotSplit split = weft::stack::MeasureHotSplit(weft::stack::split::CallBelow);
  std::printf("BM_HotSplit/segmented: a call usually takes %.1f ns, at worst %.1f ns\n",
              split.usual_ns, split.worst_ns);
}
