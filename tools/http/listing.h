// The page that shows what is in a directory.
#ifndef WEFT_TOOLS_HTTP_LISTING_H_
#define WEFT_TOOLS_HTTP_LISTING_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tools/http/fd.h"

namespace weft::http {

struct Entry {
  enum class Kind : uint8_t { kFile, kDirectory, kLink, kOther };

  std::string name;
  Kind kind = Kind::kOther;
  uint64_t size = 0;
  int64_t modified = 0;  // seconds after the epoch
};

// A page lists no more names than this, and says so.
inline constexpr size_t kMaxListed = 20000;

// The entries of an open directory, at most kMaxListed + 1 of them, without "." and "..", sorted by
// the bytes of their names. Links are not followed, so nothing outside of the root shows. Blocks
// the thread. Errors: the system's.
absl::StatusOr<std::vector<Entry>> ReadDirectory(Fd directory);

// The page for the directory whose decoded path below the root is `path` ("" for the root). Names
// may have any bytes. Pure.
std::string RenderListing(absl::string_view path, const std::vector<Entry>& entries);

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_LISTING_H_
