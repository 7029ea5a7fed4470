// Listen() and Dial(): from names and options to sockets, TCP's here.
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "netpoll/dial_race.h"
#include "netpoll/net.h"
#include "netpoll/net_access.h"
#include "netpoll/net_fd.h"
#include "netpoll/resolve.h"

namespace weft {
namespace internal {
namespace {

absl::StatusOr<Listener> ListenOn(IpVersions versions, const SocketAddress& address,
                                  const ListenOptions& options) {
  const OpContext context = {"listen", NetworkName(Transport::kTcp, versions), {}, address};
  const int socket = OpenSocket(address.family(), SOCK_STREAM);
  if (socket < 0) return OpError(context, -socket, "socket");
  OwnedFd fd(socket);

  struct Option {
    int level, option, value;
  };
  std::vector<Option> wanted = {{SOL_SOCKET, SO_REUSEADDR, 1}, {IPPROTO_TCP, TCP_NODELAY, 1}};
  if (options.reuse_port) wanted.push_back({SOL_SOCKET, SO_REUSEPORT, 1});
  if (address.family() == AF_INET6) {
    const bool both = versions == IpVersions::kAny && address.IsUnspecified();
    wanted.push_back({IPPROTO_IPV6, IPV6_V6ONLY, both ? 0 : 1});
  }
  for (const Option& o : wanted) {
    if (const int error = SetOption(fd.get(), o.level, o.option, o.value); error != 0) {
      return OpError(context, -error, "setsockopt");
    }
  }
  if (const int error = ApplyKeepAlive(fd.get(), options.keep_alive); error != 0) {
    return OpError(context, -error, "setsockopt");
  }
  if (absl::Status s = RunControl(options.control, context, address, fd.get()); !s.ok()) return s;
  if (absl::Status s = Bind(context, address, fd.get()); !s.ok()) return s;
  return StartListening(context, std::move(fd), options.backlog);
}

absl::StatusOr<Conn> DialOnce(IpVersions versions, const SocketAddress& address,
                              absl::Time deadline, const DialOptions& options,
                              DialAttempt* attempt) {
  const OpContext context = {"dial", NetworkName(Transport::kTcp, versions), {}, address};
  const int socket = OpenSocket(address.family(), SOCK_STREAM);
  if (socket < 0) return OpError(context, -socket, "socket");
  OwnedFd fd(socket);
  if (int error = SetOption(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1); error != 0) {
    return OpError(context, -error, "setsockopt");
  }
  if (int error = ApplyKeepAlive(fd.get(), options.keep_alive); error != 0) {
    return OpError(context, -error, "setsockopt");
  }

  if (absl::Status s = RunControl(options.control, context, address, fd.get()); !s.ok()) return s;
  if (!options.local_address.empty()) {
    const SocketAddress local = options.local_address.For(address.family());
    if (absl::Status s = Bind(context, local, fd.get()); !s.ok()) return s;
  }
  auto conn = std::make_shared<NetFd>(fd.release(), Fd::Kind::kTcp, context.network,
                                      options.local_address, address);
  if (attempt != nullptr && !attempt->Publish(conn)) {
    return OpError(context, IoResult::kClosing, "");
  }
  return Connect(context, std::move(conn), address, deadline);
}

// Dialling a free port of this machine from the range that the system chooses local ports from, it
// can happen that the two are the same and the socket connects to itself.
bool IsSelfConnect(const Conn& conn) { return conn.local_address() == conn.remote_address(); }

absl::StatusOr<Conn> DialAddress(IpVersions versions, const SocketAddress& address,
                                 absl::Time deadline, const DialOptions& options,
                                 DialAttempt* attempt) {
  absl::StatusOr<Conn> conn = DialOnce(versions, address, deadline, options, attempt);
  for (int i = 0; i < 2; ++i) {
    const bool again = conn.ok() ? IsSelfConnect(*conn) : ErrnoOf(conn.status()) == EADDRNOTAVAIL;
    if (!again) break;
    if (conn.ok()) conn->Close().IgnoreError();
    conn = DialOnce(versions, address, deadline, options, attempt);
  }
  return conn;
}

// The error of a dial that a Context's end has ended, as Go words it.
absl::Status Interrupted(const OpContext& context, absl::FunctionRef<absl::Status()> why) {
  const absl::Status status = why();
  if (absl::IsDeadlineExceeded(status)) return OpError(context, IoResult::kTimeout, "");
  return OpError(context, absl::StatusCode::kCancelled, "operation was canceled");
}

absl::StatusOr<Conn> DialTcp(IpVersions versions, absl::string_view text, absl::Time deadline,
                             const DialOptions& options, Interruption interruption,
                             absl::FunctionRef<absl::Status()> why) {
  const OpContext context = {"dial", NetworkName(Transport::kTcp, versions)};
  bool interrupted = false;
  const absl::StatusOr<std::vector<SocketAddress>> addresses =
      ResolveUntil(Transport::kTcp, versions, text, EmptyHost::kThisMachine, deadline, interruption,
                   &interrupted);
  if (interrupted) return Interrupted(context, why);
  if (!addresses.ok()) {
    return OpError(context, addresses.status().code(), addresses.status().message());
  }
  if (addresses->size() == 1 && interruption.ops == nullptr) {
    return DialAddress(versions, addresses->front(), deadline, options, nullptr);
  }
  absl::StatusOr<Conn> conn = RaceDials(
      InterleaveFamilies(*addresses), {deadline, options.attempt_delay, interruption},
      [&](const SocketAddress& address, absl::Time until, DialAttempt* attempt) {
        return DialAddress(versions, address, until, options, attempt);
      },
      &interrupted);
  if (interrupted) return Interrupted(context, why);
  return conn;
}

}  // namespace

absl::StatusOr<Conn> DialUnless(Interruption interruption, absl::FunctionRef<absl::Status()> why,
                                absl::Time deadline, absl::string_view network,
                                absl::string_view address, const DialOptions& options) {
  const OpContext context = {"dial", network};
  if (!why().ok()) return Interrupted(context, why);
  deadline = std::min({deadline, absl::Now() + options.timeout, options.deadline});
  if (deadline <= absl::Now()) return OpError(context, IoResult::kTimeout, "");
  // These never wait.
  if (const UnixNetwork unix_network = ParseUnixNetwork(network); unix_network.type != 0) {
    return DialUnix(unix_network, address, deadline, options);
  }
  const absl::StatusOr<IpVersions> versions = ParseNetwork(Transport::kTcp, network);
  if (!versions.ok()) {
    return OpError(context, versions.status().code(), versions.status().message());
  }
  return DialTcp(*versions, address, deadline, options, interruption, why);
}

}  // namespace internal

absl::StatusOr<Listener> Listen(absl::string_view network, absl::string_view address,
                                const ListenOptions& options) {
  using internal::IpVersions;
  using internal::Transport;
  if (const auto unix_network = internal::ParseUnixNetwork(network); unix_network.type != 0) {
    return internal::ListenUnix(unix_network, address, options);
  }
  const internal::OpContext context = {"listen", network};
  const absl::StatusOr<IpVersions> versions = internal::ParseNetwork(Transport::kTcp, network);
  if (!versions.ok()) {
    return internal::OpError(context, versions.status().code(), versions.status().message());
  }
  const absl::StatusOr<std::vector<SocketAddress>> addresses =
      internal::Resolve(Transport::kTcp, *versions, address, internal::EmptyHost::kAllInterfaces);
  if (!addresses.ok()) {
    return internal::OpError(context, addresses.status().code(), addresses.status().message());
  }
  return internal::ListenOn(*versions, internal::ChooseToListen(*versions, *addresses), options);
}

absl::StatusOr<Conn> Dial(absl::string_view network, absl::string_view address,
                          const DialOptions& options) {
  return internal::DialUnless(
      {}, [] { return absl::OkStatus(); }, absl::InfiniteFuture(), network, address, options);
}

}  // namespace weft
