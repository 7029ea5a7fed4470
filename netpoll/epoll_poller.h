// The poller over epoll: one instance for the program, one registration per descriptor.
//
// A descriptor is registered once, for everything (input, output, hang-up, urgent data), edge
// triggered: from then on no system call is needed to begin or end a wait. What the edges mean for
// those who wait is poll_desc.h's matter.
//
// Waiting has nanosecond resolution by epoll_pwait2 (Linux 5.11), milliseconds, rounded up, without
// it.
#ifndef WEFT_NETPOLL_EPOLL_POLLER_H_
#define WEFT_NETPOLL_EPOLL_POLLER_H_

#include <atomic>
#include <cstdint>

#include "netpoll/poll_desc.h"
#include "sched/clock.h"
#include "sched/poller.h"
#include "sched/waiter.h"

struct epoll_event;

namespace weft::internal {

// What looks after a descriptor's events by itself, instead of having somebody who waits for them
// woken.
class EventSink {
 public:
  // Something has come. Called in Poll(), on a scheduler's stack, and by several threads at once.
  // Those whom it wakes it puts into `ready`, and takes them off the count of waiters.
  virtual void OnEvent(WakeBatch& ready) = 0;

 protected:
  ~EventSink() = default;
};

class EpollPoller final : public Poller {
 public:
  enum class Clock {
    kBest,          // epoll_pwait2 if the kernel has it
    kMilliseconds,  // always epoll_wait: for tests of that path
  };

  // A poller that nobody drives: for tests, which call Poll() themselves.
  explicit EpollPoller(Clock clock = Clock::kBest);
  ~EpollPoller();
  EpollPoller(const EpollPoller&) = delete;
  EpollPoller& operator=(const EpollPoller&) = delete;

  // The program's, which the scheduler drives. The first call makes it and starts the runtime.
  static EpollPoller& Get();

  // Starts to deliver the descriptor's edges to `desc`; what is ready already comes as the first
  // one. Returns 0 or an errno: EPERM for what epoll cannot watch since it never blocks (regular
  // files, directories), EEXIST if the descriptor is registered, ENOSPC if the user's limit is
  // reached. From any thread.
  int Register(int fd, const PollDesc& desc);

  // The same for input alone, which `sink`, that lives for ever, is told of.
  int Register(int fd, EventSink& sink);

  // Ends it. The descriptor is still open. Closing alone would not do where a child process has
  // inherited it. In the child of a fork() it does nothing: the registration is the parent's too.
  void Unregister(int fd);

  // sched/poller.h says what these are.
  void Poll(Instant deadline, WakeBatch& ready) override;
  void Break() override;
  int waiters() const override { return PollDesc::waiting(); }

 private:
  // The number of events, or -errno.
  int Wait(epoll_event* events, int count, Instant deadline);

  int epoll_fd_;
  // An eventfd, registered level-triggered under event data 0, which is no PollDesc's.
  int break_fd_;
  // Whether break_fd_ has been written and not yet read: further Break() calls need do nothing.
  std::atomic<bool> break_pending_{false};
  std::atomic<bool> has_pwait2_;
};

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_EPOLL_POLLER_H_
