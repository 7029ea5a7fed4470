#include "netpoll/net_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "netpoll/syscall.h"
#include "sched/clock.h"

namespace weft::internal {
namespace {

// "tcp4", "tcp6", "unix", ...: what the socket is, which the name asked for may leave open.
absl::string_view ControlNetwork(const OpContext& context, const SocketAddress& address) {
  if (context.network == "tcp") return address.family() == AF_INET ? "tcp4" : "tcp6";
  if (context.network == "udp") return address.family() == AF_INET ? "udp4" : "udp6";
  return context.network;
}

}  // namespace

void NetFd::OwnFile() {
  // An abstract name goes by itself; and after the close the file may be somebody else's.
  if (local.host()[0] == '@' || fd.fd() < 0) return;
  file_owner_.store(getpid(), std::memory_order_relaxed);
}

void NetFd::RemoveFile() {
  const pid_t owner = file_owner_.exchange(0, std::memory_order_relaxed);
  if (owner != 0 && owner == getpid()) unlink(local.host().c_str());
}

SocketAddress AddressOf(int fd, int (*name)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage address;
  socklen_t size = sizeof(address);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (name(fd, any, &size) != 0) return SocketAddress();
  return SocketAddress::FromSockaddr(any, size);
}

int OpenSocket(int family, int type) {
  return static_cast<int>(
      ByLibc([=] { return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }));
}

int SetOption(int fd, int level, int option, int value) {
  return static_cast<int>(
      RawSyscall(SYS_setsockopt, fd, level, option, &value, socklen_t{sizeof(value)}));
}

int GetOption(int fd, int level, int option) {
  int value = 0;
  socklen_t size = sizeof(value);
  const int64_t error = RawSyscall(SYS_getsockopt, fd, level, option, &value, &size);
  return error < 0 ? static_cast<int>(error) : value;
}

absl::Status RunControl(const SocketControl& control, const OpContext& context,
                        const SocketAddress& address, int fd) {
  if (control == nullptr) return absl::OkStatus();
  const absl::Status status = control(ControlNetwork(context, address), address, fd);
  if (status.ok()) return status;
  return OpError(context, status.code(), status.message());
}

absl::Status Bind(const OpContext& context, const SocketAddress& address, int fd) {
  const int64_t error = RawSyscall(SYS_bind, fd, address.data(), address.size());
  return error == 0 ? absl::OkStatus() : OpError(context, static_cast<int>(-error), "bind");
}

absl::Status NoSocket(absl::string_view op, absl::string_view network) {
  return OpError({op, network}, IoResult::kClosing, "");
}

absl::Status SetDeadlines(NetFd* fd, absl::string_view network, PollModes modes,
                          absl::Time deadline) {
  if (fd == nullptr) return NoSocket("set", network);
  const Instant instant =
      deadline == absl::InfinitePast() ? Instant() : Instant::FromTime(deadline);
  const IoResult result = fd->fd.SetDeadline(modes, instant);
  return result.ok() ? absl::OkStatus() : fd->Error("set", result.error, "");
}

// As in Go the file goes first: nobody finds it and is refused.
absl::Status CloseSocket(NetFd* fd, absl::string_view network) {
  if (fd == nullptr) return NoSocket("close", network);
  fd->RemoveFile();
  const IoResult result = fd->fd.Close();
  return result.ok() ? absl::OkStatus() : fd->Error("close", result.error, "close");
}

absl::StatusOr<int> DupSocket(NetFd* fd, absl::string_view network) {
  int copy = -1;
  const absl::Status status = ControlSocket(fd, network, "file", "fcntl", [&copy](int descriptor) {
    copy = static_cast<int>(ByLibc([=] { return fcntl(descriptor, F_DUPFD_CLOEXEC, 0); }));
    return copy < 0 ? copy : 0;
  });
  if (!status.ok()) return status;
  return copy;
}

absl::StatusOr<int> ReleaseSocket(NetFd* fd, absl::string_view network) {
  if (fd == nullptr) return NoSocket("release", network);
  const IoResult result = fd->fd.Release();
  if (!result.ok()) return fd->Error("release", result.error, "");
  // The socket lives on, and its name with it.
  fd->KeepFile();
  return static_cast<int>(result.n);
}

}  // namespace weft::internal
