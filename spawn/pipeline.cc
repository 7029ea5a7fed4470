#include "spawn/pipeline.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstddef>

namespace weft {

absl::Status Pipeline::Start() {
  if (commands_.empty()) return absl::InvalidArgumentError("exec: empty pipeline");
  int reader = -1;
  absl::Status status;
  size_t started = 0;
  for (; started < commands_.size(); ++started) {
    Command& command = commands_[started];
    int ends[2] = {-1, -1};
    if (reader >= 0) command.options().in = Input::Fd(reader);
    if (started + 1 < commands_.size()) {
      if (pipe2(ends, O_CLOEXEC) != 0) {
        status = absl::ResourceExhaustedError("pipe2: too many open files");
      } else {
        command.options().out = weft::Output::Fd(ends[1]);
      }
    }
    if (status.ok()) status = command.Start();
    // What the child has of these are its own.
    if (reader >= 0) close(reader);
    if (ends[1] >= 0) close(ends[1]);
    reader = ends[0];
    if (!status.ok()) break;
  }
  if (status.ok()) return status;
  if (reader >= 0) close(reader);
  for (size_t i = 0; i < started; ++i) {
    commands_[i].Kill().IgnoreError();
    commands_[i].Wait().IgnoreError();
  }
  return status;
}

absl::Status Pipeline::Wait() {
  absl::Status last_failure;
  for (size_t i = 0; i < commands_.size(); ++i) {
    const absl::Status status = commands_[i].Wait();
    const bool cut_short =
        i + 1 < commands_.size() && commands_[i].exit_status().signal() == SIGPIPE;
    if (!status.ok() && !cut_short) last_failure = status;
  }
  return last_failure;
}

absl::Status Pipeline::Run() {
  if (absl::Status status = Start(); !status.ok()) return status;
  return Wait();
}

CommandResult Pipeline::Output() {
  CommandResult result;
  if (!commands_.empty()) commands_.back().options().out = weft::Output::To(&result.out);
  result.status = Run();
  return result;
}

}  // namespace weft
