// A descriptor that is closed unless somebody takes it.
#ifndef WEFT_NETPOLL_OWNED_FD_H_
#define WEFT_NETPOLL_OWNED_FD_H_

#include <unistd.h>

#include <utility>

namespace weft {

class OwnedFd {
 public:
  OwnedFd() = default;
  // Takes it over. Negative: none.
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~OwnedFd() { reset(-1); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

  // The caller's from now on.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

  void reset(int fd) {
    const int old = std::exchange(fd_, fd);
    if (old >= 0) close(old);
  }

 private:
  int fd_ = -1;
};

}  // namespace weft

#endif  // WEFT_NETPOLL_OWNED_FD_H_
