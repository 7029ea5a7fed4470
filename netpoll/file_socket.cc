#include "netpoll/file_socket.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "netpoll/net_fd.h"
#include "netpoll/op_error.h"
#include "netpoll/syscall.h"

namespace weft::internal {
namespace {

absl::string_view NetworkOf(int family, int type) {
  if (family == AF_INET || family == AF_INET6) {
    if (type == SOCK_STREAM) return "tcp";
    if (type == SOCK_DGRAM) return "udp";
  }
  if (family == AF_UNIX) {
    if (type == SOCK_STREAM) return "unix";
    if (type == SOCK_DGRAM) return "unixgram";
    if (type == SOCK_SEQPACKET) return "unixpacket";
  }
  return "";
}

absl::Status FileError(int error, absl::string_view syscall) {
  return ErrnoError("file: ", error, syscall);
}

}  // namespace

absl::StatusOr<FileSocket> AdoptSocket(int fd) {
  FileSocket socket;
  socket.type = GetOption(fd, SOL_SOCKET, SO_TYPE);
  if (socket.type < 0) return FileError(-socket.type, "getsockopt");
  socket.family = GetOption(fd, SOL_SOCKET, SO_DOMAIN);
  if (socket.family < 0) return FileError(-socket.family, "getsockopt");
  socket.network = NetworkOf(socket.family, socket.type);
  if (socket.network.empty()) {
    return absl::InvalidArgumentError("file: not a socket of a network that is known here");
  }
  const int64_t flags = ByLibc([fd] { return fcntl(fd, F_GETFL); });
  if (flags < 0) return FileError(static_cast<int>(-flags), "fcntl");
  int64_t error = ByLibc([=] { return fcntl(fd, F_SETFL, static_cast<int>(flags) | O_NONBLOCK); });
  if (error >= 0) error = ByLibc([fd] { return fcntl(fd, F_SETFD, FD_CLOEXEC); });
  if (error < 0) return FileError(static_cast<int>(-error), "fcntl");
  socket.local = AddressOf(fd, getsockname);
  socket.remote = AddressOf(fd, getpeername);
  return socket;
}

}  // namespace weft::internal
