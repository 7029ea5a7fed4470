// Many commands at once.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "netpoll/pollfd.h"
#include "sched/goroutine.h"
#include "sched/testing.h"
#include "spawn/command.h"
#include "spawn/command_testing.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

// The child is held before its program, and with it the thread that starts it. With one P, who is
// to let it go runs only if that P is handed on.
TEST(CommandBlocksItsThreadTest, AndNotItsP) {
  InForkedProcess([] {
    const int listener = HoldSyscall(SYS_execve);
    if (listener < 0) return;  // this system has no such thing for us
    SetMaxProcs(1);
    weft::testing::RunOnGoroutine([&] {
      std::atomic<bool> let_go{false};
      Go([&] {
        EXPECT_TRUE(PollFd(listener, kReadable).ok());
        uint64_t id = 0;
        EXPECT_GT(NextHeld(listener, &id), 0);
        let_go.store(true, std::memory_order_relaxed);
        EXPECT_TRUE(LetGo(listener, id));
      });
      EXPECT_TRUE(Command("/bin/true").Start().ok());
      EXPECT_TRUE(let_go.load(std::memory_order_relaxed));
    });
  });
}

class CommandCrowdTest : public CommandTest {};

IN_ALL_WORLDS(CommandCrowdTest);

// EX-11.
TEST_P(CommandCrowdTest, ConcurrentStartsWithDifferentExtraFiles) {
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

// EX-17: what the hanging ones were started with does not keep the others from being seen to end.
TEST_P(CommandCrowdTest, SomeHangAndOthersEnd) {
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

TEST_P(CommandCrowdTest, ManyAtOnce) {
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
    EXPECT_FALSE(HasChildren());
  });
}

int Threads() {
  int threads = 0;
  DIR* const dir = opendir("/proc/self/task");
  while (const dirent* const entry = readdir(dir)) threads += entry->d_name[0] != '.' ? 1 : 0;
  closedir(dir);
  return threads;
}

// A goroutine that waits for a child has no thread.
TEST_P(CommandCrowdTest, FiveHundredHangAtOnce) {
  if (GetParam().tasks != weft::testing::World::TasksAre::kGoroutines) {
    GTEST_SKIP() << "each task would be a thread";
  }
  rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  Run([] {
    std::vector<Command> commands;
    for (int i = 0; i < Rounds(500); ++i) {
      commands.emplace_back("cat", std::vector<std::string>(),
                            CommandOptions{.in = Input::Pipe(), .out = Output::Pipe()});
      ASSERT_TRUE(commands.back().Start().ok());
    }
    std::atomic<int> ended{0};
    Tasks tasks;
    for (Command& command : commands) {
      tasks.Go([&] {
        EXPECT_TRUE(command.Wait().ok());
        ended.fetch_add(1, std::memory_order_relaxed);
      });
    }
    for (Command& command : commands) {
      ASSERT_TRUE(command.in().Write("x\n").ok());
      ASSERT_EQ(ReadLine(command.out()), "x");
    }
    EXPECT_EQ(ended.load(), 0);
    // Fewer than children, by far: those that have started others, and the scheduler's own. On a
    // busy machine more were at work at a time, which end when they have been idle for a while.
    EXPECT_TRUE(weft::testing::Eventually([] { return Threads() < 40; }, absl::Minutes(1)))
        << Threads();
    for (Command& command : commands) EXPECT_TRUE(command.in().Close().ok());
    tasks.Wait();
    EXPECT_FALSE(HasChildren());
  });
}

}  // namespace
}  // namespace weft::spawn::testing
