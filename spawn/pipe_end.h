// Our end of a pipe to a child, or of its terminal.
#ifndef WEFT_SPAWN_PIPE_END_H_
#define WEFT_SPAWN_PIPE_END_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace weft {

namespace internal {
class Fd;
}  // namespace internal

// A handle: copies are the same end. From goroutines and threads; calls that wait park the
// goroutine or block the thread. One reader and one writer go on side by side; more take turns.
//
// Errors: Cancelled ("file already closed") after Close(); DeadlineExceeded ("i/o timeout");
// the system's, as EPIPE when the child has closed its end, for which SIGPIPE has to be ignored,
// as weft::Main does.
class PipeEnd {
 public:
  // No end of anything: fails with FailedPrecondition.
  PipeEnd() = default;

  // Up to buffer.size() bytes; 0 is the end of the stream. May park.
  absl::StatusOr<size_t> Read(absl::Span<char> buffer) const;

  // All until the end of the stream. May park.
  absl::StatusOr<std::string> ReadAll() const;

  // All of it. May park.
  absl::Status Write(absl::string_view bytes) const;

  // Of reads and writes; InfiniteFuture for none.
  absl::Status SetDeadline(absl::Time deadline) const;

  // The other side sees the end of the stream. Ends calls that wait. Cancelled the second time.
  absl::Status Close() const;

  bool valid() const { return fd_ != nullptr; }

 private:
  friend class PipeEndAccess;
  std::shared_ptr<internal::Fd> fd_;
};

// For Weft's own packages.
class PipeEndAccess {
 public:
  // Takes the descriptor over, which must be in non-blocking mode.
  static PipeEnd Make(int fd);
};

}  // namespace weft

#endif  // WEFT_SPAWN_PIPE_END_H_
