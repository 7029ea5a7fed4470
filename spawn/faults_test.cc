// Starts that fail, at every step and for every reason, leave nothing behind.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "spawn/fork_exec.h"
#include "spawn/internal/child_stack.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

// Where each start copies the shadow memory of a sanitizer too, a tenth must do.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WEFT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WEFT_SANITIZED 1
#endif
#endif
#ifdef WEFT_SANITIZED
constexpr int kStarts = 100;
#else
constexpr int kStarts = 1000;
#endif

// How many mappings this process has, to see that no stacks are left. (Some are kept.)
int Mappings() {
  FILE* const maps = fopen("/proc/self/maps", "re");
  int lines = 0;
  for (int c; (c = getc(maps)) != EOF;) lines += c == '\n' ? 1 : 0;
  fclose(maps);
  return lines;
}

// The number that the next descriptor gets.
int NextFd() {
  const int fd = dup(2);
  close(fd);
  return fd;
}

// A thousand starts, or a fraction of that, all of which fail in this way. Fewer where each forks.
//
// Not a member, nor is anything that runs with no descriptors left: UBSan looks at objects through
// a pipe.
void AllFail(const std::string& path, const ForkExecOptions& options, Step step, int error,
             int fraction = 1) {
  const bool forks = options.attr.plain_fork;
  const int starts = kStarts / fraction / (forks ? 5 : 1);
  // What is made once has been made.
  ForkExecOptions first;
  first.attr.plain_fork = forks;
  ForkExec("/nowhere", {"x"}, first).IgnoreError();
  const std::vector<std::string> files = OpenFiles();
  const int next = NextFd();
  const int mappings = Mappings();
  for (int i = 0; i < starts; ++i) {
    const absl::StatusOr<Child> child = ForkExec(path, {path}, options);
    const StartError why = StartErrorOf(child.status()).value_or(StartError{});
    ASSERT_TRUE(!child.ok() && why.step == step && why.error == error)
        << child.status() << " step " << static_cast<int>(why.step);
  }
  EXPECT_EQ(NextFd(), next);
  EXPECT_EQ(OpenFiles(), files);
  EXPECT_LE(Mappings(), mappings + 8);
  EXPECT_FALSE(HasChildren());
}

class FaultsTest : public WaysTest {};

IN_BOTH_WAYS(FaultsTest);

TEST_P(FaultsTest, NoSuchProgram) { AllFail("/nowhere/x", Options(), Step::kExec, ENOENT); }

TEST_P(FaultsTest, NotAllowedToRun) { AllFail("/etc/passwd", Options(), Step::kExec, EACCES); }

TEST_P(FaultsTest, NoProgram) {
  const std::string path = WriteFile("data", "data\n", 0755);
  AllFail(path, Options(), Step::kExec, ENOEXEC);
  unlink(path.c_str());
}

TEST_P(FaultsTest, NoSuchDirectory) {
  ForkExecOptions options = Options();
  options.dir = "/nowhere";
  AllFail("/bin/true", options, Step::kDir, ENOENT);
}

TEST_P(FaultsTest, BadDescriptor) {
  ForkExecOptions options = Options();
  options.files = {0, 1, 999};
  AllFail("/bin/true", options, Step::kFiles, EBADF);
}

// Each number of descriptors still to be had fails another step.
TEST_P(FaultsTest, TooManyOpenFiles) {
  const ForkExecOptions options = Options();
  InForkedProcess([&options] {
    const int next = NextFd();
    int failed = 0;
    for (int spare = 0; spare <= 8; ++spare) {
      rlimit limit;
      getrlimit(RLIMIT_NOFILE, &limit);
      limit.rlim_cur = static_cast<rlim_t>(next + spare);
      ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
      const absl::Status status = ForkExec("/nowhere/x", {"x"}, options).status();
      const StartError why = StartErrorOf(status).value_or(StartError{});
      limit.rlim_cur = limit.rlim_max;
      ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
      if (why.error == EMFILE) {
        EXPECT_TRUE(why.step == Step::kStatusPipe || why.step == Step::kClone) << status;
        ++failed;
      } else {
        EXPECT_EQ(why.error, ENOENT) << status;
      }
      EXPECT_EQ(NextFd(), next) << "a descriptor has been left";
      EXPECT_FALSE(HasChildren());
    }
    EXPECT_GE(failed, 1);
  });
  InForkedProcess([&options] {
    const int next = NextFd();
    rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = static_cast<rlim_t>(next);
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < kStarts; ++i) {
      EXPECT_EQ(StartErrorOf(ForkExec("/bin/true", {"x"}, options).status())->error, EMFILE);
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    EXPECT_EQ(NextFd(), next);
    EXPECT_FALSE(HasChildren());
  });
}

TEST_P(FaultsTest, TooManyProcesses) {
  NEEDS_PRIVILEGES();
  InForkedProcess([this] {
    // Root is not limited.
    BecomeNobody();
    rlimit limit = {0, 0};
    ASSERT_EQ(setrlimit(RLIMIT_NPROC, &limit), 0);
    AllFail("/bin/true", Options(), Step::kClone, EAGAIN);
  });
}

TEST_P(FaultsTest, NoMemoryForTheStack) {
  InForkedProcess([this] {
    // Those that are kept.
    weft::spawn::internal::ChildStack taken[8];
    RefuseSyscalls({SYS_mprotect}, ENOMEM);
    EXPECT_EQ(taken[7].error(), 0);
    const absl::Status status = ForkExec("/bin/true", {"x"}, Options()).status();
    EXPECT_EQ(status.message(), "fork/exec /bin/true: stack of the child: cannot allocate memory");
  });
}

// One step of a start that fails, and how.
struct Fault {
  Step step;
  int error;
  void (*inject)();  // in a process of its own
  void (*ask)(ForkExecOptions&);
};

constexpr int kInjected = ENOANO;
template <int number>
void Refuse() {
  RefuseSyscalls({number}, kInjected);
}
template <int number, int which, uint32_t value>
void RefuseWith() {
  RefuseSyscallWith(number, which, value, kInjected);
}
void Nothing() {}
void NewUser(ForkExecOptions& options) { options.attr.namespaces = CLONE_NEWUSER; }
void Capability(ForkExecOptions& options) { options.attr.ambient_capabilities = {10}; }

// In the order of the steps. kArguments, kChildStack and kKilled have tests of their own.
const Fault kFaults[] = {
    {Step::kStatusPipe, kInjected, Refuse<SYS_pipe2>, NewUser},
    {Step::kCgroupOpen, ENOENT, [] { RefuseSyscalls({SYS_clone3}, ENOSYS); },
     [](ForkExecOptions& o) { o.attr.cgroup = open("/usr", O_RDONLY | O_DIRECTORY | O_CLOEXEC); }},
    {Step::kClone, kInjected, [] { RefuseSyscalls({SYS_clone3, SYS_clone}, kInjected); },
     [](ForkExecOptions&) {}},
    {Step::kUidMap, EINVAL, Nothing,
     [](ForkExecOptions& o) {
       NewUser(o);
       o.attr.uid_map = {{0, 1, 1}, {0, 2, 1}};
     }},
    {Step::kGidMap, EINVAL, Nothing,
     [](ForkExecOptions& o) {
       NewUser(o);
       o.attr.gid_map = {{0, 1, 1}, {0, 2, 1}};
     }},
    {Step::kSession, kInjected, Refuse<SYS_setsid>,
     [](ForkExecOptions& o) { o.attr.new_session = true; }},
    {Step::kProcessGroup, kInjected, Refuse<SYS_setpgid>,
     [](ForkExecOptions& o) { o.attr.process_group = 0; }},
    {Step::kForeground, kInjected, RefuseWith<SYS_ioctl, 1, TIOCSPGRP>,
     [](ForkExecOptions& o) { o.attr.foreground_tty = 0; }},
    {Step::kCgroup, EBADF, Nothing, [](ForkExecOptions& o) { o.attr.cgroup = 999; }},
    {Step::kPrivateMounts, kInjected, Refuse<SYS_mount>,
     [](ForkExecOptions& o) { o.attr.namespaces = CLONE_NEWNS; }},
    {Step::kFiles, kInjected, Refuse<SYS_dup3>, [](ForkExecOptions& o) { o.files = {0, 1, 2, 0}; }},
    {Step::kFiles, kInjected, RefuseWith<SYS_fcntl, 1, F_SETFD>, [](ForkExecOptions&) {}},
    {Step::kFiles, kInjected, RefuseWith<SYS_fcntl, 1, F_DUPFD_CLOEXEC>,
     [](ForkExecOptions& o) { o.files = {1, 0}; }},
    {Step::kCloseOthers, kInjected,
     [] { RefuseSyscalls({SYS_close_range, SYS_getdents64}, kInjected); }, [](ForkExecOptions&) {}},
    {Step::kControllingTty, kInjected, RefuseWith<SYS_ioctl, 1, TIOCSCTTY>,
     [](ForkExecOptions& o) {
       o.attr.new_session = true;
       o.attr.controlling_tty = 0;
     }},
    {Step::kLimits, kInjected, Refuse<SYS_prlimit64>,
     [](ForkExecOptions& o) { o.attr.limits = {{RLIMIT_CORE, {0, 0}}}; }},
    {Step::kNice, kInjected, Refuse<SYS_setpriority>, [](ForkExecOptions& o) { o.attr.nice = 1; }},
    {Step::kAffinity, kInjected, Refuse<SYS_sched_setaffinity>,
     [](ForkExecOptions& o) { o.attr.cpus = {0}; }},
    {Step::kChroot, kInjected, Refuse<SYS_chroot>, [](ForkExecOptions& o) { o.attr.chroot = "/"; }},
    {Step::kGroups, kInjected, Refuse<SYS_setgroups>,
     [](ForkExecOptions& o) { o.attr.groups.emplace(); }},
    {Step::kGid, kInjected, Refuse<SYS_setresgid>,
     [](ForkExecOptions& o) { o.attr.gid = getgid(); }},
    {Step::kUid, kInjected, Refuse<SYS_setresuid>,
     [](ForkExecOptions& o) { o.attr.uid = getuid(); }},
    {Step::kCapabilities, kInjected, RefuseWith<SYS_prctl, 0, PR_SET_KEEPCAPS>, Capability},
    {Step::kCapabilities, kInjected, Refuse<SYS_capget>, Capability},
    {Step::kCapabilities, kInjected, Refuse<SYS_capset>, Capability},
    {Step::kCapabilities, kInjected, RefuseWith<SYS_prctl, 0, PR_CAP_AMBIENT>, Capability},
    {Step::kDir, kInjected, Refuse<SYS_chdir>, [](ForkExecOptions& o) { o.dir = "/"; }},
    {Step::kNoNewPrivileges, kInjected, RefuseWith<SYS_prctl, 0, PR_SET_NO_NEW_PRIVS>,
     [](ForkExecOptions& o) { o.attr.no_new_privileges = true; }},
    {Step::kParentDeathSignal, kInjected, RefuseWith<SYS_prctl, 0, PR_SET_PDEATHSIG>,
     [](ForkExecOptions& o) { o.attr.parent_death_signal = SIGTERM; }},
    {Step::kDefaultSignals, kInjected, RefuseWith<SYS_rt_sigaction, 0, SIGUSR2>,
     [](ForkExecOptions& o) { o.attr.default_signals = {SIGUSR2}; }},
    {Step::kExec, kInjected, Refuse<SYS_execve>, [](ForkExecOptions&) {}},
};

TEST_P(FaultsTest, EveryStep) {
  NEEDS_PRIVILEGES();
  std::set<Step> seen;
  for (const Fault& fault : kFaults) {
    SCOPED_TRACE(absl::StrCat("step ", static_cast<int>(fault.step)));
    seen.insert(fault.step);
    ForkExecOptions options = Options();
    InForkedProcess([&fault, &options] {
      fault.ask(options);
      fault.inject();
      AllFail("/bin/true", options, fault.step, fault.error, /*fraction=*/5);
    });
  }
  // All that there are, but for kNone and those that are named above.
  EXPECT_EQ(seen.size(), static_cast<size_t>(Step::kKilled) - 3);
}

// A child that is killed before its program begins has not been started.
TEST_P(FaultsTest, KilledOnTheWay) {
  InForkedProcess([this] {
    KillAtSyscall(SYS_execve);
    const std::vector<std::string> files = OpenFiles();
    const absl::Status status = ForkExec("/bin/true", {"x"}, Options()).status();
    EXPECT_EQ(status.message(), "fork/exec /bin/true: killed by signal 31 before it began");
    EXPECT_EQ(StartErrorOf(status)->step, Step::kKilled);
    EXPECT_EQ(StartErrorOf(status)->index, SIGSYS);
    EXPECT_EQ(OpenFiles(), files);
    EXPECT_FALSE(HasChildren());
  });
}

}  // namespace
}  // namespace weft::spawn::testing
