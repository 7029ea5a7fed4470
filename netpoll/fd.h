// A non-blocking descriptor that goroutines and threads wait on: sockets, pipes, what epoll takes.
//
// The operations behind net.h, without addresses and texts.
#ifndef WEFT_NETPOLL_FD_H_
#define WEFT_NETPOLL_FD_H_

#include <errno.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "netpoll/fd_mutex.h"
#include "netpoll/io_result.h"
#include "netpoll/poll_desc.h"
#include "sched/clock.h"
#include "sched/internal/lock.h"

namespace weft::internal {

class Fd {
 public:
  enum class Kind : uint8_t {
    kTcp,     // a TCP connection: a short read means that nothing is left
    kSocket,  // other sockets, listening ones among them
    kFile,    // pipes, terminals, eventfds, ...
  };

  // Takes the descriptor over, which must be in non-blocking mode. It is registered with the poller
  // at the first wait; a connection that never has to wait never is.
  Fd(int fd, Kind kind);

  // Closes it if that has not been done. Nobody is in a call on it.
  ~Fd();

  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;

  // Up to `size` bytes; 0 is the end of the stream. One at a time. May park.
  IoResult Read(char* buffer, size_t size);

  // Until a read is likely not to wait. In turn with reads. May park.
  IoResult WaitReadable();

  // All of it, or the error and how much went before it. One at a time. May park.
  IoResult Write(const char* data, size_t size);
  IoResult Writev(absl::Span<const absl::string_view> pieces);

  // `head`, then the file's bytes, whose number is returned. The kernel may raise SIGPIPE for the
  // latter.
  IoResult SendFile(absl::string_view head, int file_fd, off_t offset, size_t size);

  // The new descriptor, non-blocking and close-on-exec, and the peer's address.
  IoResult Accept(sockaddr* address, socklen_t* address_size);

  // Connects, waiting until it is done or has failed. Its time limit is the write deadline.
  IoResult Connect(const sockaddr* address, socklen_t address_size);

  // Never() for none. Fails with kClosing only.
  IoResult SetDeadline(PollModes modes, Instant deadline);

  // Ends all waits with kClosing, and returns when the descriptor is closed: the last of the calls
  // that were on it has done that. Parks while they leave. Fails with kClosing the second time.
  IoResult Close();

  // The same, but leaves the descriptor open: it is returned as `n`, the caller's from then on.
  IoResult Release();

  // Runs `call(descriptor)`, which returns a number or -errno, in turn with reads (writes). While
  // it returns -EAGAIN, or -EINTR, it is run again, after a wait. `n` is what it has returned. May
  // park between the calls.
  template <typename Call>
  IoResult ReadWith(Call call) {
    return Locked<PollMode::kRead>([&call, this] { return Repeat<PollMode::kRead>(call); });
  }
  template <typename Call>
  IoResult WriteWith(Call call) {
    return Locked<PollMode::kWrite>([&call, this] { return Repeat<PollMode::kWrite>(call); });
  }

  // close(2) is going to take long (SO_LINGER with a time): give the P away meanwhile.
  void set_slow_close(bool slow) { slow_close_.store(slow, std::memory_order_relaxed); }

  // Runs `call(descriptor)`, which returns 0 or -errno, while the descriptor cannot be closed.
  template <typename Call>
  IoResult With(Call call) {
    if (!mutex_.Ref()) return {0, IoResult::kClosing};
    const int64_t result = call(fd_);
    if (mutex_.Unref()) Destroy();
    return {0, static_cast<int>(-result)};
  }

  // -1 once it is closed.
  int fd() const { return mutex_.closed() ? -1 : fd_; }

 private:
  // Runs the operation with the direction's lock held, unless it may not start.
  template <PollMode mode, typename Operation>
  IoResult Locked(Operation operation) {
    if (!mutex_.Lock(mode)) return {0, IoResult::kClosing};
    IoResult result = {0, Check(mode)};
    if (result.ok()) result = operation();
    if (mutex_.Unlock(mode)) Destroy();
    return result;
  }

  template <PollMode mode, typename Call>
  IoResult Repeat(Call& call) {
    if constexpr (mode == PollMode::kRead) drained_ = false;
    for (;;) {
      desc_->Reset(mode);
      const int64_t n = call(fd_);
      if (n >= 0) return {static_cast<size_t>(n)};
      if (n == -EAGAIN) {
        if (const int error = Wait(mode); error != IoResult::kOk) return {0, error};
      } else if (n != -EINTR) {
        return {0, static_cast<int>(-n)};
      }
    }
  }

  enum class Leave { kClosed, kOpen };
  IoResult End(Leave descriptor);

  // Each of these is called with the direction's lock held.
  IoResult ReadLocked(char* buffer, size_t size);
  IoResult WaitReadableLocked();
  IoResult WriteLocked(const char* data, size_t size, int flags);
  IoResult WritevLocked(absl::Span<const absl::string_view> pieces);
  IoResult SendFileLocked(absl::string_view head, int file_fd, off_t offset, size_t size);
  IoResult CopyFileLocked(int file_fd, off_t offset, size_t size);
  IoResult AcceptLocked(sockaddr* address, socklen_t* address_size);
  IoResult ConnectLocked(const sockaddr* address, socklen_t address_size);

  int Check(PollMode mode) const;
  int Wait(PollMode mode);
  int Register();
  void Destroy();

  const int fd_;
  const Kind kind_;
  // The last read took all that there was: the next one waits for an edge before it asks again.
  // Belongs to who holds the read lock. See ReadLocked().
  bool drained_ = false;
  std::atomic<bool> registered_{false};
  std::atomic<bool> slow_close_{false};
  // Set before the last reference is given back, and read by whoever does that.
  bool keep_open_ = false;
  // Destroy() has been here.
  std::atomic<bool> destroyed_{false};
  FdMutex mutex_;
  PollDesc* const desc_;
  // Who is in Close().
  std::atomic<Waiter*> closer_{nullptr};
  Lock register_lock_;
};

// Stands in for accept4(2) in tests of what Accept() does about its errors: null, the default, or a
// function that returns the descriptor or -errno.
using AcceptHook = int64_t (*)(int fd, sockaddr* address, socklen_t* address_size);
void SetAcceptHook(AcceptHook hook);

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_FD_H_
