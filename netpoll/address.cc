#include "netpoll/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stddef.h>
#include <string.h>

#include <algorithm>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace weft {
namespace internal {

absl::StatusOr<HostPort> SplitHostPort(absl::string_view text) {
  auto error = [text](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("address ", text, ": ", why));
  };
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return error("missing port in address");
  HostPort parts;
  parts.port = text.substr(colon + 1);
  if (!text.empty() && text[0] == '[') {
    const size_t end = text.find(']');
    if (end == absl::string_view::npos) return error("missing ']' in address");
    if (end + 1 == text.size()) return error("missing port in address");
    if (end + 1 != colon) return error("too many colons in address");
    parts.host = text.substr(1, end - 1);
  } else {
    parts.host = text.substr(0, colon);
    if (parts.host.find(':') != absl::string_view::npos) {
      return error("too many colons in address");
    }
  }
  if (parts.host.find_first_of("[]") != absl::string_view::npos ||
      parts.port.find_first_of("[]") != absl::string_view::npos) {
    return error("unexpected bracket in address");
  }
  return parts;
}

bool ParsePort(absl::string_view text, uint16_t* port) {
  uint32_t value = 0;
  for (const char c : text) {
    if (!absl::ascii_isdigit(c)) return false;
    value = value * 10 + (c - '0');
    if (value > 65535) return false;
  }
  *port = static_cast<uint16_t>(value);
  return !text.empty();
}

}  // namespace internal

namespace {

// Where the name begins in a sockaddr_un.
constexpr socklen_t kUnixPath = offsetof(sockaddr_un, sun_path);

// inet_pton wants a terminated string. False: not numeric.
bool ParseIp(absl::string_view host, uint16_t port, sockaddr_storage* out, socklen_t* size) {
  char text[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
  if (host.size() >= sizeof(text)) return false;
  *std::copy(host.begin(), host.end(), text) = '\0';

  memset(out, 0, sizeof(*out));
  auto* v4 = reinterpret_cast<sockaddr_in*>(out);
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    *size = sizeof(*v4);
    return true;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(out);
  if (char* zone = strchr(text, '%'); zone != nullptr) {
    *zone++ = '\0';
    uint32_t index = if_nametoindex(zone);
    if (index == 0 && !absl::SimpleAtoi(zone, &index)) return false;
    v6->sin6_scope_id = index;
  }
  if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1) return false;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(port);
  *size = sizeof(*v6);
  return true;
}

}  // namespace

absl::StatusOr<SocketAddress> SocketAddress::Parse(absl::string_view text) {
  absl::StatusOr<internal::HostPort> parts = internal::SplitHostPort(text);
  if (!parts.ok()) return parts.status();
  uint16_t port;
  if (!internal::ParsePort(parts->port, &port)) {
    return absl::InvalidArgumentError(absl::StrCat("address ", text, ": invalid port"));
  }
  sockaddr_storage address;
  socklen_t size;
  if (!ParseIp(parts->host.empty() ? "::" : parts->host, port, &address, &size)) {
    return absl::InvalidArgumentError(absl::StrCat("address ", text, ": not an IP address"));
  }
  return FromSockaddr(reinterpret_cast<const sockaddr*>(&address), size);
}

SocketAddress SocketAddress::FromSockaddr(const sockaddr* address, socklen_t size) {
  SocketAddress result;
  if (address->sa_family == AF_INET && size >= sizeof(sockaddr_in)) {
    memcpy(&result.storage_, address, sizeof(sockaddr_in));
  } else if (address->sa_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    memcpy(&result.storage_, address, sizeof(sockaddr_in6));
  } else if (address->sa_family == AF_UNIX && size > kUnixPath) {
    UnixName name = {};
    // One more is what the kernel reports for a path that fills the structure.
    size = std::min<socklen_t>(size, sizeof(sockaddr_un));
    memcpy(&name.address, address, size);
    name.size = size;
    // A path ends at its null byte, which the kernel counts in; an abstract name begins with one.
    if (name.address.sun_path[0] != '\0') {
      name.size = kUnixPath + strnlen(name.address.sun_path, size - kUnixPath);
    }
    result.storage_.any.sa_family = AF_UNIX;
    result.unix_ = std::make_shared<const UnixName>(name);
  }
  return result;
}

absl::StatusOr<SocketAddress> SocketAddress::Unix(absl::string_view name) {
  UnixName unix_name = {};
  // One byte is left for the null byte behind a path.
  if (name.empty() || name.size() >= sizeof(unix_name.address.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("address ", name, ": a Unix socket's name has 1 to 107 bytes"));
  }
  if (name.find('\0') != absl::string_view::npos && name[0] != '@') {
    return absl::InvalidArgumentError(absl::StrCat("address ", name, ": null byte in a path"));
  }
  unix_name.address.sun_family = AF_UNIX;
  memcpy(unix_name.address.sun_path, name.data(), name.size());
  unix_name.size = kUnixPath + static_cast<socklen_t>(name.size());
  if (name[0] == '@') unix_name.address.sun_path[0] = '\0';
  // Binding to no name at all is how the system is asked to choose.
  if (name == "@") unix_name.size = kUnixPath;
  SocketAddress result;
  result.storage_.any.sa_family = AF_UNIX;
  result.unix_ = std::make_shared<const UnixName>(unix_name);
  return result;
}

SocketAddress SocketAddress::For(int family) const {
  SocketAddress result;
  if (family == AF_INET6 && this->family() == AF_INET) {
    result.storage_.v6.sin6_family = AF_INET6;
    result.storage_.v6.sin6_port = storage_.v4.sin_port;
    result.storage_.v6.sin6_addr.s6_addr[10] = 0xff;
    result.storage_.v6.sin6_addr.s6_addr[11] = 0xff;
    memcpy(&result.storage_.v6.sin6_addr.s6_addr[12], &storage_.v4.sin_addr, 4);
    return result;
  }
  if (family == AF_INET && this->family() == AF_INET6 &&
      IN6_IS_ADDR_V4MAPPED(&storage_.v6.sin6_addr)) {
    result.storage_.v4.sin_family = AF_INET;
    result.storage_.v4.sin_port = storage_.v6.sin6_port;
    memcpy(&result.storage_.v4.sin_addr, &storage_.v6.sin6_addr.s6_addr[12], 4);
    return result;
  }
  return *this;
}

std::string SocketAddress::host() const {
  char text[INET6_ADDRSTRLEN];
  if (family() == AF_INET) {
    return inet_ntop(AF_INET, &storage_.v4.sin_addr, text, sizeof(text));
  }
  if (unix_ != nullptr) {
    std::string name(unix_->address.sun_path, unix_->size - kUnixPath);
    if (name.empty()) return "@";
    if (name[0] == '\0') name[0] = '@';
    return name;
  }
  if (family() != AF_INET6) return "";
  if (IN6_IS_ADDR_V4MAPPED(&storage_.v6.sin6_addr)) {
    return inet_ntop(AF_INET, &storage_.v6.sin6_addr.s6_addr[12], text, sizeof(text));
  }
  std::string host = inet_ntop(AF_INET6, &storage_.v6.sin6_addr, text, sizeof(text));
  if (const uint32_t scope = storage_.v6.sin6_scope_id; scope != 0) {
    char name[IF_NAMESIZE];
    if (if_indextoname(scope, name) != nullptr) {
      absl::StrAppend(&host, "%", name);
    } else {
      absl::StrAppend(&host, "%", scope);
    }
  }
  return host;
}

std::string SocketAddress::ToString() const {
  if (empty()) return "";
  const std::string text = host();
  if (unix_ != nullptr) return text;
  if (text.find(':') == std::string::npos) return absl::StrCat(text, ":", port());
  return absl::StrCat("[", text, "]:", port());
}

uint16_t SocketAddress::port() const {
  if (family() == AF_INET) return ntohs(storage_.v4.sin_port);
  if (family() == AF_INET6) return ntohs(storage_.v6.sin6_port);
  return 0;
}

socklen_t SocketAddress::size() const {
  if (family() == AF_INET) return sizeof(sockaddr_in);
  if (family() == AF_INET6) return sizeof(sockaddr_in6);
  if (unix_ == nullptr) return 0;
  // The null byte behind a path is there, and counts.
  const bool path = unix_->size > kUnixPath && unix_->address.sun_path[0] != '\0';
  return std::min<socklen_t>(unix_->size + (path ? 1 : 0), sizeof(sockaddr_un));
}

bool SocketAddress::IsLoopback() const {
  if (family() == AF_INET) return ntohl(storage_.v4.sin_addr.s_addr) >> 24 == 127;
  if (family() != AF_INET6) return false;
  const in6_addr& a = storage_.v6.sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&a) || (IN6_IS_ADDR_V4MAPPED(&a) && a.s6_addr[12] == 127);
}

bool SocketAddress::IsUnspecified() const {
  if (family() == AF_INET) return storage_.v4.sin_addr.s_addr == INADDR_ANY;
  return family() == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&storage_.v6.sin6_addr);
}

bool operator==(const SocketAddress& a, const SocketAddress& b) {
  if (a.family() != b.family() || a.port() != b.port()) return false;
  if (a.family() == AF_INET) {
    return a.storage_.v4.sin_addr.s_addr == b.storage_.v4.sin_addr.s_addr;
  }
  if (a.unix_ != nullptr) {
    return a.unix_->size == b.unix_->size &&
           memcmp(&a.unix_->address, &b.unix_->address, a.unix_->size) == 0;
  }
  if (a.family() != AF_INET6) return true;
  return IN6_ARE_ADDR_EQUAL(&a.storage_.v6.sin6_addr, &b.storage_.v6.sin6_addr) &&
         a.storage_.v6.sin6_scope_id == b.storage_.v6.sin6_scope_id;
}

}  // namespace weft
