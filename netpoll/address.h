// Where a socket is: an IP address and a port, as a value.
//
//   absl::StatusOr<weft::SocketAddress> a = weft::SocketAddress::Parse("[::1]:80");
//   a->ToString();  // "[::1]:80"
#ifndef WEFT_NETPOLL_ADDRESS_H_
#define WEFT_NETPOLL_ADDRESS_H_

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weft {

// An IPv4 or IPv6 address with its port, the name of a Unix socket, or nothing (default-made).
// Cheap to copy; touches no network.
class SocketAddress {
 public:
  SocketAddress() : storage_{} {}

  // From a numeric "127.0.0.1:80", "[::1]:80" or "[fe80::1%eth0]:80"; names are not looked up. An
  // empty host is the IPv6 wildcard. InvalidArgument for anything else.
  static absl::StatusOr<SocketAddress> Parse(absl::string_view text);

  // A Unix socket's name: the path of a file, or after '@' a name in the abstract namespace, which
  // no file stands for. "@" alone lets the system choose an abstract name where it is listened on.
  // InvalidArgument for an empty name, and one of more than 107 bytes. Allocates.
  static absl::StatusOr<SocketAddress> Unix(absl::string_view name);

  // From what the kernel filled in. A Unix socket without a name, and any family but AF_INET,
  // AF_INET6 and AF_UNIX, gives the empty address.
  static SocketAddress FromSockaddr(const sockaddr* address, socklen_t size);

  // "127.0.0.1:80", "[::1]:80", "/run/x.sock", "@x"; "" if empty. An IPv4 address in IPv6 clothes,
  // as a dual-stack socket reports them, prints as the IPv4 address that it is.
  std::string ToString() const;

  // The address alone, without brackets: "127.0.0.1", "fe80::1%eth0"; a Unix socket's name.
  std::string host() const;

  // In host byte order; 0 if empty or a Unix socket's.
  uint16_t port() const;

  bool empty() const { return family() == AF_UNSPEC; }

  // AF_INET, AF_INET6, AF_UNIX, or AF_UNSPEC if empty.
  int family() const { return storage_.any.sa_family; }

  // For system calls, while this object exists. size() is 0 if empty.
  const sockaddr* data() const {
    return unix_ == nullptr ? &storage_.any : reinterpret_cast<const sockaddr*>(&unix_->address);
  }
  socklen_t size() const;

  // This address for a socket of `family`: an IPv4 one in IPv6 clothes, or out of them; else
  // unchanged.
  SocketAddress For(int family) const;

  // 127.0.0.0/8 or ::1.
  bool IsLoopback() const;

  // 0.0.0.0 or ::, which stand for all interfaces.
  bool IsUnspecified() const;

  friend bool operator==(const SocketAddress& a, const SocketAddress& b);

 private:
  struct UnixName {
    sockaddr_un address;
    socklen_t size;
  };

  union Storage {
    sockaddr_in6 v6;  // the largest, so that the constructor clears all
    sockaddr_in v4;
    sockaddr any;
  } storage_;
  // Apart, since it is four times as large and most addresses are none: null for the others.
  std::shared_ptr<const UnixName> unix_;
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
