#include "netpoll/unix.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <memory>
#include <utility>

#include "netpoll/net_access.h"
#include "netpoll/net_fd.h"
#include "netpoll/packet_access.h"
#include "netpoll/syscall.h"

namespace weft {

using internal::Fd;
using internal::IoResult;
using internal::NetAccess;
using internal::NetFd;
using internal::OpError;
using internal::PacketAccess;

namespace {

// SCM_MAX_FD of the kernel.
constexpr size_t kMaxDescriptors = 253;

// Sends the bytes and the descriptors. Not inlined, as Receive(), so that what the kernel reads is
// on the stack only while it does.
[[gnu::noinline]] int64_t Send(int fd, absl::string_view data, absl::Span<const int> descriptors,
                               const SocketAddress& to) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
  iovec piece = {const_cast<char*>(data.data()), data.size()};
  msghdr message = {};
  message.msg_name = to.empty() ? nullptr : const_cast<sockaddr*>(to.data());
  message.msg_namelen = to.size();
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    const size_t bytes = descriptors.size() * sizeof(int);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(bytes);
    memset(control, 0, message.msg_controllen);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(header), descriptors.data(), bytes);
  }
  return internal::ByLibc([&] { return sendmsg(fd, &message, MSG_NOSIGNAL); });
}

void TakeControl(msghdr& message, UnixMessage* out) {
  for (cmsghdr* h = CMSG_FIRSTHDR(&message); h != nullptr; h = CMSG_NXTHDR(&message, h)) {
    if (h->cmsg_level != SOL_SOCKET) continue;
    if (h->cmsg_type == SCM_RIGHTS) {
      for (size_t at = CMSG_LEN(0); at + sizeof(int) <= h->cmsg_len; at += sizeof(int)) {
        int descriptor;
        memcpy(&descriptor, reinterpret_cast<char*>(h) + at, sizeof(descriptor));
        out->descriptors.emplace_back(descriptor);
      }
    } else if (h->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials;
      memcpy(&credentials, CMSG_DATA(h), sizeof(credentials));
      out->credentials = Credentials{credentials.pid, credentials.uid, credentials.gid};
    }
  }
}

[[gnu::noinline]] int64_t Receive(int fd, absl::Span<char> buffer, UnixMessage* out) {
  alignas(
      cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
  sockaddr_storage address;
  iovec piece = {buffer.data(), buffer.size()};
  msghdr message = {};
  message.msg_name = &address;
  message.msg_namelen = sizeof(address);
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const int64_t n = internal::ByLibc([&] { return recvmsg(fd, &message, MSG_CMSG_CLOEXEC); });
  if (n < 0) return n;
  out->size = static_cast<size_t>(n);
  out->truncated = (message.msg_flags & MSG_TRUNC) != 0;
  out->descriptors_lost = (message.msg_flags & MSG_CTRUNC) != 0;
  if (message.msg_namelen != 0) {
    out->from = SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&address),
                                            message.msg_namelen);
  }
  TakeControl(message, out);
  return n;
}

// What cannot be sent; OK for what can.
absl::Status CheckMessage(const NetFd& fd, absl::string_view data,
                          absl::Span<const int> descriptors) {
  auto refused = [&fd](absl::string_view why) {
    return OpError(fd.Context("write"), absl::StatusCode::kInvalidArgument, why);
  };
  if (descriptors.size() > kMaxDescriptors) return refused("more than 253 descriptors");
  if (data.empty() && fd.network == "unix")
    return refused("descriptors without a byte to carry them");
  return absl::OkStatus();
}

absl::Status PassCredentials(NetFd* fd, absl::string_view network, bool pass) {
  return internal::ControlSocket(fd, network, "set", "setsockopt", [pass](int descriptor) {
    return internal::SetOption(descriptor, SOL_SOCKET, SO_PASSCRED, pass ? 1 : 0);
  });
}

absl::StatusOr<UnixMessage> ReceiveFrom(NetFd* fd, absl::string_view network,
                                        absl::Span<char> buffer) {
  if (fd == nullptr) return internal::NoSocket("read", network);
  UnixMessage message;
  const IoResult result = fd->fd.ReadWith(
      [=, &message](int descriptor) { return Receive(descriptor, buffer, &message); });
  if (!result.ok()) return fd->Error("read", result.error, "recvmsg");
  return message;
}

}  // namespace

absl::StatusOr<UnixPair> MakeUnixPair(absl::string_view network) {
  const internal::UnixNetwork parsed = internal::ParseUnixNetwork(network);
  if (parsed.type == 0) {
    return absl::InvalidArgumentError("socketpair: the network is neither unix nor unixpacket");
  }
  int fds[2];
  if (socketpair(AF_UNIX, parsed.type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) {
    return internal::ErrnoError("", errno, "socketpair");
  }
  auto conn = [&](int fd) {
    return NetAccess::MakeConn(std::make_shared<NetFd>(fd, Fd::Kind::kSocket, parsed.network,
                                                       SocketAddress(), SocketAddress()));
  };
  return UnixPair{conn(fds[0]), conn(fds[1])};
}

absl::StatusOr<Credentials> PeerCredentials(const Conn& conn) {
  ucred peer = {};
  const absl::Status status =
      internal::ControlSocket(NetAccess::Of(conn), "unix", "get", "getsockopt", [&peer](int fd) {
        socklen_t size = sizeof(peer);
        return static_cast<int>(
            internal::RawSyscall(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &peer, &size));
      });
  if (!status.ok()) return status;
  return Credentials{peer.pid, peer.uid, peer.gid};
}

absl::Status SetPassCredentials(const Conn& conn, bool pass) {
  return PassCredentials(NetAccess::Of(conn), "unix", pass);
}

absl::Status SetPassCredentials(const PacketConn& conn, bool pass) {
  return PassCredentials(PacketAccess::Of(conn), "unixgram", pass);
}

absl::Status SendDescriptors(const Conn& conn, absl::string_view data,
                             absl::Span<const int> descriptors) {
  NetFd* const fd = NetAccess::Of(conn);
  if (fd == nullptr) return internal::NoSocket("write", "unix");
  if (absl::Status status = CheckMessage(*fd, data, descriptors); !status.ok()) return status;
  // One write, so that nobody else's comes in between: it goes on where the stream had no room.
  const IoResult result = fd->fd.WriteWith([=](int descriptor) mutable -> int64_t {
    for (;;) {
      const int64_t n = Send(descriptor, data, descriptors, SocketAddress());
      if (n < 0) return n;
      // The descriptors are with the first part.
      data.remove_prefix(static_cast<size_t>(n));
      descriptors = {};
      if (data.empty()) return 0;
    }
  });
  return result.ok() ? absl::OkStatus() : fd->Error("write", result.error, "sendmsg");
}

absl::Status SendDescriptors(const PacketConn& conn, absl::string_view data,
                             absl::Span<const int> descriptors, const SocketAddress& to) {
  NetFd* const fd = PacketAccess::Of(conn);
  if (fd == nullptr) return internal::NoSocket("write", "unixgram");
  if (absl::Status status = internal::CheckTarget(*fd, to); !status.ok()) return status;
  if (absl::Status status = CheckMessage(*fd, data, descriptors); !status.ok()) return status;
  const IoResult result = internal::SendWhenRoom(
      *fd, [=, &to](int descriptor) { return Send(descriptor, data, descriptors, to); });
  if (result.ok()) return absl::OkStatus();
  return OpError({"write", fd->network, fd->local, to}, result.error, "sendmsg");
}

absl::StatusOr<UnixMessage> ReceiveDescriptors(const Conn& conn, absl::Span<char> buffer) {
  return ReceiveFrom(NetAccess::Of(conn), "unix", buffer);
}

absl::StatusOr<UnixMessage> ReceiveDescriptors(const PacketConn& conn, absl::Span<char> buffer) {
  return ReceiveFrom(PacketAccess::Of(conn), "unixgram", buffer);
}

}  // namespace weft
