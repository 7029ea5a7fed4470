// Moving bytes from a connection to another one, or to a file, inside the kernel.
//
//   weft::Go([a, b] { weft::Splice(a, b).status().IgnoreError(); a.CloseWrite().IgnoreError(); });
//   weft::Splice(b, a).status().IgnoreError();
//   b.CloseWrite().IgnoreError();
//
// By splice(2), through a pipe that is borrowed from a pool meanwhile: the bytes are not copied
// through the process. Where the kernel cannot do it they are, with the same outcome. The way from
// a file to a connection is Conn::SendFile().
#ifndef WEFT_NETPOLL_SPLICE_H_
#define WEFT_NETPOLL_SPLICE_H_

#include <sys/types.h>

#include <cstdint>
#include <limits>

#include "absl/status/statusor.h"
#include "netpoll/net.h"

namespace weft {

// Reads from `from` and writes to `to` until the stream ends or `max` bytes have been moved;
// returns how many. What has been taken from `from` is written in pieces of up to 1 MiB, each of
// which stays together. The deadlines of both hold. From goroutines and threads; parks.
//
// Errors are those of Conn::Read() and Conn::Write(); after one, up to 1 MiB may have been taken
// from `from` that did not reach `to`. SIGPIPE may be raised if `to` is broken, as by SendFile().
absl::StatusOr<uint64_t> Splice(const Conn& to, const Conn& from,
                                uint64_t max = std::numeric_limits<uint64_t>::max());

// The same into a file, from `offset` on; its own position does not move. May block the thread for
// a disk. Errors of the file are the system's.
absl::StatusOr<uint64_t> SpliceToFile(int file_fd, off_t offset, const Conn& from,
                                      uint64_t max = std::numeric_limits<uint64_t>::max());

}  // namespace weft

#endif  // WEFT_NETPOLL_SPLICE_H_
