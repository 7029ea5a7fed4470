// Listen() and Dial(): from names and options to sockets.
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "netpoll/net.h"
#include "netpoll/net_fd.h"
#include "netpoll/resolve.h"
#include "netpoll/syscall.h"
#include "sched/clock.h"

namespace weft {
namespace internal {
namespace {

// Names without end, for NetFd to point at.
absl::string_view NetworkName(IpVersions versions) {
  switch (versions) {
    case IpVersions::kAny:
      return "tcp";
    case IpVersions::k4:
      return "tcp4";
    case IpVersions::k6:
      return "tcp6";
  }
  __builtin_unreachable();
}

// A descriptor that is closed unless it is released.
class OwnedFd {
 public:
  explicit OwnedFd(int fd) : fd_(fd) {}
  ~OwnedFd() {
    if (fd_ >= 0) close(fd_);
  }
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;

  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// The socket, or -errno.
int OpenSocket(int family) {
  return static_cast<int>(
      RawSyscall(SYS_socket, family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
}

// Whether the system can have an IPv6 socket that takes IPv4 connections too. Asked once.
bool HasDualStack() {
  static const bool has = [] {
    const OwnedFd fd(OpenSocket(AF_INET6));
    if (fd.get() < 0 || SetOption(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0) != 0) return false;
    sockaddr_in6 any = {};
    any.sin6_family = AF_INET6;
    return bind(fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)) == 0;
  }();
  return has;
}

absl::StatusOr<Listener> ListenOn(IpVersions versions, const SocketAddress& address,
                                  const ListenOptions& options) {
  const OpContext context = {"listen", NetworkName(versions), {}, address};
  OwnedFd fd(OpenSocket(address.family()));
  if (fd.get() < 0) return OpError(context, -fd.get(), "socket");

  struct Option {
    int level, option, value;
  };
  std::vector<Option> wanted = {{SOL_SOCKET, SO_REUSEADDR, 1}, {IPPROTO_TCP, TCP_NODELAY, 1}};
  if (options.reuse_port) wanted.push_back({SOL_SOCKET, SO_REUSEPORT, 1});
  if (address.family() == AF_INET6) {
    const bool both = versions == IpVersions::kAny && address.IsUnspecified();
    wanted.push_back({IPPROTO_IPV6, IPV6_V6ONLY, both ? 0 : 1});
  }
  for (const Option& o : wanted) {
    if (const int error = SetOption(fd.get(), o.level, o.option, o.value); error != 0) {
      return OpError(context, -error, "setsockopt");
    }
  }
  if (const int error = ApplyKeepAlive(fd.get(), options.keep_alive); error != 0) {
    return OpError(context, -error, "setsockopt");
  }
  if (const int64_t error = RawSyscall(SYS_bind, fd.get(), address.data(), address.size());
      error != 0) {
    return OpError(context, static_cast<int>(-error), "bind");
  }
  // The system takes its own limit if that is less.
  const int backlog = options.backlog > 0 ? options.backlog : std::numeric_limits<int>::max();
  if (const int64_t error = RawSyscall(SYS_listen, fd.get(), backlog); error != 0) {
    return OpError(context, static_cast<int>(-error), "listen");
  }
  const SocketAddress local = AddressOf(fd.get(), getsockname);
  return NetFd::MakeListener(std::make_shared<NetFd>(fd.release(), Fd::Kind::kSocket,
                                                     context.network, local, SocketAddress()));
}

absl::StatusOr<Conn> DialOnce(IpVersions versions, const SocketAddress& address,
                              absl::Time deadline, const DialOptions& options) {
  const OpContext context = {"dial", NetworkName(versions), {}, address};
  OwnedFd fd(OpenSocket(address.family()));
  if (fd.get() < 0) return OpError(context, -fd.get(), "socket");
  if (int error = SetOption(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1); error != 0) {
    return OpError(context, -error, "setsockopt");
  }
  if (int error = ApplyKeepAlive(fd.get(), options.keep_alive); error != 0) {
    return OpError(context, -error, "setsockopt");
  }

  const int descriptor = fd.release();
  auto conn = std::make_shared<NetFd>(descriptor, Fd::Kind::kTcp, context.network, SocketAddress(),
                                      address);
  if (deadline != absl::InfiniteFuture()) {
    conn->fd.SetDeadline(kWriteMode, Instant::FromTime(deadline));
  }
  const IoResult result = conn->fd.Connect(address.data(), address.size());
  if (!result.ok()) return OpError(context, result.error, "connect");
  conn->fd.SetDeadline(kWriteMode, Instant::Never());
  // Known only now; the remote one may have been "any", which means this machine.
  conn->local = AddressOf(descriptor, getsockname);
  conn->remote = AddressOf(descriptor, getpeername);
  return NetFd::MakeConn(std::move(conn));
}

// Dialling a free port of this machine from the range that the system chooses local ports from, it
// can happen that the two are the same and the socket connects to itself.
bool IsSelfConnect(const Conn& conn) { return conn.local_address() == conn.remote_address(); }

absl::StatusOr<Conn> DialAddress(IpVersions versions, const SocketAddress& address,
                                 absl::Time deadline, const DialOptions& options) {
  absl::StatusOr<Conn> conn = DialOnce(versions, address, deadline, options);
  for (int i = 0; i < 2; ++i) {
    const bool again = conn.ok() ? IsSelfConnect(*conn) : ErrnoOf(conn.status()) == EADDRNOTAVAIL;
    if (!again) break;
    if (conn.ok()) conn->Close().IgnoreError();
    conn = DialOnce(versions, address, deadline, options);
  }
  return conn;
}

}  // namespace
}  // namespace internal

absl::StatusOr<Listener> Listen(absl::string_view network, absl::string_view address,
                                const ListenOptions& options) {
  using internal::IpVersions;
  const internal::OpContext context = {"listen", network};
  const absl::StatusOr<IpVersions> versions = internal::ParseNetwork(network);
  if (!versions.ok()) {
    return internal::OpError(context, versions.status().code(), versions.status().message());
  }
  const absl::StatusOr<std::vector<SocketAddress>> addresses =
      internal::Resolve(*versions, address, internal::EmptyHost::kAllInterfaces);
  if (!addresses.ok()) {
    return internal::OpError(context, addresses.status().code(), addresses.status().message());
  }
  SocketAddress chosen = addresses->front();
  for (const SocketAddress& a : *addresses) {
    if (a.family() == AF_INET) {
      chosen = a;
      break;
    }
  }
  if (*versions == IpVersions::kAny && chosen.family() == AF_INET6 && chosen.IsUnspecified() &&
      !internal::HasDualStack()) {
    sockaddr_in any = {};
    any.sin_family = AF_INET;
    any.sin_port = htons(chosen.port());
    chosen = SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&any), sizeof(any));
  }
  return internal::ListenOn(*versions, chosen, options);
}

absl::StatusOr<Conn> Dial(absl::string_view network, absl::string_view address,
                          const DialOptions& options) {
  using internal::IpVersions;
  const internal::OpContext context = {"dial", network};
  const absl::StatusOr<IpVersions> versions = internal::ParseNetwork(network);
  if (!versions.ok()) {
    return internal::OpError(context, versions.status().code(), versions.status().message());
  }
  const absl::Time deadline = std::min(absl::Now() + options.timeout, options.deadline);
  if (deadline <= absl::Now()) {
    return internal::OpError(context, internal::IoResult::kTimeout, "");
  }
  const absl::StatusOr<std::vector<SocketAddress>> addresses =
      internal::Resolve(*versions, address, internal::EmptyHost::kThisMachine);
  if (!addresses.ok()) {
    return internal::OpError(context, addresses.status().code(), addresses.status().message());
  }
  absl::Status first_error;
  for (size_t i = 0; i < addresses->size(); ++i) {
    const absl::Time now = absl::Now();
    const absl::Time until =
        internal::PartialDeadline(now, deadline, static_cast<int>(addresses->size() - i));
    if (now >= until) {
      first_error.Update(internal::OpError(context, internal::IoResult::kTimeout, ""));
      break;
    }
    absl::StatusOr<Conn> conn = internal::DialAddress(*versions, (*addresses)[i], until, options);
    if (conn.ok()) return conn;
    first_error.Update(conn.status());
  }
  return first_error;
}

}  // namespace weft
