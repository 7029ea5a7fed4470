// What is behind a Conn or a Listener: the descriptor, and what its errors' texts need.
#ifndef WEFT_NETPOLL_NET_FD_H_
#define WEFT_NETPOLL_NET_FD_H_

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "netpoll/address.h"
#include "netpoll/fd.h"
#include "netpoll/net.h"
#include "netpoll/op_error.h"

namespace weft::internal {

class NetFd {
 public:
  // `network` is one of the literals that NetworkName() returns. A listener has no remote address.
  NetFd(int descriptor, Fd::Kind kind, absl::string_view network, SocketAddress local,
        SocketAddress remote)
      : fd(descriptor, kind), network(network), local(local), remote(remote) {}

  static Conn MakeConn(std::shared_ptr<NetFd> fd) { return Conn(std::move(fd)); }
  static Listener MakeListener(std::shared_ptr<NetFd> fd) { return Listener(std::move(fd)); }

  // "<op> tcp <local>-><remote>: ...", or of a listener "<op> tcp <local>: ...".
  absl::Status Error(absl::string_view op, int error, absl::string_view syscall) const {
    return OpError(Context(op), error, syscall);
  }
  OpContext Context(absl::string_view op) const {
    if (remote.empty()) return {op, network, {}, local};
    return {op, network, local, remote};
  }

  Fd fd;
  const absl::string_view network;
  // Not changed any more once a handle exists.
  SocketAddress local;
  SocketAddress remote;
};

// Of the socket's end: `name` is getsockname or getpeername.
SocketAddress AddressOf(int fd, int (*name)(int, sockaddr*, socklen_t*));

// Sets an option; returns 0 or -errno.
int SetOption(int fd, int level, int option, int value);

// 0 or -errno.
int ApplyKeepAlive(int fd, const KeepAlive& keep_alive);

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_NET_FD_H_
