// Where a socket is: an IP address and a port, as a value.
//
//   absl::StatusOr<weft::SocketAddress> a = weft::SocketAddress::Parse("[::1]:80");
//   a->ToString();  // "[::1]:80"
#ifndef WEFT_NETPOLL_ADDRESS_H_
#define WEFT_NETPOLL_ADDRESS_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weft {

// An IPv4 or IPv6 address with its port, or nothing (default-made). Cheap to copy; touches no
// network.
class SocketAddress {
 public:
  SocketAddress() : storage_{} {}

  // From a numeric "127.0.0.1:80", "[::1]:80" or "[fe80::1%eth0]:80"; names are not looked up. An
  // empty host is the IPv6 wildcard. InvalidArgument for anything else.
  static absl::StatusOr<SocketAddress> Parse(absl::string_view text);

  // From what the kernel filled in. Any family but AF_INET and AF_INET6 gives the empty address.
  static SocketAddress FromSockaddr(const sockaddr* address, socklen_t size);

  // "127.0.0.1:80", "[::1]:80"; "" if empty. An IPv4 address in IPv6 clothes, as a dual-stack
  // socket reports them, prints as the IPv4 address that it is.
  std::string ToString() const;

  // The address alone, without brackets: "127.0.0.1", "fe80::1%eth0".
  std::string host() const;

  // In host byte order; 0 if empty.
  uint16_t port() const;

  bool empty() const { return family() == AF_UNSPEC; }

  // AF_INET, AF_INET6, or AF_UNSPEC if empty.
  int family() const { return storage_.any.sa_family; }

  // For system calls. size() is 0 if empty.
  const sockaddr* data() const { return &storage_.any; }
  socklen_t size() const;

  // 127.0.0.0/8 or ::1.
  bool IsLoopback() const;

  // 0.0.0.0 or ::, which stand for all interfaces.
  bool IsUnspecified() const;

  friend bool operator==(const SocketAddress& a, const SocketAddress& b);

 private:
  union Storage {
    sockaddr_in6 v6;  // the largest, so that the constructor clears all
    sockaddr_in v4;
    sockaddr any;
  } storage_;
};

namespace internal {

// "host:port", "[host]:port" or ":port" taken apart; the parts point into `text`.
struct HostPort {
  absl::string_view host;
  absl::string_view port;
};
absl::StatusOr<HostPort> SplitHostPort(absl::string_view text);

// A port's number: digits only, 0 to 65535. False: it is something else.
bool ParsePort(absl::string_view text, uint16_t* port);

}  // namespace internal
}  // namespace weft

#endif  // WEFT_NETPOLL_ADDRESS_H_
