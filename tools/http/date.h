// Dates as HTTP writes them: "Sun, 06 Nov 1994 08:49:37 GMT".
#ifndef WEFT_TOOLS_HTTP_DATE_H_
#define WEFT_TOOLS_HTTP_DATE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace weft::http {

inline constexpr size_t kHttpDateSize = 29;

// Appends the date of `seconds` after the epoch, years 0 to 9999. Allocates only if `out` must
// grow.
void AppendHttpDate(int64_t seconds, std::string& out);

// Reads any of the three forms that RFC 9110 (5.6.7) names. False: it is none of them.
bool ParseHttpDate(absl::string_view text, int64_t& seconds);

// The time now, in whole seconds, as of the last tick of the system's clock.
int64_t NowSeconds();

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_DATE_H_
