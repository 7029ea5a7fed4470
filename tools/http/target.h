// From a request's target to a path below the root, and back to a link.
#ifndef WEFT_TOOLS_HTTP_TARGET_H_
#define WEFT_TOOLS_HTTP_TARGET_H_

#include <string>

#include "absl/strings/string_view.h"

namespace weft::http {

struct Target {
  // Decoded, relative, without "." and empty segments, no slash at either end: "a/b c". Empty for
  // the root. Never contains a "..", a NUL, nor a slash that was not one in the target.
  std::string path;
  bool wants_directory = false;  // the target ended in a slash
  absl::string_view query;       // with its '?', or empty; points into the target
  int status = 0;                // 400 where the target is refused, else 0
  absl::string_view problem;     // and why
};

// Takes "/path?query" and "http://host/path?query". Percent-encoding is undone once. Refused:
// malformed encodings, encoded NULs and slashes, ".." segments however they are written, fragments,
// and targets of other forms ("*", "host:port"). Pure.
Target ParseTarget(absl::string_view target);

// `path` as the path of a URL: everything but letters, digits and "-._~/" is percent-encoded, so
// the result needs no escaping in HTML or in a header field.
std::string EncodePath(absl::string_view path);

// `text` with the five characters that mean something in HTML replaced.
std::string EscapeHtml(absl::string_view text);

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_TARGET_H_
