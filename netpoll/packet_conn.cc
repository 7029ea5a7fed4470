#include "netpoll/packet_conn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "netpoll/net_fd.h"
#include "netpoll/packet_access.h"
#include "netpoll/syscall.h"

namespace weft {

using internal::IoResult;
using internal::NetFd;
using internal::RawSyscall;

namespace {

constexpr absl::string_view kNetwork = "udp";

// Datagrams in one system call.
constexpr size_t kBatch = 32;

// The calls are in functions of their own, not inlined, so that what the kernel reads and fills in
// lies on the stack only while it does, and a goroutine that waits has none of it.

[[gnu::noinline]] int64_t Receive(int fd, char* buffer, size_t size, SocketAddress* from) {
  sockaddr_storage address;
  socklen_t address_size = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  const int64_t n = internal::ByLibc([=, &address_size] {
    return recvfrom(fd, buffer, size, 0, from == nullptr ? nullptr : any,
                    from == nullptr ? nullptr : &address_size);
  });
  if (n < 0 || from == nullptr) return n;
  *from = address_size == 0 ? SocketAddress()
                            : SocketAddress::FromSockaddr(any, address_size).For(AF_INET);
  return n;
}

[[gnu::noinline]] int64_t ReceiveBatch(int fd, InPacket* packets, size_t count) {
  mmsghdr messages[kBatch];
  iovec pieces[kBatch];
  sockaddr_storage addresses[kBatch];
  count = std::min(count, kBatch);
  for (size_t i = 0; i < count; ++i) {
    pieces[i] = {packets[i].buffer.data(), packets[i].buffer.size()};
    messages[i] = {};
    messages[i].msg_hdr.msg_name = &addresses[i];
    messages[i].msg_hdr.msg_namelen = sizeof(addresses[i]);
    messages[i].msg_hdr.msg_iov = &pieces[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  const int64_t n = internal::ByLibc([&] {
    return static_cast<int64_t>(
        recvmmsg(fd, messages, static_cast<unsigned>(count), MSG_DONTWAIT, nullptr));
  });
  for (int64_t i = 0; i < n; ++i) {
    const msghdr& header = messages[i].msg_hdr;
    packets[i].size = messages[i].msg_len;
    packets[i].truncated = (header.msg_flags & MSG_TRUNC) != 0;
    packets[i].from =
        header.msg_namelen == 0
            ? SocketAddress()
            : SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&addresses[i]),
                                          header.msg_namelen)
                  .For(AF_INET);
  }
  return n;
}

[[gnu::noinline]] int64_t Send(int fd, absl::string_view data, const SocketAddress& to) {
  return internal::ByLibc([=, &to] {
    return sendto(fd, data.data(), data.size(), MSG_NOSIGNAL, to.empty() ? nullptr : to.data(),
                  to.size());
  });
}

[[gnu::noinline]] int64_t SendBatch(int fd, int family, const OutPacket* packets, size_t count) {
  mmsghdr messages[kBatch];
  iovec pieces[kBatch];
  SocketAddress addresses[kBatch];
  count = std::min(count, kBatch);
  for (size_t i = 0; i < count; ++i) {
    addresses[i] = packets[i].to.For(family);
    pieces[i] = {const_cast<char*>(packets[i].data.data()), packets[i].data.size()};
    messages[i] = {};
    messages[i].msg_hdr.msg_name =
        addresses[i].empty() ? nullptr : const_cast<sockaddr*>(addresses[i].data());
    messages[i].msg_hdr.msg_namelen = addresses[i].size();
    messages[i].msg_hdr.msg_iov = &pieces[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  return internal::ByLibc([&] {
    return static_cast<int64_t>(
        sendmmsg(fd, messages, static_cast<unsigned>(count), MSG_NOSIGNAL | MSG_DONTWAIT));
  });
}

}  // namespace

namespace internal {

absl::Status CheckTarget(const NetFd& fd, const SocketAddress& to) {
  const OpContext context = {"write", fd.network, fd.local, to};
  const bool connected = !fd.remote.empty();
  if (connected && !to.empty()) {
    return OpError(context, absl::StatusCode::kFailedPrecondition,
                   "use of WriteTo with pre-connected connection");
  }
  if (connected) return absl::OkStatus();
  if (to.empty()) {
    return OpError(context, absl::StatusCode::kInvalidArgument, "missing address");
  }
  // A Unix socket need not have a name.
  const int family = fd.local.empty() ? AF_UNIX : fd.local.family();
  if (to.For(family).family() != family) {
    return OpError(context, absl::StatusCode::kInvalidArgument,
                   "address of another family than the socket's");
  }
  return absl::OkStatus();
}

}  // namespace internal

absl::StatusOr<size_t> PacketConn::Read(absl::Span<char> buffer) const {
  return ReadFrom(buffer, nullptr);
}

absl::StatusOr<size_t> PacketConn::ReadFrom(absl::Span<char> buffer, SocketAddress* from) const {
  if (fd_ == nullptr) return internal::NoSocket("read", kNetwork);
  const IoResult result =
      fd_->fd.ReadWith([=](int fd) { return Receive(fd, buffer.data(), buffer.size(), from); });
  if (!result.ok()) return fd_->Error("read", result.error, "recvfrom");
  return result.n;
}

absl::StatusOr<size_t> PacketConn::ReadBatch(absl::Span<InPacket> packets) const {
  if (fd_ == nullptr) return internal::NoSocket("read", kNetwork);
  if (packets.empty()) return size_t{0};
  size_t done = 0;
  for (;;) {
    // Only the first call waits; a full one may have left some behind it.
    const IoResult result = fd_->fd.ReadWith([=](int fd) {
      const int64_t n = ReceiveBatch(fd, packets.data() + done, packets.size() - done);
      return n == -EAGAIN && done > 0 ? 0 : n;
    });
    // What came before an error is not lost by it; the next call meets it again, if it lasts.
    if (!result.ok() && done > 0) return done;
    if (!result.ok()) return fd_->Error("read", result.error, "recvmmsg");
    done += result.n;
    if (result.n < kBatch || done == packets.size()) return done;
  }
}

absl::Status PacketConn::Write(absl::string_view data) const {
  if (fd_ == nullptr) return internal::NoSocket("write", kNetwork);
  const IoResult result =
      fd_->fd.WriteWith([=](int fd) { return Send(fd, data, SocketAddress()); });
  return result.ok() ? absl::OkStatus() : fd_->Error("write", result.error, "write");
}

absl::Status PacketConn::WriteTo(absl::string_view data, const SocketAddress& to) const {
  if (fd_ == nullptr) return internal::NoSocket("write", kNetwork);
  if (absl::Status status = internal::CheckTarget(*fd_, to); !status.ok()) return status;
  const SocketAddress target = to.For(fd_->local.family());
  const IoResult result =
      internal::SendWhenRoom(*fd_, [=, &target](int fd) { return Send(fd, data, target); });
  if (result.ok()) return absl::OkStatus();
  return internal::OpError({"write", fd_->network, fd_->local, to}, result.error, "sendto");
}

absl::Status PacketConn::WriteBatch(absl::Span<const OutPacket> packets, size_t* sent) const {
  size_t unused;
  if (sent == nullptr) sent = &unused;
  *sent = 0;
  if (fd_ == nullptr) return internal::NoSocket("write", kNetwork);
  for (const OutPacket& packet : packets) {
    if (absl::Status status = internal::CheckTarget(*fd_, packet.to); !status.ok()) return status;
  }
  while (!packets.empty()) {
    const IoResult result = internal::SendWhenRoom(*fd_, [=, this](int fd) {
      return SendBatch(fd, fd_->local.family(), packets.data(), packets.size());
    });
    if (!result.ok()) return fd_->Error("write", result.error, "sendmmsg");
    *sent += result.n;
    packets.remove_prefix(result.n);
  }
  return absl::OkStatus();
}

absl::Status PacketConn::SetDeadline(absl::Time deadline) const {
  return internal::SetDeadlines(fd_.get(), kNetwork, internal::kBothModes, deadline);
}

absl::Status PacketConn::SetReadDeadline(absl::Time deadline) const {
  return internal::SetDeadlines(fd_.get(), kNetwork, internal::kReadMode, deadline);
}

absl::Status PacketConn::SetWriteDeadline(absl::Time deadline) const {
  return internal::SetDeadlines(fd_.get(), kNetwork, internal::kWriteMode, deadline);
}

absl::Status PacketConn::SetReadBuffer(int bytes) const {
  return internal::ControlSocket(fd_.get(), kNetwork, "set", "setsockopt", [bytes](int fd) {
    return internal::SetOption(fd, SOL_SOCKET, SO_RCVBUF, bytes);
  });
}

absl::Status PacketConn::SetWriteBuffer(int bytes) const {
  return internal::ControlSocket(fd_.get(), kNetwork, "set", "setsockopt", [bytes](int fd) {
    return internal::SetOption(fd, SOL_SOCKET, SO_SNDBUF, bytes);
  });
}

absl::Status PacketConn::Close() const { return internal::CloseSocket(fd_.get(), kNetwork); }

absl::string_view PacketConn::network() const { return fd_ == nullptr ? "" : fd_->network; }

SocketAddress PacketConn::local_address() const {
  return fd_ == nullptr ? SocketAddress() : fd_->local;
}

SocketAddress PacketConn::remote_address() const {
  return fd_ == nullptr ? SocketAddress() : fd_->remote;
}

absl::Status PacketConn::Control(absl::FunctionRef<void(int fd)> call) const {
  return internal::ControlSocket(fd_.get(), kNetwork, "raw-control", "", [call](int fd) {
    call(fd);
    return 0;
  });
}

int PacketConn::fd() const { return fd_ == nullptr ? -1 : fd_->fd.fd(); }

absl::StatusOr<int> PacketConn::Dup() const { return internal::DupSocket(fd_.get(), kNetwork); }

absl::StatusOr<int> PacketConn::Release() const {
  return internal::ReleaseSocket(fd_.get(), kNetwork);
}

}  // namespace weft
