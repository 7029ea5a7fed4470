#include "tools/http/root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "sched/goroutine.h"

namespace weft::http {
namespace {

// O_NONBLOCK: opening a FIFO for reading would wait for a writer.
constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

constexpr uint64_t kBeneath = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;

int OpenInKernel(int directory, const char* path, uint64_t resolve) {
  open_how how = {};
  how.flags = kFlags;
  how.resolve = resolve;
  return static_cast<int>(syscall(SYS_openat2, directory, path, &how, sizeof(how)));
}

int OpenInKernel(int directory, const char* path) {
  // Nearly always the kernel has all the directories in memory, and announcing that this may block
  // would cost more than the call. EAGAIN: it would have to look on the disk; EINVAL: Linux before
  // 5.12, which cannot tell.
  const int fd = OpenInKernel(directory, path, kBeneath | RESOLVE_CACHED);
  if (fd >= 0 || (errno != EAGAIN && errno != EINVAL)) return fd;
  BlockingSection section;
  // EAGAIN: something was renamed during the walk and the kernel cannot rule out an escape.
  for (int tries = 0;; ++tries) {
    const int again = OpenInKernel(directory, path, kBeneath);
    if (again >= 0 || errno != EAGAIN || tries == 16) return again;
  }
}

// Whether openat2() works here at all; containers' filters may deny it with EPERM or ENOSYS.
bool KernelResolves(int directory) {
  const Fd probe(OpenInKernel(directory, ".", kBeneath));
  return static_cast<bool>(probe);
}

// Resolves a path by hand. The stack of open directories is how ".." in a link is taken: the one
// before is where we came from, whatever has been renamed since, and below the root there is none.
class Walk {
 public:
  explicit Walk(int root) : root_(root) {}

  Root::Opened Open(absl::string_view path) {
    Push(path);
    while (!pending_.empty()) {
      const std::string name = std::move(pending_.back());
      pending_.pop_back();
      if (name.empty() || name == ".") continue;
      if (name == "..") {
        if (directories_.empty()) return {Fd(), EXDEV};
        directories_.pop_back();
        continue;
      }
      const bool last = pending_.empty();
      const int flags = last ? kFlags : O_PATH | O_DIRECTORY | O_CLOEXEC;
      Fd fd(openat(Here(), name.c_str(), flags | O_NOFOLLOW));
      if (!fd) {
        // What a link is answered with, under these flags.
        const int error = errno;
        if (error != (last ? ELOOP : ENOTDIR)) return {Fd(), error};
        const int link = Follow(name);
        if (link != 0) return {Fd(), link == EINVAL ? error : link};
      } else if (last) {
        return {std::move(fd), 0};
      } else {
        directories_.push_back(std::move(fd));
      }
    }
    // The path ended in "..", or was empty.
    Fd fd(openat(Here(), ".", kFlags | O_DIRECTORY));
    const int error = fd ? 0 : errno;
    return {std::move(fd), error};
  }

 private:
  static constexpr int kMaxLinks = 40;  // as the kernel's

  int Here() const { return directories_.empty() ? root_ : directories_.back().get(); }

  // Puts the names of `path` before what is pending.
  void Push(absl::string_view path) {
    const std::vector<std::string> names = absl::StrSplit(path, '/');
    pending_.insert(pending_.end(), names.rbegin(), names.rend());
  }

  // Puts what the link `name` says in its place. Returns 0 or an errno; EINVAL: it is no link.
  int Follow(const std::string& name) {
    char text[PATH_MAX];
    const ssize_t size = readlinkat(Here(), name.c_str(), text, sizeof(text));
    if (size < 0) return errno;
    if (size == 0 || size == sizeof(text)) return ENAMETOOLONG;
    if (text[0] == '/') return EXDEV;
    if (++links_ > kMaxLinks) return ELOOP;
    Push({text, static_cast<size_t>(size)});
    return 0;
  }

  const int root_;
  int links_ = 0;
  std::vector<Fd> directories_;
  std::vector<std::string> pending_;  // names still to be taken, the next one last
};

}  // namespace

absl::StatusOr<Root> Root::Open(const std::string& directory, Resolver resolver) {
  Fd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) {
    const int error = errno;
    return absl::ErrnoToStatus(error, absl::StrCat("cannot open directory ", directory));
  }
  if (resolver == Resolver::kKernel && !KernelResolves(fd.get())) resolver = Resolver::kWalk;
  return Root(std::move(fd), resolver);
}

Root::Opened Root::OpenBeneath(const std::string& path) const {
  if (path.find('\0') != std::string::npos || (!path.empty() && path[0] == '/')) {
    return {Fd(), path.empty() || path[0] != '/' ? EINVAL : EXDEV};
  }
  if (resolver_ == Resolver::kWalk) {
    BlockingSection section;
    return Walk(directory_.get()).Open(path);
  }
  Fd fd(OpenInKernel(directory_.get(), path.empty() ? "." : path.c_str()));
  const int error = fd ? 0 : errno;
  return {std::move(fd), error};
}

}  // namespace weft::http
