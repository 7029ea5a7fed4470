// Why a process could not be started: the step that failed, and the system's errno.
//
// The Status reads like Go's, "fork/exec <path>: [<step>: ]<cause>":
//
//   fork/exec /bin/nothing: no such file or directory
//   fork/exec /bin/ls: setgroups: operation not permitted
//   fork/exec /bin/ls: setrlimit RLIMIT_NOFILE: invalid argument
//
// Its code is absl::ErrnoToStatusCode()'s; InvalidArgument where the arguments make no sense.
#ifndef WEFT_SPAWN_START_ERROR_H_
#define WEFT_SPAWN_START_ERROR_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "spawn/step.h"

namespace weft::spawn {

struct StartError {
  Step step = Step::kNone;
  int error = 0;   // an errno
  int index = -1;  // which of several, where the step has several
};

// What a failed start is about; nullopt where `status` is none.
std::optional<StartError> StartErrorOf(const absl::Status& status);

// The system call or the attribute: "setgroups", "close_range", ...; "" for kExec.
absl::string_view StepName(Step step);

namespace internal {

absl::Status MakeStartError(absl::string_view path, const StartError& error);

// A kArguments error, with its reason in words.
absl::Status RefuseStart(absl::string_view path, absl::string_view reason);

// The system's text, begun in lower case, as Go has it: "no such file or directory".
std::string ErrnoText(int error);

}  // namespace internal
}  // namespace weft::spawn

#endif  // WEFT_SPAWN_START_ERROR_H_
