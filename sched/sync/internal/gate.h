// What an unlock looks at once the lock is free: whether a waiter may have come unseen.
//
// There is one gate for each bucket of the parking table, apart from the objects (which may be gone
// once they are unlocked) and from the buckets' locks. See mutex.cc for when it is open.
#ifndef WEFT_SCHED_SYNC_INTERNAL_GATE_H_
#define WEFT_SCHED_SYNC_INTERNAL_GATE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace weft::internal {

// A bucket is searched through all its addresses, so there should be few in each: 256 serve some
// thousands of mutexes that are waited for at once.
inline constexpr int kBucketBits = 8;

inline size_t BucketIndex(const void* address) {
  // Fibonacci hashing (Knuth, TAOCP 6.4): the high bits of a product with 2^64 / golden ratio.
  const uint64_t hash = reinterpret_cast<uintptr_t>(address) * 0x9e3779b97f4a7c15;
  return hash >> (64 - kBucketBits);
}

class Gate {
 public:
  // From anywhere. False: no waiter for an address of this bucket may have come unseen.
  bool IsOpen() const { return who_.load(std::memory_order_relaxed) != nullptr; }
  // Likewise for this address; sometimes true for another one's sake.
  bool IsOpenFor(const void* address) const {
    const void* who = who_.load(std::memory_order_relaxed);
    return who == address || who == this;
  }

  // Under the bucket's lock. One Close() for each OpenFor(), of which an address has one at a time.
  void OpenFor(const void* address) {
    who_.store(++open_ == 1 ? address : this, std::memory_order_relaxed);
  }
  void Close() {
    if (--open_ == 0) who_.store(nullptr, std::memory_order_relaxed);
  }

 private:
  std::atomic<const void*> who_{nullptr};  // itself: perhaps several
  uint32_t open_ = 0;                      // for how many addresses
};

extern Gate gates[size_t{1} << kBucketBits];

inline Gate& GateOf(const void* address) { return gates[BucketIndex(address)]; }

}  // namespace weft::internal

#endif  // WEFT_SCHED_SYNC_INTERNAL_GATE_H_
