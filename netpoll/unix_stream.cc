// Listen() and Dial() for Unix sockets.
#include <sys/socket.h>

#include <memory>
#include <utility>

#include "netpoll/net_access.h"

namespace weft::internal {

UnixNetwork ParseUnixNetwork(absl::string_view network) {
  if (network == "unix") return {"unix", SOCK_STREAM};
  if (network == "unixpacket") return {"unixpacket", SOCK_SEQPACKET};
  return {};
}

absl::StatusOr<Listener> ListenUnix(UnixNetwork network, absl::string_view name,
                                    const ListenOptions& options) {
  const absl::StatusOr<SocketAddress> address = SocketAddress::Unix(name);
  if (!address.ok()) {
    return OpError({"listen", network.network}, address.status().code(),
                   address.status().message());
  }
  const OpContext context = {"listen", network.network, {}, *address};
  const int socket = OpenSocket(AF_UNIX, network.type);
  if (socket < 0) return OpError(context, -socket, "socket");
  OwnedFd fd(socket);
  if (absl::Status s = RunControl(options.control, context, *address, fd.get()); !s.ok()) return s;
  if (absl::Status s = Bind(context, *address, fd.get()); !s.ok()) return s;
  absl::StatusOr<Listener> listener = StartListening(context, std::move(fd), options.backlog);
  if (listener.ok()) listener->SetUnlinkOnClose(true);
  return listener;
}

absl::StatusOr<Conn> DialUnix(UnixNetwork network, absl::string_view name, absl::Time deadline,
                              const DialOptions& options) {
  const absl::StatusOr<SocketAddress> address = SocketAddress::Unix(name);
  if (!address.ok()) {
    return OpError({"dial", network.network}, address.status().code(), address.status().message());
  }
  const OpContext context = {"dial", network.network, {}, *address};
  const int socket = OpenSocket(AF_UNIX, network.type);
  if (socket < 0) return OpError(context, -socket, "socket");
  OwnedFd fd(socket);
  if (absl::Status s = RunControl(options.control, context, *address, fd.get()); !s.ok()) return s;
  if (!options.local_address.empty()) {
    if (absl::Status s = Bind(context, options.local_address, fd.get()); !s.ok()) return s;
  }
  return Connect(context,
                 std::make_shared<NetFd>(fd.release(), Fd::Kind::kSocket, context.network,
                                         options.local_address, *address),
                 *address, deadline);
}

}  // namespace weft::internal
