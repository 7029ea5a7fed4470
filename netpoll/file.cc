#include "netpoll/file.h"

#include <errno.h>
#include <limits.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "netpoll/file_fd.h"
#include "netpoll/io_ring.h"
#include "netpoll/op_error.h"
#include "netpoll/syscall.h"
#include "sched/goroutine.h"

namespace weft {

using internal::FileFd;
using internal::IoResult;

struct FileAccess {
  static File Make(int fd, bool ours, absl::string_view name) {
    return File(std::make_shared<FileFd>(fd, ours, name));
  }
  static FileFd* FdOf(const File& file) { return file.fd_.get(); }
};

namespace {

constexpr size_t kCopyBuffer = 256 << 10;

absl::Status Error(absl::string_view op, absl::string_view name, int error) {
  const std::string front = absl::StrCat(op, " ", name);
  if (error == IoResult::kTimeout) return internal::TimeoutError(absl::StrCat(front, ": "));
  if (error == IoResult::kClosing) {
    return internal::ClosedError(absl::StrCat(front, ": file already closed"));
  }
  return internal::ErrnoError("", error, front);
}

// Of what is not polled, a regular file mostly: a position that the system would take for something
// else.
bool BadOffset(int64_t offset) { return offset < 0; }

}  // namespace

#define WEFT_FILE_OR_RETURN(op) \
  FileFd* const fd = fd_.get(); \
  if (fd == nullptr) return Error(op, "", IoResult::kClosing)

absl::StatusOr<size_t> File::Read(absl::Span<char> buffer) const {
  WEFT_FILE_OR_RETURN("read");
  const IoResult result = fd->Read(buffer.data(), buffer.size(), FileFd::kCurrent);
  if (!result.ok()) return Error("read", fd->name(), result.error);
  return result.n;
}

absl::StatusOr<size_t> File::Readv(absl::Span<const absl::Span<char>> buffers) const {
  WEFT_FILE_OR_RETURN("readv");
  if (buffers.size() > IOV_MAX) return Error("readv", fd->name(), EINVAL);
  std::vector<iovec> pieces;
  pieces.reserve(buffers.size());
  for (const absl::Span<char> buffer : buffers) pieces.push_back({buffer.data(), buffer.size()});
  const IoResult result =
      fd->Readv(pieces.data(), static_cast<int>(pieces.size()), FileFd::kCurrent);
  if (!result.ok()) return Error("readv", fd->name(), result.error);
  return result.n;
}

absl::Status File::ReadFull(absl::Span<char> buffer) const {
  for (size_t done = 0; done < buffer.size();) {
    const absl::StatusOr<size_t> n = Read(buffer.subspan(done));
    if (!n.ok()) return n.status();
    if (*n == 0) return absl::OutOfRangeError(done == 0 ? "EOF" : "unexpected EOF");
    done += *n;
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> File::Pread(absl::Span<char> buffer, int64_t offset) const {
  WEFT_FILE_OR_RETURN("read");
  if (BadOffset(offset)) return Error("read", fd->name(), EINVAL);
  size_t done = 0;
  while (done < buffer.size()) {
    const IoResult result =
        fd->Read(buffer.data() + done, buffer.size() - done, offset + static_cast<int64_t>(done));
    if (!result.ok()) return Error("read", fd->name(), result.error);
    if (result.n == 0) break;
    done += result.n;
  }
  return done;
}

absl::Status File::Write(absl::string_view data, size_t* written) const {
  if (written != nullptr) *written = 0;
  WEFT_FILE_OR_RETURN("write");
  const IoResult result = fd->Write(data.data(), data.size(), FileFd::kCurrent);
  if (written != nullptr) *written = result.n;
  return result.ok() ? absl::OkStatus() : Error("write", fd->name(), result.error);
}

absl::Status File::Pwrite(absl::string_view data, int64_t offset, size_t* written) const {
  if (written != nullptr) *written = 0;
  WEFT_FILE_OR_RETURN("write");
  if (BadOffset(offset)) return Error("write", fd->name(), EINVAL);
  const IoResult result = fd->Write(data.data(), data.size(), offset);
  if (written != nullptr) *written = result.n;
  return result.ok() ? absl::OkStatus() : Error("write", fd->name(), result.error);
}

absl::Status File::Sync() const {
  WEFT_FILE_OR_RETURN("sync");
  const IoResult result = fd->Sync(/*data_only=*/false);
  return result.ok() ? absl::OkStatus() : Error("sync", fd->name(), result.error);
}

absl::Status File::SyncData() const {
  WEFT_FILE_OR_RETURN("sync");
  const IoResult result = fd->Sync(/*data_only=*/true);
  return result.ok() ? absl::OkStatus() : Error("sync", fd->name(), result.error);
}

absl::StatusOr<struct stat> File::Stat() const {
  WEFT_FILE_OR_RETURN("stat");
  struct stat status = {};
  const IoResult result = fd->Stat(&status);
  if (!result.ok()) return Error("stat", fd->name(), result.error);
  return status;
}

absl::Status File::Truncate(int64_t size) const {
  WEFT_FILE_OR_RETURN("truncate");
  const IoResult result = fd->Truncate(size);
  return result.ok() ? absl::OkStatus() : Error("truncate", fd->name(), result.error);
}

absl::StatusOr<int64_t> File::Seek(int64_t offset, int whence) const {
  WEFT_FILE_OR_RETURN("seek");
  const IoResult result = fd->Seek(offset, whence);
  if (!result.ok()) return Error("seek", fd->name(), result.error);
  return static_cast<int64_t>(result.n);
}

namespace {

absl::Status SetDeadlineOf(FileFd* fd, internal::PollModes modes, absl::Time deadline) {
  if (fd == nullptr) return Error("set deadline", "", IoResult::kClosing);
  const IoResult result = fd->SetDeadline(modes, Instant::FromTime(deadline));
  if (result.ok()) return absl::OkStatus();
  if (result.error != ENOTSUP) return Error("set deadline", fd->name(), result.error);
  return absl::FailedPreconditionError(
      absl::StrCat("set deadline ", fd->name(), ": file type does not support deadline"));
}

}  // namespace

absl::Status File::SetDeadline(absl::Time deadline) const {
  return SetDeadlineOf(fd_.get(), internal::kBothModes, deadline);
}
absl::Status File::SetReadDeadline(absl::Time deadline) const {
  return SetDeadlineOf(fd_.get(), internal::kReadMode, deadline);
}
absl::Status File::SetWriteDeadline(absl::Time deadline) const {
  return SetDeadlineOf(fd_.get(), internal::kWriteMode, deadline);
}

absl::Status File::Close() const {
  WEFT_FILE_OR_RETURN("close");
  const IoResult result = fd->Close();
  return result.ok() ? absl::OkStatus() : Error("close", fd->name(), result.error);
}

int File::fd() const { return fd_ == nullptr ? -1 : fd_->fd(); }

absl::string_view File::name() const {
  return fd_ == nullptr ? absl::string_view() : absl::string_view(fd_->name());
}

absl::StatusOr<File> OpenFile(const std::string& path, int flags, mode_t mode) {
  const char* const name = path.c_str();
  int64_t fd;
  do {
    const BlockingSection section;
    fd = internal::ByLibc([=] { return open(name, flags | O_CLOEXEC, mode); });
  } while (fd == -EINTR);
  if (fd < 0) return Error("open", path, static_cast<int>(-fd));
  return FileAccess::Make(static_cast<int>(fd), /*ours=*/true, path);
}

absl::StatusOr<File> Open(const std::string& path) { return OpenFile(path, O_RDONLY); }

absl::StatusOr<File> Create(const std::string& path) {
  return OpenFile(path, O_RDWR | O_CREAT | O_TRUNC);
}

absl::StatusOr<File> WrapFile(int fd, absl::string_view name) {
  const int64_t flags = internal::ByLibc([=] { return fcntl(fd, F_GETFL); });
  if (flags < 0) return Error("wrap", name, static_cast<int>(-flags));
  return FileAccess::Make(fd, /*ours=*/false, name);
}

absl::StatusOr<FilePipe> OpenPipe() {
  int ends[2];
  const int64_t result = internal::ByLibc([&] { return pipe2(ends, O_CLOEXEC | O_NONBLOCK); });
  if (result < 0) return Error("pipe", "", static_cast<int>(-result));
  return FilePipe{FileAccess::Make(ends[0], /*ours=*/true, "|0"),
                  FileAccess::Make(ends[1], /*ours=*/true, "|1")};
}

absl::StatusOr<uint64_t> Copy(const File& to, const File& from, uint64_t size) {
  FileFd* const source = FileAccess::FdOf(from);
  FileFd* const target = FileAccess::FdOf(to);
  if (source == nullptr || target == nullptr) return Error("copy", "", IoResult::kClosing);
  uint64_t done = 0;
  // What is empty by its own account may have something to read nevertheless, in /proc.
  while (done < size) {
    const IoResult result = target->CopyRange(*source, size - done);
    if (result.error == IoResult::kClosing) return Error("copy", source->name(), result.error);
    if (!result.ok() || result.n == 0) break;
    done += result.n;
  }
  std::vector<char> buffer(std::min<uint64_t>(kCopyBuffer, size - done));
  while (done < size) {
    const absl::StatusOr<size_t> n =
        from.Read(absl::MakeSpan(buffer).first(std::min<uint64_t>(buffer.size(), size - done)));
    if (!n.ok()) return n.status();
    if (*n == 0) break;
    if (absl::Status s = to.Write({buffer.data(), *n}); !s.ok()) return s;
    done += *n;
  }
  return done;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  absl::StatusOr<File> file = Open(path);
  if (!file.ok()) return file.status();
  const absl::StatusOr<struct stat> status = file->Stat();
  if (!status.ok()) return status.status();
  std::string text;
  size_t done = 0;
  // One more than it has, so that the end shows without another round.
  text.resize(std::max<size_t>(static_cast<size_t>(status->st_size) + 1, 512));
  for (;;) {
    const absl::StatusOr<size_t> n =
        file->Read(absl::MakeSpan(text.data() + done, text.size() - done));
    if (!n.ok()) return n.status();
    if (*n == 0) break;
    done += *n;
    if (done == text.size()) text.resize(2 * text.size());
  }
  text.resize(done);
  return text;
}

absl::Status WriteFile(const std::string& path, absl::string_view data, mode_t mode) {
  absl::StatusOr<File> file = OpenFile(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
  if (!file.ok()) return file.status();
  if (absl::Status s = file->Write(data); !s.ok()) return s;
  return file->Close();
}

std::string FilesDescription() { return internal::IoRing::Description(); }

}  // namespace weft
