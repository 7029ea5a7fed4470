// Pipes for splice(2), kept for the next one: making a pipe takes longer than moving a few pages.
#ifndef WEFT_NETPOLL_PIPE_POOL_H_
#define WEFT_NETPOLL_PIPE_POOL_H_

#include <cstddef>

#include "netpoll/owned_fd.h"

namespace weft::internal {

// An empty pipe, borrowed from the pool, non-blocking and close-on-exec.
class PooledPipe {
 public:
  static constexpr size_t kBytes = size_t{1} << 20;  // asked for; the system may allow less
  static constexpr size_t kMaxIdle = 16;             // those that the pool keeps

  PooledPipe();
  // Back to the pool, if it is empty as far as set_dirty() says.
  ~PooledPipe();
  PooledPipe(const PooledPipe&) = delete;
  PooledPipe& operator=(const PooledPipe&) = delete;

  // 0, or the errno for which there is no pipe.
  int error() const { return error_; }
  int read_end() const { return read_end_.get(); }
  int write_end() const { return write_end_.get(); }

  // Whether something is in it.
  void set_dirty(bool dirty) { dirty_ = dirty; }

  // Closes those that nobody has borrowed.
  static void CloseIdle();

 private:
  OwnedFd read_end_;
  OwnedFd write_end_;
  int error_ = 0;
  bool dirty_ = false;
};

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_PIPE_POOL_H_
