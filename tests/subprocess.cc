#include "tests/subprocess.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

extern char** environ;

namespace weft::testing {
namespace {

[[noreturn]] void Die(const char* what, const std::string& program, int error) {
  std::fprintf(stderr, "%s %s: %s\n", what, program.c_str(), std::strerror(error));
  std::abort();
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> Environment(const std::vector<std::string>& extra) {
  std::vector<std::string> env;
  // ThreadSanitizer would let each program sleep for a second at its end.
  std::string tsan_options = "TSAN_OPTIONS=atexit_sleep_ms=0";
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (absl::StartsWith(*variable, "TSAN_OPTIONS=")) {
      tsan_options = absl::StrCat(*variable, ":atexit_sleep_ms=0");
    } else if (!absl::StartsWith(*variable, "WEFT") ||
               absl::StartsWith(*variable, "WEFT_DELAY_SEED=")) {
      env.emplace_back(*variable);
    }
  }
  env.push_back(tsan_options);
  // Of two with the same name a program sees the first.
  env.insert(env.begin(), extra.begin(), extra.end());
  return env;
}

// Reads what is there. False at the end of the stream.
bool Drain(int fd, std::string& into) {
  char buffer[16384];
  const ssize_t n = read(fd, buffer, sizeof(buffer));
  if (n > 0) into.append(buffer, static_cast<size_t>(n));
  return n > 0 || (n < 0 && errno == EINTR);
}

// Collects both streams until they end; kills the process at `deadline`. True: it was killed.
bool Collect(pid_t pid, int out, int err, absl::Time deadline, ProcessResult& result) {
  pollfd streams[] = {{.fd = out, .events = POLLIN, .revents = 0},
                      {.fd = err, .events = POLLIN, .revents = 0}};
  std::string* texts[] = {&result.out, &result.err};
  bool killed = false;
  while (streams[0].fd >= 0 || streams[1].fd >= 0) {
    const absl::Duration left = deadline - absl::Now();
    if (!killed && left <= absl::ZeroDuration()) {
      kill(pid, SIGKILL);
      killed = true;
    }
    const int wait = killed ? -1 : static_cast<int>(absl::ToInt64Milliseconds(left)) + 1;
    if (poll(streams, 2, wait) <= 0) continue;
    for (int i = 0; i < 2; ++i) {
      if (streams[i].revents != 0 && !Drain(streams[i].fd, *texts[i])) streams[i].fd = -1;
    }
  }
  return killed;
}

}  // namespace

ProcessResult RunProcess(const std::vector<std::string>& argv, const ProcessOptions& options) {
  const absl::Time deadline = absl::Now() + options.limit;
  std::vector<std::string> args = argv;
  std::vector<std::string> env = Environment(options.env);
  int out[2];
  int err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) Die("pipe for", argv[0], errno);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  pid_t pid;
  const int error = posix_spawn(&pid, args[0].c_str(), &actions, nullptr, Pointers(args).data(),
                                Pointers(env).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) Die("cannot start", argv[0], error);
  close(out[1]);
  close(err[1]);

  ProcessResult result;
  result.timed_out = Collect(pid, out[0], err[0], deadline, result);
  close(out[0]);
  close(err[0]);
  int status;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) result.exit_status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  return result;
}

}  // namespace weft::testing
