#include "spawn/exit_status.h"

#include <sys/wait.h>

#include <iterator>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"

namespace weft {
namespace {

constexpr absl::string_view kExitUrl = "weft/exit_status";

constexpr absl::string_view kSignalNames[] = {
    "",
    "hangup",
    "interrupt",
    "quit",
    "illegal instruction",
    "trace/breakpoint trap",
    "aborted",
    "bus error",
    "floating point exception",
    "killed",
    "user defined signal 1",
    "segmentation fault",
    "user defined signal 2",
    "broken pipe",
    "alarm clock",
    "terminated",
    "stack fault",
    "child exited",
    "continued",
    "stopped (signal)",
    "stopped",
    "stopped (tty input)",
    "stopped (tty output)",
    "urgent I/O condition",
    "CPU time limit exceeded",
    "file size limit exceeded",
    "virtual timer expired",
    "profiling timer expired",
    "window changed",
    "I/O possible",
    "power failure",
    "bad system call",
};

}  // namespace

int ExitStatus::code() const {
  return ended() && WIFEXITED(wait_status_) ? WEXITSTATUS(wait_status_) : -1;
}

int ExitStatus::signal() const {
  return ended() && WIFSIGNALED(wait_status_) ? WTERMSIG(wait_status_) : 0;
}

bool ExitStatus::core_dumped() const { return signal() != 0 && WCOREDUMP(wait_status_); }

std::string ExitStatus::ToString() const {
  if (!ended()) return "not ended";
  if (signal() == 0) return absl::StrCat("exit status ", code());
  return absl::StrCat("signal: ", SignalName(signal()), core_dumped() ? " (core dumped)" : "");
}

std::string SignalName(int signal) {
  if (signal >= 1 && signal < static_cast<int>(std::size(kSignalNames))) {
    return std::string(kSignalNames[signal]);
  }
  return absl::StrCat("signal ", signal);
}

absl::Status ExitError(ExitStatus exit) {
  if (exit.success()) return absl::OkStatus();
  absl::Status status = absl::UnknownError(exit.ToString());
  const int word =
      exit.signal() != 0 ? exit.signal() | (exit.core_dumped() ? WCOREFLAG : 0) : exit.code() << 8;
  // Through a string_view: Clang and GCC name the constructor from std::string differently, and the
  // system's Abseil has only one of the names.
  status.SetPayload(kExitUrl, absl::Cord(absl::string_view(absl::StrCat(word))));
  return status;
}

std::optional<ExitStatus> ExitStatusOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kExitUrl);
  int word = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &word)) return std::nullopt;
  return ExitStatus(word);
}

}  // namespace weft
