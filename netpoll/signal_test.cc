#include "netpoll/signal.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/context.h"
#include "gtest/gtest.h"
#include "netpoll/test_util.h"
#include "sched/goroutine.h"
#include "sched/testing.h"
#include "spawn/fork_exec.h"
#include "tests/rounds.h"
#include "tests/subprocess.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::Eventually;
using testing::ForEachSetting;
using testing::ProcessResult;
using testing::Rounds;
using testing::RunProcess;
using testing::Shortened;
using testing::TaskGroup;
using testing::TaskKind;

constexpr const char* kProgram = "netpoll/signal_program";

void Send(int signal) { ASSERT_EQ(kill(getpid(), signal), 0); }

// To this very thread, which handles it before this returns.
void SendHere(int signal) { ASSERT_EQ(raise(signal), 0); }

// Waits for a signal. What the system or others send (SIGURG, SIGCHLD, ...) to one who asks for all
// is passed over.
void ExpectSignal(const Chan<int>& channel, int signal) {
  for (;;) {
    std::optional<int> got;
    ASSERT_TRUE(Eventually([&] {
      got = channel.TryRecv().value;
      return got.has_value();
    })) << "no signal "
        << signal;
    if (got == signal) return;
    ASSERT_TRUE(got == SIGURG || got == SIGCHLD || got == SIGCONT) << *got;
  }
}

// Whoever runs the tests may have them ignore SIGHUP (nohup), which stays so.
class SignalTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { signal(SIGHUP, SIG_DFL); }
};

struct sigaction ActionOf(int signal) {
  struct sigaction action;
  sigaction(signal, nullptr, &action);
  return action;
}

TEST_F(SignalTest, SG01_EachSignalComesToAllWhoAskForIt) {
  ForEachSetting([](TaskKind) {
    Chan<int> hup(1);
    Notify(hup, {SIGHUP});
    Send(SIGHUP);
    ExpectSignal(hup, SIGHUP);

    // Room for one only: the first one stays, and nobody waits for the others.
    Chan<int> full(1);
    Notify(full, {SIGHUP, SIGWINCH});
    Chan<int> all(10);
    Notify(all);
    Send(SIGHUP);
    ExpectSignal(all, SIGHUP);
    ExpectSignal(hup, SIGHUP);
    Send(SIGWINCH);
    ExpectSignal(all, SIGWINCH);
    Send(SIGWINCH);
    ExpectSignal(all, SIGWINCH);
    EXPECT_EQ(full.len(), 1);
    EXPECT_EQ(full.Recv(), SIGHUP);
    EXPECT_EQ(hup.len(), 0);

    Stop(all);
    Stop(full);
    Stop(hup);
    EXPECT_EQ(ActionOf(SIGHUP).sa_handler, SIG_DFL);
    EXPECT_EQ(ActionOf(SIGWINCH).sa_handler, SIG_DFL);
    EXPECT_EQ(ActionOf(SIGTERM).sa_handler, SIG_DFL);
  });
}

TEST_F(SignalTest, SG02_NothingIsDeliveredAfterStop) {
  ForEachSetting([](TaskKind kind) {
    Chan<int> always(1);  // so that the signal does not end the process
    Notify(always, {SIGUSR1});
    std::atomic<bool> done{false};
    std::atomic<int> received{0};
    TaskGroup tasks(kind);
    tasks.Go([&] {
      while (!done.load()) {
        Send(SIGUSR1);
        Yield();
      }
    });
    tasks.Go([&] {
      while (!done.load()) {
        if (always.TryRecv().value.has_value()) received.fetch_add(1);
        Yield();
      }
    });
    const absl::Time end = absl::Now() + Shortened(absl::Milliseconds(100));
    int stopped = 0;
    while (absl::Now() < end || received.load() == 0 || stopped == 0) {
      Chan<int> channel(1);
      Notify(channel, {SIGUSR1});
      if (stopped % 2 == 0) channel.Recv();
      Stop(channel);
      while (channel.TryRecv().value.has_value()) {
      }
      const int before = received.load();
      for (int i = 0; i < 100 && received.load() == before; ++i) Yield();
      EXPECT_EQ(channel.len(), 0);
      EXPECT_TRUE(channel.Close());
      ++stopped;
    }
    done.store(true);
    tasks.Wait();
    // The last one may be under way yet.
    Ignore({SIGUSR1});
    Reset({SIGUSR1});
  });
}

// A handler that the system has entered may be held up before its first instruction: these come
// when the signal is nobody's any more.
TEST_F(SignalTest, ASignalThatCameBeforeItWasIgnoredIsIgnored) {
  Chan<int> channel(1);
  Notify(channel, {SIGUSR1});
  const auto handler = ActionOf(SIGUSR1).sa_handler;
  Ignore({SIGUSR1});
  Reset({SIGUSR1});
  EXPECT_EQ(ActionOf(SIGUSR1).sa_handler, SIG_DFL);
  handler(SIGUSR1);
  EXPECT_EQ(channel.len(), 0);
}

TEST_F(SignalTest, ASignalThatCameBeforeAStopHasTheDefaultAction) {
  struct sigaction note = {};
  static std::atomic<int> notes;
  notes.store(0);
  note.sa_handler = [](int) { notes.fetch_add(1); };
  struct sigaction before;
  ASSERT_EQ(sigaction(SIGUSR1, &note, &before), 0);
  Chan<int> channel(1);
  Ignore({SIGUSR1});
  Notify(channel, {SIGUSR1});
  const auto handler = ActionOf(SIGUSR1).sa_handler;
  Stop(channel);
  handler(SIGUSR1);
  EXPECT_EQ(notes.load(), 1);
  EXPECT_EQ(channel.len(), 0);
  ASSERT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
}

TEST_F(SignalTest, SG04_IgnoredSaysWhatHolds) {
  ForEachSetting([](TaskKind) {
    EXPECT_FALSE(Ignored(SIGWINCH));
    Chan<int> channel(1);
    Notify(channel, {SIGWINCH});
    EXPECT_FALSE(Ignored(SIGWINCH));
    Ignore({SIGWINCH});
    EXPECT_TRUE(Ignored(SIGWINCH));
    Send(SIGWINCH);
    Notify(channel, {SIGWINCH});
    EXPECT_FALSE(Ignored(SIGWINCH));
    EXPECT_EQ(channel.len(), 0);
    Send(SIGWINCH);
    ExpectSignal(channel, SIGWINCH);
    Reset({SIGWINCH});
    EXPECT_FALSE(Ignored(SIGWINCH));
    EXPECT_EQ(ActionOf(SIGWINCH).sa_handler, SIG_DFL);
    EXPECT_FALSE(Ignored(12345));
    EXPECT_FALSE(Ignored(SIGKILL));
  });
}

TEST_F(SignalTest, SG05_WhatNohupIgnoresStaysIgnored) {
  for (const char* const procs : AllInTurn({"1", "4"})) {
    const testing::ProcessOptions options = {.env = {absl::StrCat("WEFTMAXPROCS=", procs)}};
    ProcessResult r = RunProcess(
        {"/bin/sh", "-c", absl::StrCat("trap '' HUP; exec ", kProgram, " nohup")}, options);
    EXPECT_EQ(r.exit_status, 0) << r.signal << r.err;
    EXPECT_EQ(r.out, "ignored\nbefore\nnot ignored\ngot 1\nafter\n");

    r = RunProcess({kProgram, "nohup"}, options);
    EXPECT_EQ(r.signal, SIGHUP);
    EXPECT_EQ(r.out, "not ignored\n");

    r = RunProcess({kProgram, "subscribed"}, options);
    EXPECT_EQ(r.signal, SIGHUP);
    EXPECT_EQ(r.out, "got 1\n");
  }
}

TEST_F(SignalTest, SG07_SigcontComes) {
  ForEachSetting([](TaskKind) {
    Chan<int> channel(1);
    Notify(channel, {SIGCONT});
    Send(SIGCONT);
    ExpectSignal(channel, SIGCONT);
    Stop(channel);
  });
}

TEST_F(SignalTest, SG08_ASignalThatRacesStopIsDeliveredOrDoesWhatItDid) {
  int killed = 0;
  for (int run = 0; run < Rounds(10, 1); ++run) {
    const ProcessResult r =
        RunProcess({kProgram, "stop", "10"}, {.env = {absl::StrCat("WEFTMAXPROCS=", run % 4 + 1)}});
    if (r.signal == SIGINT) {
      ++killed;
      EXPECT_EQ(r.out, "");
    } else {
      EXPECT_EQ(r.exit_status, 0) << r.signal << r.err;
      EXPECT_EQ(r.out, "all delivered\n");
    }
  }
  RecordProperty("killed", killed);
}

TEST_F(SignalTest, SG10_ContextIsDoneOnSignal) {
  ForEachSetting([](TaskKind) {
    auto [context, stop] = NotifyContext(Background(), {SIGINT});
    EXPECT_TRUE(context.Err().ok());
    Send(SIGINT);
    context.Done().Recv();
    EXPECT_EQ(context.Err().message(), "context canceled");
    // Until stop() later ones do nothing.
    for (int i = 0; i < 10; ++i) SendHere(SIGINT);
    stop();
    stop();
    EXPECT_EQ(ActionOf(SIGINT).sa_handler, SIG_DFL);
  });
}

TEST_F(SignalTest, SG10_StopCancelsAndGivesTheSignalBack) {
  ForEachSetting([](TaskKind kind) {
    signal(SIGUSR2, SIG_IGN);
    auto [context, stop] = NotifyContext(Background(), {SIGUSR2});
    EXPECT_FALSE(Ignored(SIGUSR2));
    TaskGroup tasks(kind);
    for (int i = 0; i < 10; ++i) tasks.Go([stop = stop] { stop(); });
    tasks.Wait();
    EXPECT_EQ(context.Err().message(), "context canceled");
    SendHere(SIGUSR2);  // which would end the process, were it not given back
    EXPECT_TRUE(Ignored(SIGUSR2));
    signal(SIGUSR2, SIG_DFL);
    NotifyStop()();
  });
}

TEST_F(SignalTest, SG10_ParentsCancelTheirSignalContexts) {
  ForEachSetting([](TaskKind) {
    auto [parent, cancel] = WithCancel(Background());
    auto [context, stop] = NotifyContext(parent, {SIGINT});
    EXPECT_TRUE(context.Err().ok());
    cancel();
    context.Done().Recv();
    EXPECT_EQ(context.Err().message(), "context canceled");
    stop();

    auto [late, stop_late] = NotifyContext(parent, {SIGINT});
    EXPECT_EQ(late.Err().message(), "context canceled");
    stop_late();
  });
}

TEST_F(SignalTest, SG10_ContextsSayWhatTheyWaitFor) {
  testing::RunOnGoroutine([] {
    auto [parent, cancel] = WithCancel(Background());
    auto [context, stop] = NotifyContext(parent, {SIGHUP, SIGINT, SIGTERM});
    EXPECT_EQ(context.DebugString(),
              "signal.NotifyContext(context.Background.WithCancel, [hangup interrupt terminated])");
    stop();
    auto [real_time, stop_real_time] = NotifyContext(Background(), {SIGUSR1, SIGRTMIN + 1});
    EXPECT_EQ(
        real_time.DebugString(),
        absl::StrCat("signal.NotifyContext(context.Background, [user defined signal 1 signal ",
                     SIGRTMIN + 1, "])"));
    stop_real_time();
    auto [all, stop_all] = NotifyContext(Background());
    EXPECT_EQ(all.DebugString(), "signal.NotifyContext(context.Background)");
    stop_all();
  });
}

TEST_F(SignalTest, SG11_SignalsComeWhileTheWorldStops) {
  testing::RunOnGoroutine([] {
    Chan<int> channel(1);
    Notify(channel, {SIGUSR1});
    std::atomic<bool> done{false};
    TaskGroup tasks(TaskKind::kThread);
    const int before = MaxProcs();
    tasks.Go([&] {
      for (int i = 0; i < 100; ++i) SetMaxProcs(i % 4 + 1);
      done.store(true);
    });
    for (int i = 0; i < Rounds(100, 10) || !done.load(); ++i) {
      Send(SIGUSR1);
      ExpectSignal(channel, SIGUSR1);
    }
    tasks.Wait();
    SetMaxProcs(before);
    Stop(channel);
  });
}

// Each child starts while the signal goes to all of the group; what is caught here does nothing in
// a child, whose default for SIGWINCH is nothing too.
TEST_F(SignalTest, SG13_ChildrenStartWhileSignalsCome) {
  ForEachSetting([](TaskKind kind) {
    Chan<int> channel(1);
    Notify(channel, {SIGWINCH});
    std::atomic<bool> done{false};
    TaskGroup tasks(kind);
    tasks.Go([&] {
      while (!done.load()) {
        kill(0, SIGWINCH);
        channel.TryRecv();
        Yield();
      }
    });
    for (int i = 0; i < 10; ++i) {
      absl::StatusOr<spawn::Child> child = spawn::ForkExec("/bin/true", {"true"});
      ASSERT_TRUE(child.ok()) << child.status();
      int status = -1;
      ASSERT_EQ(waitpid(child->pid, &status, 0), child->pid);
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    }
    done.store(true);
    tasks.Wait();
    Stop(channel);
  });
}

// A line of /proc/self/status of a program that is started now.
std::string ChildSignals(absl::string_view name) {
  const std::string status = RunProcess({"/bin/cat", "/proc/self/status"}).out;
  for (const absl::string_view line : absl::StrSplit(status, '\n')) {
    if (absl::StartsWith(line, name)) return std::string(line);
  }
  return "none";
}

TEST_F(SignalTest, ChildrenHaveTheMaskAndTheDefaultActions) {
  testing::RunOnGoroutine([] {
    const std::string mask = ChildSignals("SigBlk");
    const std::string ignored = ChildSignals("SigIgn");
    Chan<int> channel(1);
    Notify(channel);
    EXPECT_EQ(ChildSignals("SigBlk"), mask);
    EXPECT_EQ(ChildSignals("SigIgn"), ignored);
    EXPECT_EQ(ChildSignals("SigCgt"), "SigCgt:\t0000000000000000");
    Stop(channel);
  });
}

// Threads that were there before the first Notify(), and have never heard of the runtime.
TEST_F(SignalTest, ThreadsOfOthersMayTakeTheSignal) {
  std::atomic<pthread_t> id{};
  std::atomic<bool> started{false};
  std::atomic<bool> done{false};
  std::thread other([&] {
    id.store(pthread_self());
    started.store(true);
    while (!done.load()) usleep(1000);
  });
  while (!started.load()) usleep(1000);
  testing::RunOnGoroutine([&] {
    Chan<int> channel(1);
    Notify(channel, {SIGTERM});
    for (int i = 0; i < Rounds(100); ++i) {
      ASSERT_EQ(pthread_kill(id.load(), SIGTERM), 0);
      ExpectSignal(channel, SIGTERM);
    }
    Stop(channel);
  });
  done.store(true);
  other.join();
}

std::atomic<int> handled{0};

TEST_F(SignalTest, HandlersOfOthersAreBackAfterStop) {
  testing::RunOnGoroutine([] {
    struct sigaction action = {};
    action.sa_handler = [](int) { handled.fetch_add(1); };
    struct sigaction before;
    sigaction(SIGUSR2, &action, &before);
    Chan<int> channel(1);
    Notify(channel, {SIGUSR2});
    Send(SIGUSR2);
    ExpectSignal(channel, SIGUSR2);
    EXPECT_EQ(handled.load(), 0);
    Ignore({SIGUSR2});
    Notify(channel, {SIGUSR2});
    Stop(channel);
    Send(SIGUSR2);
    EXPECT_TRUE(Eventually([] { return handled.load() == 1; }));
    sigaction(SIGUSR2, &before, nullptr);
  });
}

TEST_F(SignalTest, WhatCannotBeCaughtIsPassedOver) {
  testing::RunOnGoroutine([] {
    const auto fault_handler = ActionOf(SIGSEGV).sa_sigaction;
    Chan<int> channel(1);
    Notify(channel, {SIGKILL, SIGSTOP, SIGSEGV, 0, -1, 32, 65, 1 << 20});
    EXPECT_EQ(ActionOf(SIGSEGV).sa_sigaction, fault_handler);
    Stop(channel);
    Stop(channel);
    Stop(Chan<int>());
  });
}

TEST_F(SignalTest, RealTimeSignalsAreSignalsToo) {
  testing::RunOnGoroutine([] {
    Chan<int> channel(1);
    Notify(channel, {SIGRTMAX});
    Send(SIGRTMAX);
    ExpectSignal(channel, SIGRTMAX);
    Stop(channel);
  });
}

// The child is not to swallow what should end it.
TEST_F(SignalTest, TheChildOfAForkHasTheOldActions) {
  testing::RunOnGoroutine([] {
    Chan<int> channel(1);
    Notify(channel, {SIGTERM});
    const pid_t child = fork();
    if (child == 0) {
      kill(getpid(), SIGTERM);
      _exit(7);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
    EXPECT_EQ(channel.len(), 0);
    Stop(channel);
  });
}

TEST_F(SignalTest, NilChannelPanics) {
  const ProcessResult r = RunProcess({kProgram, "nil"});
  EXPECT_EQ(r.exit_status, 2);
  EXPECT_TRUE(absl::StartsWith(r.err, "panic: signal: Notify using nil channel\n")) << r.err;
}

}  // namespace
}  // namespace weft
