#include "spawn/internal/ready_set.h"

#include <limits.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "netpoll/pollfd.h"
#include "sched/goroutine.h"
#include "sched/waiter.h"

namespace weft::spawn::internal {
namespace {

// Out of descriptors or memory, what is left is to look again and again.
void LookAgain(absl::Time deadline) {
  Sleep(std::min(deadline - absl::Now(), absl::Milliseconds(1)));
}

// Whether it is ready.
bool Await(int fd, PollEvents events, absl::Time deadline) {
  const absl::Status status = PollFd(fd, events, deadline).status();
  if (!status.ok() && !absl::IsDeadlineExceeded(status)) LookAgain(deadline);
  return status.ok();
}

}  // namespace

ReadySet::ReadySet() {
  fds_.fill({-1, 0, 0});
  in_epoll_.fill(-1);
}

ReadySet::~ReadySet() {
  if (epoll_ >= 0) close(epoll_);
}

void ReadySet::Watch(size_t place, int fd, short events) { fds_[place] = {fd, events, 0}; }

void ReadySet::Clear(size_t place) {
  if (in_epoll_[place] >= 0) epoll_ctl(epoll_, EPOLL_CTL_DEL, in_epoll_[place], nullptr);
  in_epoll_[place] = -1;
  fds_[place].fd = -1;
}

void ReadySet::Wait(absl::Time deadline) {
  if (Waiter::Current()->kind() == Waiter::Kind::kThread) {
    Poll(deadline == absl::InfiniteFuture() ? absl::InfiniteDuration() : deadline - absl::Now());
  } else {
    WaitOnGoroutine(deadline);
  }
}

void ReadySet::Poll(absl::Duration limit) {
  int milliseconds = -1;
  if (limit != absl::InfiniteDuration()) {
    const int64_t whole = absl::ToInt64Milliseconds(absl::Ceil(limit, absl::Milliseconds(1)));
    milliseconds = static_cast<int>(std::clamp<int64_t>(whole, 0, INT_MAX));
  }
  if (poll(fds_.data(), fds_.size(), milliseconds) >= 0) return;
  // A signal came.
  for (pollfd& fd : fds_) fd.revents = 0;
}

void ReadySet::WaitOnGoroutine(absl::Time deadline) {
  const auto watched = [](const pollfd& fd) { return fd.fd >= 0; };
  const auto count = std::count_if(fds_.begin(), fds_.end(), watched);
  if (count == 0) {
    Sleep(deadline - absl::Now());
    return;
  }
  if (count == 1) {
    pollfd& only = *std::find_if(fds_.begin(), fds_.end(), watched);
    if (!Await(only.fd, only.events == POLLOUT ? kWritable : kReadable, deadline)) {
      return Poll(absl::ZeroDuration());
    }
    only.revents = only.events;
    return;
  }
  // The netpoller watches one descriptor at a time for us: one that stands for all of them.
  if (epoll_ < 0) epoll_ = epoll_create1(EPOLL_CLOEXEC);
  bool complete = epoll_ >= 0;
  for (size_t i = 0; i < kPlaces && complete; ++i) {
    if (fds_[i].fd == in_epoll_[i]) continue;
    in_epoll_[i] = fds_[i].fd;
    epoll_event event = {};
    event.events = static_cast<uint32_t>(fds_[i].events);  // the flags have the same values
    complete = epoll_ctl(epoll_, EPOLL_CTL_ADD, fds_[i].fd, &event) == 0;
  }
  if (complete) {
    Await(epoll_, kReadable, deadline);
  } else {
    LookAgain(deadline);
  }
  Poll(absl::ZeroDuration());
}

}  // namespace weft::spawn::internal
