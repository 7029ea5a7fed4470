// What a command is given and what it gives back, by the cases of Go's os/exec and what is ours.
#include "spawn/command.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "spawn/command_testing.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

using ::testing::HasSubstr;

IN_ALL_WORLDS(CommandTest);

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
        ASSERT_TRUE(ExitStatusOf(status).has_value());
        EXPECT_EQ(*ExitStatusOf(status), command.exit_status());
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
    const std::string good = WriteFile("good", "a line\n", 0644);
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
      const PipeEnd in = command.in();
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

TEST_P(CommandTest, TalksToAProgramOnATerminal) {
  Run([] {
    Command command = Shell("tty >/dev/null && stty size && read line && echo \"got $line\"",
                            {.terminal = TerminalSize{.rows = 33, .columns = 77}});
    ASSERT_TRUE(command.Start().ok());
    EXPECT_EQ(ReadLine(command.terminal()), "33 77\r");
    ASSERT_TRUE(command.terminal().Write("hello\n").ok());
    const std::string rest = *command.terminal().ReadAll();
    EXPECT_THAT(rest, HasSubstr("got hello\r\n"));
    EXPECT_TRUE(command.Wait().ok());
  });
}

TEST_P(CommandTest, SaysWhatTheChildTook) {
  Run([] {
    // In a child of its own, which it waits for.
    Command command = Shell("(i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done); true");
    EXPECT_EQ(command.usage().ru_maxrss, 0);
    ASSERT_TRUE(command.Run().ok());
    const rusage usage = command.usage();
    EXPECT_GT(absl::DurationFromTimeval(usage.ru_utime), absl::ZeroDuration());
    EXPECT_GT(usage.ru_maxrss, 0);
  });
}

}  // namespace
}  // namespace weft::spawn::testing
