#include "spawn/internal/process.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "spawn/internal/arch.h"
#include "spawn/start_error.h"

namespace weft::spawn::internal {

Process::~Process() {
  if (pidfd_ >= 0) close(pidfd_);
}

void Process::Adopt(const Child& child) {
  const std::lock_guard lock(mutex_);
  pid_ = child.pid;
  pidfd_ = child.pidfd;
}

pid_t Process::pid() const {
  const std::lock_guard lock(mutex_);
  return pid_;
}

int Process::pidfd() const {
  const std::lock_guard lock(mutex_);
  return pidfd_;
}

ExitStatus Process::exit_status() const {
  const std::lock_guard lock(mutex_);
  return exit_status_;
}

rusage Process::usage() const {
  const std::lock_guard lock(mutex_);
  return usage_;
}

bool Process::stolen() const {
  const std::lock_guard lock(mutex_);
  return stolen_;
}

absl::Status Process::Signal(int signal) {
  const std::lock_guard lock(mutex_);
  if (pid_ < 0) return absl::FailedPreconditionError("os: process not started");
  if (reaped_) return absl::FailedPreconditionError("os: process already finished");
  int64_t result = -ENOSYS;
  if (pidfd_ >= 0) result = RawSyscall(SYS_pidfd_send_signal, pidfd_, signal, nullptr, 0);
  // Sandboxes may have the descriptor and not the call. Nobody waits for it while we hold the lock.
  if (result == -ENOSYS || result == -EPERM) result = RawSyscall(SYS_kill, pid_, signal);
  if (result == 0) return absl::OkStatus();
  const int error = static_cast<int>(-result);
  if (error == ESRCH) return absl::FailedPreconditionError("os: process already finished");
  return absl::Status(absl::ErrnoToStatusCode(error),
                      absl::StrCat("signal ", signal, ": ", ErrnoText(error)));
}

bool Process::Reap() {
  const std::lock_guard lock(mutex_);
  if (reaped_) return true;
  int status = 0;
  const int64_t waited = RawSyscall(SYS_wait4, pid_, &status, WNOHANG, &usage_);
  if (waited == 0) return false;
  reaped_ = true;
  stolen_ = waited != pid_;
  if (!stolen_) exit_status_ = ExitStatus(status);
  if (pidfd_ >= 0) close(std::exchange(pidfd_, -1));
  return true;
}

}  // namespace weft::spawn::internal
