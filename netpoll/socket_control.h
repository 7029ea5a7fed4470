// A hook for what the options of sockets do not name.
#ifndef WEFT_NETPOLL_SOCKET_CONTROL_H_
#define WEFT_NETPOLL_SOCKET_CONTROL_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "netpoll/address.h"

namespace weft {

// Called for each socket before it is bound or connected, with "tcp4", "udp6", "unix" or whatever
// its network really is, the address that it is for, and the descriptor, to set options on. An
// error closes the socket and becomes the operation's.
using SocketControl =
    std::function<absl::Status(absl::string_view network, const SocketAddress& address, int fd)>;

}  // namespace weft

#endif  // WEFT_NETPOLL_SOCKET_CONTROL_H_
