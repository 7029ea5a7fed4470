#include "netpoll/error.h"

#include <string.h>

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "netpoll/io_result.h"
#include "netpoll/op_error.h"

namespace weft {
namespace {

constexpr absl::string_view kErrnoUrl = "weft/errno";
constexpr absl::string_view kClosedUrl = "weft/closed";

// The system's text, begun in lower case, as Go has it: "connection refused".
std::string ErrnoText(int error) {
  char buffer[128];
  std::string text = strerror_r(error, buffer, sizeof(buffer));
  const bool acronym = text.size() > 1 && absl::ascii_isupper(text[1]);
  if (!text.empty() && !acronym) text[0] = absl::ascii_tolower(text[0]);
  return text;
}

}  // namespace

bool IsTimeout(const absl::Status& status) { return absl::IsDeadlineExceeded(status); }

bool IsClosed(const absl::Status& status) { return status.GetPayload(kClosedUrl).has_value(); }

int ErrnoOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kErrnoUrl);
  int error = 0;
  if (payload.has_value() && !absl::SimpleAtoi(std::string(*payload), &error)) return 0;
  return error;
}

namespace internal {
namespace {

std::string Front(const OpContext& context) {
  std::string front = absl::StrCat(context.op, " ", context.network);
  if (!context.source.empty()) absl::StrAppend(&front, " ", context.source.ToString());
  if (!context.address.empty()) {
    absl::StrAppend(&front, context.source.empty() ? " " : "->", context.address.ToString());
  }
  return absl::StrCat(front, ": ");
}

}  // namespace

absl::Status TimeoutError(absl::string_view front) {
  return absl::DeadlineExceededError(absl::StrCat(front, "i/o timeout"));
}

absl::Status ErrnoError(absl::string_view front, int error, absl::string_view syscall) {
  absl::Status status(absl::ErrnoToStatusCode(error),
                      absl::StrCat(front, syscall, ": ", ErrnoText(error)));
  // Through a string_view: Clang and GCC name the constructor from std::string differently, and the
  // system's Abseil has only one of the names.
  status.SetPayload(kErrnoUrl, absl::Cord(absl::string_view(absl::StrCat(error))));
  return status;
}

absl::Status ClosedError(absl::string_view text) {
  absl::Status status = absl::CancelledError(text);
  status.SetPayload(kClosedUrl, absl::Cord());
  return status;
}

absl::Status OpError(const OpContext& context, int error, absl::string_view syscall) {
  if (error == IoResult::kTimeout) return TimeoutError(Front(context));
  if (error != IoResult::kClosing) return ErrnoError(Front(context), error, syscall);
  return ClosedError(absl::StrCat(Front(context), "use of closed network connection"));
}

absl::Status OpError(const OpContext& context, absl::StatusCode code, absl::string_view cause) {
  return absl::Status(code, absl::StrCat(Front(context), cause));
}

}  // namespace internal
}  // namespace weft
