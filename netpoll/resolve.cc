#include "netpoll/resolve.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
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

std::atomic<LookupFunction> lookup_function{nullptr};

absl::string_view EmptyHostAddress(IpVersions versions, EmptyHost empty_host) {
  if (empty_host == EmptyHost::kAllInterfaces) {
    return versions == IpVersions::k4 ? "0.0.0.0" : "::";
  }
  return versions == IpVersions::k6 ? "::1" : "127.0.0.1";
}

absl::Status LookupError(const Query& query, int error) {
  switch (error) {
    case EAI_SERVICE:
      return UnknownPort(query);
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
      return NoSuchHost(query);
    case EAI_MEMORY:
      return absl::ResourceExhaustedError(
          absl::StrCat("lookup ", query.host, ": ", gai_strerror(error)));
    default:
      return absl::UnavailableError(absl::StrCat("lookup ", query.host, ": ", gai_strerror(error)));
  }
}

absl::StatusOr<std::vector<SocketAddress>> Lookup(const Query& query, absl::Time deadline,
                                                  int cancel_fd) {
  if (const LookupFunction function = lookup_function.load(std::memory_order_acquire);
      function != nullptr) {
    bool cannot = false;
    absl::StatusOr<std::vector<SocketAddress>> found =
        function(query, deadline, cancel_fd, &cannot);
    if (!cannot) return found;
  }
  const auto& [transport, versions, host, port] = query;
  addrinfo hints = {};
  hints.ai_family = FamilyOf(versions);
  hints.ai_socktype = transport == Transport::kTcp ? SOCK_STREAM : SOCK_DGRAM;
  addrinfo* list = nullptr;
  int error;
  {
    BlockingSection section(BlockingSection::Expect::kLong);
    error = getaddrinfo(host.c_str(), port.c_str(), &hints, &list);
  }
  if (error != 0) return LookupError(query, error);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    SocketAddress address = SocketAddress::FromSockaddr(a->ai_addr, a->ai_addrlen);
    if (!address.empty()) addresses.push_back(address);
  }
  if (addresses.empty()) return LookupError(query, EAI_NONAME);
  return addresses;
}

// Looks up on another goroutine, whose thread getaddrinfo() may block for as long as it likes, and
// waits for it no longer than the caller wants to.
absl::StatusOr<std::vector<SocketAddress>> LookupUntil(Query query, absl::Time deadline,
                                                       Interruption interruption,
                                                       bool* interrupted) {
  if (deadline == absl::InfiniteFuture() && interruption.ops == nullptr)
    return Lookup(query, deadline, -1);
  struct Shared {
    Query query;
    // Readable when nobody waits any more. -1, if the system has none: then a lookup goes on.
    OwnedFd cancel{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    absl::Time deadline;
    Waiter* waiter = nullptr;
    std::atomic<bool> done{false};
    absl::StatusOr<std::vector<SocketAddress>> result = absl::UnknownError("");
  };
  Interruptible self(interruption);
  const auto shared = std::make_shared<Shared>();
  shared->query = std::move(query);
  shared->deadline = deadline;
  shared->waiter = self.waiter();
  Go({.name = "lookup"}, [shared] {
    shared->result = Lookup(shared->query, shared->deadline, shared->cancel.get());
    // Release: pairs with the acquire below, so that the caller sees the result.
    shared->done.store(true, std::memory_order_release);
    shared->waiter->Unpark();
  });
  const Instant until = Instant::FromTime(deadline);
  for (;;) {
    if (shared->done.load(std::memory_order_acquire)) return std::move(shared->result);
    if (self.has_come()) {
      if (shared->cancel) eventfd_write(shared->cancel.get(), 1);
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

int FamilyOf(IpVersions versions) {
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

void SetLookupFunction(LookupFunction function) {
  // Release: pairs with the acquire in Lookup(), for what the function uses.
  lookup_function.store(function, std::memory_order_release);
}

absl::Status NoSuchHost(const Query& query) {
  return absl::NotFoundError(absl::StrCat("lookup ", query.host, ": no such host"));
}

absl::Status UnknownPort(const Query& query) {
  return absl::NotFoundError(absl::StrCat("lookup ", NetworkName(query.transport, IpVersions::kAny),
                                          "/", query.port, ": unknown port"));
}

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
      const int family = FamilyOf(versions);
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
