// Commands that cannot be started leave nothing behind.
#include <sys/resource.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "chan/context.h"
#include "gtest/gtest.h"
#include "spawn/command.h"
#include "spawn/command_testing.h"
#include "spawn/pipeline.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

class CommandFaultsTest : public CommandTest {};

IN_ALL_WORLDS(CommandFaultsTest);

// EX-08.
TEST_P(CommandFaultsTest, FailedStartsLeaveNothingOpen) {
  Run([] {
    EXPECT_TRUE(Shell("true", {.out = Output::Pipe()}).Run().ok());
    ASSERT_TRUE(weft::testing::Eventually([] { return !HasChildren(); }));
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
    EXPECT_TRUE(weft::testing::Eventually([&] { return CommandFiles() == files; }));
    EXPECT_FALSE(HasChildren());
  });
}

// Has few descriptors left: as many as there are between the lowest free number and a limit.
class FewDescriptors {
 public:
  explicit FewDescriptors(int spare) {
    const int next = dup(2);
    close(next);
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = static_cast<rlim_t>(next + spare);
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  ~FewDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;

 private:
  rlimit before_;
};

// It looks at objects through a pipe, which it cannot open then.
#if defined(__has_feature)
#if __has_feature(undefined_behavior_sanitizer)
#define WEFT_SANITIZER_NEEDS_DESCRIPTORS 1
#endif
#endif

// Each number of them fails another step, until there are enough for all, and what has begun comes
// to its end although the waiting has no descriptors of its own to be had.
TEST_P(CommandFaultsTest, EveryNumberOfFreeDescriptors) {
#ifdef WEFT_SANITIZER_NEEDS_DESCRIPTORS
  GTEST_SKIP() << "the sanitizer needs descriptors";
#endif
  Run([] {
    // What is opened once has been opened.
    EXPECT_TRUE(Shell("true", {.in = Input::Bytes("x"), .out = Output::Pipe()}).Run().ok());
    ASSERT_TRUE(weft::testing::Eventually([] { return !HasChildren(); }));
    const std::vector<std::string> files = CommandFiles();
    int failed = 0;
    int begun = 0;
    const auto count = [&](const absl::Status& status) { ++(status.ok() ? begun : failed); };
    for (int spare = 0; spare <= 16; ++spare) {
      const FewDescriptors few(spare);
      std::string out;
      auto [context, cancel] = WithCancel(Background());
      count(Command("/bin/true", {},
                    {.in = Input::Bytes("x"), .out = Output::To(&out), .context = context})
                .Run());
      count(Command("/bin/true", {},
                    {.in = Input::Pipe(), .out = Output::Pipe(), .err = Output::Pipe()})
                .Run());
      count(Command("/bin/true", {}, {.terminal = TerminalSize{}}).Run());
      std::vector<Command> commands;
      for (int i = 0; i < 3; ++i) commands.emplace_back("/bin/true");
      count(Pipeline(std::move(commands)).Run());
      EXPECT_FALSE(HasChildren()) << spare;
    }
    EXPECT_TRUE(weft::testing::Eventually([&] { return CommandFiles() == files; }));
    EXPECT_GE(failed, 8);
    EXPECT_GE(begun, 8);
  });
}

// Of all sorts, a thousand of them.
TEST_P(CommandFaultsTest, AThousandFailures) {
  Run([] {
    EXPECT_TRUE(Shell("true", {.out = Output::Pipe()}).Run().ok());
    ASSERT_TRUE(weft::testing::Eventually([] { return !HasChildren(); }));
    const std::vector<std::string> files = CommandFiles();
    const std::string data = WriteFile("data", "data\n", 0755);
    for (int i = 0; i < Rounds(250); ++i) {
      const auto streams = [] {
        return CommandOptions{
            .in = Input::Bytes("x"), .out = Output::Pipe(), .err = Output::SameAsOut()};
      };
      EXPECT_TRUE(absl::IsNotFound(Command("/nowhere/x", {}, streams()).Start()));
      EXPECT_TRUE(absl::IsPermissionDenied(Command("/etc/passwd", {}, streams()).Start()));
      EXPECT_FALSE(Command(data, {}, streams()).Start().ok());
      CommandOptions lost = streams();
      lost.dir = "/nowhere";
      EXPECT_TRUE(absl::IsNotFound(Command("/bin/true", {}, std::move(lost)).Start()));
    }
    unlink(data.c_str());
    EXPECT_TRUE(weft::testing::Eventually([&] { return CommandFiles() == files; }));
    EXPECT_FALSE(HasChildren());
  });
}

}  // namespace
}  // namespace weft::spawn::testing
