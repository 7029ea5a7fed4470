// A connection in memory: what one end writes the other one reads, with no system call.
//
//   auto [client, server] = weft::Pipe();
//   weft::Go([server = server] { Serve(server); });
//   client.Write("hello").IgnoreError();
//
// As Go's net.Pipe(). There is no buffer: a Write() hands its bytes to Read() calls of the other
// end, and returns when they have taken all of them. For tests of what speaks over a Conn, and
// between parts of a program that could as well be two.
//
// A PipeConn is a handle as Conn is (net.h), and has its reading, writing, deadlines and closing:
// a template over connections takes either. Copies mean the same end, and the last one closes it.
// From goroutines and threads, in any mix; several reads, or writes, of an end take turns. Nothing
// here allocates but Pipe() itself and errors.
#ifndef WEFT_NETPOLL_PIPE_H_
#define WEFT_NETPOLL_PIPE_H_

#include <cstddef>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "netpoll/error.h"

namespace weft {

namespace internal {
class PipeEnd;
}

class PipeConn {
 public:
  // An end of nothing: every operation fails as if it were closed.
  PipeConn() = default;

  // Takes what a Write() of the other end offers, waiting until there is one: up to buffer.size()
  // bytes. 0 is the end of the stream (the other end is closed), an empty Write(), or an empty
  // buffer, which waits for a Write() too.
  //
  // Errors: IsClosed() "io: read/write on closed pipe" if this end is closed; IsTimeout() once the
  // read deadline has passed, even if there is something. May park.
  absl::StatusOr<size_t> Read(absl::Span<char> buffer) const;

  // Reads until `buffer` is full, or OutOfRange as Conn::ReadFull() has it.
  absl::Status ReadFull(absl::Span<char> buffer) const;

  // Offers `data` until all of it is taken; where it is empty until one Read() has seen it.
  // *written, if given, is how much was taken, also after an error.
  //
  // Errors: IsClosed() "io: read/write on closed pipe" if either end is closed; IsTimeout() once
  // the write deadline has passed. May park.
  absl::Status Write(absl::string_view data, size_t* written = nullptr) const;

  // The pieces, one after the other, with no other Write() in between.
  absl::Status Writev(absl::Span<const absl::string_view> pieces, size_t* written = nullptr) const;

  // As Conn::SetDeadline(). IsClosed() if either end is closed. Never parks for long.
  absl::Status SetDeadline(absl::Time deadline) const;
  absl::Status SetReadDeadline(absl::Time deadline) const;
  absl::Status SetWriteDeadline(absl::Time deadline) const;

  // Closes this end: calls that wait, at either end, return. Never fails, nor parks for long.
  absl::Status Close() const;

  explicit operator bool() const { return end_ != nullptr; }

 private:
  friend struct PipePair;
  friend struct PipePair Pipe();
  explicit PipeConn(std::shared_ptr<internal::PipeEnd> end) : end_(std::move(end)) {}

  std::shared_ptr<internal::PipeEnd> end_;
};

struct PipePair {
  PipeConn a;
  PipeConn b;
};

// A new pair of ends.
PipePair Pipe();

}  // namespace weft

#endif  // WEFT_NETPOLL_PIPE_H_
