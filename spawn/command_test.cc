// The cases of Go's os/exec, by their numbers, and what is ours.
#include "spawn/command.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "chan/context.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sched/sync/testing.h"
#include "spawn/pipeline.h"
#include "spawn/testing.h"
#include "tests/rounds.h"

namespace {

using testing::HasSubstr;
using weft::Command;
using weft::CommandOptions;
using weft::CommandResult;
using weft::ExitStatus;
using weft::Input;
using weft::Output;
using weft::testing::Eventually;
using weft::testing::Rounds;
using weft::testing::Tasks;

class CommandTest : public weft::testing::WorldTest {
 protected:
  void SetUp() override {
    // As weft::Main has it.
    signal(SIGPIPE, SIG_IGN);
  }
};

INSTANTIATE_TEST_SUITE_P(, CommandTest, weft::testing::Worlds(), weft::testing::WorldName);

Command Shell(const std::string& script, CommandOptions options = {}) {
  return Command("/bin/sh", {"-c", script}, std::move(options));
}

// What a command could leave open. (The scheduler's own files come and go.)
std::vector<std::string> CommandFiles() {
  std::vector<std::string> files;
  for (const std::string& file : weft::spawn::testing::OpenFiles()) {
    if (absl::StrContains(file, "pipe:") || absl::StrContains(file, "pidfd") ||
        absl::StrContains(file, "/dev/")) {
      files.push_back(file);
    }
  }
  return files;
}

std::string TempPath(const std::string& name) {
  return absl::StrCat(::testing::TempDir(), "/", name, ".", getpid());
}

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Reads to the end of a line.
std::string ReadLine(const weft::PipeEnd& end) {
  std::string line;
  char c;
  while (end.Read(absl::MakeSpan(&c, 1)).value_or(0) == 1 && c != '\n') line += c;
  return line;
}

// EX-02.
TEST_P(CommandTest, ExitStatus) {
  Run([] {
    for (const int code : {42, 2, 255, 0}) {
      Command command = Shell(absl::StrCat("exit ", code));
      EXPECT_EQ(command.exit_status().code(), -1);
      const absl::Status status = command.Run();
      EXPECT_EQ(status.message(), code == 0 ? "" : absl::StrCat("exit status ", code));
      EXPECT_EQ(command.exit_status().code(), code);
      EXPECT_EQ(command.exit_status().success(), code == 0);
      if (code != 0) {
        ASSERT_TRUE(weft::ExitStatusOf(status).has_value());
        EXPECT_EQ(*weft::ExitStatusOf(status), command.exit_status());
      }
    }
    Command killed = Shell("kill -TERM $$");
    EXPECT_EQ(killed.Run().message(), "signal: terminated");
    EXPECT_EQ(killed.exit_status().code(), -1);
    EXPECT_EQ(killed.exit_status().signal(), SIGTERM);
  });
}

// EX-03.
TEST_P(CommandTest, OutputAndErrors) {
  Run([] {
    const std::string good = TempPath("good");
    std::ofstream(good) << "a line\n";
    CommandResult both = Command("cat", {"/nowhere/bad", good}).CombinedOutput();
    EXPECT_EQ(both.status.message(), "exit status 1");
    EXPECT_THAT(both.out, HasSubstr("/nowhere/bad: No such file or directory\na line\n"));
    CommandResult separate = Command("cat", {"/nowhere/bad", good}).Output();
    EXPECT_EQ(separate.status.message(), "exit status 1");
    EXPECT_EQ(separate.out, "a line\n");
    EXPECT_THAT(separate.err, HasSubstr("No such file or directory"));
    unlink(good.c_str());
  });
}

// EX-05.
TEST_P(CommandTest, DialogueOverPipes) {
  Run([] {
    Command command = Shell("while read line; do echo \"out:$line\"; echo \"err:$line\" >&2; done",
                            {.in = Input::Pipe(), .out = Output::Pipe(), .err = Output::Pipe()});
    ASSERT_TRUE(command.Start().ok());
    EXPECT_GT(command.pid(), 0);
    for (const std::string line : {"one", "two", "three"}) {
      ASSERT_TRUE(command.in().Write(line + "\n").ok());
      EXPECT_EQ(ReadLine(command.out()), "out:" + line);
      EXPECT_EQ(ReadLine(command.err()), "err:" + line);
    }
    EXPECT_TRUE(command.in().Close().ok());
    EXPECT_EQ(*command.out().ReadAll(), "");
    EXPECT_TRUE(command.Wait().ok());
    EXPECT_EQ(command.Wait().message(), "exec: Wait was already called");
    EXPECT_EQ(command.Start().message(), "exec: already started");
    EXPECT_EQ(Shell("").Wait().message(), "exec: not started");
    EXPECT_EQ(Shell("").in().Write("x").message(), "not a pipe of this command");
  });
}

// EX-06.
TEST_P(CommandTest, ClosingTheInputWhileOthersWaitAndKill) {
  Run([] {
    for (int i = 0; i < Rounds(20); ++i) {
      Command command("cat", {}, {.in = Input::Pipe(), .out = Output::Pipe()});
      ASSERT_TRUE(command.Start().ok());
      const weft::PipeEnd in = command.in();
      {
        Tasks tasks;
        tasks.Go([&] { in.Close().IgnoreError(); });
        tasks.Go([&] {
          // Whichever was first.
          in.Write("unread").IgnoreError();
          command.Kill().IgnoreError();
        });
        tasks.Go([&] {
          const absl::Status status = command.Wait();
          EXPECT_TRUE(status.ok() || status.message() == "signal: killed") << status;
        });
        tasks.Wait();
      }
      EXPECT_EQ(in.Close().message(), "close |: file already closed");
      EXPECT_EQ(command.Kill().message(), "os: process already finished");
    }
  });
}

// EX-08.
TEST_P(CommandTest, FailedStartsLeaveNothingOpen) {
  Run([] {
    EXPECT_TRUE(Shell("true", {.out = Output::Pipe()}).Run().ok());
    ASSERT_TRUE(Eventually([] { return !weft::spawn::testing::HasChildren(); }));
    const std::vector<std::string> files = CommandFiles();
    for (int i = 0; i < 6; ++i) {
      Command lost("weft-no-such-program", {},
                   {.in = Input::Pipe(), .out = Output::Pipe(), .err = Output::Pipe()});
      EXPECT_EQ(lost.Start().message(),
                "exec: \"weft-no-such-program\": executable file not found in $PATH");
      Command bad("/nowhere/x", {},
                  {.in = Input::Bytes("x"), .out = Output::Pipe(), .err = Output::Pipe()});
      EXPECT_EQ(bad.Start().message(), "fork/exec /nowhere/x: no such file or directory");
      EXPECT_EQ(bad.pid(), -1);
      EXPECT_EQ(bad.Kill().message(), "os: process not started");
      Command unreadable("true", {}, {.in = Input::File("/nowhere/in"), .out = Output::Pipe()});
      EXPECT_EQ(unreadable.Run().message(), "open /nowhere/in: no such file or directory");
    }
    EXPECT_TRUE(Eventually([&] { return CommandFiles() == files; }));
    EXPECT_FALSE(weft::spawn::testing::HasChildren());
  });
}

// EX-09.
TEST_P(CommandTest, TheChildHasItsFilesAndNothingElse) {
  Run([] {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    const int twin = dup(listener);
    const int extra = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    const std::string list = TempPath("list");
    EXPECT_TRUE(
        Command("spawn/child_program", {"fds", list}, {.in = Input::Pipe(), .extra_files = {extra}})
            .Run()
            .ok());
    const std::vector<std::string> lines = absl::StrSplit(ReadFile(list), '\n', absl::SkipEmpty());
    ASSERT_EQ(lines.size(), 4u) << ReadFile(list);
    EXPECT_THAT(lines[0], HasSubstr("0 pipe:"));
    EXPECT_EQ(lines[1], "1 /dev/null");
    EXPECT_EQ(lines[2], "2 /dev/null");
    EXPECT_EQ(lines[3], "3 /etc/passwd");
    for (const int fd : {listener, twin, extra}) close(fd);
    unlink(list.c_str());
  });
}

// EX-11.
TEST_P(CommandTest, ConcurrentStartsWithDifferentExtraFiles) {
  Run([] {
    for (int round = 0; round < 10; ++round) {
      Tasks tasks;
      for (const char* path : {"/etc/passwd", "/etc/group"}) {
        tasks.Go([path] {
          const int fd = open(path, O_RDONLY | O_CLOEXEC);
          const CommandResult result =
              Command("readlink", {"/proc/self/fd/3"}, {.extra_files = {fd}}).Output();
          EXPECT_EQ(result.out, std::string(path) + "\n") << result.status;
          close(fd);
        });
      }
      tasks.Wait();
    }
  });
}

// EX-12.
TEST_P(CommandTest, AChildNeedNotReadItsInput) {
  Run([] {
    // Whatever the program does about SIGPIPE.
    signal(SIGPIPE, SIG_DFL);
    EXPECT_TRUE(Command("true", {}, {.in = Input::Bytes(std::string(10 << 20, 'x'))}).Run().ok());
    EXPECT_TRUE(
        Command("true", {}, {.in = Input::From([] { return std::string(1000, 'x'); })}).Run().ok());
    signal(SIGPIPE, SIG_IGN);
    // And the child's SIGPIPE is the default.
    Command yes("yes", {}, {.out = Output::Pipe()});
    ASSERT_TRUE(yes.Start().ok());
    EXPECT_EQ(ReadLine(yes.out()), "y");
    yes.out().Close().IgnoreError();
    EXPECT_EQ(yes.Wait().message(), "signal: broken pipe");
  });
}

TEST_P(CommandTest, CarriesMuchBothWays) {
  Run([] {
    const std::string text(5 << 20, 'x');
    const CommandResult result = Command("cat", {}, {.in = Input::Bytes(text)}).Output();
    EXPECT_TRUE(result.ok()) << result.status;
    EXPECT_EQ(result.out.size(), text.size());

    int pieces = 3;
    size_t seen = 0;
    EXPECT_TRUE(Command("cat", {},
                        {.in = Input::From([&] {
                           return pieces-- > 0 ? std::string(100'000, 'y') : std::string();
                         }),
                         .out = Output::By([&](absl::string_view piece) { seen += piece.size(); })})
                    .Run()
                    .ok());
    EXPECT_EQ(seen, 300'000u);
    EXPECT_EQ(pieces, -1);
  });
}

TEST_P(CommandTest, FilesAndDescriptors) {
  Run([] {
    const std::string path = TempPath("out");
    EXPECT_TRUE(Shell("echo one", {.out = Output::File(path)}).Run().ok());
    EXPECT_TRUE(Shell("echo two", {.out = Output::File(path, Output::Open::kAppend)}).Run().ok());
    EXPECT_EQ(Command("cat", {}, {.in = Input::File(path)}).Output().out, "one\ntwo\n");
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(Command("cat", {}, {.in = Input::Fd(fd)}).Output().out, "one\ntwo\n");
    close(fd);
    unlink(path.c_str());
    EXPECT_EQ(Command("cat").Output().out, "");  // /dev/null
  });
}

TEST_P(CommandTest, EnvironmentAndDirectory) {
  Run([] {
    const CommandResult result =
        Command("/bin/sh", {"-c", "echo $A; pwd; echo $PWD"},
                {.env = std::vector<std::string>{"A=1", "A=2"}, .dir = "/usr"})
            .Output();
    EXPECT_EQ(result.out, "2\n/usr\n/usr\n");
    Command bad("true", {}, {.dir = "/nowhere"});
    EXPECT_EQ(bad.Run().message(),
              absl::StrCat("fork/exec ", bad.path(), ": chdir: no such file or directory"));
  });
}

// EX-14, with a deadline.
TEST_P(CommandTest, ADeadlineEndsTheChild) {
  Run([] {
    Command command("cat", {},
                    {.in = Input::Pipe(),
                     .out = Output::Pipe(),
                     .deadline = absl::Now() + absl::Milliseconds(50)});
    ASSERT_TRUE(command.Start().ok());
    // Nobody waits for it yet.
    EXPECT_TRUE(Eventually([&] { return !command.in().Write("x").ok(); }, absl::Minutes(1)));
    EXPECT_EQ(command.Wait().message(), "signal: terminated");
    Command late("true", {}, {.deadline = absl::Now() - absl::Seconds(1)});
    EXPECT_EQ(late.Start().message(), "context deadline exceeded");
  });
}

// EX-14.
TEST_P(CommandTest, ADoneContextEndsTheChild) {
  Run([] {
    auto [context, cancel] = weft::WithCancel(weft::Background());
    Command command("cat", {}, {.in = Input::Pipe(), .out = Output::Pipe(), .context = context});
    ASSERT_TRUE(command.Start().ok());
    ASSERT_TRUE(command.in().Write("echo\n").ok());
    EXPECT_EQ(ReadLine(command.out()), "echo");
    cancel();
    EXPECT_TRUE(Eventually([&] { return !command.in().Write("x").ok(); }, absl::Minutes(1)));
    EXPECT_EQ(command.Wait().message(), "signal: terminated");
    EXPECT_EQ(Command("true", {}, {.context = context}).Run().message(), "context canceled");

    // While somebody waits for it, and it ends well.
    auto [second, cancel_second] = weft::WithCancel(weft::Background());
    Command polite = Shell("trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done",
                           {.out = Output::Pipe(), .context = second, .grace = absl::Minutes(1)});
    ASSERT_TRUE(polite.Start().ok());
    EXPECT_EQ(ReadLine(polite.out()), "ready");
    Tasks tasks;
    tasks.Go([&, cancel = cancel_second] { cancel(); });
    EXPECT_EQ(polite.Wait().message(), "context canceled");
    EXPECT_TRUE(polite.exit_status().success());
    tasks.Wait();

    auto [third, cancel_third] = weft::WithTimeout(weft::Background(), absl::Milliseconds(20));
    const CommandResult result =
        Command("sleep", {"100"}, {.context = third, .cancel_signal = SIGKILL}).Output();
    EXPECT_EQ(result.status.message(), "signal: killed");
    cancel_third();
    // One that is never done changes nothing.
    EXPECT_EQ(Command("echo", {"out"}, {.context = weft::Background()}).Output().out, "out\n");
  });
}

// EX-15, by letters.
TEST_P(CommandTest, EndsAndDelays) {
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
    EXPECT_TRUE(weft::IsWaitDelay(status));
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
  });
}

// EX-17: what the hanging ones were started with does not keep the others from being seen to end.
TEST_P(CommandTest, SomeHangAndOthersEnd) {
  Run([] {
    std::vector<Command> hanging;
    for (int i = 0; i < 4; ++i) {
      hanging.emplace_back("cat", std::vector<std::string>(),
                           CommandOptions{.in = Input::Pipe(), .out = Output::Pipe()});
    }
    Tasks tasks;
    for (Command& command : hanging) {
      tasks.Go([&command] { EXPECT_TRUE(command.Start().ok()); });
    }
    for (int i = 0; i < 8; ++i) {
      tasks.Go([] { EXPECT_EQ(Shell("echo out").Output().out, "out\n"); });
    }
    tasks.Wait();
    for (Command& command : hanging) {
      EXPECT_TRUE(command.in().Close().ok());
      EXPECT_TRUE(command.Wait().ok());
    }
  });
}

// EX-18.
TEST_P(CommandTest, AStoppedChildHasNotEnded) {
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
    EXPECT_TRUE(Eventually([&] { return absl::StrContains(ReadFile(stat), ") T "); }));
    EXPECT_FALSE(waited.load(std::memory_order_acquire));
    EXPECT_TRUE(command.Signal(SIGCONT).ok());
    EXPECT_TRUE(command.Signal(0).ok());
    EXPECT_TRUE(command.Kill().ok());
    tasks.Wait();
    EXPECT_EQ(command.Signal(SIGTERM).message(), "os: process already finished");
  });
}

TEST_P(CommandTest, ManyAtOnce) {
  Run([] {
    std::atomic<int> good{0};
    Tasks tasks;
    for (int i = 0; i < Rounds(60); ++i) {
      tasks.Go([&good, i] {
        const std::string word = absl::StrCat("word", i);
        const CommandResult result =
            Command("cat", {}, {.in = Input::Bytes(word)}).CombinedOutput();
        EXPECT_EQ(result.out, word) << result.status;
        good.fetch_add(result.ok() ? 1 : 0, std::memory_order_relaxed);
      });
    }
    tasks.Wait();
    EXPECT_EQ(good.load(), Rounds(60));
    EXPECT_FALSE(weft::spawn::testing::HasChildren());
  });
}

TEST_P(CommandTest, OneThatIsForgottenIsWaitedForAllTheSame) {
  Run([] {
    for (int i = 0; i < 5; ++i) {
      EXPECT_TRUE(Command("true").Start().ok());
      EXPECT_TRUE(Shell("echo much", {.out = Output::Pipe()}).Start().ok());
    }
    EXPECT_TRUE(Eventually([] { return !weft::spawn::testing::HasChildren(); }));
  });
}

TEST_P(CommandTest, TalksToAProgramOnATerminal) {
  Run([] {
    Command command = Shell("tty >/dev/null && stty size && read line && echo \"got $line\"",
                            {.terminal = weft::TerminalSize{.rows = 33, .columns = 77}});
    ASSERT_TRUE(command.Start().ok());
    EXPECT_EQ(ReadLine(command.terminal()), "33 77\r");
    ASSERT_TRUE(command.terminal().Write("hello\n").ok());
    const std::string rest = *command.terminal().ReadAll();
    EXPECT_THAT(rest, HasSubstr("got hello\r\n"));
    EXPECT_TRUE(command.Wait().ok());
  });
}

TEST_P(CommandTest, Pipelines) {
  Run([] {
    std::vector<Command> commands;
    commands.emplace_back("cat", std::vector<std::string>(),
                          CommandOptions{.in = Input::Bytes("b\na\nb\n")});
    commands.emplace_back("sort");
    commands.emplace_back("uniq", std::vector<std::string>{"-c"});
    const CommandResult result = weft::Pipeline(std::move(commands)).Output();
    EXPECT_TRUE(result.ok()) << result.status;
    EXPECT_EQ(result.out, "      1 a\n      2 b\n");

    // The end decides when to stop; that the others cannot write on is no failure.
    commands.clear();
    commands.emplace_back("yes");
    commands.emplace_back("head", std::vector<std::string>{"-n", "2"});
    EXPECT_EQ(weft::Pipeline(std::move(commands)).Output().out, "y\ny\n");

    // The last of those that failed.
    commands.clear();
    commands.push_back(Shell("exit 3"));
    commands.push_back(Shell("cat; exit 4"));
    commands.emplace_back("cat");
    EXPECT_EQ(weft::Pipeline(std::move(commands)).Run().message(), "exit status 4");

    commands.clear();
    commands.emplace_back("yes");
    commands.emplace_back("weft-no-such-program");
    EXPECT_THAT(std::string(weft::Pipeline(std::move(commands)).Run().message()),
                HasSubstr("executable file not found"));
    EXPECT_TRUE(Eventually([] { return !weft::spawn::testing::HasChildren(); }));
    EXPECT_EQ(weft::Pipeline({}).Run().message(), "exec: empty pipeline");
  });
}

// Without pidfds, on a thread of a program that has no scheduler.
TEST(CommandWithoutPidfdTest, WaitsAllTheSame) {
  weft::spawn::testing::InForkedProcess([] {
    weft::spawn::testing::RefuseSyscalls({SYS_clone3, SYS_pidfd_open}, ENOSYS);
    weft::spawn::testing::RefuseSyscallWithBits(SYS_clone, CLONE_PIDFD, EINVAL);
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

TEST(ExitStatusTest, TextsAreGos) {
  EXPECT_EQ(ExitStatus(0).ToString(), "exit status 0");
  EXPECT_EQ(ExitStatus(3 << 8).ToString(), "exit status 3");
  EXPECT_EQ(ExitStatus(SIGSEGV | 0x80).ToString(), "signal: segmentation fault (core dumped)");
  EXPECT_EQ(ExitStatus(SIGKILL).ToString(), "signal: killed");
  EXPECT_EQ(ExitStatus(40).ToString(), "signal: signal 40");
  EXPECT_EQ(ExitStatus().ToString(), "not ended");
  EXPECT_TRUE(weft::ExitError(ExitStatus(0)).ok());
  EXPECT_EQ(weft::ExitStatusOf(weft::ExitError(ExitStatus(SIGSEGV | 0x80))),
            ExitStatus(SIGSEGV | 0x80));
  EXPECT_FALSE(weft::ExitStatusOf(absl::UnknownError("exit status 3")).has_value());
}

}  // namespace
