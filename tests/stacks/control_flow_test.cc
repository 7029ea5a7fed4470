// Functions that are left and entered in other ways than by calls and returns: coroutines, setjmp,
// stacks that the program switches itself.
#include <ucontext.h>

#include <coroutine>
#include <csetjmp>
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/testing.h"
#include "stack/mode.h"
#include "stack/rest.h"
#include "tests/rounds.h"
#include "tests/stacks/torture.h"

namespace weft {
namespace {

using stack::GetRestStats;
using testing::Meet;
using testing::OnGoroutines;
using testing::Opaque;
using testing::Pause;
using testing::StacksMustRest;
using testing::UseStack;

class ControlFlowTest : public testing::OverProcsTest {};
INSTANTIATE_TEST_SUITE_P(, ControlFlowTest, testing::OverProcs(), testing::ProcsName);

// --- C++20 coroutines ---

// Yields values; its frame is on the heap.
class Generator {
 public:
  struct promise_type {
    Generator get_return_object() {
      return Generator(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    std::suspend_always yield_value(int64_t v) {
      value = v;
      return {};
    }
    void return_void() {}
    void unhandled_exception() { error = std::current_exception(); }
    int64_t value = 0;
    std::exception_ptr error;
  };
  Generator(Generator&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  ~Generator() {
    if (handle_) handle_.destroy();
  }
  bool Next() {
    handle_.resume();
    if (handle_.promise().error) std::rethrow_exception(handle_.promise().error);
    return !handle_.done();
  }
  int64_t value() const { return handle_.promise().value; }

 private:
  explicit Generator(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_;
};

Generator Squares(int count, bool throws) {
  std::vector<int64_t> squares;
  for (int64_t i = 0; i < count; ++i) {
    squares.push_back(i * i);
    Pause();
    UseStack(500);
    co_yield squares.back();
  }
  if (throws) throw std::runtime_error("at the end");
}

Generator Filtered(Generator from) {
  while (from.Next()) {
    Pause();
    if (from.value() % 2 == 0) co_yield from.value();
  }
}

TEST_P(ControlFlowTest, Coroutines) {
  OnGoroutines([](int i) {
    Generator even = Filtered(Squares(10 + i % 3, i % 5 == 0));
    int64_t sum = 0;
    bool caught = false;
    try {
      while (even.Next()) {
        Pause();
        sum += even.value();
      }
    } catch (const std::runtime_error&) {
      Pause();
      caught = true;
    }
    EXPECT_EQ(sum, 4 + 16 + 36 + 64 + (i % 3 == 0 ? 0 : i % 3 == 1 ? 100 : 100));
    EXPECT_EQ(caught, i % 5 == 0);
  });
}

// A coroutine that is begun by one goroutine and goes on in others.
TEST_P(ControlFlowTest, CoroutinesThatChangeGoroutines) {
  OnGoroutines([](int i) {
    Generator squares = Squares(6, false);
    int64_t sum = 0;
    for (int n = 0; n < 6; ++n) {
      testing::RunOnGoroutine([&] {
        Pause();
        EXPECT_TRUE(squares.Next());
        sum += squares.value();
      });
    }
    EXPECT_EQ(sum, 55);
    EXPECT_FALSE(squares.Next());
    EXPECT_GE(i, 0);
  });
}

// --- computed goto ---

// An interpreter whose instructions jump to each other: addresses of code, and of no stack, live
// across the parks.
enum Operation : uint8_t { kAdd, kTwice, kPark, kRepeat, kEnd };

[[gnu::noinline]] int64_t Interpret(const uint8_t* program, int64_t value) {
  static const void* const kLabels[] = {&&add, &&twice, &&park, &&repeat, &&end};
  const uint8_t* at = program;
  int rounds = 0;
  const void* next = kLabels[*at];
  goto* next;
add:
  value += at - program;
  goto* kLabels[*++at];
twice:
  value = value * 2 % 1'000'003;
  next = kLabels[*++at];
  Pause();
  goto* next;
park:
  Pause();
  UseStack(400);
  goto* kLabels[*++at];
repeat:
  if (++rounds < 5) {
    at = program;
    next = kLabels[*at];
    Pause();
    goto* next;
  }
  goto* kLabels[*++at];
end:
  return value;
}

TEST_P(ControlFlowTest, ComputedGoto) {
  constexpr uint8_t kProgram[] = {kPark, kAdd, kTwice, kAdd, kPark, kTwice, kRepeat, kAdd, kEnd};
  OnGoroutines([&kProgram](int i) {
    int64_t expected = i;
    for (int round = 0; round < 5; ++round) {
      expected = (expected + 1) * 2 % 1'000'003;
      expected = (expected + 3) * 2 % 1'000'003;
    }
    EXPECT_EQ(Interpret(Opaque(&kProgram[0]), i), expected + 7);
  });
}

// --- setjmp ---

// A jump buffer holds the stack pointer, encrypted: while its function is active the goroutine has
// to stay in its slot.
[[gnu::noinline]] void JumpFrom(std::jmp_buf& buffer, int depth) {
  Pause();
  if (depth < 0) return;  // never: a compiler might call this endless
  if (depth == 0) std::longjmp(buffer, Opaque(7));
  JumpFrom(buffer, depth - 1);
  Pause();
}

[[gnu::noinline]] int JumpBack(int depth) {
  std::jmp_buf buffer;
  volatile int rounds = 0;
  const int result = setjmp(buffer);
  if (result != 0) rounds = rounds + 1;
  if (rounds == 1) Meet();
  Pause();
  if (rounds < 3) JumpFrom(buffer, depth);
  return rounds * 100 + result;
}

TEST_P(ControlFlowTest, LongjmpToAFrameThatHasParked) {
  const uint64_t before = GetRestStats().kept_foreign_frame;
  OnGoroutines([](int i) {
    EXPECT_EQ(JumpBack(i % 20), 307);
    Pause();
  });
  // More than there are slots wait with a jump buffer on the stack at the same time: some were to
  // rest, and did not.
  if (StacksMustRest()) EXPECT_GT(GetRestStats().kept_foreign_frame, before);
}

// The buffer outlives many parks, in frames above it that could rest.
[[gnu::noinline]] int JumpWithin(int depth) {
  if (depth > 0) {
    const int below = JumpWithin(depth - 1);
    Pause();
    return below;
  }
  return JumpBack(3);
}

TEST_P(ControlFlowTest, LongjmpBelowFramesThatCouldRest) {
  OnGoroutines([](int i) { EXPECT_EQ(JumpWithin(i % 20), 307); });
}

[[gnu::noinline]] int SigjumpBack() {
  sigjmp_buf buffer;
  const int result = sigsetjmp(buffer, 1);
  Pause();
  if (result < 3) siglongjmp(buffer, result + 1);
  return result;
}

TEST_P(ControlFlowTest, Siglongjmp) {
  OnGoroutines([](int) { EXPECT_EQ(SigjumpBack(), 3); });
}

// --- stacks of the program's own ---

// A stack that the program has switched to by itself is not the goroutine's slot: a goroutine that
// parks there must keep the slot, whose bytes are in use still.
struct OwnStack {
  ucontext_t outside;
  ucontext_t inside;
  std::unique_ptr<char[]> memory{new char[kBytes]};
  int64_t sum = 0;
  bool meets = false;
  static constexpr size_t kBytes = 256 * 1024;
};

// An address in two halves, as makecontext has it.
void RunOnOwnStack(unsigned high, unsigned low) {
  auto* const own = reinterpret_cast<OwnStack*>((uintptr_t{high} << 32) | low);
  for (int n = 1; n <= 10; ++n) {
    if (n == 5 && own->meets) Meet();
    Pause();
    own->sum += n * UseStack(900);
  }
}

[[gnu::noinline]] int64_t SwitchStacks(int64_t kept, bool meets) {
  const auto own = std::make_unique<OwnStack>();
  own->meets = meets;
  if (getcontext(&own->inside) != 0) return -1;
  own->inside.uc_stack.ss_sp = own->memory.get();
  own->inside.uc_stack.ss_size = OwnStack::kBytes;
  own->inside.uc_link = &own->outside;
  const auto address = reinterpret_cast<uintptr_t>(own.get());
  makecontext(&own->inside, reinterpret_cast<void (*)()>(RunOnOwnStack), 2,
              static_cast<unsigned>(address >> 32), static_cast<unsigned>(address));
  if (swapcontext(&own->outside, &own->inside) != 0) return -1;
  return own->sum + kept;
}

[[gnu::noinline]] int64_t SwitchStacksBelow(int depth, int64_t kept, bool meets) {
  if (depth == 0) return SwitchStacks(kept, meets);
  const int64_t result = SwitchStacksBelow(depth - 1, kept + 1, meets);
  Pause();
  return result;
}

TEST_P(ControlFlowTest, GoroutinesThatParkOnAStackOfTheirOwn) {
  if (WEFT_ASAN || WEFT_TSAN || testing::UnderValgrind()) {
    GTEST_SKIP() << "the program would have to tell the sanitizer, or Valgrind, of the stack";
  }
  const stack::RestStats before = GetRestStats();
  OnGoroutines([](int i) {
    for (int round = 0; round < 3; ++round) {
      EXPECT_EQ(SwitchStacksBelow(i % 10, i, round == 1), 55 * 10 + i + i % 10);
      Pause();
    }
  });
  // What lies between the two stacks is too much to be copied.
  if (StacksMustRest()) EXPECT_GT(GetRestStats().kept_too_large, before.kept_too_large);
}

}  // namespace
}  // namespace weft
