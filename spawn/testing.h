// What the tests of this package share.
#ifndef WEFT_SPAWN_TESTING_H_
#define WEFT_SPAWN_TESTING_H_

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
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

// Waits for a child and closes its pidfd.
Ended WaitFor(const Child& child);

// The descriptors that this process has open, each with what it leads to.
std::vector<std::string> OpenFiles();

// Whether this process has any child, dead or alive.
bool HasChildren();

// The value of "Name:\tvalue" in /proc/self/status of a child started with these options.
std::string StatusLine(const std::string& name, ForkExecOptions options = {});

// The numbered field of /proc/self/stat, from 1, of a child started with these options.
std::string StatField(int field, ForkExecOptions options = {});

// Runs `body` in a forked copy of this process, which may then do to itself what cannot be undone.
// Its failed expectations count here too. Only while this process has one thread.
void InForkedProcess(const std::function<void()>& body);

// Has these system calls fail with `error` in this process from now on, and its children.
void RefuseSyscalls(const std::vector<int>& numbers, int error);

// Kills whatever makes this system call in this process from now on, and its children.
void KillAtSyscall(int number);

// Has system calls `number` fail with `error` if their first argument has any of these bits.
void RefuseSyscallWithBits(int number, uint32_t bits, int error);

// Tries until the condition holds; false after `limit`.
bool Eventually(const std::function<bool()>& condition, absl::Duration limit = absl::Seconds(30));

}  // namespace weft::spawn::testing

#endif  // WEFT_SPAWN_TESTING_H_
