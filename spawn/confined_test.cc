// Starts where less is allowed than a whole machine: old kernels' and containers' refusals, other
// users, namespaces.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "spawn/fork_exec.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

// Starts that work and starts that fail, in both ways.
void StartsWork(bool has_pidfd) {
  for (const bool plain_fork : {false, true}) {
    ForkExecOptions options;
    options.attr.plain_fork = plain_fork;
    const std::vector<std::string> files = OpenFiles();
    for (int i = 0; i < 3; ++i) {
      const absl::StatusOr<Ended> ended =
          Collect("/bin/sh", {"sh", "-c", "echo out; exit 3"}, options);
      ASSERT_TRUE(ended.ok()) << ended.status();
      EXPECT_EQ(ended->out, "out\n");
      EXPECT_EQ(ended->exit_code, 3);
      EXPECT_EQ(ForkExec("/nowhere", {"x"}, options).status().message(),
                "fork/exec /nowhere: no such file or directory");
      const absl::StatusOr<Child> child = ForkExec("/bin/true", {"true"}, options);
      ASSERT_TRUE(child.ok());
      EXPECT_EQ(child->pidfd >= 0, has_pidfd);
      if (has_pidfd) {
        pollfd ended_fd = {child->pidfd, POLLIN, 0};
        EXPECT_EQ(poll(&ended_fd, 1, 30'000), 1);
      }
      EXPECT_EQ(WaitFor(*child).exit_code, 0);
    }
    EXPECT_EQ(OpenFiles(), files);
    EXPECT_FALSE(HasChildren());
  }
}

TEST(ConfinedTest, WithoutClone3AndPidfdOpen) {
  for (const int error : {ENOSYS, EPERM}) {
    InForkedProcess([&] {
      RefuseSyscalls({SYS_clone3, SYS_pidfd_open}, error);
      StartsWork(/*has_pidfd=*/true);  // by clone
    });
  }
}

// As emulators and kernels before 5.2.
TEST(ConfinedTest, WithoutAnyPidfd) {
  InForkedProcess([] {
    RefuseSyscalls({SYS_clone3, SYS_pidfd_open}, ENOSYS);
    RefuseSyscallWithBits(SYS_clone, CLONE_PIDFD, EINVAL);
    StartsWork(/*has_pidfd=*/false);
  });
}

TEST(ConfinedTest, WithPidfdOpenOnly) {
  InForkedProcess([] {
    RefuseSyscalls({SYS_clone3}, ENOSYS);
    RefuseSyscallWithBits(SYS_clone, CLONE_PIDFD, EINVAL);
    StartsWork(/*has_pidfd=*/true);
  });
}

TEST(ConfinedTest, WhereMemoryCannotBeShared) {
  for (const int error : {EINVAL, EPERM}) {
    InForkedProcess([&] {
      RefuseSyscalls({SYS_clone3}, ENOSYS);
      RefuseSyscallWithBits(SYS_clone, CLONE_VM, error);
      StartsWork(/*has_pidfd=*/true);
    });
  }
}

// What is left then is what fork does.
TEST(ConfinedTest, WithoutPidfdsWhereMemoryCannotBeShared) {
  InForkedProcess([] {
    RefuseSyscalls({SYS_clone3, SYS_pidfd_open}, ENOSYS);
    RefuseSyscallWithBits(SYS_clone, CLONE_VM | CLONE_PIDFD, EINVAL);
    StartsWork(/*has_pidfd=*/false);
  });
}

// Where forking is not possible at all, it is not needed.
TEST(ConfinedTest, MemoryIsSharedWithoutPidfdsToo) {
  InForkedProcess([] {
    RefuseSyscalls({SYS_clone3, SYS_pidfd_open}, ENOSYS);
    RefuseSyscallWithBits(SYS_clone, CLONE_PIDFD, EINVAL);
    RefuseSyscallWithoutBits(SYS_clone, CLONE_VM, EIO);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(Out("/bin/echo", {"echo", "shared"}), "shared\n");
  });
}

TEST(ConfinedTest, WithoutCloseRange) {
  InForkedProcess([] {
    const int leaky = open("/etc/passwd", O_RDONLY);
    const int high = fcntl(leaky, F_DUPFD, 900);
    RefuseSyscalls({SYS_close_range}, ENOSYS);
    StartsWork(/*has_pidfd=*/true);
    const absl::StatusOr<Ended> ended =
        Collect("/bin/sh", {"sh", "-c", "echo /proc/self/fd/*"}, {});
    ASSERT_TRUE(ended.ok()) << ended.status();
    // 3 is the shell's, of the directory that it lists.
    EXPECT_EQ(ended->out, "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3\n");
    close(leaky);
    close(high);
  });
}

TEST(ConfinedTest, WithoutCloseRangeAndProc) {
  NEEDS_PRIVILEGES();
  InForkedProcess([] {
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("none", "/proc", "tmpfs", 0, nullptr), 0);
    RefuseSyscalls({SYS_close_range}, ENOSYS);
    EXPECT_EQ(ForkExec("/bin/true", {"true"}).status().message(),
              "fork/exec /bin/true: close_range: function not implemented");
    EXPECT_FALSE(HasChildren());
  });
}

TEST(ConfinedTest, AsAnOrdinaryUser) {
  NEEDS_PRIVILEGES();
  InForkedProcess([] {
    BecomeNobody();
    StartsWork(/*has_pidfd=*/true);
  });
}

TEST(ConfinedTest, AsTheFirstProcessOfANamespace) {
  NEEDS_PRIVILEGES();
  InForkedProcess([] {
    ASSERT_EQ(unshare(CLONE_NEWPID), 0);
    // The next process is number 1 in there.
    InForkedProcess([] {
      ASSERT_EQ(getpid(), 1);
      StartsWork(/*has_pidfd=*/true);
      ForkExecOptions options;
      options.attr.parent_death_signal = SIGKILL;
      EXPECT_EQ(Collect("/bin/true", {"true"}, options).value_or(Ended{}).exit_code, 0);
      // And it has to wait for orphans too, of which ours are not.
      EXPECT_EQ(
          Collect("/bin/sh", {"sh", "-c", "(exit 5) & exit 4"}, {}).value_or(Ended{}).exit_code, 4);
    });
  });
}

// A process that has asked for its children to be in another namespace: the child is the first in
// there, and nothing has been tried out with another child before.
TEST(ConfinedTest, WhereTheNextChildIsTheFirstOfANamespace) {
  NEEDS_PRIVILEGES();
  for (const bool plain_fork : {false, true}) {
    InForkedProcess([&] {
      ASSERT_EQ(unshare(CLONE_NEWPID), 0);
      ForkExecOptions options;
      options.attr.plain_fork = plain_fork;
      options.attr.parent_death_signal = SIGTERM;
      const absl::StatusOr<Ended> ended = Collect("/bin/sh", {"sh", "-c", "echo $$"}, options);
      ASSERT_TRUE(ended.ok()) << ended.status();
      EXPECT_EQ(ended->out, "1\n");
    });
  }
}

// The standard descriptors are free, so that pipes of the start's own land there.
TEST(ConfinedTest, WithoutStandardDescriptors) {
  InForkedProcess([] {
    const int log = fcntl(2, F_DUPFD_CLOEXEC, 50);
    for (const int fd : {0, 1, 2}) close(fd);
    for (const bool plain_fork : {false, true}) {
      ForkExecOptions options;
      options.attr.plain_fork = plain_fork;
      options.files = {-1, -1, log};
      const absl::StatusOr<Ended> ended = Collect("/bin/echo", {"echo", "hello"}, options);
      EXPECT_TRUE(ended.ok()) << ended.status();
      EXPECT_EQ(ended.value_or(Ended{}).out, "hello\n");
      EXPECT_EQ(StartErrorOf(ForkExec("/nowhere", {"x"}, options).status())->error, ENOENT);
    }
    dup2(log, 1);
    dup2(log, 2);
  });
}

}  // namespace
}  // namespace weft::spawn::testing
