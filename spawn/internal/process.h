// A child that others may signal while it is waited for.
//
// The number of a process is free for another one as soon as it has been waited for, so whoever
// signals must not come after that: by a pidfd, which is never another's; and where there is none,
// by a lock that signalling and waiting take in turn.
#ifndef WEFT_SPAWN_INTERNAL_PROCESS_H_
#define WEFT_SPAWN_INTERNAL_PROCESS_H_

#include <sys/resource.h>
#include <sys/types.h>

#include <mutex>

#include "absl/status/status.h"
#include "spawn/exit_status.h"
#include "spawn/fork_exec.h"

namespace weft::spawn::internal {

class Process {
 public:
  Process() = default;
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Takes the child over.
  void Adopt(const Child& child);

  pid_t pid() const;
  // Readable when it has ended; -1 where the system has none, and after Reap() has returned true.
  int pidfd() const;

  // FailedPrecondition "os: process already finished" once it has been waited for, "os: process not
  // started" before it has begun. From goroutines and threads; does not park.
  absl::Status Signal(int signal);

  // Waits for it if it has ended. True: it has been waited for, now or before. Does not block.
  bool Reap();

  ExitStatus exit_status() const;
  rusage usage() const;
  // Whether somebody else has waited for it, so that how it ended is not known.
  bool stolen() const;

 private:
  mutable std::mutex mutex_;
  pid_t pid_ = -1;
  int pidfd_ = -1;
  bool reaped_ = false;
  bool stolen_ = false;
  ExitStatus exit_status_;
  rusage usage_ = {};
};

}  // namespace weft::spawn::internal

#endif  // WEFT_SPAWN_INTERNAL_PROCESS_H_
