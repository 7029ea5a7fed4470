// What is behind a Conn, a Listener or a PacketConn: the descriptor, and what its errors' texts
// need.
#ifndef WEFT_NETPOLL_NET_FD_H_
#define WEFT_NETPOLL_NET_FD_H_

#include <sys/types.h>

#include <atomic>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "netpoll/address.h"
#include "netpoll/fd.h"
#include "netpoll/op_error.h"
#include "netpoll/owned_fd.h"
#include "netpoll/socket_control.h"

namespace weft::internal {

class NetFd {
 public:
  // `network` has no end. A listener has no remote address.
  NetFd(int descriptor, Fd::Kind kind, absl::string_view network, SocketAddress local,
        SocketAddress remote)
      : fd(descriptor, kind), network(network), local(local), remote(remote) {}

  // Removes the socket's file, where that is to be.
  ~NetFd() { RemoveFile(); }

  // "<op> tcp <local>-><remote>: ...", or of a listener "<op> tcp <local>: ...".
  absl::Status Error(absl::string_view op, int error, absl::string_view syscall) const {
    return OpError(Context(op), error, syscall);
  }
  OpContext Context(absl::string_view op) const {
    if (remote.empty()) return {op, network, {}, local};
    return {op, network, local, remote};
  }

  // The file that `local` names is this socket's: it goes when the socket is closed, unless
  // KeepFile() is called. Not in the child of a fork(), whose close is not the end of the socket.
  void OwnFile();
  void KeepFile() { file_owner_.store(0, std::memory_order_relaxed); }
  // The first call does.
  void RemoveFile();

  Fd fd;
  const absl::string_view network;
  // Not changed any more once a handle exists.
  SocketAddress local;
  SocketAddress remote;

 private:
  std::atomic<pid_t> file_owner_{0};
};

// Of the socket's end: `name` is getsockname or getpeername.
SocketAddress AddressOf(int fd, int (*name)(int, sockaddr*, socklen_t*));

// An open, non-blocking, close-on-exec socket, or -errno.
int OpenSocket(int family, int type);

// Sets an option; returns 0 or -errno.
int SetOption(int fd, int level, int option, int value);
// Its value, or -errno.
int GetOption(int fd, int level, int option);

// The steps that sockets of all networks go through: the hook that their options may have, and
// bind(2). Each returns OK or the operation's error.
absl::Status RunControl(const SocketControl& control, const OpContext& context,
                        const SocketAddress& address, int fd);
absl::Status Bind(const OpContext& context, const SocketAddress& address, int fd);

// The operations that all kinds of handles have. Null `fd`: the handle has no socket behind it, and
// `network` is for the text of the error.
absl::Status NoSocket(absl::string_view op, absl::string_view network);
absl::Status SetDeadlines(NetFd* fd, absl::string_view network, PollModes modes,
                          absl::Time deadline);
absl::Status CloseSocket(NetFd* fd, absl::string_view network);
// A second descriptor for the same socket, the caller's to close.
absl::StatusOr<int> DupSocket(NetFd* fd, absl::string_view network);
// Closes, but for the descriptor, which is the caller's from then on.
absl::StatusOr<int> ReleaseSocket(NetFd* fd, absl::string_view network);

// Runs `call(descriptor)`, which returns 0 or -errno, while the descriptor cannot be closed.
template <typename Call>
absl::Status ControlSocket(NetFd* fd, absl::string_view network, absl::string_view op,
                           absl::string_view syscall, Call call) {
  if (fd == nullptr) return NoSocket(op, network);
  const IoResult result = fd->fd.With(call);
  return result.ok() ? absl::OkStatus() : fd->Error(op, result.error, syscall);
}

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_NET_FD_H_
