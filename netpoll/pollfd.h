// Waiting for any descriptor, for libraries that bring their own (libcurl, libpq, X11, ...).
//
//   while (PQconnectPoll(db) == PGRES_POLLING_READING) {
//     if (!weft::PollFd(PQsocket(db), weft::kReadable, deadline).ok()) break;
//   }
#ifndef WEFT_NETPOLL_POLLFD_H_
#define WEFT_NETPOLL_POLLFD_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace weft {

// A set of them, as poll(2) means them: a descriptor at its end or in error is both.
enum PollEvents : uint32_t {
  kReadable = 1,
  kWritable = 2,
};

constexpr PollEvents operator|(PollEvents a, PollEvents b) {
  return static_cast<PollEvents>(static_cast<uint32_t>(a) | static_cast<uint32_t>(b));
}

// Waits until `fd` is ready for one of `events`, and returns which of them: what poll(2) says at
// that moment, so that the next read or write of that kind will not block. Parks the goroutine, or
// blocks the thread. From goroutines and threads, any number of them on one descriptor; the
// descriptor may be blocking or not, and may be one that poll(2) takes for always ready (a file).
//
// The caller keeps the descriptor open meanwhile. If another thread closes it the wait may last
// until `deadline`.
//
// Errors: DeadlineExceeded ("i/o timeout", see IsTimeout()) once `deadline` has passed with nothing
// ready; the system's (EBADF, ...).
absl::StatusOr<PollEvents> PollFd(int fd, PollEvents events,
                                  absl::Time deadline = absl::InfiniteFuture());

}  // namespace weft

#endif  // WEFT_NETPOLL_POLLFD_H_
