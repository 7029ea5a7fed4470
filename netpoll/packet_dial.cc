// ListenPacket(), DialPacket() and FilePacketConn(): from names and options to datagram sockets.
#include <netinet/in.h>
#include <sys/socket.h>

#include <memory>
#include <utility>
#include <vector>

#include "netpoll/file_socket.h"
#include "netpoll/net_fd.h"
#include "netpoll/packet_access.h"
#include "netpoll/packet_conn.h"
#include "netpoll/resolve.h"
#include "netpoll/syscall.h"

namespace weft {

using internal::Fd;
using internal::IpVersions;
using internal::NetFd;
using internal::OpContext;
using internal::OpError;
using internal::PacketAccess;
using internal::Transport;

namespace {

constexpr absl::string_view kUnix = "unixgram";

// Where to, and by which network.
struct Target {
  absl::string_view network;  // without end
  IpVersions versions = IpVersions::kAny;
  SocketAddress address;
};

absl::StatusOr<Target> FindTarget(absl::string_view op, absl::string_view network,
                                  absl::string_view text, internal::EmptyHost empty_host) {
  const OpContext context = {op, network};
  auto failed = [&](const absl::Status& status) {
    return OpError(context, status.code(), status.message());
  };
  if (network == kUnix) {
    absl::StatusOr<SocketAddress> address = SocketAddress::Unix(text);
    if (!address.ok()) return failed(address.status());
    return Target{kUnix, IpVersions::kAny, *std::move(address)};
  }
  const absl::StatusOr<IpVersions> versions = internal::ParseNetwork(Transport::kUdp, network);
  if (!versions.ok()) return failed(versions.status());
  const absl::StatusOr<std::vector<SocketAddress>> addresses =
      internal::Resolve(Transport::kUdp, *versions, text, empty_host);
  if (!addresses.ok()) return failed(addresses.status());
  return Target{internal::NetworkName(Transport::kUdp, *versions), *versions,
                empty_host == internal::EmptyHost::kAllInterfaces
                    ? internal::ChooseToListen(*versions, *addresses)
                    : addresses->front()};
}

// A socket for `address`, with its options set.
absl::StatusOr<OwnedFd> Open(const OpContext& context, IpVersions versions,
                             const SocketAddress& address, const PacketOptions& options) {
  const int socket = internal::OpenSocket(address.family(), SOCK_DGRAM);
  if (socket < 0) return OpError(context, -socket, "socket");
  OwnedFd fd(socket);
  std::vector<std::pair<int, std::pair<int, int>>> wanted = {{SOL_SOCKET, {SO_BROADCAST, 1}}};
  if (options.reuse_port) wanted.push_back({SOL_SOCKET, {SO_REUSEPORT, 1}});
  if (address.family() == AF_INET6) {
    const bool both = versions == IpVersions::kAny && address.IsUnspecified();
    wanted.push_back({IPPROTO_IPV6, {IPV6_V6ONLY, both ? 0 : 1}});
  }
  for (const auto& [level, option] : wanted) {
    const int error = internal::SetOption(fd.get(), level, option.first, option.second);
    if (error != 0) return OpError(context, -error, "setsockopt");
  }
  if (absl::Status s = internal::RunControl(options.control, context, address, fd.get()); !s.ok()) {
    return s;
  }
  return fd;
}

PacketConn Make(OwnedFd fd, absl::string_view network, SocketAddress remote) {
  const SocketAddress local = internal::AddressOf(fd.get(), getsockname);
  return PacketAccess::Make(
      std::make_shared<NetFd>(fd.release(), Fd::Kind::kSocket, network, local, std::move(remote)));
}

}  // namespace

absl::StatusOr<PacketConn> ListenPacket(absl::string_view network, absl::string_view address,
                                        const PacketOptions& options) {
  const absl::StatusOr<Target> target =
      FindTarget("listen", network, address, internal::EmptyHost::kAllInterfaces);
  if (!target.ok()) return target.status();
  const OpContext context = {"listen", target->network, {}, target->address};
  absl::StatusOr<OwnedFd> fd = Open(context, target->versions, target->address, options);
  if (!fd.ok()) return fd.status();
  if (absl::Status s = internal::Bind(context, target->address, fd->get()); !s.ok()) return s;
  return Make(*std::move(fd), target->network, SocketAddress());
}

absl::StatusOr<PacketConn> DialPacket(absl::string_view network, absl::string_view address,
                                      const PacketOptions& options) {
  const absl::StatusOr<Target> target =
      FindTarget("dial", network, address, internal::EmptyHost::kThisMachine);
  if (!target.ok()) return target.status();
  const SocketAddress& to = target->address;
  const OpContext context = {"dial", target->network, {}, to};
  absl::StatusOr<OwnedFd> fd = Open(context, target->versions, to, options);
  if (!fd.ok()) return fd.status();
  if (!options.local_address.empty()) {
    const SocketAddress local = options.local_address.For(to.family());
    if (absl::Status s = internal::Bind(context, local, fd->get()); !s.ok()) return s;
  }
  const int64_t error = internal::RawSyscall(SYS_connect, fd->get(), to.data(), to.size());
  if (error != 0) return OpError(context, static_cast<int>(-error), "connect");
  return Make(*std::move(fd), target->network, to);
}

absl::StatusOr<PacketConn> FilePacketConn(int fd) {
  const absl::StatusOr<internal::FileSocket> socket = internal::AdoptSocket(fd);
  if (!socket.ok()) return socket.status();
  if (socket->type != SOCK_DGRAM) {
    return absl::InvalidArgumentError("file: not a datagram socket");
  }
  return PacketAccess::Make(std::make_shared<NetFd>(fd, Fd::Kind::kSocket, socket->network,
                                                    socket->local, socket->remote));
}

}  // namespace weft
