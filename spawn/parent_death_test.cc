// A parent that ends before its child has asked to be told of that.
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <iterator>

#include "gtest/gtest.h"
#include "spawn/fork_exec.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

// Descriptor of a filter, installed in this process and its children, that holds whoever calls
// prctl(PR_SET_PDEATHSIG) until the holder of the descriptor lets it go on. -1 with errno.
int HoldBeforeParentDeathSignal() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_PDEATHSIG, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {std::size(code), code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  return static_cast<int>(
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
}

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
    const int listener = HoldBeforeParentDeathSignal();
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
  seccomp_notif held = {};
  ASSERT_EQ(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &held), 0) << errno;
  kill(parent, SIGKILL);
  ASSERT_EQ(waitpid(parent, nullptr, 0), parent);
  seccomp_notif_resp go_on = {};
  go_on.id = held.id;
  go_on.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  ASSERT_EQ(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &go_on), 0) << errno;
  int status = 0;
  const auto child = static_cast<pid_t>(held.pid);
  ASSERT_EQ(waitpid(child, &status, __WALL), child) << errno;
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1) << status;
  for (const int fd : {ends[0], ends[1], pidfd, listener}) close(fd);
  prctl(PR_SET_CHILD_SUBREAPER, 0);
}

}  // namespace
}  // namespace weft::spawn::testing
