// The errors of network operations.
//
// Texts are Go's, "<op> <net> <source>-><addr>: <cause>":
//
//   read tcp 127.0.0.1:4242->127.0.0.1:80: i/o timeout
//   dial tcp 127.0.0.1:1: connect: connection refused
//   accept tcp 127.0.0.1:80: use of closed network connection
//
// The code of an error that the system reported is absl::ErrnoToStatusCode()'s; the number itself
// travels in a payload, see ErrnoOf().
#ifndef WEFT_NETPOLL_ERROR_H_
#define WEFT_NETPOLL_ERROR_H_

#include "absl/status/status.h"

namespace weft {

// A deadline or a timeout has passed ("i/o timeout"), or the system gave a connection up
// (ETIMEDOUT). The code is DeadlineExceeded. Nothing is wrong with the connection after a deadline:
// set a later one and go on.
bool IsTimeout(const absl::Status& status);

// The connection or listener was closed on this side, before the call or during it ("use of closed
// network connection"). The code is Cancelled; other Cancelled errors are not meant.
bool IsClosed(const absl::Status& status);

// The errno that a system call reported (ECONNRESET, EPIPE, EMFILE, ...), or 0 if the error did not
// come from one.
int ErrnoOf(const absl::Status& status);

}  // namespace weft

#endif  // WEFT_NETPOLL_ERROR_H_
