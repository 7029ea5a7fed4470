// What the handles of net.h have behind them, for the files that make them and work on them.
#ifndef WEFT_NETPOLL_NET_ACCESS_H_
#define WEFT_NETPOLL_NET_ACCESS_H_

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "netpoll/address.h"
#include "netpoll/net.h"
#include "netpoll/net_fd.h"

namespace weft::internal {

struct NetAccess {
  static Conn MakeConn(std::shared_ptr<NetFd> fd) { return Conn(std::move(fd)); }
  static Listener MakeListener(std::shared_ptr<NetFd> fd) { return Listener(std::move(fd)); }

  // Null if there is nothing behind the handle.
  static NetFd* Of(const Conn& conn) { return conn.fd_.get(); }
};

// 0 or -errno.
int ApplyKeepAlive(int fd, const KeepAlive& keep_alive);

// "unix" or "unixpacket", without end, and the socket's type; an empty network for other texts.
struct UnixNetwork {
  absl::string_view network;
  int type = 0;
};
UnixNetwork ParseUnixNetwork(absl::string_view network);

// Listen() and Dial() for Unix sockets.
absl::StatusOr<Listener> ListenUnix(UnixNetwork network, absl::string_view name,
                                    const ListenOptions& options);
absl::StatusOr<Conn> DialUnix(UnixNetwork network, absl::string_view name, absl::Time deadline,
                              const DialOptions& options);

// Listens, and makes the handle.
absl::StatusOr<Listener> StartListening(const OpContext& context, OwnedFd fd, int backlog);
// Connects, waiting until `deadline` at most, and makes the handle. Somebody else may close `conn`,
// or move its deadline, meanwhile.
absl::StatusOr<Conn> Connect(const OpContext& context, std::shared_ptr<NetFd> conn,
                             const SocketAddress& address, absl::Time deadline);

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_NET_ACCESS_H_
