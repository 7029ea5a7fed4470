#include "netpoll/pipe_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "sched/sync/mutex.h"

namespace weft::internal {
namespace {

struct Pool {
  Mutex mutex;
  std::vector<std::pair<OwnedFd, OwnedFd>> idle ABSL_GUARDED_BY(mutex);
};

// Never destroyed: it may be used as late as by static destructors.
Pool& ThePool() {
  static Pool* const pool = new Pool;
  return *pool;
}

}  // namespace

PooledPipe::PooledPipe() {
  {
    Pool& pool = ThePool();
    MutexLock lock(pool.mutex);
    if (!pool.idle.empty()) {
      read_end_ = std::move(pool.idle.back().first);
      write_end_ = std::move(pool.idle.back().second);
      pool.idle.pop_back();
      return;
    }
  }
  int fds[2];
  if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0) {
    error_ = errno;
    return;
  }
  read_end_.reset(fds[0]);
  write_end_.reset(fds[1]);
  // What it has by itself will do.
  fcntl(fds[0], F_SETPIPE_SZ, static_cast<int>(kBytes));
}

PooledPipe::~PooledPipe() {
  if (dirty_ || error_ != 0) return;
  Pool& pool = ThePool();
  MutexLock lock(pool.mutex);
  if (pool.idle.size() < kMaxIdle) {
    pool.idle.emplace_back(std::move(read_end_), std::move(write_end_));
  }
}

void PooledPipe::CloseIdle() {
  Pool& pool = ThePool();
  MutexLock lock(pool.mutex);
  pool.idle.clear();
}

}  // namespace weft::internal
