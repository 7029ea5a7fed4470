// What the soak keeps busy with: each workload uses one part of Weft as programs do, in random
// sizes, checks what comes out, and starts goroutines only by its ledger.
#ifndef WEFT_TESTS_SOAK_WORKLOADS_H_
#define WEFT_TESTS_SOAK_WORKLOADS_H_

#include <atomic>
#include <cstdint>
#include <random>
#include <utility>

#include "absl/strings/string_view.h"
#include "sched/goroutine.h"

namespace weft::soak {

// Every goroutine is entered at its start, by who starts it, and again at its end.
class Ledger {
 public:
  template <typename F>
  void Go(F&& f) {
    started_.fetch_add(1, std::memory_order_relaxed);
    weft::Go([this, f = std::forward<F>(f)]() mutable {
      // By a destructor, as some end by Exit().
      const Entry entry(*this);
      f();
    });
  }

  int64_t started() const { return started_.load(std::memory_order_relaxed); }
  int64_t ended() const { return ended_.load(std::memory_order_acquire); }

 private:
  class Entry {
   public:
    explicit Entry(Ledger& ledger) : ledger_(ledger) {}
    ~Entry() { ledger_.ended_.fetch_add(1, std::memory_order_release); }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    Ledger& ledger_;
  };

  std::atomic<int64_t> started_{0};
  std::atomic<int64_t> ended_{0};
};

using Random = std::mt19937;

// A number from `least` to `most`.
inline int Between(Random& random, int least, int most) {
  return std::uniform_int_distribution<int>(least, most)(random);
}

struct Workload {
  const char* name;
  // Some milliseconds of it; returns when all that it has started has ended, or as good as. On a
  // goroutine, several at once. What it finds wrong ends the program with a line.
  void (*run)(Ledger& ledger, Random& random);
};

// All of them; the last has no name.
extern const Workload kWorkloads[];

// Ends the program with this line and the goroutines that there are.
[[noreturn]] void Fail(absl::string_view what);

}  // namespace weft::soak

#endif  // WEFT_TESTS_SOAK_WORKLOADS_H_
