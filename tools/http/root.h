// A directory that nothing is opened outside of.
//
//   absl::StatusOr<Root> root = Root::Open("/srv/www");
//   Root::Opened file = root->OpenBeneath("a/b.txt");
//   if (!file.fd) ... file.error is an errno
//
// The kernel resolves the whole path in one go and refuses every step that would leave the root
// (openat2() with RESOLVE_BENEATH): "..", absolute paths, and symbolic links that are absolute or
// lead out, whoever renames what meanwhile. Where the system lacks that call, or a sandbox forbids
// it, the path is walked here one name at a time, never following a link without having read it, by
// the same rules.
#ifndef WEFT_TOOLS_HTTP_ROOT_H_
#define WEFT_TOOLS_HTTP_ROOT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "tools/http/fd.h"

namespace weft::http {

class Root {
 public:
  // kKernel falls back to kWalk by itself where it has to.
  enum class Resolver : uint8_t { kKernel, kWalk };

  struct Opened {
    Fd fd;
    int error = 0;  // errno where there is no fd; EXDEV: the path leads out of the root
  };

  // Opens the directory itself, which may be reached in any way. Errors: NotFound and others, with
  // the path and the system's reason as text.
  static absl::StatusOr<Root> Open(const std::string& directory,
                                   Resolver resolver = Resolver::kKernel);

  // Opens a file or directory for reading; "" is the root. Never waits for the other end of a FIFO.
  // Blocks the thread, in a BlockingSection, where the kernel must ask a disk.
  Opened OpenBeneath(const std::string& path) const;

 private:
  Root(Fd directory, Resolver resolver) : directory_(std::move(directory)), resolver_(resolver) {}

  Fd directory_;
  Resolver resolver_;
};

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_ROOT_H_
