#include "netpoll/dial_race.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "netpoll/interruptible.h"
#include "netpoll/resolve.h"
#include "sched/clock.h"
#include "sched/goroutine.h"

namespace weft::internal {
namespace {

// What the conductor and its tries share. A try may still be on its way out of the lock when the
// conductor has returned.
struct Race {
  Mutex mutex;
  Waiter* conductor = nullptr;
  std::deque<DialAttempt> attempts;  // the conductor's; its elements stay where they are
  // How many tries have not ended, and what those that have, and nobody has looked at, came to.
  int running ABSL_GUARDED_BY(mutex) = 0;
  std::vector<absl::StatusOr<Conn>> results ABSL_GUARDED_BY(mutex);

  void Ended(absl::StatusOr<Conn> result) {
    MutexLock lock(mutex);
    results.push_back(std::move(result));
    --running;
    conductor->Unpark();
  }
};

}  // namespace

bool DialAttempt::Publish(std::shared_ptr<NetFd> conn) {
  MutexLock lock(mutex_);
  conn_ = std::move(conn);
  return !ended_;
}

void DialAttempt::End() {
  std::shared_ptr<NetFd> conn;
  {
    MutexLock lock(mutex_);
    ended_ = true;
    conn = conn_;
  }
  if (conn != nullptr) conn->fd.Close();
}

absl::StatusOr<Conn> RaceDials(const std::vector<SocketAddress>& addresses,
                               const RaceOptions& options, const DialOne& dial_one,
                               bool* interrupted) {
  Interruptible self(options.interruption);
  const auto race = std::make_shared<Race>();
  race->conductor = self.waiter();
  *interrupted = false;

  absl::StatusOr<Conn> winner = absl::UnknownError("");
  absl::Status first_error;
  size_t next = 0;
  Instant next_start;  // when the next address is due, if nothing fails before
  for (;;) {
    std::vector<absl::StatusOr<Conn>> results;
    bool idle;
    {
      MutexLock lock(race->mutex);
      results.swap(race->results);
      idle = race->running == 0;
    }
    for (absl::StatusOr<Conn>& result : results) {
      if (result.ok() && !winner.ok()) {
        winner = std::move(result);
      } else if (!result.ok()) {
        first_error.Update(result.status());
        next_start = Instant();
      }
    }
    if (winner.ok()) break;
    if (self.has_come()) {
      *interrupted = true;
      break;
    }
    const absl::Time now = absl::Now();
    const bool more = next < addresses.size() && (now < options.deadline || next == 0);
    if (!more && idle) break;
    if (more && (idle || next_start <= Instant::Now())) {
      const absl::Time until =
          options.attempt_delay == absl::InfiniteDuration()
              ? PartialDeadline(now, options.deadline, static_cast<int>(addresses.size() - next))
              : options.deadline;
      DialAttempt* const attempt = &race->attempts.emplace_back();
      {
        MutexLock lock(race->mutex);
        ++race->running;
      }
      // By reference: it ends before this function does, but for its way out.
      Go({.name = "dial"}, [race, attempt, until, &dial_one, address = &addresses[next]] {
        absl::StatusOr<Conn> result = dial_one(*address, until, attempt);
        // From here on it is nobody's but the conductor's, unless the race is over already.
        if (!attempt->Publish(nullptr)) result = absl::CancelledError("");
        race->Ended(std::move(result));
      });
      ++next;
      next_start = Instant::Now() + options.attempt_delay;
      continue;
    }
    self.Park(more ? next_start : Instant::Never());
  }

  for (DialAttempt& attempt : race->attempts) attempt.End();
  // Connections that came too late: closed here, not when the last try has left the race.
  std::vector<absl::StatusOr<Conn>> losers;
  for (;;) {
    {
      MutexLock lock(race->mutex);
      if (race->running == 0) {
        losers.swap(race->results);
        break;
      }
    }
    self.waiter()->Park(WaitReason::kSelect);
  }
  if (*interrupted) return absl::CancelledError("");
  return winner.ok() ? std::move(winner) : first_error;
}

std::vector<SocketAddress> InterleaveFamilies(const std::vector<SocketAddress>& addresses) {
  std::deque<SocketAddress> first, second;
  for (const SocketAddress& a : addresses) {
    (a.family() == addresses.front().family() ? first : second).push_back(a);
  }
  std::vector<SocketAddress> order;
  while (!first.empty() || !second.empty()) {
    for (std::deque<SocketAddress>* family : {&first, &second}) {
      if (family->empty()) continue;
      order.push_back(std::move(family->front()));
      family->pop_front();
    }
  }
  return order;
}

}  // namespace weft::internal
