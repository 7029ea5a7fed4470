#include "netpoll/net.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "netpoll/net_access.h"
#include "netpoll/net_fd.h"
#include "netpoll/syscall.h"

namespace weft {

using internal::Fd;
using internal::IoResult;
using internal::NetAccess;
using internal::NetFd;

namespace {

// What an error of a handle with no socket behind it calls the network.
constexpr absl::string_view kNetwork = "tcp";

absl::Status NoSocket(absl::string_view op) { return internal::NoSocket(op, kNetwork); }

// Whole seconds, rounded up, within what the socket options take.
int Seconds(absl::Duration d) {
  const int64_t seconds = absl::ToInt64Seconds(absl::Ceil(d, absl::Seconds(1)));
  return static_cast<int>(std::clamp<int64_t>(seconds, 0, std::numeric_limits<int>::max()));
}

// Runs `call(descriptor)`, which returns 0 or -errno.
template <typename Call>
absl::Status SetBy(NetFd* fd, Call call) {
  return internal::ControlSocket(fd, kNetwork, "set", "setsockopt", call);
}

absl::Status Shutdown(NetFd* fd, int how) {
  return internal::ControlSocket(fd, kNetwork, "close", "shutdown", [how](int descriptor) {
    return static_cast<int>(internal::RawSyscall(SYS_shutdown, descriptor, how));
  });
}

absl::Status CallWith(NetFd* fd, absl::FunctionRef<void(int)> call) {
  return internal::ControlSocket(fd, kNetwork, "raw-control", "", [call](int descriptor) {
    call(descriptor);
    return 0;
  });
}

absl::Status Written(const NetFd* fd, const IoResult& result, absl::string_view syscall,
                     size_t* written) {
  if (written != nullptr) *written = result.n;
  return result.ok() ? absl::OkStatus() : fd->Error("write", result.error, syscall);
}

}  // namespace

namespace internal {

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
  return internal::SetDeadlines(fd_.get(), kNetwork, internal::kBothModes, deadline);
}

absl::Status Conn::SetReadDeadline(absl::Time deadline) const {
  return internal::SetDeadlines(fd_.get(), kNetwork, internal::kReadMode, deadline);
}

absl::Status Conn::SetWriteDeadline(absl::Time deadline) const {
  return internal::SetDeadlines(fd_.get(), kNetwork, internal::kWriteMode, deadline);
}

absl::Status Conn::CloseRead() const { return Shutdown(fd_.get(), SHUT_RD); }

absl::Status Conn::CloseWrite() const { return Shutdown(fd_.get(), SHUT_WR); }

absl::Status Conn::Close() const { return internal::CloseSocket(fd_.get(), kNetwork); }

absl::Status Conn::SetNoDelay(bool no_delay) const {
  return SetBy(fd_.get(), [no_delay](int fd) {
    return internal::SetOption(fd, IPPROTO_TCP, TCP_NODELAY, no_delay ? 1 : 0);
  });
}

absl::Status Conn::SetKeepAlive(const KeepAlive& keep_alive) const {
  return SetBy(fd_.get(), [&](int fd) { return internal::ApplyKeepAlive(fd, keep_alive); });
}

absl::Status Conn::SetLinger(absl::Duration linger) const {
  struct linger value = {};
  value.l_onoff = linger != absl::InfiniteDuration();
  if (value.l_onoff != 0) value.l_linger = Seconds(linger);
  if (fd_ != nullptr) fd_->fd.set_slow_close(value.l_linger > 0);
  return SetBy(fd_.get(), [&](int fd) {
    return static_cast<int>(internal::RawSyscall(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, &value,
                                                 socklen_t{sizeof(value)}));
  });
}

absl::Status Conn::SetReadBuffer(int bytes) const {
  return SetBy(fd_.get(),
               [bytes](int fd) { return internal::SetOption(fd, SOL_SOCKET, SO_RCVBUF, bytes); });
}

absl::Status Conn::SetWriteBuffer(int bytes) const {
  return SetBy(fd_.get(),
               [bytes](int fd) { return internal::SetOption(fd, SOL_SOCKET, SO_SNDBUF, bytes); });
}

absl::string_view Conn::network() const { return fd_ == nullptr ? "" : fd_->network; }

SocketAddress Conn::local_address() const { return fd_ == nullptr ? SocketAddress() : fd_->local; }

SocketAddress Conn::remote_address() const {
  return fd_ == nullptr ? SocketAddress() : fd_->remote;
}

int Conn::fd() const { return fd_ == nullptr ? -1 : fd_->fd.fd(); }

absl::Status Conn::Control(absl::FunctionRef<void(int fd)> call) const {
  return CallWith(fd_.get(), call);
}

absl::StatusOr<int> Conn::Dup() const { return internal::DupSocket(fd_.get(), kNetwork); }

absl::StatusOr<int> Conn::Release() const { return internal::ReleaseSocket(fd_.get(), kNetwork); }

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
  const Fd::Kind kind =
      fd_->local.family() == AF_UNIX || fd_->local.empty() ? Fd::Kind::kSocket : Fd::Kind::kTcp;
  return NetAccess::MakeConn(std::make_shared<NetFd>(descriptor, kind, fd_->network, local,
                                                     SocketAddress::FromSockaddr(any, size)));
}

absl::Status Listener::SetDeadline(absl::Time deadline) const {
  return internal::SetDeadlines(fd_.get(), kNetwork, internal::kBothModes, deadline);
}

absl::Status Listener::Close() const { return internal::CloseSocket(fd_.get(), kNetwork); }

SocketAddress Listener::addr() const { return fd_ == nullptr ? SocketAddress() : fd_->local; }

void Listener::SetUnlinkOnClose(bool unlink) const {
  if (fd_ == nullptr || fd_->local.family() != AF_UNIX) return;
  if (unlink) {
    fd_->OwnFile();
  } else {
    fd_->KeepFile();
  }
}

absl::string_view Listener::network() const { return fd_ == nullptr ? "" : fd_->network; }

absl::Status Listener::Control(absl::FunctionRef<void(int fd)> call) const {
  return CallWith(fd_.get(), call);
}

int Listener::fd() const { return fd_ == nullptr ? -1 : fd_->fd.fd(); }

absl::StatusOr<int> Listener::Dup() const { return internal::DupSocket(fd_.get(), kNetwork); }

absl::StatusOr<int> Listener::Release() const {
  return internal::ReleaseSocket(fd_.get(), kNetwork);
}

}  // namespace weft
