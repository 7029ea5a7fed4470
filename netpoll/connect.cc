// From a socket to a handle, for all networks.
#include <limits>
#include <memory>
#include <utility>

#include "netpoll/net_access.h"
#include "netpoll/syscall.h"
#include "sched/clock.h"

namespace weft::internal {

absl::StatusOr<Listener> StartListening(const OpContext& context, OwnedFd fd, int backlog) {
  // The system takes its own limit if that is less.
  if (backlog <= 0) backlog = std::numeric_limits<int>::max();
  if (const int64_t error = RawSyscall(SYS_listen, fd.get(), backlog); error != 0) {
    return OpError(context, static_cast<int>(-error), "listen");
  }
  const SocketAddress local = AddressOf(fd.get(), getsockname);
  return NetAccess::MakeListener(std::make_shared<NetFd>(fd.release(), Fd::Kind::kSocket,
                                                         context.network, local, SocketAddress()));
}

absl::StatusOr<Conn> Connect(const OpContext& context, std::shared_ptr<NetFd> conn,
                             const SocketAddress& address, absl::Time deadline) {
  if (deadline != absl::InfiniteFuture()) {
    conn->fd.SetDeadline(kWriteMode, Instant::FromTime(deadline));
  }
  const IoResult result = conn->fd.Connect(address.data(), address.size());
  if (!result.ok()) return OpError(context, result.error, "connect");
  if (deadline != absl::InfiniteFuture()) conn->fd.SetDeadline(kWriteMode, Instant::Never());
  // Known only now; the remote one may have been "any", which means this machine.
  conn->local = AddressOf(conn->fd.fd(), getsockname);
  const SocketAddress remote = AddressOf(conn->fd.fd(), getpeername);
  if (!remote.empty()) conn->remote = remote;
  return NetAccess::MakeConn(std::move(conn));
}

}  // namespace weft::internal
