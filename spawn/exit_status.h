// How a process ended. Texts are Go's: "exit status 42", "signal: killed (core dumped)".
#ifndef WEFT_SPAWN_EXIT_STATUS_H_
#define WEFT_SPAWN_EXIT_STATUS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weft {

class ExitStatus {
 public:
  // Of one that has not ended, or not begun.
  ExitStatus() = default;
  // From what waitpid(2) fills in.
  explicit ExitStatus(int wait_status) : wait_status_(wait_status) {}

  bool ended() const { return wait_status_ != kNotEnded; }
  bool success() const { return wait_status_ == 0; }
  // What it passed to exit(), 0 to 255; -1: a signal ended it, or nothing has.
  int code() const;
  // The signal that ended it, or 0.
  int signal() const;
  bool core_dumped() const;
  std::string ToString() const;

  friend bool operator==(ExitStatus a, ExitStatus b) { return a.wait_status_ == b.wait_status_; }

 private:
  static constexpr int kNotEnded = -1;
  int wait_status_ = kNotEnded;
};

// "killed", "terminated", "interrupt", ...; "signal 34" for those without a name.
std::string SignalName(int signal);

// OK for success; else Unknown with the text, which ExitStatusOf() takes apart.
absl::Status ExitError(ExitStatus status);

// How the process ended that `status` is about; nullopt where it is about something else.
std::optional<ExitStatus> ExitStatusOf(const absl::Status& status);

}  // namespace weft

#endif  // WEFT_SPAWN_EXIT_STATUS_H_
