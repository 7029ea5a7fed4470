#include "spawn/pipe_end.h"

#include <errno.h>

#include "netpoll/fd.h"
#include "netpoll/io_result.h"
#include "netpoll/op_error.h"
#include "sched/clock.h"

namespace weft {
namespace {

using internal::IoResult;

absl::Status Error(absl::string_view op, int error) {
  const std::string front = std::string(op) + " |: ";
  if (error == IoResult::kTimeout) return internal::TimeoutError(front);
  if (error == IoResult::kClosing) return absl::CancelledError(front + "file already closed");
  return internal::ErrnoError(front, error, op);
}

absl::Status Invalid() { return absl::FailedPreconditionError("not a pipe of this command"); }

}  // namespace

PipeEnd PipeEndAccess::Make(int fd) {
  PipeEnd end;
  end.fd_ = std::make_shared<internal::Fd>(fd, internal::Fd::Kind::kFile);
  return end;
}

absl::StatusOr<size_t> PipeEnd::Read(absl::Span<char> buffer) const {
  if (fd_ == nullptr) return Invalid();
  const IoResult result = fd_->Read(buffer.data(), buffer.size());
  if (result.ok()) return result.n;
  // How a terminal says that nobody has the other side open any more.
  if (result.error == EIO) return size_t{0};
  return Error("read", result.error);
}

absl::StatusOr<std::string> PipeEnd::ReadAll() const {
  std::string text;
  std::string buffer(64 << 10, '\0');
  for (;;) {
    const absl::StatusOr<size_t> n = Read(absl::MakeSpan(&buffer[0], buffer.size()));
    if (!n.ok()) return n.status();
    if (*n == 0) return text;
    text.append(buffer, 0, *n);
  }
}

absl::Status PipeEnd::Write(absl::string_view bytes) const {
  if (fd_ == nullptr) return Invalid();
  const IoResult result = fd_->Write(bytes.data(), bytes.size());
  return result.ok() ? absl::OkStatus() : Error("write", result.error);
}

absl::Status PipeEnd::SetDeadline(absl::Time deadline) const {
  if (fd_ == nullptr) return Invalid();
  const IoResult result = fd_->SetDeadline(internal::kBothModes, deadline == absl::InfiniteFuture()
                                                                     ? Instant::Never()
                                                                     : Instant::FromTime(deadline));
  return result.ok() ? absl::OkStatus() : Error("set deadline", result.error);
}

absl::Status PipeEnd::Close() const {
  if (fd_ == nullptr) return Invalid();
  const IoResult result = fd_->Close();
  return result.ok() ? absl::OkStatus() : Error("close", result.error);
}

}  // namespace weft
