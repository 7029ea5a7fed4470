// A parent that ends before its child has asked to be told of that.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>

#include "gtest/gtest.h"
#include "spawn/fork_exec.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

class ParentDeathTest : public WaysTest {};

IN_BOTH_WAYS(ParentDeathTest);

// EX-24, and the moment at which PR_SET_PDEATHSIG alone comes too late.
TEST_P(ParentDeathTest, IsNoticedWhereItCameBeforeTheChildAsked) {
  // The child becomes ours when its parent is gone.
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    const int listener = HoldSyscall(SYS_prctl, PR_SET_PDEATHSIG);
    if (write(ends[1], &listener, sizeof(listener)) != sizeof(listener)) _exit(1);
    ForkExecOptions options = Options();
    options.attr.parent_death_signal = SIGUSR1;
    ForkExec("/bin/sleep", {"sleep", "100"}, options).IgnoreError();
    _exit(2);
  }
  int theirs = -1;
  ASSERT_EQ(read(ends[0], &theirs, sizeof(theirs)), ssize_t{sizeof(theirs)});
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, parent, 0));
  const int listener = static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, theirs, 0));
  if (theirs < 0 || listener < 0) {
    kill(parent, SIGKILL);
    waitpid(parent, nullptr, 0);
    GTEST_SKIP() << "this system has no seccomp listeners for us, errno " << errno;
  }
  uint64_t held = 0;
  const pid_t child = NextHeld(listener, &held);
  ASSERT_GT(child, 0) << errno;
  kill(parent, SIGKILL);
  ASSERT_EQ(waitpid(parent, nullptr, 0), parent);
  ASSERT_TRUE(LetGo(listener, held)) << errno;
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, __WALL), child) << errno;
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1) << status;
  for (const int fd : {ends[0], ends[1], pidfd, listener}) close(fd);
  prctl(PR_SET_CHILD_SUBREAPER, 0);
}

}  // namespace
}  // namespace weft::spawn::testing
