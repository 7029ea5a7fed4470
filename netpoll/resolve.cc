#include "netpoll/resolve.h"

#include <netdb.h>

#include <algorithm>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
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

absl::Status LookupError(int error, absl::string_view host, absl::string_view port) {
  switch (error) {
    case EAI_SERVICE:
      return absl::NotFoundError(absl::StrCat("lookup tcp/", port, ": unknown port"));
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

absl::StatusOr<std::vector<SocketAddress>> Lookup(IpVersions versions, const std::string& host,
                                                  const std::string& port) {
  addrinfo hints = {};
  hints.ai_family = Family(versions);
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  int error;
  {
    BlockingSection section(BlockingSection::Expect::kLong);
    error = getaddrinfo(host.c_str(), port.c_str(), &hints, &list);
  }
  if (error != 0) return LookupError(error, host, port);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    SocketAddress address = SocketAddress::FromSockaddr(a->ai_addr, a->ai_addrlen);
    if (!address.empty()) addresses.push_back(address);
  }
  if (addresses.empty()) return LookupError(EAI_NONAME, host, port);
  return addresses;
}

}  // namespace

absl::StatusOr<IpVersions> ParseNetwork(absl::string_view network) {
  if (network == "tcp") return IpVersions::kAny;
  if (network == "tcp4") return IpVersions::k4;
  if (network == "tcp6") return IpVersions::k6;
  return absl::InvalidArgumentError(absl::StrCat("unknown network ", network));
}

absl::StatusOr<std::vector<SocketAddress>> Resolve(IpVersions versions, absl::string_view host_port,
                                                   EmptyHost empty_host) {
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
  return Lookup(versions, std::string(host), std::string(parts->port));
}

absl::Time PartialDeadline(absl::Time now, absl::Time deadline, int addresses_left) {
  if (deadline == absl::InfiniteFuture() || now >= deadline) return deadline;
  const absl::Duration left = deadline - now;
  const absl::Duration share = std::max(left / addresses_left, std::min(left, absl::Seconds(2)));
  return now + share;
}

}  // namespace weft::internal
