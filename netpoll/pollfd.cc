#include "netpoll/pollfd.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "absl/status/status.h"
#include "netpoll/epoll_poller.h"
#include "netpoll/op_error.h"
#include "netpoll/poll_desc.h"
#include "netpoll/syscall.h"
#include "sched/clock.h"

namespace weft {
namespace {

using internal::EpollPoller;
using internal::PollDesc;
using internal::PollMode;
using internal::PollResult;

short PollFlags(PollEvents events) {
  return static_cast<short>(((events & kReadable) != 0 ? POLLIN : 0) |
                            ((events & kWritable) != 0 ? POLLOUT : 0));
}

// Which of `events` the descriptor is ready for now, without waiting; or -errno.
int64_t Ready(int fd, PollEvents events) {
  pollfd p = {fd, PollFlags(events), 0};
  int64_t n;
  do {
    n = internal::RawSyscall(SYS_poll, &p, 1, 0);
  } while (n == -EINTR);
  if (n < 0) return n;
  if ((p.revents & POLLNVAL) != 0) return -EBADF;
  if ((p.revents & (POLLHUP | POLLERR)) != 0) return events;
  int64_t ready = 0;
  if ((p.revents & POLLIN) != 0) ready |= kReadable;
  if ((p.revents & POLLOUT) != 0) ready |= kWritable;
  return ready;
}

// One wait's registration of a descriptor that is not ours. The poller takes each descriptor once,
// and tells the two directions apart. Where that does not fit (somebody else waits for it too, it
// belongs to a Conn, or either direction will do) an epoll instance of this wait's own watches it,
// and the poller watches that.
class Registration {
 public:
  explicit Registration(PollDesc* desc) : desc_(desc) {}
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

  ~Registration() {
    if (registered_fd_ >= 0) EpollPoller::Get().Unregister(registered_fd_);
    desc_->Evict();
    desc_->Put();
    if (own_epoll_ >= 0) close(own_epoll_);
  }

  // 0 or an errno. EPERM: it cannot be watched since it is always ready.
  int Register(int fd, PollEvents events) {
    int error = EEXIST;
    if (events != (kReadable | kWritable)) error = RegisterDirectly(fd);
    if (error != EEXIST) return error;

    own_epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (own_epoll_ < 0) return errno;
    epoll_event event = {};
    event.events = static_cast<uint32_t>(PollFlags(events));  // the flags have the same values
    if (epoll_ctl(own_epoll_, EPOLL_CTL_ADD, fd, &event) != 0) return errno;
    return RegisterDirectly(own_epoll_);
  }

  // The direction in which the events show.
  PollMode mode(PollEvents events) const {
    return own_epoll_ < 0 && events == kWritable ? PollMode::kWrite : PollMode::kRead;
  }

 private:
  int RegisterDirectly(int fd) {
    const int error = EpollPoller::Get().Register(fd, *desc_);
    if (error == 0) registered_fd_ = fd;
    return error;
  }

  PollDesc* const desc_;
  int registered_fd_ = -1;
  int own_epoll_ = -1;
};

absl::Status Error(int error, absl::string_view syscall) {
  return internal::ErrnoError("pollfd: ", error, syscall);
}

absl::Status Timeout() { return internal::TimeoutError("pollfd: "); }

}  // namespace

absl::StatusOr<PollEvents> PollFd(int fd, PollEvents events, absl::Time deadline) {
  if ((events & (kReadable | kWritable)) == 0) {
    return absl::InvalidArgumentError("pollfd: no events to wait for");
  }
  int64_t ready = Ready(fd, events);
  if (ready < 0) return Error(static_cast<int>(-ready), "poll");
  if (ready > 0) return static_cast<PollEvents>(ready);
  if (deadline <= absl::Now()) return Timeout();

  PollDesc* const desc = PollDesc::Get();
  Registration registration(desc);
  if (const int error = registration.Register(fd, events); error != 0) {
    if (error == EPERM) return events;
    return Error(error, "epoll_ctl");
  }
  if (deadline != absl::InfiniteFuture()) {
    desc->SetDeadline(internal::kBothModes, Instant::FromTime(deadline));
  }
  for (;;) {
    const PollResult result = desc->Wait(registration.mode(events));
    ready = Ready(fd, events);
    if (ready < 0) return Error(static_cast<int>(-ready), "poll");
    if (ready > 0) return static_cast<PollEvents>(ready);
    if (result == PollResult::kTimeout) return Timeout();
  }
}

}  // namespace weft
