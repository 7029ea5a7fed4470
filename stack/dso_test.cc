// Shared objects with instrumented code, loaded by a program with the runtime.

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "gtest/gtest.h"
#include "stack/arch.h"
#include "stack/context.h"
#include "stack/grow.h"
#include "stack/internal/resident_task.h"
#include "stack/internal/task.h"
#include "stack/mode.h"
#include "stack/morestack.h"
#include "stack/residence.h"
#include "stack/rest.h"
#include "stack/slots.h"
#include "stack/text_range.h"

namespace weft::stack {
namespace {

class Object {
 public:
  Object() : handle_(dlopen("stack/libdso_test_object.so", RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) ADD_FAILURE() << dlerror();
  }
  ~Object() { dlclose(handle_); }

  template <typename F>
  F* Find(const char* name) {
    return reinterpret_cast<F*>(dlsym(handle_, name));
  }

 private:
  void* handle_;
};

TEST(DsoTest, ItsCodeIsKnownWhileItIsLoaded) {
  const void* pc = nullptr;
  for (int i = 0; i < 300; ++i) {  // more often than there is room for ranges
    {
      Object object;
      pc = reinterpret_cast<const void*>(object.Find<int(int)>("weft_test_recurse"));
      ASSERT_NE(pc, nullptr);
      ASSERT_EQ(IsMovableCode(pc), kMayMove) << i;
    }
    ASSERT_FALSE(IsMovableCode(pc)) << i;
  }
}

void Request() { *GuardWord() = kGuardRequest; }

// Nothing else than our __morestack knows what the guard word should be.
TEST(DsoTest, ItsFunctionsCallTheRuntime) {
  if (!kHasGuardWord) GTEST_SKIP() << "no guard words in this build";
  Object object;
  auto* recurse = object.Find<int(int)>("weft_test_recurse");
  auto* take = object.Find<int(size_t, void (*)())>("weft_test_alloca");
  uintptr_t after_recurse = 0;
  uintptr_t after_alloca = 0;
  uintptr_t limit = 0;
  int results = 0;
  RunOnSlot([&] {
    uintptr_t* const guard = GuardWord();
    limit = *guard;
    Request();
    results += recurse(100);
    after_recurse = *guard;
    results += take(100000, Request);
    after_alloca = *guard;
  });
  EXPECT_NE(limit, 0u);
  EXPECT_EQ(after_recurse, limit);
  EXPECT_EQ(after_alloca, limit);
  EXPECT_EQ(results, 100 + 3 + 1);
}

TEST(DsoTest, ItThrowsAndCatchesOnASlot) {
  Object object;
  auto* catches = object.Find<int()>("weft_test_catch");
  int result = 0;
  RunOnSlot([&] { result = catches(); });
  EXPECT_EQ(result, 1);
}

// --- stacks with its frames on them ---

using ParkFunction = int(int depth, void (*park)(void*), void* arg);

struct Fiber : Resident {
  ParkFunction* park = nullptr;
  int result = 0;
  bool done = false;
  Context* thread = nullptr;
};

constexpr int kDepth = 20;
constexpr int kParks = 2 * (kDepth + 1);
constexpr int kResult = 2 * (kDepth + 1);

void Park(void* arg) {
  auto* fiber = static_cast<Fiber*>(arg);
  Switch(fiber->context, *fiber->thread);
}

void RunFiber(void* arg) {
  auto* fiber = static_cast<Fiber*>(static_cast<Resident*>(arg));
  fiber->result = fiber->park(kDepth, Park, fiber);
  fiber->done = true;
  SwitchFinal(fiber->context, *fiber->thread);
}

// Runs residents of this thread.
class Proc final : public StackMover {
 public:
  Proc(RestPolicy policy, size_t budget) : StackMover(slots_, RunFiber, policy, budget) {}
  ~Proc() { Drain(); }
  void Resume(Fiber& fiber) {
    ASSERT_EQ(residence().Enter(fiber), Residence::Entry::kRuns) << WhyNoSlot();
    fiber.thread = &thread_;
    Switch(thread_, fiber.context);
    if (!fiber.done) {
      residence().Leave(fiber);
      return;
    }
    DestroyContext(fiber.context);
    End(fiber);
  }
  void Ready(Resident&) override {}
  bool MayRest(const Resident&) const override { return true; }

 private:
  SlotCache slots_;
  Context thread_;
};

// Two that take turns, to the end of both.
void TakeTurns(RestPolicy policy, size_t budget) {
  Object object;
  Proc proc(policy, budget);
  Fiber fibers[2];
  for (Fiber& fiber : fibers) fiber.park = object.Find<ParkFunction>("weft_test_park");
  ASSERT_NE(fibers[0].park, nullptr);
  while (!fibers[1].done) {
    for (Fiber& fiber : fibers) proc.Resume(fiber);
  }
  for (const Fiber& fiber : fibers) EXPECT_EQ(fiber.result, kResult);
}

class DsoStackTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!kMayMove) GTEST_SKIP() << "stacks do not move in this build";
    PoisonLeftStacks();
  }
};

TEST_F(DsoStackTest, RestsInItsCodeAndWakesAtHome) {
  const RestStats before = GetRestStats();
  TakeTurns(RestPolicy::kAsNeeded, 1);
  const RestStats after = GetRestStats();
  EXPECT_GE(after.wakes_at_home - before.wakes_at_home, uint64_t{2 * kParks - 1});
  EXPECT_EQ(after.kept_foreign_frame, before.kept_foreign_frame);
  EXPECT_EQ(after.kept_broken_chain, before.kept_broken_chain);
}

TEST_F(DsoStackTest, RestsInItsCodeAndWakesElsewhere) {
  const RestStats before = GetRestStats();
  TakeTurns(RestPolicy::kAlways, 2);
  const RestStats after = GetRestStats();
  EXPECT_GE(after.moves - before.moves, uint64_t{kParks});
  EXPECT_EQ(after.kept_foreign_frame, before.kept_foreign_frame);
  EXPECT_EQ(after.kept_broken_chain, before.kept_broken_chain);
}

// As with WEFTDEBUG=stackmove=always.
[[noreturn]] void MoveAtEachOfItsCalls() {
  MoveStacksAlways();
  Object object;
  auto* park = object.Find<ParkFunction>("weft_test_park");
  int result = 0;
  uint64_t moves = 0;
  RunAsResident([&] {
    const uint64_t before = GetGrowStats().moves;
    result = park(kDepth, [](void*) {}, nullptr);
    moves = GetGrowStats().moves - before;
  });
  std::fprintf(stderr, "result %d, %s\n", result, moves > kDepth ? "moved" : "stayed");
  std::exit(0);
}

TEST_F(DsoStackTest, MovesAtEachOfItsCalls) {
  EXPECT_EXIT(MoveAtEachOfItsCalls(), testing::ExitedWithCode(0), "result 42, moved");
}

}  // namespace
}  // namespace weft::stack
