// Conditional requests (RFC 9110, 13): whether to send a file, given what the client has of it.
#ifndef WEFT_TOOLS_HTTP_CONDITIONS_H_
#define WEFT_TOOLS_HTTP_CONDITIONS_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "tools/http/request.h"

namespace weft::http {

// How a state of a file is told from others.
struct Validators {
  absl::string_view etag;     // a strong one, with its quotes
  int64_t last_modified = 0;  // seconds after the epoch
};

enum class Precondition : uint8_t {
  kProceed,
  kNotModified,  // 304
  kFailed,       // 412
};

// Evaluates If-Match, If-Unmodified-Since, If-None-Match and If-Modified-Since of a GET or HEAD, in
// the order and with the precedence of section 13.2.2. Dates that do not parse count as absent.
Precondition CheckPreconditions(const Request& request, const Validators& file);

// Whether If-Range, if there is one, lets Range be served in part: its tag or date is exactly the
// file's.
bool RangeIsFresh(const Request& request, const Validators& file);

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_CONDITIONS_H_
