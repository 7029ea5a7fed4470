// A signal handler that has begun, and is held up at each of its instructions in turn, while a
// program that has ignored the signal catches it again.
//
// Both threads run step by step: the processor's trap flag has each instruction followed by
// SIGTRAP. So one of them stops at any place, and the other right before the system call that
// changes the action.
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <thread>

#include "chan/chan.h"
#include "gtest/gtest.h"
#include "netpoll/signal.h"
#include "stack/mode.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Repetition;
using testing::Rounds;

constexpr greg_t kTrapFlag = 0x100;
constexpr int kSignal = SIGUSR1;

using Handler = void (*)(int);

std::atomic<int> noted{0};
void Note(int) { noted.fetch_add(1); }

void Await(const std::atomic<bool>& flag) {
  while (!flag.load()) usleep(10);
}

// One round.
struct Round {
  Handler handler = nullptr;
  int stop_after = 0;  // so many of the handler's instructions
  std::atomic<bool> may_catch{false};
  std::atomic<bool> at_action{false};  // or past it
  std::atomic<bool> handled{false};
  int steps = -1;  // of the handler
};

enum class Role { kNone, kHandles, kCatches };
thread_local constinit Role role = Role::kNone;
Round* now = nullptr;

// Whether the thread that has come so far goes on step by step.
bool HandlerGoesOnStepwise(greg_t pc) {
  if (now->steps < 0 && pc != reinterpret_cast<greg_t>(now->handler)) return true;
  if (++now->steps < now->stop_after) return true;
  now->may_catch.store(true);
  Await(now->at_action);
  return false;
}

bool CatcherGoesOnStepwise(const greg_t* registers) {
  const auto* const next = reinterpret_cast<const unsigned char*>(registers[REG_RIP]);
  const bool is_system_call = next[0] == 0x0f && next[1] == 0x05;
  if (!is_system_call || registers[REG_RAX] != SYS_rt_sigaction || registers[REG_RSI] == 0) {
    return true;
  }
  now->at_action.store(true);
  Await(now->handled);
  return false;
}

// The first one comes from raise().
void OnStep(int, siginfo_t*, void* context) {
  greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const bool goes_on = (role == Role::kHandles && HandlerGoesOnStepwise(registers[REG_RIP])) ||
                       (role == Role::kCatches && CatcherGoesOnStepwise(registers));
  registers[REG_EFL] = goes_on ? registers[REG_EFL] | kTrapFlag : registers[REG_EFL] & ~kTrapFlag;
  if (!goes_on) role = Role::kNone;
}

void StepFromHereAs(Role as) {
  role = as;
  raise(SIGTRAP);
}

// False: the handler has fewer instructions than that.
bool HoldUpAfter(int steps, Handler handler) {
  Round round;
  round.handler = handler;
  round.stop_after = steps;
  now = &round;
  Chan<int> channel(1);
  std::thread catcher([&] {
    Await(round.may_catch);
    StepFromHereAs(Role::kCatches);
    Notify(channel, {kSignal});
    role = Role::kNone;
    round.at_action.store(true);
  });
  std::thread handles([&] {
    StepFromHereAs(Role::kHandles);
    handler(kSignal);
    role = Role::kNone;
    round.handled.store(true);
    round.may_catch.store(true);
  });
  handles.join();
  catcher.join();
  Ignore({kSignal});
  Reset({kSignal});
  return round.steps >= steps;
}

// It is caught again, or was ignored as it came: what it does by default it does not do.
TEST(SignalRaceTest, WhatCameWhileItWasIgnoredHasNoDefaultAction) {
  if (WEFT_TSAN) GTEST_SKIP() << "the sanitizer puts off handlers";
  struct sigaction step = {};
  step.sa_sigaction = OnStep;
  step.sa_flags = SA_SIGINFO;
  struct sigaction note = {};
  note.sa_handler = Note;
  struct sigaction old_step;
  struct sigaction old_note;
  ASSERT_EQ(sigaction(SIGTRAP, &step, &old_step), 0);
  ASSERT_EQ(sigaction(kSignal, &note, &old_note), 0);
  Chan<int> channel(1);
  Notify(channel, {kSignal});
  struct sigaction caught;
  ASSERT_EQ(sigaction(kSignal, nullptr, &caught), 0);
  Ignore({kSignal});
  Reset({kSignal});
  // Where the test is repeated, at other places each time.
  const int every = Rounds(1, 16);
  int steps = static_cast<int>(Repetition() % static_cast<uint64_t>(every));
  while (HoldUpAfter(steps, caught.sa_handler)) {
    EXPECT_EQ(noted.exchange(0), 0) << "held up after " << steps << " instructions";
    steps += every;
  }
  EXPECT_GT(steps, 10);
  ASSERT_EQ(sigaction(SIGTRAP, &old_step, nullptr), 0);
  ASSERT_EQ(sigaction(kSignal, &old_note, nullptr), 0);
}

}  // namespace
}  // namespace weft
