// What it takes to answer a request, borrowed while there is one to answer.
#ifndef WEFT_TOOLS_HTTP_WORKSPACE_H_
#define WEFT_TOOLS_HTTP_WORKSPACE_H_

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tools/http/reply.h"
#include "tools/http/request.h"

namespace weft::http {

// A buffer of what was read and not yet consumed, and the request and reply being worked on.
class Workspace {
 public:
  explicit Workspace(size_t capacity) : buffer_(new char[capacity]), capacity_(capacity) {}

  // What was read and not consumed.
  absl::string_view unread() const { return {buffer_.get() + begin_, end_ - begin_}; }

  // Where to read more to: never empty unless unread() has `capacity` bytes. Moves unread(), so
  // views into it become invalid.
  absl::Span<char> Room();

  // `n` bytes were read into Room().
  void Filled(size_t n) { end_ += n; }

  // The first `n` bytes of unread() are done with.
  void Consume(size_t n);

  // Of the bytes behind the first `keep` of unread(), the first `n` are done with.
  void ConsumeBehind(size_t keep, size_t n);

  // The room behind unread(), which stays where it is. For bytes to be dropped: never Filled().
  absl::Span<char> RoomBehindUnread() { return {buffer_.get() + end_, capacity_ - end_}; }

  Request request;  // its views point into the buffer
  Reply reply;

 private:
  friend class WorkspacePool;

  std::unique_ptr<char[]> buffer_;
  size_t capacity_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

// Keeps those that are not in use, as many as the busiest moments of a usual load need.
class WorkspacePool {
 public:
  explicit WorkspacePool(size_t capacity) : capacity_(capacity) {}

  // Never parks; from any goroutine or thread.
  std::unique_ptr<Workspace> Take();
  void Give(std::unique_ptr<Workspace> workspace);

 private:
  static constexpr size_t kMostKept = 128;
  // A reply that has grown beyond this (a listing) gives its memory back.
  static constexpr size_t kMostReplyBytes = 64 << 10;

  const size_t capacity_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> kept_;
};

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_WORKSPACE_H_
