// What only Unix sockets can do: hand descriptors over, say who is at the other end, come in pairs.
//
//   absl::StatusOr<weft::UnixPair> pair = weft::MakeUnixPair();
//   const int fds[] = {open("data", O_RDONLY | O_CLOEXEC)};
//   weft::SendDescriptors(pair->a, "here is the file", fds).IgnoreError();
//   char buffer[64];
//   absl::StatusOr<weft::UnixMessage> message =
//       weft::ReceiveDescriptors(pair->b, absl::MakeSpan(buffer));
//   Use(message->descriptors[0].get());
//
// Connections and sockets themselves are made by Dial(), Listen() (net.h), DialPacket() and
// ListenPacket() (packet_conn.h), with the networks "unix", "unixpacket" and "unixgram". On those
// of other networks these calls fail. What the classes say of deadlines, closing, threads and
// parking holds here.
#ifndef WEFT_NETPOLL_UNIX_H_
#define WEFT_NETPOLL_UNIX_H_

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "netpoll/address.h"
#include "netpoll/net.h"
#include "netpoll/owned_fd.h"
#include "netpoll/packet_conn.h"

namespace weft {

// Two connected ends without names (socketpair), of network "unix" or "unixpacket".
struct UnixPair {
  Conn a;
  Conn b;
};
absl::StatusOr<UnixPair> MakeUnixPair(absl::string_view network = "unix");

// A process, as the kernel vouches for it.
struct Credentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

// Who called Dial(), or Listen(), or made the pair, at the other end of a "unix" or "unixpacket"
// connection. Never parks.
absl::StatusOr<Credentials> PeerCredentials(const Conn& conn);

// SO_PASSCRED: from now on every message that is received says who has sent it. Never parks.
absl::Status SetPassCredentials(const Conn& conn, bool pass);
absl::Status SetPassCredentials(const PacketConn& conn, bool pass);

// Sends `data`, and with it copies of `descriptors`, 253 at most, which stay open here. A stream
// carries them with the first of the bytes, so there must be one. `to` as with WriteTo(); empty for
// a connected socket. Errors as with Write(); after one the descriptors may have been sent or not.
absl::Status SendDescriptors(const Conn& conn, absl::string_view data,
                             absl::Span<const int> descriptors);
absl::Status SendDescriptors(const PacketConn& conn, absl::string_view data,
                             absl::Span<const int> descriptors, const SocketAddress& to = {});

struct UnixMessage {
  size_t size = 0;  // bytes in the buffer; of a stream or a "unixpacket" connection 0 is its end
  std::vector<OwnedFd> descriptors;        // close-on-exec
  std::optional<Credentials> credentials;  // if SetPassCredentials() asked for them
  SocketAddress from;                      // of a PacketConn; empty for a sender without a name
  bool truncated = false;                  // the message is longer than the buffer, its end is lost
  bool descriptors_lost = false;           // more came than fit, or this process may not have more
};

// Reads as Read() does, with the descriptors and credentials that came along. What comes with a
// plain Read() is lost, and the descriptors closed.
absl::StatusOr<UnixMessage> ReceiveDescriptors(const Conn& conn, absl::Span<char> buffer);
absl::StatusOr<UnixMessage> ReceiveDescriptors(const PacketConn& conn, absl::Span<char> buffer);

}  // namespace weft

#endif  // WEFT_NETPOLL_UNIX_H_
