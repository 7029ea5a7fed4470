#include "netpoll/net.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "netpoll/net_fd.h"
#include "netpoll/syscall.h"
#include "sched/clock.h"

namespace weft {

using internal::Fd;
using internal::IoResult;
using internal::NetFd;

namespace {

// The error of a call on a handle that has no socket behind it.
absl::Status NoSocket(absl::string_view op) {
  return internal::OpError({op, "tcp"}, IoResult::kClosing, "");
}

// Whole seconds, rounded up, within what the socket options take.
int Seconds(absl::Duration d) {
  const int64_t seconds = absl::ToInt64Seconds(absl::Ceil(d, absl::Seconds(1)));
  return static_cast<int>(std::clamp<int64_t>(seconds, 0, std::numeric_limits<int>::max()));
}

absl::Status SetDeadlines(NetFd* fd, internal::PollModes modes, absl::Time deadline) {
  if (fd == nullptr) return NoSocket("set");
  const Instant instant =
      deadline == absl::InfinitePast() ? Instant() : Instant::FromTime(deadline);
  const IoResult result = fd->fd.SetDeadline(modes, instant);
  return result.ok() ? absl::OkStatus() : fd->Error("set", result.error, "");
}

absl::Status CloseFd(NetFd* fd) {
  if (fd == nullptr) return NoSocket("close");
  const IoResult result = fd->fd.Close();
  return result.ok() ? absl::OkStatus() : fd->Error("close", result.error, "close");
}

// Runs `call(descriptor)`, which returns 0 or -errno.
template <typename Call>
absl::Status Control(NetFd* fd, absl::string_view op, absl::string_view syscall, Call call) {
  if (fd == nullptr) return NoSocket(op);
  const IoResult result = fd->fd.With(call);
  return result.ok() ? absl::OkStatus() : fd->Error(op, result.error, syscall);
}

absl::Status Shutdown(NetFd* fd, int how) {
  return Control(fd, "close", "shutdown", [how](int descriptor) {
    return static_cast<int>(internal::RawSyscall(SYS_shutdown, descriptor, how));
  });
}

absl::Status Written(const NetFd* fd, const IoResult& result, absl::string_view syscall,
                     size_t* written) {
  if (written != nullptr) *written = result.n;
  return result.ok() ? absl::OkStatus() : fd->Error("write", result.error, syscall);
}

}  // namespace

namespace internal {

int SetOption(int fd, int level, int option, int value) {
  return static_cast<int>(
      RawSyscall(SYS_setsockopt, fd, level, option, &value, socklen_t{sizeof(value)}));
}

int ApplyKeepAlive(int fd, const KeepAlive& keep_alive) {
  if (!keep_alive.enabled) return SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 0);
  const int options[][3] = {
      {SOL_SOCKET, SO_KEEPALIVE, 1},
      {IPPROTO_TCP, TCP_KEEPIDLE, Seconds(keep_alive.idle)},
      {IPPROTO_TCP, TCP_KEEPINTVL, Seconds(keep_alive.interval)},
      {IPPROTO_TCP, TCP_KEEPCNT, keep_alive.count},
  };
  for (const auto& [level, option, value] : options) {
    if (const int error = SetOption(fd, level, option, value); error != 0) return error;
  }
  return 0;
}

SocketAddress AddressOf(int fd, int (*name)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage address;
  socklen_t size = sizeof(address);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (name(fd, any, &size) != 0) return SocketAddress();
  return SocketAddress::FromSockaddr(any, size);
}

}  // namespace internal

absl::StatusOr<size_t> Conn::Read(absl::Span<char> buffer) const {
  if (fd_ == nullptr) return NoSocket("read");
  const IoResult result = fd_->fd.Read(buffer.data(), buffer.size());
  if (!result.ok()) return fd_->Error("read", result.error, "read");
  return result.n;
}

absl::Status Conn::WaitReadable() const {
  if (fd_ == nullptr) return NoSocket("read");
  const IoResult result = fd_->fd.WaitReadable();
  if (!result.ok()) return fd_->Error("read", result.error, "read");
  return absl::OkStatus();
}

absl::Status Conn::ReadFull(absl::Span<char> buffer) const {
  if (fd_ == nullptr) return NoSocket("read");
  for (size_t done = 0; done < buffer.size();) {
    const IoResult result = fd_->fd.Read(buffer.data() + done, buffer.size() - done);
    if (!result.ok()) return fd_->Error("read", result.error, "read");
    if (result.n == 0) {
      return internal::OpError(fd_->Context("read"), absl::StatusCode::kOutOfRange,
                               done == 0 ? "EOF" : "unexpected EOF");
    }
    done += result.n;
  }
  return absl::OkStatus();
}

absl::Status Conn::Write(absl::string_view data, size_t* written) const {
  if (fd_ == nullptr) return NoSocket("write");
  return Written(fd_.get(), fd_->fd.Write(data.data(), data.size()), "write", written);
}

absl::Status Conn::Writev(absl::Span<const absl::string_view> pieces, size_t* written) const {
  if (fd_ == nullptr) return NoSocket("write");
  return Written(fd_.get(), fd_->fd.Writev(pieces), "writev", written);
}

absl::StatusOr<size_t> Conn::SendFile(int file_fd, off_t offset, size_t n,
                                      absl::string_view head) const {
  if (fd_ == nullptr) return NoSocket("write");
  const IoResult result = fd_->fd.SendFile(head, file_fd, offset, n);
  if (!result.ok()) return fd_->Error("write", result.error, "sendfile");
  return result.n;
}

absl::Status Conn::SetDeadline(absl::Time deadline) const {
  return SetDeadlines(fd_.get(), internal::kBothModes, deadline);
}

absl::Status Conn::SetReadDeadline(absl::Time deadline) const {
  return SetDeadlines(fd_.get(), internal::kReadMode, deadline);
}

absl::Status Conn::SetWriteDeadline(absl::Time deadline) const {
  return SetDeadlines(fd_.get(), internal::kWriteMode, deadline);
}

absl::Status Conn::CloseRead() const { return Shutdown(fd_.get(), SHUT_RD); }

absl::Status Conn::CloseWrite() const { return Shutdown(fd_.get(), SHUT_WR); }

absl::Status Conn::Close() const { return CloseFd(fd_.get()); }

absl::Status Conn::SetNoDelay(bool no_delay) const {
  return Control(fd_.get(), "set", "setsockopt", [no_delay](int fd) {
    return internal::SetOption(fd, IPPROTO_TCP, TCP_NODELAY, no_delay ? 1 : 0);
  });
}

absl::Status Conn::SetKeepAlive(const KeepAlive& keep_alive) const {
  return Control(fd_.get(), "set", "setsockopt",
                 [&](int fd) { return internal::ApplyKeepAlive(fd, keep_alive); });
}

absl::Status Conn::SetLinger(absl::Duration linger) const {
  struct linger value = {};
  value.l_onoff = linger != absl::InfiniteDuration();
  if (value.l_onoff != 0) value.l_linger = Seconds(linger);
  if (fd_ != nullptr) fd_->fd.set_slow_close(value.l_linger > 0);
  return Control(fd_.get(), "set", "setsockopt", [&](int fd) {
    return static_cast<int>(internal::RawSyscall(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, &value,
                                                 socklen_t{sizeof(value)}));
  });
}

SocketAddress Conn::local_address() const { return fd_ == nullptr ? SocketAddress() : fd_->local; }

SocketAddress Conn::remote_address() const {
  return fd_ == nullptr ? SocketAddress() : fd_->remote;
}

int Conn::fd() const { return fd_ == nullptr ? -1 : fd_->fd.fd(); }

absl::StatusOr<Conn> Listener::Accept() const {
  if (fd_ == nullptr) return NoSocket("accept");
  sockaddr_storage address;
  socklen_t size = sizeof(address);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  const IoResult result = fd_->fd.Accept(any, &size);
  if (!result.ok()) return fd_->Error("accept", result.error, "accept4");
  const int descriptor = static_cast<int>(result.n);
  // Options such as TCP_NODELAY come from the listener's socket, and so does the local address
  // unless it stands for several: nothing to ask the system for.
  const SocketAddress local =
      fd_->local.IsUnspecified() ? internal::AddressOf(descriptor, getsockname) : fd_->local;
  return NetFd::MakeConn(std::make_shared<NetFd>(descriptor, Fd::Kind::kTcp, fd_->network, local,
                                                 SocketAddress::FromSockaddr(any, size)));
}

absl::Status Listener::SetDeadline(absl::Time deadline) const {
  return SetDeadlines(fd_.get(), internal::kBothModes, deadline);
}

absl::Status Listener::Close() const { return CloseFd(fd_.get()); }

SocketAddress Listener::addr() const { return fd_ == nullptr ? SocketAddress() : fd_->local; }

int Listener::fd() const { return fd_ == nullptr ? -1 : fd_->fd.fd(); }

}  // namespace weft
