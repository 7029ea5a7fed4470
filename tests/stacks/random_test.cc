// Programs that nobody wrote (generate_programs.py), each at several levels of optimization: what
// they reckon on a goroutine whose stack rests and moves is what they reckon on a thread.
//
//     bazel test --define=weft_random_seed=1000 //tests/stacks:random_test    # other programs
#include <signal.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/rounds.h"
#include "tests/stacks/random_program.h"
#include "tests/stacks/torture.h"

namespace weft::testing {

std::vector<RandomProgram>& RandomPrograms() {
  static auto* const programs = new std::vector<RandomProgram>;
  return *programs;
}

[[gnu::noinline]] void Touch(uint64_t* address) { *address = Mix(*address, 1); }

[[gnu::noinline]] uint64_t Call(const std::function<uint64_t(uint64_t)>& function, uint64_t value) {
  const uint64_t before = function(value);
  Pause();
  return Mix(before, function(before));
}

void SortAndPause(uint64_t* values, size_t count) {
  std::qsort(values, count, sizeof *values, [](const void* a, const void* b) {
    const uint64_t x = *static_cast<const uint64_t*>(a);
    const uint64_t y = *static_cast<const uint64_t*>(b);
    if (x % 3 == 0) Pause();
    return x < y ? -1 : static_cast<int>(x > y);
  });
}

[[gnu::noinline]] void Collect(Mailbox& mailbox, uint64_t value) {
  uint64_t* const told = mailbox.exchange(nullptr, std::memory_order_acq_rel);
  if (told != nullptr) *told = Mix(*told, value);
}

namespace {

constexpr uint64_t kInputs = 5;

using Sums = std::vector<uint64_t>;

// Without SIGPROF: its handler needs a pinned stack, which a thread that is being born or is ending
// has not.
Sums SumsOnAThread(const RandomProgram& program) {
  sigset_t profiling;
  sigset_t before;
  sigemptyset(&profiling);
  sigaddset(&profiling, SIGPROF);
  pthread_sigmask(SIG_BLOCK, &profiling, &before);  // the thread inherits it
  Sums sums;
  std::thread thread([&] {
    for (uint64_t input = 0; input < kInputs; ++input) sums.push_back(program.run(input));
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  thread.join();
  return sums;
}

class RandomTest : public OverProcsTest {};
INSTANTIATE_TEST_SUITE_P(, RandomTest, OverProcs(), ProcsName);

TEST_P(RandomTest, ProgramsReckonTheSameOnStacksThatRestAndMove) {
  ASSERT_FALSE(RandomPrograms().empty());
  std::map<uint64_t, Sums> by_seed;
  // Under Valgrind, where each takes seconds, some of each level.
  const size_t every = UnderValgrind() ? 5 : 1;
  for (size_t k = 0; k < RandomPrograms().size(); k += every) {
    const RandomProgram& program = RandomPrograms()[k];
    SCOPED_TRACE("program " + std::to_string(program.seed) + " at -" + program.level);
    const Sums expected = SumsOnAThread(program);
    const auto [first, is_first] = by_seed.insert({program.seed, expected});
    EXPECT_EQ(expected, first->second) << "differs from another level of optimization";
    if (is_first && GetParam() == 1) {
      // For comparison with other builds.
      std::printf("program %" PRIu64 ": %016" PRIx64 "\n", program.seed,
                  Mix(Mix(expected[0], expected[1]), expected[2]));
    }
    const bool slow =
        HasDebugSetting("stackmove=always") || HasDebugSetting("stackgrow=copy") || UnderValgrind();
    const int goroutines = slow ? 10 : Crowd();
    std::vector<uint64_t> sums(static_cast<size_t>(goroutines));
    OnGoroutines(
        [&](int i) {
          const auto n = static_cast<uint64_t>(i);
          sums[n] = program.run(n % kInputs);
        },
        static_cast<int>(sums.size()));
    for (size_t i = 0; i < sums.size(); ++i) {
      ASSERT_EQ(sums[i], expected[i % kInputs]) << "goroutine " << i;
    }
  }
}

}  // namespace
}  // namespace weft::testing
