// Counts of durations by size, for one writer and any readers.
//
// Four buckets for each doubling, from 64 ns to 2^38 ns (275 s), so that a bucket's bounds are at
// most a quarter apart; one below and one above. As in HdrHistogram (G. Tene) the bucket is had
// from the number's leading bits, without a search.
#ifndef WEFT_SCHED_INTERNAL_HISTOGRAM_H_
#define WEFT_SCHED_INTERNAL_HISTOGRAM_H_

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

namespace weft::internal {

class DurationCounts {
 public:
  static constexpr int kLowestBit = 6;
  static constexpr int kHighestBit = 38;
  static constexpr int kPerDoubling = 4;
  static constexpr int kBuckets = 2 + kPerDoubling * (kHighestBit - kLowestBit);

  // The bucket that `nanos` falls in; what is negative counts as 0.
  static constexpr int BucketOf(int64_t nanos) {
    if (nanos < int64_t{1} << kLowestBit) return 0;
    if (nanos >= int64_t{1} << kHighestBit) return kBuckets - 1;
    const int bit = std::bit_width(static_cast<uint64_t>(nanos)) - 1;
    const int quarter = static_cast<int>(nanos >> (bit - 2)) & (kPerDoubling - 1);
    return 1 + kPerDoubling * (bit - kLowestBit) + quarter;
  }

  // The least number of nanoseconds that falls in it.
  static constexpr int64_t LowerBound(int bucket) {
    if (bucket == 0) return 0;
    const int bit = kLowestBit + (bucket - 1) / kPerDoubling;
    const int quarter = (bucket - 1) % kPerDoubling;
    return (int64_t{kPerDoubling} + quarter) << (bit - 2);
  }

  // The one writer; who it is may change with what orders its turns.
  void Add(int64_t nanos) {
    std::atomic<uint64_t>& count = counts_[static_cast<size_t>(BucketOf(nanos))];
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  // Adds what has been counted so far to `counts`, of kBuckets. Any thread.
  template <typename Counts>
  void AddTo(Counts& counts) const {
    for (size_t i = 0; i < kBuckets; ++i) counts[i] += counts_[i].load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<uint64_t>, kBuckets> counts_ = {};
};

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_HISTOGRAM_H_
