#include "netpoll/epoll_poller.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "netpoll/syscall.h"
#include "sched/fatal.h"

// The tools' own wrappers must see which event follows which registration.
#if defined(__SANITIZE_THREAD__)
#define WEFT_NETPOLL_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT_NETPOLL_TSAN 1
#endif
#endif

namespace weft::internal {
namespace {

constexpr int kEventsAtOnce = 128;

// A PollDesc's event data begins with its address, whose highest bit is not set.
constexpr uint64_t kIsSink = uint64_t{1} << 63;

// The child of a fork() shares the set with its parent, and nobody polls there.
std::atomic<bool> in_forked_child{false};

[[noreturn]] void FatalErrno(const char* what) {
  Fatal(absl::StrCat("netpoll: ", what, " failed: ", strerror(errno)));
}

}  // namespace

EpollPoller::EpollPoller(Clock clock)
    : epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      break_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      has_pwait2_(clock == Clock::kBest) {
  if (epoll_fd_ < 0) FatalErrno("epoll_create1");
  if (break_fd_ < 0) FatalErrno("eventfd");
#ifdef WEFT_NETPOLL_TSAN
  has_pwait2_ = false;
#endif
  epoll_event event = {};
  event.events = EPOLLIN;
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, break_fd_, &event) != 0) FatalErrno("epoll_ctl");
}

EpollPoller::~EpollPoller() {
  close(break_fd_);
  close(epoll_fd_);
}

EpollPoller& EpollPoller::Get() {
  static EpollPoller* const poller = [] {
    pthread_atfork(nullptr, nullptr,
                   [] { in_forked_child.store(true, std::memory_order_relaxed); });
    return new EpollPoller;
  }();
  // Not in the initializer: registering enters the runtime, where the goroutine may have to wait
  // for a P, and those who hold the Ps would meanwhile block their threads on the initializer's
  // guard. Whoever comes between the two registers descriptors, waits, and is woken when the
  // scheduler polls.
  static std::atomic<bool> registered{false};
  if (!registered.load(std::memory_order_relaxed) &&
      !registered.exchange(true, std::memory_order_relaxed)) {
    RegisterPoller(poller);
  }
  return *poller;
}

int EpollPoller::Register(int fd, const PollDesc& desc) {
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
  event.data.u64 = desc.event_data();
  return epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

int EpollPoller::Register(int fd, EventSink& sink) {
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = kIsSink | reinterpret_cast<uintptr_t>(&sink);
  return epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

void EpollPoller::Unregister(int fd) {
  if (in_forked_child.load(std::memory_order_relaxed)) return;
  epoll_event event = {};  // kernels before 2.6.9 want one
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, &event);
}

int EpollPoller::Wait(epoll_event* events, int count, Instant deadline) {
  // A zero deadline asks for no clock reading.
  int64_t nanos = 0;
  if (deadline.IsNever()) {
    nanos = -1;
  } else if (deadline != Instant()) {
    nanos = std::max<int64_t>(0, deadline.nanos() - Instant::Now().nanos());
  }
  if (nanos > 0 && has_pwait2_.load(std::memory_order_relaxed)) {
    const timespec timeout = {nanos / 1'000'000'000, nanos % 1'000'000'000};
    const int n = static_cast<int>(
        RawSyscall(SYS_epoll_pwait2, epoll_fd_, events, count, &timeout, nullptr, size_t{0}));
    if (n != -ENOSYS && n != -EPERM) return n;
    has_pwait2_.store(false, std::memory_order_relaxed);  // an old kernel, or a sandbox
  }
  int millis = -1;
  if (nanos >= 0) {
    millis = static_cast<int>(std::min<int64_t>(nanos / 1'000'000 + (nanos % 1'000'000 != 0),
                                                std::numeric_limits<int>::max()));
  }
#ifdef WEFT_SYSCALL_BY_LIBC
  const int n = epoll_wait(epoll_fd_, events, count, millis);
  return n < 0 ? -errno : n;
#else
  return static_cast<int>(
      RawSyscall(SYS_epoll_pwait, epoll_fd_, events, count, millis, nullptr, size_t{0}));
#endif
}

void EpollPoller::Poll(Instant deadline, WakeBatch& ready) {
  epoll_event events[kEventsAtOnce];
  const int n = Wait(events, kEventsAtOnce, deadline);
  if (n < 0) {
    if (n == -EINTR) return;
    errno = -n;
    FatalErrno("epoll_wait");
  }
  int woken = 0;
  for (int i = 0; i < n; ++i) {
    if ((events[i].data.u64 & kIsSink) != 0) {
      reinterpret_cast<EventSink*>(events[i].data.u64 & ~kIsSink)->OnEvent(ready);
      continue;
    }
    if (events[i].data.u64 != 0) {
      woken += PollDesc::Deliver(events[i].data.u64, events[i].events, ready);
      continue;
    }
    // A Break() is for who waits. Who only looks leaves it where it is, so that a waiter who comes
    // later finds it.
    if (deadline == Instant()) continue;
    uint64_t count;
    [[maybe_unused]] const ssize_t bytes = read(break_fd_, &count, sizeof(count));
    // After the read: a Break() that finds the flag still up means this very return from Poll().
    // Acquire: pairs with the exchange in Break(), so that its caller's condition is seen.
    break_pending_.exchange(false, std::memory_order_acq_rel);
  }
  if (woken != 0) PollDesc::SubtractWaiting(woken);
}

void EpollPoller::Break() {
  // Always a read-modify-write, so that the poller that clears the flag sees what we did before.
  if (break_pending_.exchange(true, std::memory_order_acq_rel)) return;
  const uint64_t one = 1;
  while (write(break_fd_, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

}  // namespace weft::internal
