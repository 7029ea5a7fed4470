// Waiting for one of a few descriptors.
#ifndef WEFT_SPAWN_INTERNAL_READY_SET_H_
#define WEFT_SPAWN_INTERNAL_READY_SET_H_

#include <poll.h>

#include <array>
#include <cstddef>

#include "absl/time/time.h"

namespace weft::spawn::internal {

// Its places are watched or empty. Used by one goroutine or thread.
class ReadySet {
 public:
  static constexpr size_t kPlaces = 5;

  ReadySet();
  ~ReadySet();
  ReadySet(const ReadySet&) = delete;
  ReadySet& operator=(const ReadySet&) = delete;

  // `events` are poll(2)'s. A place is watched until Clear(); each only once. The descriptor is to
  // be closed after that: then its number may be another one's.
  void Watch(size_t place, int fd, short events);
  void Clear(size_t place);

  // Waits until one is ready or `deadline` has passed, or for no reason. Parks the goroutine, or
  // blocks the thread in poll(2).
  void Wait(absl::Time deadline);

  // Whether it was at the end of Wait().
  bool ready(size_t place) const { return fds_[place].fd >= 0 && fds_[place].revents != 0; }

 private:
  void WaitOnGoroutine(absl::Time deadline);
  void Poll(absl::Duration limit);

  std::array<pollfd, kPlaces> fds_;
  // Which are in the epoll instance, which is there when two have been watched on a goroutine.
  std::array<int, kPlaces> in_epoll_;
  int epoll_ = -1;
};

}  // namespace weft::spawn::internal

#endif  // WEFT_SPAWN_INTERNAL_READY_SET_H_
