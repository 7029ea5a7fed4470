#include "spawn/fork_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

class ForkExecTest : public WaysTest {};

IN_BOTH_WAYS(ForkExecTest);

TEST_P(ForkExecTest, RunsAProgramWithItsArguments) {
  const absl::StatusOr<Ended> ended =
      Collect("/bin/sh", {"sh", "-c", "echo \"$0\" \"$1\"; exit 7", "zero", "one two"}, Options());
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->out, "zero one two\n");
  EXPECT_EQ(ended->exit_code, 7);
  EXPECT_FALSE(HasChildren());
}

TEST_P(ForkExecTest, GivesAPidfdThatTheChildDoesNotSee) {
  const std::vector<std::string> before = OpenFiles();
  const absl::StatusOr<Child> child = ForkExec("/bin/sleep", {"sleep", "100"}, Options());
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_GE(child->pidfd, 0);
  EXPECT_EQ(fcntl(child->pidfd, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(OpenFiles().size(), before.size() + 1);
  kill(child->pid, SIGKILL);
  EXPECT_EQ(WaitFor(*child).signal, SIGKILL);
  EXPECT_EQ(OpenFiles(), before);
}

TEST_P(ForkExecTest, TheEnvironmentIsWhatIsGivenAndTheLastOfANameCounts) {
  ForkExecOptions options = Options();
  options.env = {"A=1", "B=2", "A=3", "nameless", "EMPTY="};
  EXPECT_EQ(Out("/usr/bin/env", {"env"}, options), "B=2\nA=3\nnameless\nEMPTY=\n");
  options.env = std::vector<std::string>();
  EXPECT_EQ(Out("/usr/bin/env", {"env"}, options), "");
}

TEST_P(ForkExecTest, AnInheritedEnvironmentSaysWhereTheChildRuns) {
  setenv("WEFT_SPAWN_TEST", "here", 1);
  setenv("PWD", "/nowhere", 1);
  std::vector<std::string> env = absl::StrSplit(Out("/usr/bin/env", {"env"}, Options()), '\n');
  EXPECT_THAT(env, Contains("WEFT_SPAWN_TEST=here"));
  EXPECT_THAT(env, Contains("PWD=/nowhere"));

  ForkExecOptions options = Options();
  options.dir = "/usr";
  env = absl::StrSplit(Out("/usr/bin/env", {"env"}, options), '\n');
  EXPECT_THAT(env, Contains("PWD=/usr"));
  EXPECT_THAT(env, ::testing::Not(Contains("PWD=/nowhere")));
  // One that is given is left alone.
  options.env = {"PWD=/given"};
  EXPECT_EQ(Out("/usr/bin/env", {"env"}, options), "PWD=/given\n");
}

TEST_P(ForkExecTest, RunsInItsDirectory) {
  ForkExecOptions options = Options();
  options.dir = "/usr/bin";
  options.env = std::vector<std::string>();
  EXPECT_EQ(Out("/bin/pwd", {"pwd"}, options), "/usr/bin\n");
  // The path, too, is taken from there.
  EXPECT_EQ(Out("./env", {"env"}, options), "");
}

TEST_P(ForkExecTest, RefusesNul) {
  const std::string nul("a\0b", 3);
  ForkExecOptions options = Options();
  EXPECT_EQ(ForkExec(nul, {"a"}, options).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ForkExec("/bin/true", {nul}, options).status().message(),
            "fork/exec /bin/true: NUL in an argument");
  options.env = {nul};
  EXPECT_EQ(ForkExec("/bin/true", {"true"}, options).status().message(),
            "fork/exec /bin/true: environment variable contains NUL");
  options = Options();
  options.dir = nul;
  EXPECT_EQ(ForkExec("/bin/true", {"true"}, options).status().message(),
            "fork/exec /bin/true: NUL in a directory");
  EXPECT_EQ(ForkExec("/bin/true", {}, Options()).status().message(),
            "fork/exec /bin/true: no argument vector");
}

TEST_P(ForkExecTest, SaysWhichStepFailedAndWhy) {
  struct Case {
    std::string path;
    std::string dir;
    Step step;
    int error;
    std::string text;
  };
  const std::string data = WriteFile("data", "not a program\n", 0755);
  const std::string forbidden = WriteFile("forbidden", "#!/bin/sh\n", 0644);
  const std::string lost = WriteFile("lost", "#!/nowhere/sh\n", 0755);
  for (const Case& c : std::vector<Case>{
           {"/nowhere/x", "", Step::kExec, ENOENT, ": no such file or directory"},
           {"", "", Step::kExec, ENOENT, ": no such file or directory"},
           {"/etc/passwd/x", "", Step::kExec, ENOTDIR, ": not a directory"},
           {data, "", Step::kExec, ENOEXEC, ": exec format error"},
           {forbidden, "", Step::kExec, EACCES, ": permission denied"},
           {"/tmp", "", Step::kExec, EACCES, ": permission denied"},
           {lost, "", Step::kExec, ENOENT, ": no such file or directory"},
           {"/bin/true", "/nowhere", Step::kDir, ENOENT, ": chdir: no such file or directory"},
           {"/bin/true", "/etc/passwd", Step::kDir, ENOTDIR, ": chdir: not a directory"},
       }) {
    ForkExecOptions options = Options();
    options.dir = c.dir;
    const absl::Status status = ForkExec(c.path, {c.path}, options).status();
    EXPECT_EQ(status.message(), absl::StrCat("fork/exec ", c.path, c.text));
    EXPECT_EQ(status.code(), absl::ErrnoToStatusCode(c.error));
    const std::optional<StartError> error = StartErrorOf(status);
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->step, c.step);
    EXPECT_EQ(error->error, c.error);
    EXPECT_FALSE(HasChildren());
  }
  EXPECT_FALSE(StartErrorOf(absl::NotFoundError("else")).has_value());
  for (const std::string& path : {data, forbidden, lost}) unlink(path.c_str());
}

// EX-09.
TEST_P(ForkExecTest, TheChildHasItsFilesAndNothingElse) {
  const int kept = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
  const int leaky = open("/etc/group", O_RDONLY);
  const int high = fcntl(leaky, F_DUPFD, 700);
  ASSERT_GE(high, 700);
  const std::string list = TempPath("list");
  ForkExecOptions options = Options();
  options.files = {0, 1, 2, kept};
  const absl::StatusOr<Ended> ended = Collect("spawn/child_program", {"x", "fds", list}, options);
  ASSERT_TRUE(ended.ok()) << ended.status();
  std::vector<std::string> lines = absl::StrSplit(ReadFile(list), '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 4u) << ReadFile(list);
  EXPECT_EQ(lines[0].substr(0, 2), "0 ");
  EXPECT_THAT(lines[1], HasSubstr("1 pipe:"));
  EXPECT_EQ(lines[2].substr(0, 2), "2 ");
  EXPECT_EQ(lines[3], "3 /etc/passwd");
  for (const int fd : {kept, leaky, high}) close(fd);
  unlink(list.c_str());
}

// Whatever is to go where, each lands in its place.
TEST_P(ForkExecTest, ShufflesDescriptors) {
  // Ten files, at numbers that targets have too.
  std::vector<std::string> paths;
  for (int fd = 3; fd < 13; ++fd) {
    paths.push_back(WriteFile(absl::StrCat("file", fd), "", 0600));
    const int opened = open(paths.back().c_str(), O_RDONLY | O_CLOEXEC);
    if (opened == fd) {
      fcntl(fd, F_SETFD, fd % 2 == 0 ? FD_CLOEXEC : 0);
      continue;
    }
    // The test's surroundings have this number: it stays as it is.
    close(opened);
    if (fcntl(fd, F_GETFD) < 0) {
      ASSERT_EQ(dup3(open(paths.back().c_str(), O_RDONLY), fd, O_CLOEXEC), fd);
    }
  }
  const std::string list = TempPath("list");
  std::mt19937 random(GetParam() ? 1 : 2);
  for (int round = 0; round < 200; ++round) {
    ForkExecOptions options = Options();
    options.files.resize(random() % 14);
    for (int& fd : options.files) fd = random() % 4 == 0 ? -1 : static_cast<int>(random() % 13);
    std::vector<std::string> expected;
    for (size_t i = 0; i < options.files.size(); ++i) {
      if (options.files[i] < 0) continue;
      char link[512];
      const std::string from = absl::StrCat("/proc/self/fd/", options.files[i]);
      const ssize_t n = readlink(from.c_str(), link, sizeof(link));
      ASSERT_GE(n, 0) << from;
      expected.push_back(absl::StrCat(i, " ", absl::string_view(link, size_t(n))));
    }
    const absl::StatusOr<Child> child =
        ForkExec("spawn/child_program", {"x", "fds", list}, options);
    ASSERT_TRUE(child.ok()) << child.status();
    ASSERT_EQ(WaitFor(*child).exit_code, 0);
    const std::vector<std::string> lines = absl::StrSplit(ReadFile(list), '\n', absl::SkipEmpty());
    ASSERT_EQ(lines, expected) << "round " << round;
  }
  unlink(list.c_str());
  for (const std::string& path : paths) unlink(path.c_str());
  for (int fd = 3; fd < 13; ++fd) close(fd);
}

TEST_P(ForkExecTest, SaysWhichDescriptorIsBad) {
  ForkExecOptions options = Options();
  options.files = {0, 1, 2, -1, 999};
  const absl::Status status = ForkExec("/bin/true", {"true"}, options).status();
  EXPECT_EQ(status.message(), "fork/exec /bin/true: descriptor 4: bad file descriptor");
  EXPECT_EQ(StartErrorOf(status)->index, 4);
  options.files = {0, 1, 2, -2};
  EXPECT_EQ(ForkExec("/bin/true", {"true"}, options).status().message(),
            "fork/exec /bin/true: negative descriptor");
}

// SIGUSR1 is handled here, SIGUSR2 and SIGPIPE ignored, SIGHUP blocked.
TEST_P(ForkExecTest, SignalsAreAsExecLeavesThemButForThoseThatAreNamed) {
  struct sigaction handled = {};
  handled.sa_handler = [](int) {};
  struct sigaction ignored = {};
  ignored.sa_handler = SIG_IGN;
  struct sigaction old[3];
  sigaction(SIGUSR1, &handled, &old[0]);
  sigaction(SIGUSR2, &ignored, &old[1]);
  sigaction(SIGPIPE, &ignored, &old[2]);
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGHUP);
  sigprocmask(SIG_SETMASK, &blocked, &before);

  const auto bit = [](int signal) { return uint64_t{1} << (signal - 1); };
  const auto line = [](const std::string& name, ForkExecOptions options) {
    return std::stoull(StatusLine(name, std::move(options)), nullptr, 16);
  };
  EXPECT_EQ(line("SigCgt", Options()), 0u);
  EXPECT_EQ(line("SigIgn", Options()) & (bit(SIGUSR1) | bit(SIGUSR2) | bit(SIGPIPE)), bit(SIGUSR2));
  EXPECT_EQ(line("SigBlk", Options()), bit(SIGHUP));

  ForkExecOptions options = Options();
  options.attr.default_signals = {SIGUSR2};
  sigset_t wished;
  sigemptyset(&wished);
  sigaddset(&wished, SIGINT);
  options.attr.signal_mask = wished;
  EXPECT_EQ(line("SigIgn", options) & (bit(SIGUSR2) | bit(SIGPIPE)), bit(SIGPIPE));
  EXPECT_EQ(line("SigBlk", options), bit(SIGINT));

  // Here nothing has changed.
  sigset_t after;
  sigprocmask(SIG_SETMASK, &before, &after);
  EXPECT_TRUE(sigismember(&after, SIGHUP) == 1 && sigismember(&after, SIGTERM) == 0);
  struct sigaction now;
  sigaction(SIGUSR1, &old[0], &now);
  EXPECT_EQ(now.sa_handler, handled.sa_handler);
  sigaction(SIGUSR2, &old[1], &now);
  EXPECT_EQ(now.sa_handler, SIG_IGN);
  sigaction(SIGPIPE, &old[2], nullptr);
}

TEST_P(ForkExecTest, AFailedStartRaisesNoSigchld) {
  static volatile sig_atomic_t raised;
  raised = 0;
  struct sigaction count = {};
  struct sigaction old;
  count.sa_handler = [](int) { raised = raised + 1; };
  sigaction(SIGCHLD, &count, &old);
  EXPECT_FALSE(ForkExec("/nowhere/x", {"x"}, Options()).ok());
  EXPECT_EQ(raised, 0);
  const absl::StatusOr<Child> child = ForkExec("/bin/true", {"true"}, Options());
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(WaitFor(*child).exit_code, 0);
  EXPECT_TRUE(Eventually([] { return raised == 1; }));
  sigaction(SIGCHLD, &old, nullptr);
}

// With SIGCHLD ignored the system takes dead children away by itself.
TEST_P(ForkExecTest, WorksWhereNobodyWaitsForChildren) {
  struct sigaction ignored = {};
  struct sigaction old;
  ignored.sa_handler = SIG_IGN;
  sigaction(SIGCHLD, &ignored, &old);
  EXPECT_EQ(StartErrorOf(ForkExec("/nowhere/x", {"x"}, Options()).status())->error, ENOENT);
  const absl::StatusOr<Child> child = ForkExec("/bin/true", {"true"}, Options());
  ASSERT_TRUE(child.ok()) << child.status();
  close(child->pidfd);
  EXPECT_TRUE(Eventually([] { return !HasChildren(); }));
  sigaction(SIGCHLD, &old, nullptr);
}

}  // namespace
}  // namespace weft::spawn::testing
