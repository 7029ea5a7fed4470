// One file, from a URL to a directory: tried again and again, going on where the last attempt
// broke.
//
// What has come lies in NAME.part until the file is whole and right, and then gets its name. Beside
// it NAME.part.etag keeps what the server calls this version: with If-Range it sends the rest of
// that one, or all of another. Without it an attempt begins anew.
#ifndef WEFT_TOOLS_DOWNLOAD_FETCH_FILE_H_
#define WEFT_TOOLS_DOWNLOAD_FETCH_FILE_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "chan/context.h"

namespace weft::download {

struct Item {
  std::string url;
  std::string name;    // of the file
  std::string sha256;  // hexadecimal, in lower case; empty: not checked
};

// The name that a URL gives, without directories; empty if it gives none.
std::string NameOf(absl::string_view url);

struct FetchOptions {
  std::string directory = ".";
  bool resume = true;  // use what an earlier run has left
  // Attempts after the first that may bring nothing, one after the other; any that brings something
  // starts the count anew.
  int retries = 5;
  // Before the next attempt: this, twice this, ..., at most `max_backoff`, each less up to half of
  // it by chance; at once after an attempt that brought something.
  absl::Duration backoff = absl::Milliseconds(200);
  absl::Duration max_backoff = absl::Seconds(10);
  absl::Duration timeout = absl::Seconds(30);  // to connect, and without a byte
};

// What others may watch.
struct Progress {
  std::atomic<int64_t> done{0};
  std::atomic<int64_t> total{-1};    // -1: not known
  std::atomic<int64_t> received{0};  // over the network, in all attempts
  std::atomic<int64_t> attempts{0};
};

// Parks. Errors: Cancelled when `context` is done, with the part kept; DataLoss for a wrong
// checksum, with the part removed; what the server or the network said last; the file system's.
absl::Status FetchFile(const Context& context, const Item& item, const FetchOptions& options,
                       Progress& progress);

// Of a file's contents, in hexadecimal.
absl::StatusOr<std::string> Sha256(const std::string& path);

}  // namespace weft::download

#endif  // WEFT_TOOLS_DOWNLOAD_FETCH_FILE_H_
