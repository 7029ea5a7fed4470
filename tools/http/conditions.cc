#include "tools/http/conditions.h"

#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "tools/http/date.h"

namespace weft::http {
namespace {

enum class Comparison : uint8_t { kStrong, kWeak };

// Whether `field`, "*" or a list of entity tags, has `etag`. What is malformed matches nothing
// from there on.
bool ListHas(absl::string_view field, absl::string_view etag, Comparison comparison) {
  field = absl::StripAsciiWhitespace(field);
  if (field == "*") return true;
  while (true) {
    const size_t start = field.find_first_not_of(" \t,");
    if (start == absl::string_view::npos) return false;
    field.remove_prefix(start);
    const bool weak = absl::ConsumePrefix(&field, "W/");
    if (field.empty() || field[0] != '"') return false;
    const size_t close = field.find('"', 1);
    if (close == absl::string_view::npos) return false;
    const bool equal = field.substr(0, close + 1) == etag;
    if (equal && !(weak && comparison == Comparison::kStrong)) return true;
    field.remove_prefix(close + 1);
  }
}

}  // namespace

Precondition CheckPreconditions(const Request& request, const Validators& file) {
  int64_t date = 0;
  // Parsing a date is slow, and nearly all requests have none.
  const auto parse = [&date](absl::string_view text) {
    return !text.empty() && ParseHttpDate(text, date);
  };
  if (!request.if_match.empty()) {
    if (!ListHas(request.if_match, file.etag, Comparison::kStrong)) return Precondition::kFailed;
  } else if (parse(request.if_unmodified_since)) {
    if (file.last_modified > date) return Precondition::kFailed;
  }
  if (!request.if_none_match.empty()) {
    if (ListHas(request.if_none_match, file.etag, Comparison::kWeak)) {
      return Precondition::kNotModified;
    }
  } else if (parse(request.if_modified_since)) {
    if (file.last_modified <= date) return Precondition::kNotModified;
  }
  return Precondition::kProceed;
}

bool RangeIsFresh(const Request& request, const Validators& file) {
  if (!request.has_if_range) return true;
  if (request.if_range == file.etag) return true;
  int64_t date = 0;
  return ParseHttpDate(request.if_range, date) && date == file.last_modified;
}

}  // namespace weft::http
