// Looking names up without blocking a thread: c-ares on the netpoller.
//
//   int main() {
//     return weft::Main([] {
//       weft::UseResolver().IgnoreError();  // before the first Dial()
//       ...
//
// Dial(), Listen() and the like ask getaddrinfo(3), which blocks a thread for each lookup, in a
// program that does not link this or does not call UseResolver(). With it names are looked up in
// /etc/hosts, then by DNS (A and AAAA, the search list of /etc/resolv.conf, TCP after truncated
// answers), by a goroutine that waits in the netpoller; and a lookup ends with the Dial() that
// asked for it, by a deadline or its Context. What the system has beside that, as mDNS, is not
// asked. getaddrinfo(3) remains for what c-ares cannot do.
#ifndef WEFT_NETPOLL_RESOLVER_H_
#define WEFT_NETPOLL_RESOLVER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "netpoll/address.h"

namespace weft {

struct ResolverOptions {
  // Who is asked, in this order. Empty: the name servers of /etc/resolv.conf.
  std::vector<SocketAddress> servers = {};
  // How long the first try waits for a server's answer (in milliseconds, rounded up); later rounds
  // wait longer.
  absl::Duration timeout = absl::Seconds(5);
  // How often each server is asked.
  int tries = 3;
  // Appended to names with fewer than `ndots` dots. Empty: as /etc/resolv.conf has them.
  std::vector<std::string> search = {};
};

// From now on names are looked up by c-ares, with these options. From any thread; lookups that are
// under way keep theirs. Unavailable if the library cannot be initialized; then nothing changes.
absl::Status UseResolver(const ResolverOptions& options = {});

// Back to getaddrinfo(3) alone.
void UseSystemResolver();

}  // namespace weft

#endif  // WEFT_NETPOLL_RESOLVER_H_
