// What PacketConn has behind it, for the files that make it and work on it.
#ifndef WEFT_NETPOLL_PACKET_ACCESS_H_
#define WEFT_NETPOLL_PACKET_ACCESS_H_

#include <errno.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "netpoll/net_fd.h"
#include "netpoll/packet_conn.h"
#include "sched/goroutine.h"

namespace weft::internal {

struct PacketAccess {
  static PacketConn Make(std::shared_ptr<NetFd> fd) { return PacketConn(std::move(fd)); }

  // Null if there is nothing behind the handle.
  static NetFd* Of(const PacketConn& conn) { return conn.fd_.get(); }
};

// Whether a datagram may go to `to`, which is empty for the peer of a connected socket.
absl::Status CheckTarget(const NetFd& fd, const SocketAddress& to);

// Runs `call(descriptor)` in turn with writes until there is room. For a Unix socket that is not
// connected, room is in the receiver's queue, of which the poller does not tell: a datagram that is
// taken from there wakes whoever has sent it, not those who wait behind it. So that is asked again
// and again.
template <typename Call>
IoResult SendWhenRoom(NetFd& fd, Call call) {
  if (fd.remote.empty() && fd.network == "unixgram") {
    for (;;) {
      bool full = false;
      const IoResult result = fd.fd.WriteWith([call, &full](int descriptor) -> int64_t {
        const int64_t n = call(descriptor);
        full = n == -EAGAIN;
        return full ? 0 : n;
      });
      if (!full) return result;
      Sleep(absl::Milliseconds(1));
    }
  }
  return fd.fd.WriteWith(call);
}

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_PACKET_ACCESS_H_
