// What Attributes asks for is what the child has. Much of it takes privileges: run as root, outside
// of sandboxes. Without them those tests are skipped.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "spawn/fork_exec.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

using ::testing::HasSubstr;

class AttributesTest : public WaysTest {};

IN_BOTH_WAYS(AttributesTest);

// EX-20.
TEST_P(AttributesTest, ProcessGroups) {
  std::vector<std::string> stat = Stat(Options());
  EXPECT_EQ(stat.at(4), absl::StrCat(getpgrp()));
  EXPECT_EQ(stat.at(5), absl::StrCat(getsid(0)));

  ForkExecOptions options = Options();
  options.attr.process_group = 0;
  stat = Stat(options);
  EXPECT_EQ(stat.at(4), stat.at(0));
  EXPECT_EQ(stat.at(5), absl::StrCat(getsid(0)));

  const absl::StatusOr<Child> leader = ForkExec("/bin/sleep", {"sleep", "100"}, options);
  ASSERT_TRUE(leader.ok()) << leader.status();
  options.attr.process_group = leader->pid;
  EXPECT_EQ(Stat(options).at(4), absl::StrCat(leader->pid));
  kill(leader->pid, SIGKILL);
  WaitFor(*leader);

  options = Options();
  options.attr.new_session = true;
  stat = Stat(options);
  EXPECT_EQ(stat.at(5), stat.at(0));

  options = Options();
  options.attr.process_group = 0x7ffffff;
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: setpgid: operation not permitted");
  options.attr.process_group = -1;
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: negative process group");
}

class Pty {
 public:
  Pty() : master_(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    unlockpt(master_);
    slave_ = ioctl(master_, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  }
  ~Pty() {
    close(slave_);
    close(master_);
  }
  int slave() const { return slave_; }

 private:
  const int master_;
  int slave_;
};

// EX-21.
TEST_P(AttributesTest, ControllingTerminalAndForeground) {
  const Pty pty;
  ASSERT_GE(pty.slave(), 0);
  ForkExecOptions options = Options();
  options.files = {pty.slave(), 1, 2};
  options.attr.new_session = true;
  options.attr.controlling_tty = 0;
  const std::vector<std::string> stat = Stat(options);
  EXPECT_NE(stat.at(6), "0");
  EXPECT_EQ(stat.at(7), stat.at(0));

  options.attr.foreground_tty = pty.slave();
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: both a controlling tty and a foreground tty");
  options.attr.foreground_tty = {};
  options.attr.controlling_tty = 5;
  EXPECT_EQ(Failure(options),
            "fork/exec /bin/true: the controlling tty is no descriptor of the child");
  options.attr.controlling_tty = 0;
  options.attr.new_session = false;
  EXPECT_EQ(Failure(options),
            "fork/exec /bin/true: a controlling tty without a session of its own");
  options.attr.new_session = true;
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  options.files[0] = null;
  EXPECT_EQ(Failure(options),
            "fork/exec /bin/true: controlling tty: inappropriate ioctl for device");
  options = Options();
  options.attr.foreground_tty = null;
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: tcsetpgrp: inappropriate ioctl for device");
  options.attr.foreground_tty = -1;
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: the foreground tty is no descriptor");
  close(null);
}

// EX-21: from a session that has a terminal; neither side is stopped by SIGTTOU.
TEST_P(AttributesTest, ForegroundGroupOfATerminal) {
  InForkedProcess([this] {
    // The end of the terminal.
    signal(SIGHUP, SIG_IGN);
    const Pty pty;
    ASSERT_GT(setsid(), 0);
    ASSERT_EQ(ioctl(pty.slave(), TIOCSCTTY, 0), 0) << errno;
    ForkExecOptions options = Options();
    options.attr.foreground_tty = pty.slave();
    const std::vector<std::string> first = Stat(options);
    EXPECT_EQ(first.at(4), first.at(0));
    EXPECT_EQ(first.at(7), first.at(0));
    // We are in the background now, and so is the next child until it asks.
    const std::vector<std::string> second = Stat(options);
    EXPECT_EQ(second.at(7), second.at(0));
  });
}

// EX-24. The parent's death is that of the thread.
TEST_P(AttributesTest, ParentDeathSignal) {
  std::set<bool> as_other_user = {false};
  if (Privileged()) as_other_user.insert(true);
  for (const bool other : as_other_user) {
    ForkExecOptions options = Options();
    options.attr.parent_death_signal = SIGUSR1;
    if (other) options.attr.uid = options.attr.gid = kNobody;
    absl::StatusOr<Child> child;
    std::thread([&] { child = ForkExec("/bin/sleep", {"sleep", "100"}, options); }).join();
    ASSERT_TRUE(child.ok()) << child.status();
    EXPECT_EQ(WaitFor(*child).signal, SIGUSR1);
  }
  ForkExecOptions options = Options();
  options.attr.parent_death_signal = 99;
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: bad parent death signal");
}

TEST_P(AttributesTest, IdsAndGroups) {
  NEEDS_PRIVILEGES();
  ForkExecOptions options = Options();
  options.attr.uid = kNobody;
  options.attr.gid = 1234;
  EXPECT_EQ(StatusLine("Uid", options), "65534\t65534\t65534\t65534");
  EXPECT_EQ(StatusLine("Gid", options), "1234\t1234\t1234\t1234");
  options.attr.groups = {7, 8};
  EXPECT_EQ(StatusLine("Groups", options), "7 8");
  EXPECT_EQ(StatusLine("CapEff", options), "0000000000000000");
  InForkedProcess([this] {
    const gid_t groups[] = {11, 12};
    ASSERT_EQ(setgroups(2, groups), 0);
    EXPECT_EQ(StatusLine("Groups", Options()), "11 12");
    ForkExecOptions dropped = Options();
    dropped.attr.gid = 5;
    EXPECT_EQ(StatusLine("Groups", dropped), "");
  });
}

// A change of ids marks the memory as not to be dumped, which is the parent's as well.
TEST_P(AttributesTest, AChangeOfIdsLeavesTheParentDumpable) {
  NEEDS_PRIVILEGES();
  ASSERT_EQ(prctl(PR_GET_DUMPABLE), 1);
  ForkExecOptions options = Options();
  options.attr.uid = options.attr.gid = kNobody;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 10; ++j) {
        EXPECT_EQ(Collect("/bin/true", {"true"}, options).value_or(Ended{}).exit_code, 0);
        EXPECT_FALSE(Collect("/nowhere", {"true"}, options).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(prctl(PR_GET_DUMPABLE), 1);
  ASSERT_EQ(prctl(PR_SET_DUMPABLE, 0), 0);
  EXPECT_EQ(Collect("/bin/true", {"true"}, options).value_or(Ended{}).exit_code, 0);
  EXPECT_EQ(prctl(PR_GET_DUMPABLE), 0);
  prctl(PR_SET_DUMPABLE, 1);
}

TEST_P(AttributesTest, AnOrdinaryUserCannotBecomeAnother) {
  NEEDS_PRIVILEGES();
  InForkedProcess([this] {
    BecomeNobody();
    ForkExecOptions options = Options();
    options.attr.groups = {7};
    EXPECT_EQ(Failure(options), "fork/exec /bin/true: setgroups: operation not permitted");
    options = Options();
    options.attr.nice = -20;
    EXPECT_EQ(Failure(options), "fork/exec /bin/true: nice: permission denied");
    options = Options();
    options.attr.chroot = "/usr";
    EXPECT_EQ(Failure(options), "fork/exec /bin/true: chroot: operation not permitted");
    options = Options();
    options.attr.namespaces = CLONE_NEWNET;
    EXPECT_EQ(Failure(options),
              "fork/exec /bin/true: clone with namespaces net: operation not permitted");
    options = Options();
    options.attr.ambient_capabilities = {CAP_NET_BIND_SERVICE};
    EXPECT_EQ(Failure(options),
              "fork/exec /bin/true: ambient capability 10: operation not permitted");
    options = Options();
    options.attr.limits = {{RLIMIT_NOFILE, {1 << 20, RLIM_INFINITY}}};
    EXPECT_EQ(Failure(options),
              "fork/exec /bin/true: setrlimit RLIMIT_NOFILE: operation not permitted");
  });
}

// EX-23.
TEST_P(AttributesTest, AmbientCapabilities) {
  NEEDS_PRIVILEGES();
  ForkExecOptions options = Options();
  options.attr.uid = options.attr.gid = kNobody;
  options.attr.ambient_capabilities = {CAP_NET_BIND_SERVICE, CAP_WAKE_ALARM};
  const std::string expected = "0000000800000400";
  EXPECT_EQ(StatusLine("CapAmb", options), expected);
  EXPECT_EQ(StatusLine("CapEff", options), expected);
  EXPECT_EQ(StatusLine("Uid", options), "65534\t65534\t65534\t65534");
  options.attr.ambient_capabilities = {63};
  EXPECT_THAT(Failure(options), HasSubstr("ambient capability 63: "));
  options.attr.ambient_capabilities = {64};
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: bad capability");
}

TEST_P(AttributesTest, NoNewPrivileges) {
  EXPECT_EQ(StatusLine("NoNewPrivs", Options()), "0");
  ForkExecOptions options = Options();
  options.attr.no_new_privileges = true;
  EXPECT_EQ(StatusLine("NoNewPrivs", options), "1");
}

TEST_P(AttributesTest, LimitsNiceProcessorsUmask) {
  ForkExecOptions options = Options();
  options.attr.limits = {{RLIMIT_NOFILE, {77, 78}}, {RLIMIT_CORE, {0, 0}}};
  options.attr.nice = 7;
  options.attr.cpus = {0};
  options.attr.umask = 0123;
  EXPECT_EQ(Out("/bin/sh", {"sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c"}, options),
            "77\n78\n0\n");
  EXPECT_EQ(Stat(options).at(18), "7");
  EXPECT_EQ(StatusLine("Cpus_allowed_list", options), "0");
  EXPECT_EQ(StatusLine("Umask", options), "0123");

  options = Options();
  options.attr.limits = {{RLIMIT_NOFILE, {78, 77}}};
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: setrlimit RLIMIT_NOFILE: invalid argument");
  options.attr.limits = {{99, {1, 1}}};
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: setrlimit resource 99: invalid argument");
  options = Options();
  options.attr.cpus = {60000};
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: cpu affinity: invalid argument");
  options.attr.cpus = {-1};
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: bad processor number");
}

TEST_P(AttributesTest, Chroot) {
  NEEDS_PRIVILEGES();
  ForkExecOptions options = Options();
  options.attr.chroot = "/usr";
  options.dir = "/share";
  EXPECT_EQ(Out("/bin/pwd", {"pwd"}, options), "/share\n");
  EXPECT_THAT(Out("/bin/ls", {"ls", "/"}, options), HasSubstr("share"));
  options.attr.chroot = "/nowhere";
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: chroot: no such file or directory");
}

class Cgroup {
 public:
  Cgroup() {
    for (const char* root : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"}) {
      if (access(absl::StrCat(root, "/cgroup.procs").c_str(), W_OK) != 0) continue;
      path_ = absl::StrCat(root, "/weft_spawn_test.", getpid());
      if (mkdir(path_.c_str(), 0755) != 0) continue;
      fd_ = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      return;
    }
  }
  ~Cgroup() {
    if (fd_ < 0) return;
    close(fd_);
    // Busy until the last process has quite gone.
    EXPECT_TRUE(Eventually([this] { return rmdir(path_.c_str()) == 0; }));
  }
  int fd() const { return fd_; }
  std::string name() const { return path_.substr(path_.rfind('/')); }

 private:
  std::string path_;
  int fd_ = -1;
};

TEST_P(AttributesTest, BeginsInItsCgroup) {
  const Cgroup cgroup;
  if (cgroup.fd() < 0) GTEST_SKIP() << "no cgroup can be made";
  ForkExecOptions options = Options();
  options.attr.cgroup = cgroup.fd();
  EXPECT_THAT(Out("/bin/cat", {"cat", "/proc/self/cgroup"}, options), HasSubstr(cgroup.name()));
  // Without clone3 the child goes there by itself.
  InForkedProcess([&] {
    RefuseSyscalls({SYS_clone3}, ENOSYS);
    EXPECT_THAT(Out("/bin/cat", {"cat", "/proc/self/cgroup"}, options), HasSubstr(cgroup.name()));
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    options.attr.cgroup = null;
    EXPECT_EQ(Failure(options), "fork/exec /bin/true: open cgroup.procs: not a directory");
  });
  options.attr.cgroup = 999;
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: cgroup: bad file descriptor");
}

// A tracer of this process gets its children, but for those that ask not to be traced.
TEST_P(AttributesTest, Untraced) {
  for (const bool untraced : {false, true}) {
    const pid_t tracee = fork();
    if (tracee == 0) {
      ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      raise(SIGSTOP);
      ForkExecOptions options = Options();
      options.attr.untraced = untraced;
      const std::string tracer = StatusLine("TracerPid", options);
      _exit((tracer == "0") == untraced ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(tracee, &status, 0), tracee);
    ASSERT_EQ(
        ptrace(PTRACE_SETOPTIONS, tracee, nullptr,
               PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL),
        0);
    ptrace(PTRACE_CONT, tracee, nullptr, nullptr);
    int exit_code = -1;
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
      if (WIFEXITED(status) && pid == tracee) exit_code = WEXITSTATUS(status);
      if (!WIFSTOPPED(status)) continue;
      const int signal = WSTOPSIG(status);
      const bool event = (status >> 16) != 0 || signal == SIGTRAP || signal == SIGSTOP;
      ptrace(PTRACE_CONT, pid, nullptr, event ? 0 : signal);
    }
    EXPECT_EQ(exit_code, 0) << "untraced " << untraced;
  }
}

}  // namespace
}  // namespace weft::spawn::testing
