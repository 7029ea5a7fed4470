// FileConn() and FileListener(): handles for descriptors from elsewhere.
#include <sys/socket.h>

#include <memory>

#include "netpoll/file_socket.h"
#include "netpoll/net_access.h"

namespace weft {

using internal::Fd;
using internal::NetAccess;
using internal::NetFd;

absl::StatusOr<Conn> FileConn(int fd) {
  const absl::StatusOr<internal::FileSocket> socket = internal::AdoptSocket(fd);
  if (!socket.ok()) return socket.status();
  if (socket->type == SOCK_DGRAM) {
    return absl::InvalidArgumentError("file: a datagram socket is no connection");
  }
  const Fd::Kind kind = socket->family == AF_UNIX ? Fd::Kind::kSocket : Fd::Kind::kTcp;
  return NetAccess::MakeConn(
      std::make_shared<NetFd>(fd, kind, socket->network, socket->local, socket->remote));
}

absl::StatusOr<Listener> FileListener(int fd) {
  const int listening = internal::GetOption(fd, SOL_SOCKET, SO_ACCEPTCONN);
  const absl::StatusOr<internal::FileSocket> socket = internal::AdoptSocket(fd);
  if (!socket.ok()) return socket.status();
  if (listening != 1) return absl::InvalidArgumentError("file: the socket does not listen");
  return NetAccess::MakeListener(std::make_shared<NetFd>(fd, Fd::Kind::kSocket, socket->network,
                                                         socket->local, SocketAddress()));
}

}  // namespace weft
