// How commands end: by themselves, by a context, a deadline or a signal, and with others holding
// on.
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "chan/context.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "spawn/command.h"
#include "spawn/command_testing.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

using ::testing::HasSubstr;

class CommandEndTest : public CommandTest {};

IN_ALL_WORLDS(CommandEndTest);

// EX-14, with a deadline.
TEST_P(CommandEndTest, ADeadlineEndsTheChild) {
  Run([] {
    Command command("cat", {},
                    {.in = Input::Pipe(),
                     .out = Output::Pipe(),
                     .deadline = absl::Now() + absl::Milliseconds(50)});
    ASSERT_TRUE(command.Start().ok());
    // Nobody waits for it yet.
    EXPECT_TRUE(
        weft::testing::Eventually([&] { return !command.in().Write("x").ok(); }, absl::Minutes(1)));
    EXPECT_EQ(command.Wait().message(), "signal: terminated");
    Command late("true", {}, {.deadline = absl::Now() - absl::Seconds(1)});
    EXPECT_EQ(late.Start().message(), "context deadline exceeded");
  });
}

// EX-14.
TEST_P(CommandEndTest, ADoneContextEndsTheChild) {
  Run([] {
    auto [context, cancel] = WithCancel(Background());
    Command command("cat", {}, {.in = Input::Pipe(), .out = Output::Pipe(), .context = context});
    ASSERT_TRUE(command.Start().ok());
    ASSERT_TRUE(command.in().Write("echo\n").ok());
    EXPECT_EQ(ReadLine(command.out()), "echo");
    cancel();
    EXPECT_TRUE(
        weft::testing::Eventually([&] { return !command.in().Write("x").ok(); }, absl::Minutes(1)));
    EXPECT_EQ(command.Wait().message(), "signal: terminated");
    EXPECT_EQ(Command("true", {}, {.context = context}).Run().message(), "context canceled");

    // While somebody waits for it, and it ends well.
    auto [second, cancel_second] = WithCancel(Background());
    Command polite = Shell("trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done",
                           {.out = Output::Pipe(), .context = second, .grace = absl::Minutes(1)});
    ASSERT_TRUE(polite.Start().ok());
    EXPECT_EQ(ReadLine(polite.out()), "ready");
    Tasks tasks;
    tasks.Go([&, cancel = cancel_second] { cancel(); });
    EXPECT_EQ(polite.Wait().message(), "context canceled");
    EXPECT_TRUE(polite.exit_status().success());
    tasks.Wait();

    auto [third, cancel_third] = WithTimeout(Background(), absl::Milliseconds(20));
    const CommandResult result =
        Command("sleep", {"100"}, {.context = third, .cancel_signal = SIGKILL}).Output();
    EXPECT_EQ(result.status.message(), "signal: killed");
    cancel_third();
    // One that is never done changes nothing.
    EXPECT_EQ(Command("echo", {"out"}, {.context = Background()}).Output().out, "out\n");
  });
}

// EX-15, by letters.
TEST_P(CommandEndTest, EndsAndDelays) {
  Run([] {
    const auto soon = [] { return absl::Now() + absl::Milliseconds(100); };
    // (a)
    EXPECT_TRUE(
        Shell("exit 0", {.deadline = absl::Now() + absl::Hours(1), .wait_delay = absl::Seconds(10)})
            .Run()
            .ok());
    // (b)
    Command patient =
        Shell("sleep 0.3", {.deadline = soon(), .cancel_signal = 0, .grace = absl::Hours(1)});
    EXPECT_EQ(patient.Run().message(), "context deadline exceeded");
    EXPECT_EQ(patient.exit_status().code(), 0);
    // (c) The grandchild lives on, with the standard error open. It has to be there in time.
    std::string err;
    for (absl::Duration limit = absl::Milliseconds(100); err.empty(); limit *= 2) {
      Command holder = Shell("sleep 100 >/dev/null </dev/null & echo $! >&2; exec sleep 100",
                             {.err = Output::To(&err),
                              .deadline = absl::Now() + limit,
                              .cancel_signal = SIGKILL,
                              .wait_delay = absl::Milliseconds(10)});
      EXPECT_EQ(holder.Run().message(), "signal: killed");
    }
    ASSERT_GT(atoi(err.c_str()), 0);
    kill(atoi(err.c_str()), SIGKILL);
    // (d)
    err.clear();
    Command leaver = Shell("sleep 100 >/dev/null </dev/null & echo $! >&2",
                           {.err = Output::To(&err), .wait_delay = absl::Milliseconds(300)});
    const absl::Status status = leaver.Run();
    EXPECT_EQ(status.message(), "exec: WaitDelay expired before I/O complete");
    EXPECT_TRUE(IsWaitDelay(status));
    EXPECT_TRUE(leaver.exit_status().success());
    ASSERT_GT(atoi(err.c_str()), 0);
    kill(atoi(err.c_str()), SIGKILL);
    // (e) What is ignored here is ignored there.
    signal(SIGINT, SIG_IGN);
    EXPECT_EQ(
        Command("sleep", {"100"},
                {.deadline = soon(), .cancel_signal = SIGINT, .grace = absl::Milliseconds(50)})
            .Run()
            .message(),
        "signal: killed");
    signal(SIGINT, SIG_DFL);
    // (f) It has to have its handler in time.
    for (absl::Duration limit = absl::Milliseconds(100);; limit *= 2) {
      Command polite = Shell(
          "trap 'exit 0' INT; while :; do sleep 0.01; done",
          {.deadline = absl::Now() + limit, .cancel_signal = SIGINT, .grace = absl::Minutes(1)});
      const absl::Status end = polite.Run();
      if (polite.exit_status().signal() == SIGINT && limit < absl::Seconds(30)) continue;
      EXPECT_EQ(end.message(), "context deadline exceeded");
      EXPECT_EQ(polite.exit_status().code(), 0);
      break;
    }
    // (g) It is asked for its goroutines.
    for (absl::Duration limit = absl::Milliseconds(100);; limit *= 2) {
      CommandResult dump = Command("debug/goroutines_program", {},
                                   {.deadline = absl::Now() + limit,
                                    .cancel_signal = SIGQUIT,
                                    .grace = absl::Minutes(1)})
                               .Output();
      if (dump.status.message() == "signal: quit" && limit < absl::Seconds(30)) continue;
      EXPECT_EQ(dump.status.message(), "exit status 2");
      EXPECT_THAT(dump.err, HasSubstr("SIGQUIT: quit\n\ngoroutine "));
      break;
    }
  });
}

// EX-18.
TEST_P(CommandEndTest, AStoppedChildHasNotEnded) {
  Run([] {
    Command command("cat", {}, {.in = Input::Pipe(), .out = Output::Pipe()});
    ASSERT_TRUE(command.Start().ok());
    std::atomic<bool> waited{false};
    Tasks tasks;
    tasks.Go([&] {
      EXPECT_EQ(command.Wait().message(), "signal: killed");
      waited.store(true, std::memory_order_release);
    });
    EXPECT_TRUE(command.Signal(SIGSTOP).ok());
    const std::string stat = absl::StrCat("/proc/", command.pid(), "/stat");
    EXPECT_TRUE(
        weft::testing::Eventually([&] { return absl::StrContains(ReadFile(stat), ") T "); }));
    EXPECT_FALSE(waited.load(std::memory_order_acquire));
    EXPECT_TRUE(command.Signal(SIGCONT).ok());
    EXPECT_TRUE(command.Signal(0).ok());
    EXPECT_TRUE(command.Kill().ok());
    tasks.Wait();
    EXPECT_EQ(command.Signal(SIGTERM).message(), "os: process already finished");
  });
}

// Its pidfd is ready when it is dead, but its tracer has the first look.
TEST_P(CommandEndTest, ATracedChildHasEndedWhenItsTracerIsDone) {
  Run([] {
    Command child("sleep", {"100"});
    ASSERT_TRUE(child.Start().ok());
    Command tracer("spawn/child_program", {"trace", absl::StrCat(child.pid())},
                   {.in = Input::Pipe(), .out = Output::Pipe()});
    ASSERT_TRUE(tracer.Start().ok());
    if (ReadLine(tracer.out()) != "tracing") {
      EXPECT_TRUE(child.Kill().ok());
      child.Wait().IgnoreError();
      tracer.Wait().IgnoreError();
      GTEST_SKIP() << "processes may not be traced";
    }
    EXPECT_TRUE(child.Kill().ok());
    std::atomic<bool> waited{false};
    Tasks tasks;
    tasks.Go([&] {
      EXPECT_EQ(child.Wait().message(), "signal: killed");
      waited.store(true, std::memory_order_release);
    });
    const std::string stat = absl::StrCat("/proc/", child.pid(), "/stat");
    EXPECT_TRUE(
        weft::testing::Eventually([&] { return absl::StrContains(ReadFile(stat), ") Z "); }));
    EXPECT_FALSE(waited.load(std::memory_order_acquire));
    EXPECT_TRUE(tracer.in().Close().ok());
    EXPECT_TRUE(tracer.Wait().ok());
    tasks.Wait();
  });
}

TEST_P(CommandEndTest, OneThatIsForgottenIsWaitedForAllTheSame) {
  Run([] {
    for (int i = 0; i < 5; ++i) {
      EXPECT_TRUE(Command("true").Start().ok());
      EXPECT_TRUE(Shell("echo much", {.out = Output::Pipe()}).Start().ok());
    }
    EXPECT_TRUE(weft::testing::Eventually([] { return !HasChildren(); }));
  });
}

// Without pidfds, on a thread of a program that has no scheduler.
TEST(CommandWithoutPidfdTest, WaitsAllTheSame) {
  InForkedProcess([] {
    RefuseSyscalls({SYS_clone3, SYS_pidfd_open}, ENOSYS);
    RefuseSyscallWithBits(SYS_clone, CLONE_PIDFD, EINVAL);
    const CommandResult result = Command("cat", {}, {.in = Input::Bytes("text")}).Output();
    EXPECT_TRUE(result.ok()) << result.status;
    EXPECT_EQ(result.out, "text");
    Command command("sleep", {"100"});
    ASSERT_TRUE(command.Start().ok());
    EXPECT_TRUE(command.Kill().ok());
    EXPECT_EQ(command.Wait().message(), "signal: killed");
    EXPECT_EQ(command.Kill().message(), "os: process already finished");
  });
}

}  // namespace
}  // namespace weft::spawn::testing
