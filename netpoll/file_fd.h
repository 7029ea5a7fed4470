// The descriptor behind a File: whichever way its operations go.
//
//   kPolled  non-blocking, and epoll takes it: pipes, FIFOs, terminals, eventfds, inotify, ... that
//            we have opened, or were given so. As a connection: fd.h.
//   kQueued  all others: regular files and directories, devices that are always ready, and whatever
//            was given to us in blocking mode, which may be shared with other processes and stays
//            as it is. Reads of what is in the page cache are done at once (RWF_NOWAIT); the rest
//            is io_uring's (io_ring.h), or blocks the thread in a BlockingSection where there is
//            none.
//
// Not queued: open, which may wait for ever at a FIFO and would hold one of the few threads that
// the kernel has for us; fstat and lseek, which read what is in memory. copy_file_range has no
// entry of its own in io_uring. These are in BlockingSections.
#ifndef WEFT_NETPOLL_FILE_FD_H_
#define WEFT_NETPOLL_FILE_FD_H_

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "netpoll/fd.h"
#include "netpoll/fd_mutex.h"
#include "netpoll/io_result.h"
#include "sched/clock.h"
#include "sched/waiter.h"

namespace weft::internal {

class FileFd {
 public:
  // Where an operation without a position takes place: at the file's own.
  static constexpr int64_t kCurrent = -1;

  // Takes the descriptor over. `ours`: nobody else uses it yet, so it may be made non-blocking.
  FileFd(int fd, bool ours, absl::string_view name);
  // Closes it if that has not been done. Nobody is in a call on it.
  ~FileFd();
  FileFd(const FileFd&) = delete;
  FileFd& operator=(const FileFd&) = delete;

  // Up to `size` bytes, at the position or from `offset` on. 0: the end. May park.
  IoResult Read(char* buffer, size_t size, int64_t offset);
  IoResult Readv(const iovec* pieces, int count, int64_t offset);
  // All of it, or the error and how much went before. May park.
  IoResult Write(const char* data, size_t size, int64_t offset);

  // To the disk: the data, and unless `data_only` all that is known about the file.
  IoResult Sync(bool data_only);
  IoResult Truncate(int64_t size);
  IoResult Stat(struct stat* result);
  // The new position.
  IoResult Seek(int64_t offset, int whence);
  // Moves up to `size` bytes between the two files' positions inside the kernel. EXDEV, EINVAL,
  // ...: it cannot, for these files.
  IoResult CopyRange(FileFd& from, size_t size);

  // ENOTSUP where the file knows no deadlines, which are those that are not polled.
  IoResult SetDeadline(PollModes modes, Instant deadline);

  // Ends all waits and what io_uring has under way, and returns when the descriptor is closed.
  // kClosing the second time. Parks.
  IoResult Close();

  // -1 once it is closed.
  int fd() const;
  const std::string& name() const { return name_; }
  bool polled() const { return polled_.has_value(); }

 private:
  // Runs the operation with a reference held, and in turn with others of that mode if one is given.
  template <typename Operation>
  IoResult Referenced(Operation operation);
  template <typename Operation>
  IoResult Locked(PollMode mode, Operation operation);

  IoResult ReadOnce(const iovec* pieces, int count, int64_t offset);
  IoResult WriteAll(const char* data, size_t size, int64_t offset);
  // What a descriptor's owner does when the last reference is gone.
  void Destroy();

  const int fd_;
  const std::string name_;
  // Its position is one for reads and writes. Streams have none, and go both ways at once.
  bool seekable_ = false;
  // The file system can tell whether it would have to wait.
  std::atomic<bool> reads_nowait_{true};

  std::optional<Fd> polled_;

  // Of those that are not polled.
  FdMutex mutex_;
  std::atomic<Waiter*> closer_{nullptr};
  std::atomic<bool> destroyed_{false};
};

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_FILE_FD_H_
