#include "netpoll/file_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "netpoll/io_ring.h"
#include "netpoll/syscall.h"
#include "sched/goroutine.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

namespace weft::internal {
namespace {

// More at a time would keep the P, or one of the kernel's threads, for long.
constexpr size_t kMaxAtOnce = size_t{1} << 20;
// How long Close() waits before it cancels once more: at first, and at most.
constexpr absl::Duration kCancelAgain = absl::Microseconds(50);
constexpr absl::Duration kMaxCancelAgain = absl::Milliseconds(5);

// Linux 6.9, later than the headers here.
constexpr uint8_t kOpFtruncate = 55;

// Whether epoll takes it, asked of an instance that nobody waits on.
bool CanBePolled(int fd) {
  static const int probe = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event = {};
  if (epoll_ctl(probe, EPOLL_CTL_ADD, fd, &event) != 0) return errno == EEXIST;
  epoll_ctl(probe, EPOLL_CTL_DEL, fd, &event);
  return true;
}

// A system call that may wait, with the P left to others. -errno.
template <typename Call>
int64_t Blocking(Call call) {
  const BlockingSection section;
  int64_t result;
  do {
    result = call();
  } while (result == -EINTR);
  return result;
}

IoResult Result(int64_t result) {
  if (result >= 0) return {static_cast<size_t>(result)};
  return {0, static_cast<int>(-result)};
}

// By the ring if there is one, else by `call`. ECANCELED is passed on where `closed()`, and else
// means that the thread which began it has ended.
template <typename Call, typename Closed>
int64_t Queued(const io_uring_sqe& entry, Closed closed, Call call) {
  for (;;) {
    IoRing* const ring = IoRing::Get();
    if (ring == nullptr || !IoRing::Can(entry.opcode)) return Blocking(call);
    const int64_t result = ring->Run(entry);
    if (result == -ECANCELED && !closed()) continue;
    // Also what becomes of an operation that is cancelled while it touches the buffer for the first
    // time. A thread tells whether the address is really bad.
    if (result == -EFAULT && !closed()) return Blocking(call);
    if (result != -EINTR && result != -EFAULT) return result;
    if (closed()) return -ECANCELED;
  }
}

io_uring_sqe Entry(uint8_t opcode, int fd) {
  io_uring_sqe entry = {};
  entry.opcode = opcode;
  entry.fd = fd;
  return entry;
}

bool KnowsNoNowait(int64_t result) {
  return result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL || result == -EPERM;
}

// preadv2 takes the position as two halves, of which this system uses the first.
int64_t SysReadv(int fd, const iovec* pieces, int count, int64_t offset, int flags) {
  return RawSyscall(SYS_preadv2, fd, pieces, count, offset, int64_t{0}, flags);
}

}  // namespace

FileFd::FileFd(int fd, bool ours, absl::string_view name) : fd_(fd), name_(name) {
  struct stat status = {};
  fstat(fd, &status);
  seekable_ = S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) || S_ISBLK(status.st_mode);
  const int flags = fcntl(fd, F_GETFL);
  // Past the cache a read has to wait, whatever it says.
  if ((flags & O_DIRECT) != 0) reads_nowait_.store(false, std::memory_order_relaxed);
  if (seekable_) return;
  if ((!ours && (flags & O_NONBLOCK) == 0) || !CanBePolled(fd)) return;
  if ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return;
  polled_.emplace(fd, Fd::Kind::kFile);
}

FileFd::~FileFd() { Close(); }

int FileFd::fd() const {
  if (polled_.has_value()) return polled_->fd();
  return mutex_.closed() ? -1 : fd_;
}

template <typename Operation>
IoResult FileFd::Referenced(Operation operation) {
  if (!mutex_.Ref()) return {0, IoResult::kClosing};
  IoResult result = operation();
  if (result.error == ECANCELED && mutex_.closed()) result.error = IoResult::kClosing;
  if (mutex_.Unref()) Destroy();
  return result;
}

template <typename Operation>
IoResult FileFd::Locked(PollMode mode, Operation operation) {
  if (!mutex_.Lock(mode)) return {0, IoResult::kClosing};
  IoResult result = operation();
  if (result.error == ECANCELED && mutex_.closed()) result.error = IoResult::kClosing;
  if (mutex_.Unlock(mode)) Destroy();
  return result;
}

IoResult FileFd::Read(char* buffer, size_t size, int64_t offset) {
  if (polled_.has_value()) {
    return offset == kCurrent ? polled_->Read(buffer, size) : IoResult{0, ESPIPE};
  }
  const iovec piece = {buffer, std::min(size, kMaxAtOnce)};
  return Readv(&piece, 1, offset);
}

IoResult FileFd::Readv(const iovec* pieces, int count, int64_t offset) {
  if (polled_.has_value()) {
    if (offset != kCurrent) return {0, ESPIPE};
    // A stream gives what it has. That it fills one piece at a time is nobody's business.
    for (int i = 0; i < count; ++i) {
      if (pieces[i].iov_len == 0) continue;
      return polled_->Read(static_cast<char*>(pieces[i].iov_base), pieces[i].iov_len);
    }
    return {};
  }
  const auto read = [=, this] { return ReadOnce(pieces, count, offset); };
  return offset == kCurrent ? Locked(PollMode::kRead, read) : Referenced(read);
}

IoResult FileFd::ReadOnce(const iovec* pieces, int count, int64_t offset) {
  if (reads_nowait_.load(std::memory_order_relaxed)) {
    const int64_t n = SysReadv(fd_, pieces, count, offset, RWF_NOWAIT);
    if (n >= 0) return {static_cast<size_t>(n)};
    if (KnowsNoNowait(n)) {
      // An error of another meaning comes again below.
      reads_nowait_.store(false, std::memory_order_relaxed);
    } else if (n != -EAGAIN && n != -EINTR) {
      return Result(n);
    }
  }
  io_uring_sqe entry = Entry(count == 1 ? IORING_OP_READ : IORING_OP_READV, fd_);
  entry.addr = reinterpret_cast<uintptr_t>(count == 1 ? pieces[0].iov_base : pieces);
  entry.len = count == 1 ? static_cast<uint32_t>(pieces[0].iov_len) : static_cast<uint32_t>(count);
  entry.off = static_cast<uint64_t>(offset);
  return Result(Queued(
      entry, [this] { return mutex_.closed(); },
      [=, this] { return SysReadv(fd_, pieces, count, offset, 0); }));
}

IoResult FileFd::Write(const char* data, size_t size, int64_t offset) {
  if (polled_.has_value()) {
    return offset == kCurrent ? polled_->Write(data, size) : IoResult{0, ESPIPE};
  }
  const auto write = [=, this] { return WriteAll(data, size, offset); };
  if (offset != kCurrent) return Referenced(write);
  return Locked(seekable_ ? PollMode::kRead : PollMode::kWrite, write);
}

IoResult FileFd::WriteAll(const char* data, size_t size, int64_t offset) {
  size_t done = 0;
  while (done < size) {
    const char* const from = data + done;
    const size_t ask = std::min(size - done, kMaxAtOnce);
    const int64_t at = offset == kCurrent ? kCurrent : offset + static_cast<int64_t>(done);
    io_uring_sqe entry = Entry(IORING_OP_WRITE, fd_);
    entry.addr = reinterpret_cast<uintptr_t>(from);
    entry.len = static_cast<uint32_t>(ask);
    entry.off = static_cast<uint64_t>(at);
    const int64_t n = Queued(
        entry, [this] { return mutex_.closed(); },
        [=, this] {
          return at == kCurrent ? RawSyscall(SYS_write, fd_, from, ask)
                                : RawSyscall(SYS_pwrite64, fd_, from, ask, at);
        });
    if (n < 0) return {done, static_cast<int>(-n)};
    if (n == 0) return {done, EIO};  // it never is, or this would be for ever
    done += static_cast<size_t>(n);
  }
  return {done};
}

IoResult FileFd::Sync(bool data_only) {
  if (polled_.has_value()) return {0, EINVAL};
  return Referenced([=, this] {
    io_uring_sqe entry = Entry(IORING_OP_FSYNC, fd_);
    entry.fsync_flags = data_only ? IORING_FSYNC_DATASYNC : 0;
    return Result(Queued(
        entry, [this] { return mutex_.closed(); },
        [=, this] { return RawSyscall(data_only ? SYS_fdatasync : SYS_fsync, fd_); }));
  });
}

IoResult FileFd::Truncate(int64_t size) {
  if (polled_.has_value()) return {0, EINVAL};
  return Referenced([=, this] {
    io_uring_sqe entry = Entry(kOpFtruncate, fd_);
    entry.off = static_cast<uint64_t>(size);
    return Result(Queued(
        entry, [this] { return mutex_.closed(); },
        [=, this] { return RawSyscall(SYS_ftruncate, fd_, size); }));
  });
}

IoResult FileFd::Stat(struct stat* result) {
  const auto stat = [=](int fd) {
    const BlockingSection section;
    return ByLibc([=] { return fstat(fd, result); });
  };
  if (polled_.has_value()) return polled_->With(stat);
  return Referenced([=, this] { return Result(stat(fd_)); });
}

IoResult FileFd::Seek(int64_t offset, int whence) {
  if (polled_.has_value()) return {0, ESPIPE};
  return Locked(PollMode::kRead,
                [=, this] { return Result(RawSyscall(SYS_lseek, fd_, offset, whence)); });
}

IoResult FileFd::CopyRange(FileFd& from, size_t size) {
  if (!seekable_ || !from.seekable_ || &from == this) return {0, EINVAL};
  // Two copies in opposite directions take the locks in one order.
  FileFd& first = &from < this ? from : *this;
  FileFd& second = &from < this ? *this : from;
  return first.Locked(PollMode::kRead, [&] {
    return second.Locked(PollMode::kRead, [&] {
      return Result(Blocking([&] {
        return RawSyscall(SYS_copy_file_range, from.fd_, nullptr, fd_, nullptr,
                          std::min(size, kMaxAtOnce), 0u);
      }));
    });
  });
}

IoResult FileFd::SetDeadline(PollModes modes, Instant deadline) {
  if (polled_.has_value()) return polled_->SetDeadline(modes, deadline);
  return {0, mutex_.closed() ? IoResult::kClosing : ENOTSUP};
}

void FileFd::Destroy() {
  SysClose(fd_);
  // Waiters are never freed, but this may be as soon as destroyed_ is seen.
  Waiter* const closer = closer_.load(std::memory_order_acquire);
  // Release: whoever is in Close() then knows that the number is free.
  destroyed_.store(true, std::memory_order_release);
  if (closer != nullptr) closer->Unpark();
}

IoResult FileFd::Close() {
  if (polled_.has_value()) return polled_->Close();
  if (!mutex_.RefAndClose()) return {0, IoResult::kClosing};
  Waiter* const self = Waiter::Current();
  closer_.store(self, std::memory_order_release);
  if (mutex_.Unref()) {
    Destroy();
    return {};
  }
  // What waits in the kernel is ended; an operation that is only just on its way there is in the
  // next round. Should the number be somebody else's by then, its operations begin again.
  for (absl::Duration wait = kCancelAgain; !destroyed_.load(std::memory_order_acquire);
       wait = std::min(2 * wait, kMaxCancelAgain)) {
    IoRing::Cancel(fd_);
    self->ParkUntil(Instant::Now() + wait, WaitReason::kSemacquire);
  }
  return {};
}

}  // namespace weft::internal
