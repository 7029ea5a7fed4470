// Makes the errors that error.h describes.
#ifndef WEFT_NETPOLL_OP_ERROR_H_
#define WEFT_NETPOLL_OP_ERROR_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "netpoll/address.h"

namespace weft::internal {

// Who did what to whom: the front of an error's text.
struct OpContext {
  absl::string_view op;       // "read", "dial", ...
  absl::string_view network;  // "tcp", ...
  SocketAddress source = {};  // left out where it is empty, and `address` too
  SocketAddress address = {};
};

// `error` is an errno, then `syscall` names the call that reported it; or IoResult::kClosing or
// kTimeout.
absl::Status OpError(const OpContext& context, int error, absl::string_view syscall);

// An error of another kind, whose text follows the front.
absl::Status OpError(const OpContext& context, absl::StatusCode code, absl::string_view cause);

// "i/o timeout" alone, and the system's errors as "<syscall>: <text>".
absl::Status TimeoutError(absl::string_view front);
absl::Status ErrnoError(absl::string_view front, int error, absl::string_view syscall);

// `text` as an error of which IsClosed() holds.
absl::Status ClosedError(absl::string_view text);

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_OP_ERROR_H_
