// Files, pipes and devices, without blocking a thread where the system lets us.
//
//   absl::StatusOr<weft::File> file = weft::Open("data");
//   std::vector<char> block(4096);
//   absl::StatusOr<size_t> n = file->Pread(absl::MakeSpan(block), 8192);
//
// A regular file is always "ready", whatever the disk does, so epoll is of no help. What is in the
// page cache is read at once; the rest is done by io_uring while the goroutine is parked, or, where
// the kernel or a sandbox refuses that, by the thread in a BlockingSection. WEFTDEBUG=netpoll=1
// says which, and WEFTDEBUG=files=blocking chooses the latter. Pipes, FIFOs, terminals, eventfds,
// inotify and the like wait in the netpoller, as connections do. (file_fd.h says more.)
//
// A File is a handle; its copies are the same open file, which is closed by Close() or with the
// last of them. All operations may be called at once, from goroutines and threads in any mix, but
// one handle object must not be assigned to while another thread uses it. Reads at the file's
// position take turns, and so do writes; Pread() and Pwrite() do not. When an operation returns,
// for whatever reason, nothing touches its buffer any more.
//
// Errors read like Go's, "<op> <name>: <cause>": "open /x: no such file or directory". ErrnoOf()
// has the number; after Close() they are IsClosed(), "read /x: file already closed".
#ifndef WEFT_NETPOLL_FILE_H_
#define WEFT_NETPOLL_FILE_H_

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace weft {

namespace internal {
class FileFd;
}

class File {
 public:
  // No file: every operation fails with an IsClosed() error.
  File() = default;

  // Reads at the position up to buffer.size() bytes, and moves it. Returns how many; 0 is the end.
  // A pipe or device gives what it has, and is waited for if that is nothing; a file may give fewer
  // than there are too. Errors: IsTimeout() (see SetDeadline()), IsClosed(), the system's. May
  // park.
  absl::StatusOr<size_t> Read(absl::Span<char> buffer) const;
  // The same into several buffers, of which the first are filled first; 1,024 at most.
  absl::StatusOr<size_t> Readv(absl::Span<const absl::Span<char>> buffers) const;
  // Reads until the buffer is full. OutOfRange with "EOF" at the end, with "unexpected EOF" if that
  // comes after the first byte.
  absl::Status ReadFull(absl::Span<char> buffer) const;
  // Reads from `offset` on, and leaves the position alone. Fewer bytes than buffer.size() mean that
  // the file ends there. ESPIPE for what has no positions. May park.
  absl::StatusOr<size_t> Pread(absl::Span<char> buffer, int64_t offset) const;

  // Writes all of `data` at the position (at the end with O_APPEND), and moves it. On an error part
  // may have been written; `*written`, if given, is the number of bytes in either case. A pipe that
  // nobody reads is EPIPE, and SIGPIPE too unless that is ignored, as weft::Main does. May park.
  absl::Status Write(absl::string_view data, size_t* written = nullptr) const;
  // The same from `offset` on; the position stays.
  absl::Status Pwrite(absl::string_view data, int64_t offset, size_t* written = nullptr) const;

  // Waits until what was written is on the disk; with SyncData() without what is of no use for
  // reading it back, such as times. May park.
  absl::Status Sync() const;
  absl::Status SyncData() const;

  absl::StatusOr<struct stat> Stat() const;
  // Makes it that long, by cutting off or by adding zeros.
  absl::Status Truncate(int64_t size) const;
  // Moves the position as lseek(2) does, and returns it.
  absl::StatusOr<int64_t> Seek(int64_t offset, int whence = SEEK_SET) const;

  // Reads and writes, waiting ones included, fail with an IsTimeout() error once `deadline` has
  // passed. It holds until it is set anew. FailedPrecondition, "file type does not support
  // deadline", for what does not wait in the netpoller: regular files, and descriptors that were
  // given to WrapFile() in blocking mode.
  absl::Status SetDeadline(absl::Time deadline) const;
  absl::Status SetReadDeadline(absl::Time deadline) const;
  absl::Status SetWriteDeadline(absl::Time deadline) const;

  // Closes it: operations that wait end with an IsClosed() error, and when this returns the
  // descriptor is gone. What a disk has begun it ends first. A thread that is blocked in a read of
  // a blocking descriptor, where there is no io_uring, is waited for. May park. IsClosed() the
  // second time.
  absl::Status Close() const;

  // The descriptor, to be used while the file is open; -1 afterwards. It may be in non-blocking
  // mode.
  int fd() const;
  // What it was opened by.
  absl::string_view name() const;

 private:
  friend struct FileAccess;
  explicit File(std::shared_ptr<internal::FileFd> fd) : fd_(std::move(fd)) {}

  std::shared_ptr<internal::FileFd> fd_;
};

// Opens `path` as open(2) does with these flags (close-on-exec is added), and `mode` less the umask
// for a file that it makes. A FIFO waits for the other side, which blocks the thread in a
// BlockingSection.
absl::StatusOr<File> OpenFile(const std::string& path, int flags, mode_t mode = 0666);

// For reading alone.
absl::StatusOr<File> Open(const std::string& path);
// For reading and writing; emptied if it exists.
absl::StatusOr<File> Create(const std::string& path);

// Takes an open descriptor over. It waits in the netpoller if it is in non-blocking mode and can;
// its mode stays as it is. EBADF: it is not open.
absl::StatusOr<File> WrapFile(int fd, absl::string_view name);

// A new pipe of the system's.
struct FilePipe {
  File reader;
  File writer;
};
absl::StatusOr<FilePipe> OpenPipe();

// Copies from the position of `from` to that of `to` up to `size` bytes, to the end if there are
// fewer. Returns how many. Inside the kernel where both are files that allow it. May park.
absl::StatusOr<uint64_t> Copy(const File& to, const File& from, uint64_t size = UINT64_MAX);

// All of a file, also of one that does not know its size, as in /proc.
absl::StatusOr<std::string> ReadFile(const std::string& path);
// Makes `data` all of the file, which is created if need be.
absl::Status WriteFile(const std::string& path, absl::string_view data, mode_t mode = 0666);

// How regular files are read and written: "io_uring (2 rings)" or "blocking threads (<why>)".
std::string FilesDescription();

}  // namespace weft

#endif  // WEFT_NETPOLL_FILE_H_
