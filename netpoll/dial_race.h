// Trying several addresses of one name: Happy Eyeballs, version 2 (RFC 8305).
//
// The first address is tried. When that fails the next one is; and when it has not succeeded after
// a while the next one is too, beside it. The first connection that is made wins, and the others
// are closed. So an address that swallows packets, as of a broken IPv6, costs a quarter of a
// second, not the minutes of its timeout.
//
// The tries run on goroutines, and the caller conducts them. It returns when all have ended: then
// nothing of them is left, no socket and no goroutine.
#ifndef WEFT_NETPOLL_DIAL_RACE_H_
#define WEFT_NETPOLL_DIAL_RACE_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "netpoll/address.h"
#include "netpoll/net.h"
#include "netpoll/net_fd.h"
#include "sched/sync/internal/interruption.h"
#include "sched/sync/mutex.h"

namespace weft::internal {

// One try, which somebody else may end.
class DialAttempt {
 public:
  // What is about to be connected, in place of what was published before. False: the try has been
  // ended, and must give up.
  bool Publish(std::shared_ptr<NetFd> conn);

  // Closes what is published, now and later.
  void End();

 private:
  Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<NetFd> conn_ ABSL_GUARDED_BY(mutex_);
};

// Connects to the address by `deadline`. Publishes its socket.
using DialOne = std::function<absl::StatusOr<Conn>(const SocketAddress& address,
                                                   absl::Time deadline, DialAttempt* attempt)>;

struct RaceOptions {
  // For all of it.
  absl::Time deadline = absl::InfiniteFuture();
  // How long an address is tried before the next one is tried beside it. Infinite: until it has
  // failed; then each has its share of the time (PartialDeadline()).
  absl::Duration attempt_delay = absl::Milliseconds(250);
  // Ends all tries.
  Interruption interruption = {};
};

// The first connection, or the first error if there is none. *interrupted: there is none since the
// interruption has come, and the error says nothing. `addresses` are tried in their order. Parks.
absl::StatusOr<Conn> RaceDials(const std::vector<SocketAddress>& addresses,
                               const RaceOptions& options, const DialOne& dial_one,
                               bool* interrupted);

// The addresses in the order to try them in: families by turns, beginning with the first one's, and
// each in the order that it had, which is the resolver's preference.
std::vector<SocketAddress> InterleaveFamilies(const std::vector<SocketAddress>& addresses);

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_DIAL_RACE_H_
