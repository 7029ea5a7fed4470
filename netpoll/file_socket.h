// What a descriptor from elsewhere is.
#ifndef WEFT_NETPOLL_FILE_SOCKET_H_
#define WEFT_NETPOLL_FILE_SOCKET_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "netpoll/address.h"

namespace weft::internal {

struct FileSocket {
  absl::string_view network;  // without end
  int family = 0;
  int type = 0;
  SocketAddress local;
  SocketAddress remote;
};

// Looks at the descriptor, and makes it non-blocking and close-on-exec.
absl::StatusOr<FileSocket> AdoptSocket(int fd);

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_FILE_SOCKET_H_
