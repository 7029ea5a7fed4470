// From "host:port" to socket addresses.
#ifndef WEFT_NETPOLL_RESOLVE_H_
#define WEFT_NETPOLL_RESOLVE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "netpoll/address.h"
#include "sched/sync/internal/interruption.h"

namespace weft::internal {

enum class Transport { kTcp, kUdp };

// Which addresses a network's name admits.
enum class IpVersions { kAny, k4, k6 };

// From "tcp", "tcp4" or "tcp6", or "udp", ...; InvalidArgument "unknown network ..." for others.
absl::StatusOr<IpVersions> ParseNetwork(Transport transport, absl::string_view network);

// And back; the name has no end.
absl::string_view NetworkName(Transport transport, IpVersions versions);

// What an empty host means.
enum class EmptyHost { kAllInterfaces, kThisMachine };

// The addresses that `host_port` names, at least one, in the order in which they should be tried.
// Numeric ones are parsed here; names, of hosts and of services, go to getaddrinfo(3) in a
// BlockingSection.
//
// Errors: InvalidArgument for bad syntax, NotFound "lookup <host>: no such host", Unavailable if
// the name service fails. The texts have no front.
absl::StatusOr<std::vector<SocketAddress>> Resolve(Transport transport, IpVersions versions,
                                                   absl::string_view host_port,
                                                   EmptyHost empty_host);

// The same, but for no longer than until `deadline`, then DeadlineExceeded "lookup <host>: i/o
// timeout", or until the interruption comes, then *interrupted. A lookup that is under way then
// ends by itself, on a goroutine of its own.
absl::StatusOr<std::vector<SocketAddress>> ResolveUntil(Transport transport, IpVersions versions,
                                                        absl::string_view host_port,
                                                        EmptyHost empty_host, absl::Time deadline,
                                                        Interruption interruption,
                                                        bool* interrupted);

// What is to be looked up: a name, and a port's number or name.
struct Query {
  Transport transport;
  IpVersions versions;
  std::string host;
  std::string port;
};

// Another way to look names up than getaddrinfo(3), until `deadline`, or until `cancel_fd`, if it
// is not -1, becomes readable: then any error. *cannot: ask getaddrinfo(3).
using LookupFunction = absl::StatusOr<std::vector<SocketAddress>> (*)(const Query& query,
                                                                      absl::Time deadline,
                                                                      int cancel_fd, bool* cannot);
// Null: getaddrinfo(3) alone, as in the beginning.
void SetLookupFunction(LookupFunction function);

// "lookup <host>: no such host", and "lookup tcp/<port>: unknown port".
absl::Status NoSuchHost(const Query& query);
absl::Status UnknownPort(const Query& query);

// AF_UNSPEC for any.
int FamilyOf(IpVersions versions);

// The one of `addresses` to listen on: the first of IPv4 if there is one. Where it is the IPv6
// wildcard, any version will do, and the system has no sockets that take both, IPv4's wildcard.
SocketAddress ChooseToListen(IpVersions versions, const std::vector<SocketAddress>& addresses);

// How long the first of `addresses_left` may be tried, when all of them must be done by `deadline`:
// an even share, but two seconds at least while there is as much. `now` >= `deadline` gives
// `deadline`.
absl::Time PartialDeadline(absl::Time now, absl::Time deadline, int addresses_left);

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_RESOLVE_H_
