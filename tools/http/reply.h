// An answer on its way to the client: bytes, then perhaps pieces of a file.
#ifndef WEFT_TOOLS_HTTP_REPLY_H_
#define WEFT_TOOLS_HTTP_REPLY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "tools/http/fd.h"
#include "tools/http/request.h"

namespace weft::http {

struct Reply {
  // Some text, then `length` bytes of `file` from `offset`; either may be empty.
  struct Part {
    std::string text;
    uint64_t offset = 0;
    uint64_t length = 0;
  };

  // What the caller decides before it is built. An error that leaves the connection in doubt sets
  // keep_alive to false.
  bool keep_alive = false;
  int minor_version = 1;   // of the request
  bool head_only = false;  // the request was HEAD

  int status = 0;
  // Status line and fields; then, where it is small, the body, so that one write sends all.
  std::string bytes;
  Fd file;
  std::vector<Part> parts;  // what follows `bytes`
  uint64_t body_size = 0;   // of what is sent, for the log

  // As new, but keeping memory for the next answer.
  void Reset(const Request& request, bool keep_alive);
};

// "Not Found" for 404, ...; "Unknown" for a status that this server never sends.
absl::string_view ReasonPhrase(int status);

// Appends the status line and the fields that every answer has; then fields can follow.
void BeginHead(int status, Reply& reply);
void AddField(absl::string_view name, absl::string_view value, Reply& reply);
void AddField(absl::string_view name, uint64_t value, Reply& reply);
// What the connection does next, and the empty line.
void EndHead(Reply& reply);

// Ends the head with Content-Type and Content-Length, and appends `body` unless only the head is
// wanted.
void FinishWithText(absl::string_view content_type, absl::string_view body, Reply& reply);

// A whole answer with a page of plain text: the status and `detail`, a sentence without its full
// stop, which may have come from the client. Replaces what was built so far. Adds Allow to a 405
// and Retry-After to a 503.
void MakeError(int status, absl::string_view detail, Reply& reply);

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_REPLY_H_
