#include "netpoll/fd.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <memory>

#include "netpoll/epoll_poller.h"
#include "netpoll/syscall.h"
#include "sched/goroutine.h"
#include "sched/internal/thread.h"

namespace weft::internal {
namespace {

// The kernel sends no more than 0x7ffff000 bytes at once; less keeps the number of bytes that one
// call may spend in the kernel, with the P taken meanwhile, moderate.
constexpr size_t kMaxSendFile = size_t{4} << 20;
constexpr size_t kMaxIo = size_t{1} << 30;
constexpr int kMaxPieces = 32;

std::atomic<AcceptHook> accept_hook{nullptr};

bool WouldBlock(int64_t result) { return result == -EAGAIN; }

int64_t SysAccept(int fd, sockaddr* address, socklen_t* address_size) {
  if (AcceptHook hook = accept_hook.load(std::memory_order_relaxed); hook != nullptr) [[unlikely]] {
    return hook(fd, address, address_size);
  }
#ifdef WEFT_SYSCALL_BY_LIBC
  return ByLibc([=] { return accept4(fd, address, address_size, SOCK_NONBLOCK | SOCK_CLOEXEC); });
#else
  return RawSyscall(SYS_accept4, fd, address, address_size, SOCK_NONBLOCK | SOCK_CLOEXEC);
#endif
}

int64_t SysRead(Fd::Kind kind, int fd, char* buffer, size_t size) {
#ifdef WEFT_SYSCALL_BY_LIBC
  return ByLibc(
      [=] { return kind == Fd::Kind::kFile ? read(fd, buffer, size) : recv(fd, buffer, size, 0); });
#else
  if (kind == Fd::Kind::kFile) return RawSyscall(SYS_read, fd, buffer, size);
  return RawSyscall(SYS_recvfrom, fd, buffer, size, 0, nullptr, nullptr);
#endif
}

int64_t SysWrite(Fd::Kind kind, int fd, const char* data, size_t size, int flags) {
  flags |= MSG_NOSIGNAL;
#ifdef WEFT_SYSCALL_BY_LIBC
  return ByLibc([=] {
    return kind == Fd::Kind::kFile ? write(fd, data, size) : send(fd, data, size, flags);
  });
#else
  if (kind == Fd::Kind::kFile) return RawSyscall(SYS_write, fd, data, size);
  return RawSyscall(SYS_sendto, fd, data, size, flags, nullptr, 0);
#endif
}

// At once, and with an error as if something were there: the read will tell what it is.
int64_t SysPoll(pollfd* poll) {
#ifdef WEFT_SYSCALL_BY_LIBC
  return ByLibc([=] { return ::poll(poll, 1, 0); });
#else
  return RawSyscall(SYS_poll, poll, 1, 0);
#endif
}

int64_t SysWritev(Fd::Kind kind, int fd, iovec* pieces, int count) {
  msghdr message = {};
  message.msg_iov = pieces;
  message.msg_iovlen = count;
#ifdef WEFT_SYSCALL_BY_LIBC
  return ByLibc([&] {
    return kind == Fd::Kind::kFile ? writev(fd, pieces, count)
                                   : sendmsg(fd, &message, MSG_NOSIGNAL);
  });
#else
  if (kind == Fd::Kind::kFile) return RawSyscall(SYS_writev, fd, pieces, count);
  return RawSyscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL);
#endif
}

}  // namespace

void SetAcceptHook(AcceptHook hook) { accept_hook.store(hook, std::memory_order_relaxed); }

Fd::Fd(int fd, Kind kind) : fd_(fd), kind_(kind), desc_(PollDesc::Get()) {
  // The poller takes descriptors of its own, and a server that has never had to wait before they
  // run out could not have any then.
  EpollPoller::Get();
}

Fd::~Fd() { Close(); }

int Fd::Check(PollMode mode) const {
  switch (desc_->Check(mode)) {
    case PollResult::kReady:
      return IoResult::kOk;
    case PollResult::kClosing:
      return IoResult::kClosing;
    case PollResult::kTimeout:
      return IoResult::kTimeout;
  }
  __builtin_unreachable();
}

int Fd::Wait(PollMode mode) {
  // Acquire: pairs with the release in Register().
  if (!registered_.load(std::memory_order_acquire)) [[unlikely]] {
    if (const int error = Register(); error != 0) return error;
  }
  switch (desc_->Wait(mode)) {
    case PollResult::kReady:
      return IoResult::kOk;
    case PollResult::kClosing:
      return IoResult::kClosing;
    case PollResult::kTimeout:
      return IoResult::kTimeout;
  }
  __builtin_unreachable();
}

int Fd::Register() {
  EpollPoller& poller = EpollPoller::Get();
  RuntimeSection section;
  // The reader and the writer may both come here for the first time.
  LockGuard guard(register_lock_);
  if (registered_.load(std::memory_order_relaxed)) return 0;
  if (const int error = poller.Register(fd_, *desc_); error != 0) return error;
  registered_.store(true, std::memory_order_release);
  return 0;
}

void Fd::Destroy() {
  if (registered_.load(std::memory_order_relaxed)) EpollPoller::Get().Unregister(fd_);
  desc_->Put();
  if (keep_open_) {
    // Somebody else's from here on.
  } else if (slow_close_.load(std::memory_order_relaxed)) {
    BlockingSection section(BlockingSection::Expect::kLong);
    SysClose(fd_);
  } else {
    SysClose(fd_);
  }
  // Waiters are never freed, but this Fd may be as soon as destroyed_ is seen.
  Waiter* const closer = closer_.load(std::memory_order_acquire);
  // Release: whoever is in Close() then knows that the number is free.
  destroyed_.store(true, std::memory_order_release);
  if (closer != nullptr) closer->Unpark();
}

IoResult Fd::Close() { return End(Leave::kClosed); }

IoResult Fd::Release() { return End(Leave::kOpen); }

IoResult Fd::End(Leave descriptor) {
  if (!mutex_.RefAndClose()) return {0, IoResult::kClosing};
  keep_open_ = descriptor == Leave::kOpen;
  const int fd = fd_;
  desc_->Evict();
  Waiter* const self = Waiter::Current();
  closer_.store(self, std::memory_order_release);
  if (mutex_.Unref()) {
    Destroy();
  } else {
    while (!destroyed_.load(std::memory_order_acquire)) self->Park(WaitReason::kSemacquire);
  }
  return {static_cast<size_t>(fd)};
}

IoResult Fd::SetDeadline(PollModes modes, Instant deadline) {
  return With([=, this](int) {
    desc_->SetDeadline(modes, deadline);
    return 0;
  });
}

IoResult Fd::Read(char* buffer, size_t size) {
  return Locked<PollMode::kRead>([=, this] { return ReadLocked(buffer, size); });
}

// The usual life of a connection is: wait, read what came, answer, wait. A plain "try, and wait if
// that finds nothing" asks the kernel twice for each message, the second time in vain. But when a
// TCP read brought less than was asked for, the receive queue was empty at that moment, and what
// comes later makes a new edge, so the next read may wait first. What must not be missed:
// - The end of the stream, or an error, that was there already when the short read was made. Its
//   edge may have come before that and been used up. Such an event sets hung_up() for good before
//   it makes the word ready, and then no read waits without asking. If its event has not been
//   collected yet, it will still make the word ready, and end the wait.
// - Urgent data: a read stops short of it with more behind it. EPOLLPRI counts as hung_up() too.
// - Sockets other than TCP, which end reads at message boundaries or control data: `kind_`.
// - Data that came between the short read and now: the word is ready, and Wait() returns at once.
// The descriptor may not be registered yet: registering reports what is there as the first edge.
IoResult Fd::ReadLocked(char* buffer, size_t size) {
  if (size == 0) return {};
  if (drained_) {
    if (!desc_->hung_up()) {
      if (const int error = Wait(PollMode::kRead); error != IoResult::kOk) return {0, error};
    }
    drained_ = false;
  }
  for (;;) {
    desc_->Reset(PollMode::kRead);
    const int64_t n = SysRead(kind_, fd_, buffer, std::min(size, kMaxIo));
    if (n >= 0) {
      drained_ = kind_ == Kind::kTcp && n > 0 && static_cast<size_t>(n) < std::min(size, kMaxIo);
      return {static_cast<size_t>(n)};
    }
    if (WouldBlock(n)) {
      if (const int error = Wait(PollMode::kRead); error != IoResult::kOk) return {0, error};
    } else if (n != -EINTR) {
      return {0, static_cast<int>(-n)};
    }
  }
}

IoResult Fd::WaitReadable() {
  return Locked<PollMode::kRead>([this] { return WaitReadableLocked(); });
}

// As the beginning of ReadLocked(), but where nothing is known of the queue it is looked at without
// taking from it. The read that follows asks the kernel in any case.
IoResult Fd::WaitReadableLocked() {
  if (!drained_) {
    desc_->Reset(PollMode::kRead);
    pollfd poll = {fd_, POLLIN | POLLRDHUP, 0};
    if (SysPoll(&poll) != 0) return {};
  }
  drained_ = false;
  if (desc_->hung_up()) return {};
  return {0, Wait(PollMode::kRead)};
}

IoResult Fd::Write(const char* data, size_t size) {
  return Locked<PollMode::kWrite>([=, this] { return WriteLocked(data, size, 0); });
}

// Writes do not Reset() the word first: every incoming message reports "room to write" as well, so
// the word is ready nearly always, and forgetting that before each write would cost more than the
// one try in vain that a stale word costs a write that has to wait.
//
// A short write means that the buffer was full, and the kernel has noted that an edge is owed.
IoResult Fd::WriteLocked(const char* data, size_t size, int flags) {
  size_t done = 0;
  while (done < size) {
    const size_t ask = std::min(size - done, kMaxIo);
    const int64_t n = SysWrite(kind_, fd_, data + done, ask, flags);
    if (n > 0) done += n;
    if (n == static_cast<int64_t>(ask) || n == -EINTR) continue;
    if (n < 0 && !WouldBlock(n)) return {done, static_cast<int>(-n)};
    if (const int error = Wait(PollMode::kWrite); error != IoResult::kOk) return {done, error};
  }
  return {done};
}

IoResult Fd::Writev(absl::Span<const absl::string_view> pieces) {
  return Locked<PollMode::kWrite>([=, this] { return WritevLocked(pieces); });
}

IoResult Fd::WritevLocked(absl::Span<const absl::string_view> pieces) {
  size_t done = 0;
  size_t skip = 0;  // bytes of pieces[0] that are written
  for (;;) {
    while (!pieces.empty() && pieces[0].size() == skip) {
      pieces.remove_prefix(1);
      skip = 0;
    }
    if (pieces.empty()) return {done};

    iovec batch[kMaxPieces];
    int count = 0;
    size_t ask = 0;
    for (const absl::string_view piece : pieces) {
      const size_t begin = count == 0 ? skip : 0;
      const size_t size = std::min(piece.size() - begin, kMaxIo - ask);
      batch[count++] = {const_cast<char*>(piece.data()) + begin, size};
      ask += size;
      if (count == kMaxPieces || ask == kMaxIo) break;
    }
    const int64_t n = SysWritev(kind_, fd_, batch, count);
    for (size_t left = std::max<int64_t>(n, 0); left > 0;) {
      const size_t step = std::min(left, pieces[0].size() - skip);
      done += step;
      left -= step;
      skip += step;
      if (skip == pieces[0].size() && left > 0) {
        pieces.remove_prefix(1);
        skip = 0;
      }
    }
    if (n == static_cast<int64_t>(ask) || n == -EINTR) continue;
    if (n < 0 && !WouldBlock(n)) return {done, static_cast<int>(-n)};
    if (const int error = Wait(PollMode::kWrite); error != IoResult::kOk) return {done, error};
  }
}

IoResult Fd::SendFile(absl::string_view head, int file_fd, off_t offset, size_t size) {
  return Locked<PollMode::kWrite>(
      [=, this] { return SendFileLocked(head, file_fd, offset, size); });
}

IoResult Fd::SendFileLocked(absl::string_view head, int file_fd, off_t offset, size_t size) {
  // More is to come: the head waits in the kernel for the file's first bytes.
  const IoResult sent = WriteLocked(head.data(), head.size(), size > 0 ? MSG_MORE : 0);
  if (!sent.ok()) return {0, sent.error};
  size_t done = 0;
  while (done < size) {
    off_t position = offset + static_cast<off_t>(done);
    const size_t ask = std::min(size - done, kMaxSendFile);
    const int64_t n = RawSyscall(SYS_sendfile, fd_, file_fd, &position, ask);
    if (n == 0) break;  // the file is shorter than the caller thought
    if (n > 0) {
      done += n;
    } else if (WouldBlock(n)) {
      if (const int error = Wait(PollMode::kWrite); error != IoResult::kOk) return {done, error};
    } else if ((n == -EINVAL || n == -ENOSYS) && done == 0) {
      return CopyFileLocked(file_fd, offset, size);
    } else if (n != -EINTR) {
      return {done, static_cast<int>(-n)};
    }
  }
  return {done};
}

// For files that sendfile(2) cannot send, as some in /proc.
IoResult Fd::CopyFileLocked(int file_fd, off_t offset, size_t size) {
  constexpr size_t kBuffer = 64 << 10;
  const auto buffer = std::make_unique<char[]>(kBuffer);
  size_t done = 0;
  while (done < size) {
    const int64_t n = RawSyscall(SYS_pread64, file_fd, buffer.get(), std::min(size - done, kBuffer),
                                 offset + static_cast<off_t>(done));
    if (n == -EINTR) continue;
    if (n < 0) return {done, static_cast<int>(-n)};
    if (n == 0) break;
    const IoResult written = WriteLocked(buffer.get(), n, 0);
    done += written.n;
    if (!written.ok()) return {done, written.error};
  }
  return {done};
}

IoResult Fd::Accept(sockaddr* address, socklen_t* address_size) {
  return Locked<PollMode::kRead>([=, this] { return AcceptLocked(address, address_size); });
}

IoResult Fd::AcceptLocked(sockaddr* address, socklen_t* address_size) {
  const socklen_t room = *address_size;
  for (;;) {
    desc_->Reset(PollMode::kRead);
    *address_size = room;
    const int64_t fd = SysAccept(fd_, address, address_size);
    if (fd >= 0) return {static_cast<size_t>(fd)};
    switch (-fd) {
      case EAGAIN:
        if (const int error = Wait(PollMode::kRead); error != IoResult::kOk) return {0, error};
        break;
      // A signal; or a connection that broke before we came to it, whose error Linux reports
      // through accept(2), see there. Others may be behind it.
      case EINTR:
      case ECONNABORTED:
      case EPROTO:
      case ENOPROTOOPT:
      case ENETDOWN:
      case EHOSTDOWN:
      case ENONET:
      case EHOSTUNREACH:
      case ENETUNREACH:
        // A close in between must not wait for a quiet moment.
        if (const int error = Check(PollMode::kRead); error != IoResult::kOk) return {0, error};
        break;
      default:
        return {0, static_cast<int>(-fd)};
    }
  }
}

IoResult Fd::Connect(const sockaddr* address, socklen_t address_size) {
  return Locked<PollMode::kWrite>([=, this] { return ConnectLocked(address, address_size); });
}

IoResult Fd::ConnectLocked(const sockaddr* address, socklen_t address_size) {
  const int64_t result = RawSyscall(SYS_connect, fd_, address, address_size);
  switch (-result) {
    case 0:
    case EISCONN:
      return {};
    case EINPROGRESS:
    case EALREADY:
    case EINTR:  // it goes on in the background
      break;
    default:
      return {0, static_cast<int>(-result)};
  }
  for (;;) {
    if (const int error = Wait(PollMode::kWrite); error != IoResult::kOk) return {0, error};
    int so_error = 0;
    socklen_t size = sizeof(so_error);
    if (const int64_t r = RawSyscall(SYS_getsockopt, fd_, SOL_SOCKET, SO_ERROR, &so_error, &size);
        r < 0) {
      return {0, static_cast<int>(-r)};
    }
    if (so_error == EISCONN) return {};
    if (so_error != 0 && so_error != EINPROGRESS && so_error != EALREADY && so_error != EINTR) {
      return {0, so_error};
    }
    // No error is not yet a connection: the wake-up may have come for no reason.
    sockaddr_storage peer;
    size = sizeof(peer);
    if (RawSyscall(SYS_getpeername, fd_, reinterpret_cast<sockaddr*>(&peer), &size) == 0) return {};
  }
}

}  // namespace weft::internal
