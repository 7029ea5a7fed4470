#include "spawn/internal/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "netpoll/syscall.h"
#include "spawn/start_error.h"

namespace weft::spawn::internal {
namespace {

using InputKind = StdioAccess::InputKind;
using OutputKind = StdioAccess::OutputKind;

constexpr size_t kPiece = 64 << 10;

absl::Status Error(int error, absl::string_view what) {
  return absl::Status(absl::ErrnoToStatusCode(error), absl::StrCat(what, ": ", ErrnoText(error)));
}

void CloseFd(int& fd) {
  if (fd >= 0) close(std::exchange(fd, -1));
}

int SetNonBlocking(int fd) { return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

// write(2) that never raises SIGPIPE; the result, or -errno. If one was raised by this call it was
// for this thread, which blocks it: it is taken away again, unless another one was waiting there
// before.
[[gnu::noinline]] int64_t QuietWrite(int fd, const char* data, size_t size) {
  sigset_t pipe_signal;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  sigset_t pending;
  sigpending(&pending);
  sigset_t old;
  pthread_sigmask(SIG_BLOCK, &pipe_signal, &old);
  const int64_t n = weft::internal::RawSyscall(SYS_write, fd, data, size);
  if (n == -EPIPE && sigismember(&pending, SIGPIPE) == 0) {
    const timespec now = {};
    while (sigtimedwait(&pipe_signal, nullptr, &now) < 0 && errno == EINTR) {
    }
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  return n;
}

}  // namespace

absl::StatusOr<int> Streams::OpenFile(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC, 0666);
  if (fd < 0) return Error(errno, absl::StrCat("open ", path));
  child_ends_.push_back(fd);
  return fd;
}

absl::StatusOr<int> Streams::OpenNull() {
  if (null_ < 0) {
    const absl::StatusOr<int> fd = OpenFile("/dev/null", O_RDWR);
    if (!fd.ok()) return fd;
    null_ = *fd;
  }
  return null_;
}

absl::Status Streams::OpenPipe(bool child_reads, int* ours) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Error(errno, "pipe2");
  *ours = ends[child_reads ? 1 : 0];
  child_files_.push_back(ends[child_reads ? 0 : 1]);
  child_ends_.push_back(child_files_.back());
  if (SetNonBlocking(*ours) != 0) return Error(errno, "fcntl");
  return absl::OkStatus();
}

absl::Status Streams::OpenInput(Input& input) {
  switch (StdioAccess::kind(input)) {
    case InputKind::kNothing:
    case InputKind::kFile: {
      const bool nothing = StdioAccess::kind(input) == InputKind::kNothing;
      const absl::StatusOr<int> fd =
          nothing ? OpenNull() : OpenFile(StdioAccess::text(input), O_RDONLY);
      if (!fd.ok()) return fd.status();
      child_files_.push_back(*fd);
      return absl::OkStatus();
    }
    case InputKind::kFd:
      child_files_.push_back(StdioAccess::fd(input));
      return absl::OkStatus();
    case InputKind::kBytes:
    case InputKind::kReader:
      feed_.bytes = std::move(StdioAccess::text(input));
      feed_.reader = std::move(StdioAccess::reader(input));
      return OpenPipe(/*child_reads=*/true, &feed_.fd);
    case InputKind::kPipe: {
      int ours = -1;
      const absl::Status status = OpenPipe(/*child_reads=*/true, &ours);
      if (ours >= 0) in = PipeEndAccess::Make(ours);
      return status;
    }
  }
  return absl::InternalError("exec: unknown input");
}

absl::Status Streams::OpenOutput(Output& output, int inherited, Drain& drain, PipeEnd& end) {
  switch (StdioAccess::kind(output)) {
    case OutputKind::kNothing:
    case OutputKind::kFile: {
      const bool nothing = StdioAccess::kind(output) == OutputKind::kNothing;
      const int flags = O_WRONLY | O_CREAT | (StdioAccess::append(output) ? O_APPEND : O_TRUNC);
      const absl::StatusOr<int> fd =
          nothing ? OpenNull() : OpenFile(StdioAccess::path(output), flags);
      if (!fd.ok()) return fd.status();
      child_files_.push_back(*fd);
      return absl::OkStatus();
    }
    case OutputKind::kFd:
      child_files_.push_back(StdioAccess::fd(output));
      return absl::OkStatus();
    case OutputKind::kInherited:
      child_files_.push_back(inherited);
      return absl::OkStatus();
    case OutputKind::kSameAsOut:
      if (child_files_.size() != 2) {
        return absl::InvalidArgumentError("exec: the standard output cannot be the same as itself");
      }
      child_files_.push_back(child_files_[1]);
      return absl::OkStatus();
    case OutputKind::kText:
    case OutputKind::kWriter:
      drain.text = StdioAccess::text(output);
      drain.writer = std::move(StdioAccess::writer(output));
      return OpenPipe(/*child_reads=*/false, &drain.fd);
    case OutputKind::kPipe: {
      int ours = -1;
      const absl::Status status = OpenPipe(/*child_reads=*/false, &ours);
      if (ours >= 0) end = PipeEndAccess::Make(ours);
      return status;
    }
  }
  return absl::InternalError("exec: unknown output");
}

absl::Status Streams::Open(Input input, Output output, Output error) {
  absl::Status status = OpenInput(input);
  if (status.ok()) status = OpenOutput(output, 1, drains_[0], out);
  if (status.ok()) status = OpenOutput(error, 2, drains_[1], err);
  if (!status.ok()) CloseAll();
  return status;
}

absl::Status Streams::OpenTerminal(int rows, int columns) {
  int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0) return Error(errno, "open /dev/ptmx");
  const winsize size = {static_cast<unsigned short>(rows), static_cast<unsigned short>(columns), 0,
                        0};
  int slave = -1;
  if (unlockpt(master) == 0 && ioctl(master, TIOCSWINSZ, &size) == 0 &&
      SetNonBlocking(master) == 0) {
    // Not by its path, which another mount namespace may not have.
    slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  }
  if (slave < 0) {
    const int error = errno;
    CloseFd(master);
    return Error(error, "pseudo-terminal");
  }
  terminal = PipeEndAccess::Make(master);
  child_files_.assign(3, slave);
  child_ends_.push_back(slave);
  return absl::OkStatus();
}

void Streams::CloseChildEnds() {
  for (int& fd : child_ends_) CloseFd(fd);
  child_ends_.clear();
}

void Streams::CloseAll() {
  CloseChildEnds();
  Abandon();
}

void Streams::Watch(ReadySet& set) const {
  if (feed_.fd >= 0) set.Watch(kFeedPlace, feed_.fd, POLLOUT);
  for (size_t i = 0; i < 2; ++i) {
    if (drains_[i].fd >= 0) set.Watch(kDrainPlace + i, drains_[i].fd, POLLIN);
  }
}

void Streams::Carry(ReadySet& set) {
  if (feed_.fd >= 0 && set.ready(kFeedPlace)) {
    if (!CarryInput()) {
      set.Clear(kFeedPlace);
      CloseFd(feed_.fd);
    }
  }
  for (size_t i = 0; i < 2; ++i) {
    if (drains_[i].fd < 0 || !set.ready(kDrainPlace + i) || CarryOutput(drains_[i])) continue;
    set.Clear(kDrainPlace + i);
    CloseFd(drains_[i].fd);
  }
}

bool Streams::CarryInput() {
  if (feed_.sent == feed_.bytes.size()) {
    feed_.sent = 0;
    feed_.bytes = feed_.reader != nullptr ? feed_.reader() : std::string();
    if (feed_.bytes.empty()) return false;
  }
  const int64_t n =
      QuietWrite(feed_.fd, feed_.bytes.data() + feed_.sent, feed_.bytes.size() - feed_.sent);
  if (n >= 0) {
    feed_.sent += static_cast<size_t>(n);
    return feed_.sent < feed_.bytes.size() || feed_.reader != nullptr;
  }
  if (n == -EAGAIN || n == -EINTR) return true;
  // The child need not read what it does not want.
  if (n != -EPIPE) error_.Update(Error(static_cast<int>(-n), "write |1"));
  return false;
}

bool Streams::CarryOutput(Drain& drain) {
  buffer_.resize(kPiece);
  // Not through errno: the callbacks may park, and so change the thread.
  const int64_t n = weft::internal::RawSyscall(SYS_read, drain.fd, &buffer_[0], buffer_.size());
  if (n > 0) {
    const absl::string_view piece(buffer_.data(), static_cast<size_t>(n));
    if (drain.text != nullptr) drain.text->append(piece.data(), piece.size());
    if (drain.writer != nullptr) drain.writer(piece);
    return true;
  }
  if (n == -EAGAIN || n == -EINTR) return true;
  if (n < 0) error_.Update(Error(static_cast<int>(-n), "read |0"));
  return false;
}

bool Streams::Abandon() {
  const bool was_busy = busy();
  CloseFd(feed_.fd);
  for (Drain& drain : drains_) CloseFd(drain.fd);
  for (const PipeEnd* end : {&in, &out, &err, &terminal}) {
    if (end->valid()) end->Close().IgnoreError();
  }
  return was_busy;
}

}  // namespace weft::spawn::internal
