// How much a test does at a time.
//
// A test that looks for one order of steps among many tries often. Run once, it does all of that by
// itself. tools/stress runs it a thousand times, each time with other delays (WEFT_DELAY_SEED, see
// internal/delay.h): what it checks stays the same then, but it tries less often at a time, or what
// finds most, other delays, would be had too rarely. So it is under Valgrind (WEFT_VALGRIND, which
// tools/test sets for it), where all takes some fifty times as long.
//
//   for (int i = 0; i < Rounds(10'000); ++i) { ... }
//   Sleep(Shortened(absl::Seconds(1)));
#ifndef WEFT_TESTS_ROUNDS_H_
#define WEFT_TESTS_ROUNDS_H_

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace weft::testing {

// Which repetition of the whole test this is; 0: it is not being repeated.
inline uint64_t Repetition() {
  static const uint64_t repetition = [] {
    const char* const seed = std::getenv("WEFT_DELAY_SEED");
    return seed == nullptr ? 0 : std::strtoull(seed, nullptr, 10);
  }();
  return repetition;
}
inline bool UnderValgrind() {
  static const bool under_valgrind = std::getenv("WEFT_VALGRIND") != nullptr;
  return under_valgrind;
}
inline bool Repeated() { return Repetition() != 0 || UnderValgrind(); }

// `alone`, or `repeated` where the test is repeated; a hundredth, but not 0, if that is not given.
// For counts and sizes that only make an event more likely, never for what a test needs to say
// anything.
inline int Rounds(int alone, int repeated) { return Repeated() ? repeated : alone; }
inline int Rounds(int alone) { return Rounds(alone, std::max(alone / 100, 1)); }

// The same for time that has to pass, but a tenth of it: not for deadlines.
inline absl::Duration Shortened(absl::Duration alone) { return Repeated() ? alone / 10 : alone; }

// All of these, or where the test is repeated one of them, another one each time, or each `every`
// times: so that of two lists, one within the other, all pairs come. For settings of which each
// takes the whole test once more, or a process of its own.
template <typename T>
std::vector<T> AllInTurn(std::initializer_list<T> all, uint64_t every = 1) {
  if (!Repeated()) return all;
  return {all.begin()[Repetition() / every % all.size()]};
}

// Whether it is the turn of what is called `name`, which where the test is repeated one repetition
// of so many is. For what takes a process of its own, and has other Ps each time.
inline bool IsTurn(std::string_view name, uint64_t of) {
  uint64_t sum = Repetition() / 4;
  for (const char c : name) sum += static_cast<unsigned char>(c);
  return Repetition() == 0 || sum % of == 0;
}

}  // namespace weft::testing

#endif  // WEFT_TESTS_ROUNDS_H_
