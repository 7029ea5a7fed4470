// The hot split: what a call costs in a loop, by where on the stack the loop is.
#ifndef WEFT_STACK_HOT_SPLIT_H_
#define WEFT_STACK_HOT_SPLIT_H_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::stack {

struct HotSplit {
  double usual_ns = 0;  // of a call; the median over all places
  double worst_ns = 0;
};

// At places 256 bytes apart in 64 KiB of stack, the best of several runs each.
inline HotSplit MeasureHotSplit(int64_t (*call_below)(size_t bytes, int64_t calls)) {
  constexpr int64_t kCalls = 4'000;
  constexpr int kRuns = 7;
  std::vector<double> places;
  for (size_t bytes = 0; bytes < 64 * 1024; bytes += 256) {
    double best = 1e9;
    for (int run = 0; run < kRuns; ++run) {
      const auto begin = std::chrono::steady_clock::now();
      // What is reached on the way down is not the loop's.
      call_below(bytes, 0);
      const auto middle = std::chrono::steady_clock::now();
      call_below(bytes, kCalls);
      const auto end = std::chrono::steady_clock::now();
      const std::chrono::duration<double, std::nano> time = (end - middle) - (middle - begin);
      best = std::min(best, time.count() / kCalls);
    }
    places.push_back(best);
  }
  std::sort(places.begin(), places.end());
  return {places[places.size() / 2], places.back()};
}

}  // namespace weft::stack

#endif  // WEFT_STACK_HOT_SPLIT_H_
