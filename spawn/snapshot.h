// A copy of the process's data as it is at one moment, written out while the process goes on.
//
//   absl::StatusOr<weft::spawn::Snapshot> snapshot = weft::spawn::Snapshot::ToFile(
//       "/var/lib/store/dump", [&](weft::spawn::SnapshotWriter& out) {
//         for (const auto& [key, value] : store) out.Write(Encode(key, value));
//         return absl::OkStatus();
//       });
//   ...                                    // the store may be changed at once
//   absl::Status status = snapshot->Wait();
//
// As Redis saves its data: fork(2) gives a child the same memory, of which the system copies a page
// only when one side writes to it. The function runs in that child, over memory that nobody
// changes. What the parent pays is the fork, for which the calling thread stands still (some
// milliseconds for each GiB of 4 KiB pages; the other threads wait only where they fault
// meanwhile), and the pages that it changes while the child lives.
//
// What the function may do. It is alone: no other thread has come along, and the locks that they
// held are held for ever. It may read all memory, compute, use malloc (libc sees to that at a
// fork), and write by its SnapshotWriter. It must not lock what other threads lock, not use
// goroutines, channels or anything else of Weft, not start threads, and not count on destructors or
// exit handlers, none of which run. To make sure that the data is consistent, the caller holds its
// locks around the call.
//
// What is seen to: the function runs on the stack of a plain thread, whatever called; the child has
// no signal handlers, no open descriptors but where it writes and its standard error, a low
// priority, and is the first to go when memory runs out. It ends when its time is over, and with
// its parent, which then leaves an unfinished file behind. A thread of the parent's waits for it.
//
// This target depends on Abseil only.
#ifndef WEFT_SPAWN_SNAPSHOT_H_
#define WEFT_SPAWN_SNAPSHOT_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weft::spawn {

struct SnapshotOptions {
  // After that it is given up (DeadlineExceeded).
  absl::Duration timeout = absl::InfiniteDuration();
  // Of the child, -20 to 19; one that is not permitted is left as it is.
  int nice = 10;
  // Added to its badness when memory runs out, up to 1000.
  int oom_score_adj = 500;
};

// In the child: where its function writes to.
class SnapshotWriter {
 public:
  // Appends to what is written, through a buffer. False: it could not be written, now or earlier;
  // the function may as well return, and Wait() will say why.
  bool Write(absl::string_view bytes);

  // What the parent sees as Snapshot::progress(), in whatever unit.
  void SetProgress(uint64_t progress);

 private:
  friend class Snapshot;
  struct Shared;
  SnapshotWriter(int fd, Shared* shared);
  bool Flush();

  const int fd_;
  Shared* const shared_;
  std::unique_ptr<char[]> buffer_;
  size_t used_ = 0;
  int error_ = 0;
};

// One that is being written. Used by one goroutine or thread at a time, progress() by any.
class Snapshot {
 public:
  using Function = absl::FunctionRef<absl::Status(SnapshotWriter&)>;

  // Forks, and returns while the child writes to `fd`, which stays the caller's. Blocks the thread
  // for the time of the fork. Not from signal handlers.
  static absl::StatusOr<Snapshot> ToFd(int fd, Function write, const SnapshotOptions& options = {});

  // The same to a file of that name. It is there, whole and on the disk, when Wait() has returned
  // OK; until then, and if it fails, an older one of that name is not touched.
  static absl::StatusOr<Snapshot> ToFile(const std::string& path, Function write,
                                         const SnapshotOptions& options = {});

  // Kills it if it has not been waited for.
  ~Snapshot();
  Snapshot(Snapshot&&) noexcept;
  Snapshot& operator=(Snapshot&&) noexcept;

  // What SetProgress() said last, and how many bytes have been written.
  uint64_t progress() const;
  uint64_t bytes_written() const;

  // Becomes readable when the child has ended, after which Wait() does not block: goroutines wait
  // for it by PollFd. -1 where the system has none.
  int pidfd() const;
  pid_t pid() const;

  // Gives it up. Wait() says so then, unless it had ended.
  void Cancel();

  // Blocks the thread until the child has ended. Once. The function's own status if that is not OK;
  // DeadlineExceeded, Aborted (it was killed), or what went wrong with writing.
  absl::Status Wait();

 private:
  struct State;
  explicit Snapshot(std::unique_ptr<State> state);
  static absl::StatusOr<Snapshot> Start(std::unique_ptr<State> state, Function write,
                                        const SnapshotOptions& options);

  std::unique_ptr<State> state_;
};

}  // namespace weft::spawn

#endif  // WEFT_SPAWN_SNAPSHOT_H_
