// Many starts at once, under signals that never cease.
#include <fcntl.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "spawn/fork_exec.h"
#include "spawn/testing.h"
#include "tests/rounds.h"

namespace weft::spawn::testing {
namespace {

using weft::testing::Rounds;

class StormTest : public WaysTest {};

IN_BOTH_WAYS(StormTest);

TEST_P(StormTest, FiveHundredChildrenAtOnce) {
  const int children = Rounds(500);
  const std::vector<std::string> files = OpenFiles();
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  ForkExecOptions options = Options();
  options.files = {ends[0], 1, 2};
  std::vector<Child> alive;
  for (int i = 0; i < children; ++i) {
    const absl::StatusOr<Child> child = ForkExec("spawn/child_program", {"x", "hang"}, options);
    ASSERT_TRUE(child.ok()) << child.status();
    alive.push_back(*child);
  }
  for (const Child& child : alive) {
    EXPECT_EQ(waitpid(child.pid, nullptr, WNOHANG), 0) << "it has not waited for its input's end";
  }
  // No child has the other end, or this would not be the end of their input.
  close(ends[1]);
  for (const Child& child : alive) EXPECT_EQ(WaitFor(child).exit_code, 0);
  close(ends[0]);
  EXPECT_EQ(OpenFiles(), files);
  EXPECT_FALSE(HasChildren());
}

TEST_P(StormTest, ManyThreadsStartEachTheirOwn) {
  const std::vector<std::string> files = OpenFiles();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < Rounds(40); ++i) {
        const std::string word = std::to_string(t * 1000 + i);
        const absl::StatusOr<Ended> ended = Collect("/bin/echo", {"echo", word}, Options());
        ASSERT_TRUE(ended.ok()) << ended.status();
        EXPECT_EQ(ended->out, word + "\n");
        EXPECT_EQ(StartErrorOf(ForkExec("/nowhere", {"x"}, Options()).status())->error, ENOENT);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(OpenFiles(), files);
  EXPECT_FALSE(HasChildren());
}

std::atomic<int> handled;
std::atomic<int> handled_elsewhere;
pid_t self;

void Handle(int) {
  // What runs in a child that shares our memory, getpid() tells.
  (getpid() == self ? handled : handled_elsewhere).fetch_add(1, std::memory_order_relaxed);
}

// SG-13. A handler that ran in a half-made child would run on our memory.
TEST_P(StormTest, SignalsToTheWholeGroupWhileChildrenAreMade) {
  self = getpid();
  handled = 0;
  handled_elsewhere = 0;
  // A group of our own, which our children are in too.
  setpgid(0, 0);
  struct sigaction action = {};
  action.sa_handler = Handle;
  action.sa_flags = SA_RESTART;
  struct sigaction old_winch;
  struct sigaction old_prof;
  sigaction(SIGWINCH, &action, &old_winch);
  sigaction(SIGPROF, &action, &old_prof);
  const itimerval often = {{0, 1000}, {0, 1000}};
  setitimer(ITIMER_PROF, &often, nullptr);
  std::atomic<bool> stop{false};
  std::thread storm([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      kill(0, SIGWINCH);
      absl::SleepFor(absl::Microseconds(50));
    }
  });
  for (int i = 0; i < Rounds(300); ++i) {
    const absl::StatusOr<Ended> ended = Collect("/bin/true", {"true"}, Options());
    ASSERT_TRUE(ended.ok()) << ended.status();
    EXPECT_EQ(ended->exit_code, 0) << "signal " << ended->signal;
    EXPECT_EQ(StartErrorOf(ForkExec("/nowhere", {"x"}, Options()).status())->error, ENOENT);
  }
  stop = true;
  storm.join();
  const itimerval never = {};
  setitimer(ITIMER_PROF, &never, nullptr);
  sigaction(SIGPROF, &old_prof, nullptr);
  sigaction(SIGWINCH, &old_winch, nullptr);
  EXPECT_GT(handled.load(), 0);
  EXPECT_EQ(handled_elsewhere.load(), 0);
  EXPECT_FALSE(HasChildren());
}

// The other threads of the process go on while one of them starts a child.
TEST_P(StormTest, OtherThreadsRunMeanwhile) {
  std::atomic<bool> stop{false};
  std::atomic<int64_t> turns{0};
  std::thread other([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      std::vector<int> memory(1000, 1);
      turns.fetch_add(memory[999], std::memory_order_relaxed);
    }
  });
  for (int i = 0; i < Rounds(100); ++i) {
    EXPECT_EQ(Collect("/bin/true", {"true"}, Options()).value_or(Ended{}).exit_code, 0);
  }
  stop = true;
  other.join();
  EXPECT_GT(turns.load(), 0);
}

}  // namespace
}  // namespace weft::spawn::testing
