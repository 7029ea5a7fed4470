// Datagrams, by UDP and Unix sockets, for goroutines and threads.
//
//   absl::StatusOr<weft::PacketConn> server = weft::ListenPacket("udp", "127.0.0.1:0");
//   char buffer[1500];
//   weft::SocketAddress from;
//   absl::StatusOr<size_t> n = server->ReadFrom(absl::MakeSpan(buffer), &from);
//   if (n.ok()) server->WriteTo(absl::string_view(buffer, *n), from).IgnoreError();
//
//   absl::StatusOr<weft::PacketConn> client = weft::DialPacket("udp", "127.0.0.1:4242");
//   client->Write("ping").IgnoreError();
//
// A PacketConn is a handle as Conn is (net.h): what is said there about copies, about calls from
// several goroutines and threads at once, closing, deadlines and errors holds here too. Each call
// takes or sends whole datagrams; an empty one is a datagram like any other. None allocates memory
// but for errors and the names of Unix sockets.
#ifndef WEFT_NETPOLL_PACKET_CONN_H_
#define WEFT_NETPOLL_PACKET_CONN_H_

#include <cstddef>
#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "netpoll/address.h"
#include "netpoll/error.h"
#include "netpoll/socket_control.h"

namespace weft {

namespace internal {
class NetFd;
struct PacketAccess;
}  // namespace internal

struct PacketOptions {
  // SO_REUSEPORT: several sockets, also of several processes, share the port and the system spreads
  // datagrams over them.
  bool reuse_port = false;
  // For DialPacket(): this end's address. Empty: the system chooses, which leaves a Unix socket
  // without a name, so that nobody can answer it.
  SocketAddress local_address = {};
  SocketControl control = {};
};

// One datagram to be received, into `buffer`.
struct InPacket {
  absl::Span<char> buffer;
  // Filled in: how much of the buffer the datagram took, who sent it (empty for a Unix socket
  // without a name), and whether it did not fit, so that its end is lost.
  size_t size = 0;
  SocketAddress from = {};
  bool truncated = false;
};

// One datagram to be sent. `to` is empty where the socket is connected, and only there.
struct OutPacket {
  absl::string_view data;
  SocketAddress to = {};
};

class PacketConn {
 public:
  // A socket of nothing: every operation fails with an IsClosed() error.
  PacketConn() = default;

  // Waits for a datagram and takes it; one that is larger than `buffer` loses its end. Returns how
  // many bytes it took: 0 is an empty datagram, or an empty buffer. *from becomes who sent it.
  //
  // Errors: IsTimeout() once the read deadline has passed, even if there is a datagram; IsClosed();
  // the system's, such as ECONNREFUSED where a datagram that was sent to the peer came back. May
  // park.
  absl::StatusOr<size_t> Read(absl::Span<char> buffer) const;
  absl::StatusOr<size_t> ReadFrom(absl::Span<char> buffer, SocketAddress* from) const;

  // Waits for a datagram, and takes all that are there by then, at most as many as `packets` has
  // room for, by as few system calls as can be (recvmmsg). Returns how many; 0 only if `packets` is
  // empty. Errors as with Read().
  absl::StatusOr<size_t> ReadBatch(absl::Span<InPacket> packets) const;

  // Sends one datagram to the peer of a connected socket. Waits while the system has no room for
  // it.
  //
  // Errors: IsTimeout() once the write deadline has passed, even if there is room; IsClosed(); the
  // system's (EMSGSIZE, EDESTADDRREQ where the socket is not connected, ...). May park.
  absl::Status Write(absl::string_view data) const;

  // Sends one to `to`. FailedPrecondition "use of WriteTo with pre-connected connection" on a
  // connected socket, InvalidArgument "missing address", or for an address of another family than
  // the socket's.
  absl::Status WriteTo(absl::string_view data, const SocketAddress& to) const;

  // Sends all of them in order, by as few system calls as can be (sendmmsg). *sent, if given, is
  // how many it were, also after an error. Errors as with WriteTo().
  absl::Status WriteBatch(absl::Span<const OutPacket> packets, size_t* sent = nullptr) const;

  // As Conn has them.
  absl::Status SetDeadline(absl::Time deadline) const;
  absl::Status SetReadDeadline(absl::Time deadline) const;
  absl::Status SetWriteDeadline(absl::Time deadline) const;
  absl::Status SetReadBuffer(int bytes) const;
  absl::Status SetWriteBuffer(int bytes) const;
  absl::Status Close() const;
  absl::string_view network() const;
  SocketAddress local_address() const;
  // Empty if the socket is not connected.
  SocketAddress remote_address() const;
  absl::Status Control(absl::FunctionRef<void(int fd)> call) const;
  int fd() const;
  absl::StatusOr<int> Dup() const;
  absl::StatusOr<int> Release() const;

  explicit operator bool() const { return fd_ != nullptr; }

 private:
  friend struct internal::PacketAccess;
  explicit PacketConn(std::shared_ptr<internal::NetFd> fd) : fd_(std::move(fd)) {}

  std::shared_ptr<internal::NetFd> fd_;
};

// A socket that datagrams from anybody come to. `network` is "udp", "udp4" or "udp6", with
// `address` as for Listen() (net.h); or "unixgram", with a path at which no file may be yet, or an
// abstract name after '@'. The file stays when the socket is closed. Broadcasts may be sent. Errors
// as Listen() has them.
absl::StatusOr<PacketConn> ListenPacket(absl::string_view network, absl::string_view address,
                                        const PacketOptions& options = {});

// A socket that sends to `address`, and takes datagrams from there alone. UDP asks nobody: that
// nothing listens there may show as ECONNREFUSED in a later call.
absl::StatusOr<PacketConn> DialPacket(absl::string_view network, absl::string_view address,
                                      const PacketOptions& options = {});

// As FileConn() (net.h), for datagram sockets.
absl::StatusOr<PacketConn> FilePacketConn(int fd);

}  // namespace weft

#endif  // WEFT_NETPOLL_PACKET_CONN_H_
