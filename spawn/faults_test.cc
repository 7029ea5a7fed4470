// Starts that fail, at every step and for every reason, leave nothing behind.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "spawn/fork_exec.h"
#include "spawn/internal/child_stack.h"
#include "spawn/testing.h"

namespace {

using weft::spawn::Child;
using weft::spawn::ForkExec;
using weft::spawn::ForkExecOptions;
using weft::spawn::StartError;
using weft::spawn::StartErrorOf;
using weft::spawn::Step;
using weft::spawn::testing::HasChildren;
using weft::spawn::testing::InForkedProcess;
using weft::spawn::testing::OpenFiles;
using weft::spawn::testing::RefuseSyscalls;
using weft::spawn::testing::WaitFor;

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
constexpr uid_t kNobody = 65534;

// How many mappings this process has, to see that no stacks are left. (Some are kept.)
int Mappings() {
  FILE* const maps = fopen("/proc/self/maps", "re");
  int lines = 0;
  for (int c; (c = getc(maps)) != EOF;) lines += c == '\n' ? 1 : 0;
  fclose(maps);
  return lines;
}

class FaultsTest : public ::testing::TestWithParam<bool> {
 protected:
  ForkExecOptions Options() const {
    ForkExecOptions options;
    options.attr.plain_fork = GetParam();
    return options;
  }

  // A thousand starts, all of which fail in this way.
  void AllFail(const std::string& path, const ForkExecOptions& options, Step step, int error) {
    // What is made once has been made.
    ForkExec("/nowhere", {"x"}, Options()).IgnoreError();
    const std::vector<std::string> files = OpenFiles();
    const int mappings = Mappings();
    for (int i = 0; i < kStarts; ++i) {
      const absl::StatusOr<Child> child = ForkExec(path, {path}, options);
      const StartError why = StartErrorOf(child.status()).value_or(StartError{});
      ASSERT_TRUE(!child.ok() && why.step == step && why.error == error)
          << child.status() << " step " << static_cast<int>(why.step);
    }
    EXPECT_EQ(OpenFiles(), files);
    EXPECT_LE(Mappings(), mappings + 8);
    EXPECT_FALSE(HasChildren());
  }
};

INSTANTIATE_TEST_SUITE_P(Ways, FaultsTest, ::testing::Bool(),
                         [](const auto& way) { return way.param ? "Forked" : "Shared"; });

TEST_P(FaultsTest, NoSuchProgram) { AllFail("/nowhere/x", Options(), Step::kExec, ENOENT); }

TEST_P(FaultsTest, NotAllowedToRun) { AllFail("/etc/passwd", Options(), Step::kExec, EACCES); }

TEST_P(FaultsTest, NoProgram) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/data.", getpid());
  const int file = open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
  ASSERT_EQ(write(file, "data\n", 5), 5);
  close(file);
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
  InForkedProcess([this] {
    int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(next);
    int failed = 0;
    for (int spare = 0; spare <= 8; ++spare) {
      rlimit limit;
      getrlimit(RLIMIT_NOFILE, &limit);
      limit.rlim_cur = static_cast<rlim_t>(next + spare);
      ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
      const absl::Status status = ForkExec("/nowhere/x", {"x"}, Options()).status();
      const StartError why = StartErrorOf(status).value_or(StartError{});
      limit.rlim_cur = limit.rlim_max;
      ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
      if (why.error == EMFILE) {
        EXPECT_TRUE(why.step == Step::kStatusPipe || why.step == Step::kClone) << status;
        ++failed;
      } else {
        EXPECT_EQ(why.error, ENOENT) << status;
      }
      const int now = open("/dev/null", O_RDONLY | O_CLOEXEC);
      EXPECT_EQ(now, next) << "a descriptor has been left";
      close(now);
      EXPECT_FALSE(HasChildren());
    }
    EXPECT_GE(failed, 1);
  });
  InForkedProcess([this] {
    const int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(next);
    rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = static_cast<rlim_t>(next);
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < kStarts; ++i) {
      EXPECT_EQ(StartErrorOf(ForkExec("/bin/true", {"x"}, Options()).status())->error, EMFILE);
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    EXPECT_EQ(open("/dev/null", O_RDONLY | O_CLOEXEC), next);
    EXPECT_FALSE(HasChildren());
  });
}

TEST_P(FaultsTest, TooManyProcesses) {
  if (geteuid() != 0) GTEST_SKIP() << "takes root";
  InForkedProcess([this] {
    // Root is not limited.
    ASSERT_EQ(setgroups(0, nullptr) | setresgid(kNobody, kNobody, kNobody) |
                  setresuid(kNobody, kNobody, kNobody),
              0);
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

// Every system call that a child makes is refused in turn.
TEST_P(FaultsTest, EveryStepOfTheChild) {
  struct Case {
    int syscall;
    Step step;
    void (*ask)(ForkExecOptions&);
  };
  const auto nothing = [](ForkExecOptions&) {};
  const Case cases[] = {
      {SYS_setsid, Step::kSession, [](ForkExecOptions& o) { o.attr.new_session = true; }},
      {SYS_setpgid, Step::kProcessGroup, [](ForkExecOptions& o) { o.attr.process_group = 0; }},
      {SYS_dup3, Step::kFiles, [](ForkExecOptions& o) { o.files = {0, 1, 2, 0}; }},
      {SYS_prlimit64, Step::kLimits,
       [](ForkExecOptions& o) { o.attr.limits = {{RLIMIT_CORE, {0, 0}}}; }},
      {SYS_setpriority, Step::kNice, [](ForkExecOptions& o) { o.attr.nice = 1; }},
      {SYS_sched_setaffinity, Step::kAffinity, [](ForkExecOptions& o) { o.attr.cpus = {0}; }},
      {SYS_chroot, Step::kChroot, [](ForkExecOptions& o) { o.attr.chroot = "/"; }},
      {SYS_setgroups, Step::kGroups, [](ForkExecOptions& o) { o.attr.groups.emplace(); }},
      {SYS_setresgid, Step::kGid, [](ForkExecOptions& o) { o.attr.gid = getgid(); }},
      {SYS_setresuid, Step::kUid, [](ForkExecOptions& o) { o.attr.uid = getuid(); }},
      {SYS_capset, Step::kCapabilities,
       [](ForkExecOptions& o) { o.attr.ambient_capabilities = {10}; }},
      {SYS_chdir, Step::kDir, [](ForkExecOptions& o) { o.dir = "/"; }},
      {SYS_execve, Step::kExec, nothing},
  };
  const bool root = geteuid() == 0;
  for (const Case& c : cases) {
    InForkedProcess([&] {
      ForkExecOptions options = Options();
      c.ask(options);
      RefuseSyscalls({c.syscall}, ENOANO);
      for (int i = 0; i < 20; ++i) {
        const absl::Status status = ForkExec("/bin/true", {"x"}, options).status();
        const StartError why = StartErrorOf(status).value_or(StartError{});
        EXPECT_TRUE(why.error == ENOANO || !root) << status;
        EXPECT_TRUE(why.step == c.step || !root) << status;
        EXPECT_NE(why.error, 0);
      }
      EXPECT_FALSE(HasChildren());
    });
  }
}

// A child that is killed before its program begins has not been started.
TEST_P(FaultsTest, KilledOnTheWay) {
  InForkedProcess([this] {
    weft::spawn::testing::KillAtSyscall(SYS_execve);
    const std::vector<std::string> files = OpenFiles();
    const absl::Status status = ForkExec("/bin/true", {"x"}, Options()).status();
    EXPECT_EQ(status.message(), "fork/exec /bin/true: killed by signal 31 before it began");
    EXPECT_EQ(StartErrorOf(status)->step, Step::kKilled);
    EXPECT_EQ(StartErrorOf(status)->index, SIGSYS);
    EXPECT_EQ(OpenFiles(), files);
    EXPECT_FALSE(HasChildren());
  });
}

TEST_P(FaultsTest, BadMapsOfAUserNamespace) {
  ForkExecOptions options = Options();
  options.attr.namespaces = CLONE_NEWUSER;
  options.attr.uid_map = {{0, 1, 1}, {0, 2, 1}};
  AllFail("/bin/true", options, Step::kUidMap, EINVAL);
}

}  // namespace
