// What the tests of this package share. They lie in its namespace.
#ifndef WEFT_SPAWN_TESTING_H_
#define WEFT_SPAWN_TESTING_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "spawn/fork_exec.h"

namespace weft::spawn::testing {

// What a child came to.
struct Ended {
  std::string out;     // what it wrote to its standard output
  int exit_code = -1;  // -1: it did not exit by itself
  int signal = 0;      // what killed it
};

// Starts the program with its standard output into a pipe (files[1] is replaced), and collects it
// to the end.
absl::StatusOr<Ended> Collect(const std::string& path, const std::vector<std::string>& argv,
                              ForkExecOptions options = {});

// What it writes, or why it could not be started.
std::string Out(const std::string& path, const std::vector<std::string>& argv,
                ForkExecOptions options = {});

// Why /bin/true cannot be started with these options. Expects that no child is left.
std::string Failure(const ForkExecOptions& options);

// Waits for a child and closes its pidfd.
Ended WaitFor(const Child& child);

// The descriptors that this process has open, each with what it leads to.
std::vector<std::string> OpenFiles();

// Whether this process has any child, dead or alive.
bool HasChildren();

// The value of "Name:\tvalue" in /proc/self/status of a child started with these options.
std::string StatusLine(const std::string& name, ForkExecOptions options = {});

// The fields of /proc/self/stat of a child started with these options: [0] pid, [4] process group,
// [5] session, [6] terminal, [7] that terminal's foreground group, [18] nice.
std::vector<std::string> Stat(ForkExecOptions options = {});

// A path for this test's own use.
std::string TempPath(const std::string& name);
std::string ReadFile(const std::string& path);
// Returns the path, which is TempPath(name).
std::string WriteFile(const std::string& name, const std::string& text, mode_t mode);

// Runs `body` in a forked copy of this process, which may then do to itself what cannot be undone.
// Its failed expectations count here too. Only while this process has one thread.
void InForkedProcess(const std::function<void()>& body);

inline constexpr uid_t kNobody = 65534;

// Whether this process may do anything, and not only in a sandbox's user namespace, which has few
// ids.
bool Privileged();
#define NEEDS_PRIVILEGES() \
  if (!::weft::spawn::testing::Privileged()) GTEST_SKIP() << "takes root"

// Gives up all privileges of this process, for good.
void BecomeNobody();

// Has these system calls fail with `error` in this process from now on, and its children.
void RefuseSyscalls(const std::vector<int>& numbers, int error);

// Kills whatever makes this system call in this process from now on, and its children.
void KillAtSyscall(int number);

// Has system calls `number` fail with `error` if argument `which` is `value`.
void RefuseSyscallWith(int number, int which, uint32_t value, int error);

// Has system calls `number` fail with `error` if their first argument has any of these bits.
void RefuseSyscallWithBits(int number, uint32_t bits, int error);
// The same if it has none of them.
void RefuseSyscallWithoutBits(int number, uint32_t bits, int error);

// Holds whoever makes this system call, with this first argument if one is given, in this process
// from now on and its children, until LetGo(). A descriptor, readable when somebody is held; -1
// with errno where the system has no such thing for us.
int HoldSyscall(int number, std::optional<uint32_t> first = {});
// Waits for somebody who is held at that descriptor. The pid; -1 with errno.
pid_t NextHeld(int listener, uint64_t* id);
// Has the call go on. Whether that was possible.
bool LetGo(int listener, uint64_t id);

// Tries until the condition holds; false after `limit`.
bool Eventually(const std::function<bool()>& condition, absl::Duration limit = absl::Seconds(30));

// A test that is run with a child that shares memory, and with a forked one.
class WaysTest : public ::testing::TestWithParam<bool> {
 protected:
  // What says which.
  ForkExecOptions Options() const {
    ForkExecOptions options;
    options.attr.plain_fork = GetParam();
    return options;
  }
};

inline std::string WayName(const ::testing::TestParamInfo<bool>& way) {
  return way.param ? "Forked" : "Shared";
}
#define IN_BOTH_WAYS(test) INSTANTIATE_TEST_SUITE_P(Ways, test, ::testing::Bool(), WayName)

}  // namespace weft::spawn::testing

#endif  // WEFT_SPAWN_TESTING_H_
