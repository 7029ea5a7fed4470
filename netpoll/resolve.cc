#include "netpoll/resolve.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "netpoll/interruptible.h"
#include "netpoll/op_error.h"
#include "netpoll/owned_fd.h"
#include "sched/clock.h"
#include "sched/goroutine.h"

namespace weft::internal {
namespace {

int Family(IpVersions versions) {
  switch (versions) {
    case IpVersions::kAny:
      return AF_UNSPEC;
    case IpVersions::k4:
      return AF_INET;
    case IpVersions::k6:
      return AF_INET6;
  }
  __builtin_unreachable();
}

absl::string_view EmptyHostAddress(IpVersions versions, EmptyHost empty_host) {
  if (empty_host == EmptyHost::kAllInterfaces) {
    return versions == IpVersions::k4 ? "0.0.0.0" : "::";
  }
  return versions == IpVersions::k6 ? "::1" : "127.0.0.1";
}

absl::Status LookupError(Transport transport, int error, absl::string_view host,
                         absl::string_view port) {
  switch (error) {
    case EAI_SERVICE:
      return absl::NotFoundError(absl::StrCat("lookup ", NetworkName(transport, IpVersions::kAny),
                                              "/", port, ": unknown port"));
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
      return absl::NotFoundError(absl::StrCat("lookup ", host, ": no such host"));
    case EAI_MEMORY:
      return absl::ResourceExhaustedError(absl::StrCat("lookup ", host, ": ", gai_strerror(error)));
    default:
      return absl::UnavailableError(absl::StrCat("lookup ", host, ": ", gai_strerror(error)));
  }
}

// What is to be looked up: a name, and a number or a name.
struct Query {
  Transport transport;
  IpVersions versions;
  std::string host;
  std::string port;
};

absl::StatusOr<std::vector<SocketAddress>> Lookup(const Query& query) {
  const auto& [transport, versions, host, port] = query;
  addrinfo hints = {};
  hints.ai_family = Family(versions);
  hints.ai_socktype = transport == Transport::kTcp ? SOCK_STREAM : SOCK_DGRAM;
  addrinfo* list = nullptr;
  int error;
  {
    BlockingSection section(BlockingSection::Expect::kLong);
    error = getaddrinfo(host.c_str(), port.c_str(), &hints, &list);
  }
  if (error != 0) return LookupError(transport, error, host, port);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    SocketAddress address = SocketAddress::FromSockaddr(a->ai_addr, a->ai_addrlen);
    if (!address.empty()) addresses.push_back(address);
  }
  if (addresses.empty()) return LookupError(transport, EAI_NONAME, host, port);
  return addresses;
}

// Looks up on another goroutine, whose thread getaddrinfo() blocks for as long as it likes, and
// waits for it no longer than the caller wants to.
absl::StatusOr<std::vector<SocketAddress>> LookupUntil(Query query, absl::Time deadline,
                                                       Interruption interruption,
                                                       bool* interrupted) {
  if (deadline == absl::InfiniteFuture() && interruption.ops == nullptr) return Lookup(query);
  struct Shared {
    Query query;
    Waiter* waiter = nullptr;
    std::atomic<bool> done{false};
    absl::StatusOr<std::vector<SocketAddress>> result = absl::UnknownError("");
  };
  Interruptible self(interruption);
  const auto shared = std::make_shared<Shared>();
  shared->query = std::move(query);
  shared->waiter = self.waiter();
  Go({.name = "lookup"}, [shared] {
    shared->result = Lookup(shared->query);
    // Release: pairs with the acquire below, so that the caller sees the result.
    shared->done.store(true, std::memory_order_release);
    shared->waiter->Unpark();
  });
  const Instant until = Instant::FromTime(deadline);
  for (;;) {
    if (shared->done.load(std::memory_order_acquire)) return std::move(shared->result);
    if (self.has_come()) {
      *interrupted = true;
      return absl::CancelledError("");
    }
    if (Instant::Now() >= until) {
      return TimeoutError(absl::StrCat("lookup ", shared->query.host, ": "));
    }
    self.Park(until);
  }
}

// Whether the system can have an IPv6 socket that takes IPv4 connections too. Asked once.
bool HasDualStack() {
  static const bool has = [] {
    const OwnedFd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int off = 0;
    if (!fd || setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0)
      return false;
    sockaddr_in6 any = {};
    any.sin6_family = AF_INET6;
    return bind(fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)) == 0;
  }();
  return has;
}

}  // namespace

absl::string_view NetworkName(Transport transport, IpVersions versions) {
  const bool tcp = transport == Transport::kTcp;
  switch (versions) {
    case IpVersions::kAny:
      return tcp ? "tcp" : "udp";
    case IpVersions::k4:
      return tcp ? "tcp4" : "udp4";
    case IpVersions::k6:
      return tcp ? "tcp6" : "udp6";
  }
  __builtin_unreachable();
}

absl::StatusOr<IpVersions> ParseNetwork(Transport transport, absl::string_view network) {
  for (const IpVersions versions : {IpVersions::kAny, IpVersions::k4, IpVersions::k6}) {
    if (network == NetworkName(transport, versions)) return versions;
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown network ", network));
}

absl::StatusOr<std::vector<SocketAddress>> Resolve(Transport transport, IpVersions versions,
                                                   absl::string_view host_port,
                                                   EmptyHost empty_host) {
  bool interrupted;
  return ResolveUntil(transport, versions, host_port, empty_host, absl::InfiniteFuture(), {},
                      &interrupted);
}

absl::StatusOr<std::vector<SocketAddress>> ResolveUntil(Transport transport, IpVersions versions,
                                                        absl::string_view host_port,
                                                        EmptyHost empty_host, absl::Time deadline,
                                                        Interruption interruption,
                                                        bool* interrupted) {
  *interrupted = false;
  const absl::StatusOr<HostPort> parts = SplitHostPort(host_port);
  if (!parts.ok()) return parts.status();
  const absl::string_view host =
      parts->host.empty() ? EmptyHostAddress(versions, empty_host) : parts->host;
  // As in Go an empty port is port 0.
  uint16_t number = 0;
  const bool numeric_port = parts->port.empty() || ParsePort(parts->port, &number);
  if (!numeric_port && absl::ascii_isdigit(parts->port[0])) {
    return absl::InvalidArgumentError(absl::StrCat("address ", host_port, ": invalid port"));
  }
  if (numeric_port) {
    if (auto address = SocketAddress::Parse(absl::StrCat("[", host, "]:", number)); address.ok()) {
      const int family = Family(versions);
      if (family != AF_UNSPEC && family != address->family()) {
        return absl::InvalidArgumentError(
            absl::StrCat("address ", host, ": no suitable address found"));
      }
      return std::vector<SocketAddress>{*address};
    }
  }
  return LookupUntil({transport, versions, std::string(host), std::string(parts->port)}, deadline,
                     interruption, interrupted);
}

SocketAddress ChooseToListen(IpVersions versions, const std::vector<SocketAddress>& addresses) {
  for (const SocketAddress& address : addresses) {
    if (address.family() == AF_INET) return address;
  }
  const SocketAddress& first = addresses.front();
  if (versions != IpVersions::kAny || !first.IsUnspecified() || HasDualStack()) return first;
  sockaddr_in any = {};
  any.sin_family = AF_INET;
  any.sin_port = htons(first.port());
  return SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&any), sizeof(any));
}

absl::Time PartialDeadline(absl::Time now, absl::Time deadline, int addresses_left) {
  if (deadline == absl::InfiniteFuture() || now >= deadline) return deadline;
  const absl::Duration left = deadline - now;
  const absl::Duration share = std::max(left / addresses_left, std::min(left, absl::Seconds(2)));
  return now + share;
}

}  // namespace weft::internal
