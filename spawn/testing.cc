#include "spawn/testing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace weft::spawn::testing {
namespace {

void Install(std::vector<sock_filter> code) {
  sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
  ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

uint32_t Refusal(int error) { return SECCOMP_RET_ERRNO | static_cast<uint32_t>(error); }

// What is done about a system call for which a test of its argument `which` held, or did not.
struct Answers {
  uint32_t held;
  uint32_t did_not;
};
void InstallForArgument(int number, int which, uint16_t test, uint32_t value, Answers answers) {
  const auto offset =
      static_cast<uint32_t>(offsetof(seccomp_data, args) + sizeof(uint64_t) * size_t(which));
  Install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
           BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 4),
           BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset), BPF_JUMP(test, value, 0, 1),
           BPF_STMT(BPF_RET | BPF_K, answers.held), BPF_STMT(BPF_RET | BPF_K, answers.did_not),
           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)});
}

}  // namespace

absl::StatusOr<Ended> Collect(const std::string& path, const std::vector<std::string>& argv,
                              ForkExecOptions options) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::InternalError("pipe");
  options.files.resize(std::max<size_t>(options.files.size(), 3), -1);
  options.files[1] = ends[1];
  const absl::StatusOr<Child> child = ForkExec(path, argv, options);
  close(ends[1]);
  if (!child.ok()) {
    close(ends[0]);
    return child.status();
  }
  std::string out;
  char buffer[4096];
  for (;;) {
    const ssize_t n = read(ends[0], buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    out.append(buffer, static_cast<size_t>(n));
  }
  close(ends[0]);
  Ended ended = WaitFor(*child);
  ended.out = std::move(out);
  return ended;
}

std::string Out(const std::string& path, const std::vector<std::string>& argv,
                ForkExecOptions options) {
  const absl::StatusOr<Ended> ended = Collect(path, argv, std::move(options));
  return ended.ok() ? ended->out : std::string(ended.status().message());
}

std::string Failure(const ForkExecOptions& options) {
  const absl::StatusOr<Child> child = ForkExec("/bin/true", {"true"}, options);
  if (child.ok()) {
    WaitFor(*child);
    return "it began";
  }
  EXPECT_FALSE(HasChildren());
  return std::string(child.status().message());
}

Ended WaitFor(const Child& child) {
  int status = 0;
  while (waitpid(child.pid, &status, 0) < 0) {
    if (errno == EINTR) continue;
    ADD_FAILURE() << "waitpid " << child.pid << ": errno " << errno;
    break;
  }
  if (child.pidfd >= 0) close(child.pidfd);
  Ended ended;
  if (WIFEXITED(status)) ended.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) ended.signal = WTERMSIG(status);
  return ended;
}

std::vector<std::string> OpenFiles() {
  std::vector<std::string> files;
  DIR* const dir = opendir("/proc/self/fd");
  if (dir == nullptr) return {"no /proc"};
  while (const dirent* const entry = readdir(dir)) {
    if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(dir)) continue;
    char link[512];
    const ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link));
    files.push_back(
        absl::StrCat(entry->d_name, " ", absl::string_view(link, n < 0 ? 0 : size_t(n))));
  }
  closedir(dir);
  std::sort(files.begin(), files.end());
  return files;
}

bool HasChildren() {
  siginfo_t info = {};
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0;
}

std::string StatusLine(const std::string& name, ForkExecOptions options) {
  const std::string status = Out("/bin/cat", {"cat", "/proc/self/status"}, std::move(options));
  for (absl::string_view line : absl::StrSplit(status, '\n')) {
    if (absl::ConsumePrefix(&line, name) && absl::ConsumePrefix(&line, ":\t")) {
      return std::string(absl::StripTrailingAsciiWhitespace(line));
    }
  }
  return absl::StrCat("no ", name, " in ", status);
}

std::vector<std::string> Stat(ForkExecOptions options) {
  return absl::StrSplit(Out("/bin/cat", {"cat", "/proc/self/stat"}, std::move(options)), ' ');
}

std::string TempPath(const std::string& name) {
  return absl::StrCat(::testing::TempDir(), "/", name, ".", getpid());
}

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::string WriteFile(const std::string& name, const std::string& text, mode_t mode) {
  const std::string path = TempPath(name);
  std::ofstream(path) << text;
  chmod(path.c_str(), mode);
  return path;
}

void InForkedProcess(const std::function<void()>& body) {
  fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    body();
    fflush(nullptr);
    _exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  EXPECT_EQ(status, 0) << "of the forked process";
}

bool Privileged() {
  std::ifstream map("/proc/self/uid_map");
  uint64_t inside = 0, outside = 0, count = 0;
  map >> inside >> outside >> count;
  return geteuid() == 0 && count > kNobody;
}

void BecomeNobody() {
  ASSERT_EQ(setgroups(0, nullptr) | setresgid(kNobody, kNobody, kNobody) |
                setresuid(kNobody, kNobody, kNobody),
            0);
  // Its files in /proc are its own again.
  ASSERT_EQ(prctl(PR_SET_DUMPABLE, 1), 0);
}

void RefuseSyscalls(const std::vector<int>& numbers, int error) {
  std::vector<sock_filter> code;
  code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (const int number : numbers) {
    code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1));
    code.push_back(BPF_STMT(BPF_RET | BPF_K, Refusal(error)));
  }
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  Install(std::move(code));
}

void KillAtSyscall(int number) {
  Install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
           BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1),
           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)});
}

void RefuseSyscallWith(int number, int which, uint32_t value, int error) {
  InstallForArgument(number, which, BPF_JMP | BPF_JEQ | BPF_K, value,
                     {.held = Refusal(error), .did_not = SECCOMP_RET_ALLOW});
}

void RefuseSyscallWithBits(int number, uint32_t bits, int error) {
  InstallForArgument(number, 0, BPF_JMP | BPF_JSET | BPF_K, bits,
                     {.held = Refusal(error), .did_not = SECCOMP_RET_ALLOW});
}

void RefuseSyscallWithoutBits(int number, uint32_t bits, int error) {
  InstallForArgument(number, 0, BPF_JMP | BPF_JSET | BPF_K, bits,
                     {.held = SECCOMP_RET_ALLOW, .did_not = Refusal(error)});
}

int HoldSyscall(int number, std::optional<uint32_t> first) {
  std::vector<sock_filter> code = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
      BPF_JUMP(BPF_JMP | (first.has_value() ? BPF_JEQ : BPF_JGE) | BPF_K, first.value_or(0), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  return static_cast<int>(
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
}

pid_t NextHeld(int listener, uint64_t* id) {
  seccomp_notif held = {};
  if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &held) != 0) return -1;
  *id = held.id;
  return static_cast<pid_t>(held.pid);
}

bool LetGo(int listener, uint64_t id) {
  seccomp_notif_resp go_on = {};
  go_on.id = id;
  go_on.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &go_on) == 0;
}

bool Eventually(const std::function<bool()>& condition, absl::Duration limit) {
  const absl::Time deadline = absl::Now() + limit;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

}  // namespace weft::spawn::testing
