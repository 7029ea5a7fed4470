#include "netpoll/splice.h"

#include <errno.h>
#include <fcntl.h>

#include <algorithm>
#include <memory>

#include "netpoll/net_access.h"
#include "netpoll/net_fd.h"
#include "netpoll/pipe_pool.h"
#include "netpoll/syscall.h"

namespace weft {

using internal::IoResult;
using internal::NetFd;
using internal::PooledPipe;

namespace {

int64_t SysSplice(int from, int to, off_t* to_offset, uint64_t size) {
  return internal::RawSyscall(SYS_splice, from, nullptr, to, to_offset, static_cast<size_t>(size),
                              SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
}

// What splice(2) says of descriptors that it does not take.
bool CannotSplice(int error) { return error == EINVAL || error == EOPNOTSUPP || error == ENOSYS; }

// Takes up to `max` bytes into the empty pipe. 0: the end of the stream.
IoResult Take(NetFd& from, PooledPipe& pipe, uint64_t max) {
  const int write_end = pipe.write_end();
  const uint64_t size = std::min<uint64_t>(max, PooledPipe::kBytes);
  const IoResult result =
      from.fd.ReadWith([=](int fd) { return SysSplice(fd, write_end, nullptr, size); });
  pipe.set_dirty(result.n > 0);
  return result;
}

absl::Status PipeError(int error) { return internal::ErrnoError("splice: ", error, "pipe2"); }

// Moves bytes until the end by `give(pipe, n)`, which empties the pipe and returns a Status. Where
// splice(2) does not take `from`, by `copy(max)`.
template <typename Give, typename Copy>
absl::StatusOr<uint64_t> Move(NetFd& from, uint64_t max, Give give, Copy copy) {
  PooledPipe pipe;
  if (pipe.error() != 0) return PipeError(pipe.error());
  for (uint64_t moved = 0;;) {
    if (moved == max) return moved;
    const IoResult taken = Take(from, pipe, max - moved);
    if (moved == 0 && CannotSplice(taken.error)) return copy(max);
    if (!taken.ok()) return from.Error("read", taken.error, "splice");
    if (taken.n == 0) return moved;
    if (absl::Status status = give(pipe, taken.n); !status.ok()) return status;
    pipe.set_dirty(false);
    moved += taken.n;
  }
}

// The way through the process.
template <typename Give>
absl::StatusOr<uint64_t> CopyBy(const Conn& from, uint64_t max, Give give) {
  constexpr size_t kBuffer = 64 << 10;
  const auto buffer = std::make_unique<char[]>(kBuffer);
  for (uint64_t copied = 0;;) {
    if (copied == max) return copied;
    const absl::StatusOr<size_t> n =
        from.Read(absl::MakeSpan(buffer.get(), std::min<uint64_t>(kBuffer, max - copied)));
    if (!n.ok()) return n.status();
    if (*n == 0) return copied;
    absl::Status status = give(absl::string_view(buffer.get(), *n));
    if (!status.ok()) return status;
    copied += *n;
  }
}

// Writes `data` to the file at *offset, which moves.
absl::Status WriteAt(int file, off_t* offset, absl::string_view data) {
  while (!data.empty()) {
    const int64_t n = internal::RawSyscall(SYS_pwrite64, file, data.data(), data.size(), *offset);
    if (n == -EINTR) continue;
    if (n < 0) return internal::ErrnoError("write: ", static_cast<int>(-n), "pwrite");
    data.remove_prefix(static_cast<size_t>(n));
    *offset += n;
  }
  return absl::OkStatus();
}

// Empties the pipe by the process's own hands.
template <typename Give>
absl::Status EmptyBy(PooledPipe& pipe, size_t n, Give give) {
  const auto buffer = std::make_unique<char[]>(n);
  for (size_t done = 0; done < n;) {
    const int64_t got =
        internal::RawSyscall(SYS_read, pipe.read_end(), buffer.get() + done, n - done);
    if (got == -EINTR) continue;
    if (got <= 0) return internal::ErrnoError("splice: ", static_cast<int>(-got), "read");
    done += static_cast<size_t>(got);
  }
  return give(absl::string_view(buffer.get(), n));
}

}  // namespace

absl::StatusOr<uint64_t> Splice(const Conn& to, const Conn& from, uint64_t max) {
  NetFd* const source = internal::NetAccess::Of(from);
  NetFd* const sink = internal::NetAccess::Of(to);
  if (source == nullptr) return internal::NoSocket("read", "tcp");
  if (sink == nullptr) return internal::NoSocket("write", "tcp");
  auto write = [&to](absl::string_view data) { return to.Write(data); };
  return Move(
      *source, max,
      [&](PooledPipe& pipe, size_t n) -> absl::Status {
        const int read_end = pipe.read_end();
        size_t left = n;
        // One write: others come before or after it.
        const IoResult given = sink->fd.WriteWith([read_end, &left](int fd) -> int64_t {
          while (left > 0) {
            const int64_t moved = SysSplice(read_end, fd, nullptr, left);
            if (moved < 0) return moved;
            left -= static_cast<size_t>(moved);
          }
          return 0;
        });
        if (CannotSplice(given.error) && left == n) return EmptyBy(pipe, n, write);
        return given.ok() ? absl::OkStatus() : sink->Error("write", given.error, "splice");
      },
      [&](uint64_t all) { return CopyBy(from, all, write); });
}

absl::StatusOr<uint64_t> SpliceToFile(int file_fd, off_t offset, const Conn& from, uint64_t max) {
  NetFd* const source = internal::NetAccess::Of(from);
  if (source == nullptr) return internal::NoSocket("read", "tcp");
  auto write = [&](absl::string_view data) { return WriteAt(file_fd, &offset, data); };
  return Move(
      *source, max,
      [&](PooledPipe& pipe, size_t n) -> absl::Status {
        for (size_t left = n; left > 0;) {
          const int64_t moved = SysSplice(pipe.read_end(), file_fd, &offset, left);
          if (moved == -EINTR) continue;
          if (left == n && CannotSplice(static_cast<int>(-moved))) return EmptyBy(pipe, n, write);
          if (moved < 0) {
            return internal::ErrnoError("write: ", static_cast<int>(-moved), "splice");
          }
          left -= static_cast<size_t>(moved);
        }
        return absl::OkStatus();
      },
      [&](uint64_t all) { return CopyBy(from, all, write); });
}

}  // namespace weft
