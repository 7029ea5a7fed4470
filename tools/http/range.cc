#include "tools/http/range.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace weft::http {
namespace {

enum class Spec : uint8_t { kMalformed, kOutside, kInside };

// Takes the digits that `text` begins with. Numbers beyond 64 bits are as good as the largest.
// False: there are none.
bool TakeNumber(absl::string_view& text, uint64_t& number) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  size_t n = 0;
  number = 0;
  for (; n < text.size() && absl::ascii_isdigit(text[n]); ++n) {
    const uint64_t digit = text[n] - '0';
    number = number > (kMax - digit) / 10 ? kMax : number * 10 + digit;
  }
  text.remove_prefix(n);
  return n > 0;
}

// "first-last", "first-" or "-suffix".
Spec ParseSpec(absl::string_view text, uint64_t size, ByteRange& range) {
  uint64_t first = 0;
  uint64_t last = 0;
  const bool has_first = TakeNumber(text, first);
  if (text.empty() || text[0] != '-') return Spec::kMalformed;
  text.remove_prefix(1);
  const bool has_last = TakeNumber(text, last);
  if (!text.empty() || (!has_first && !has_last)) return Spec::kMalformed;
  if (!has_first) {
    if (last == 0) return Spec::kOutside;
    range = {size - std::min(last, size), size};
    return Spec::kInside;
  }
  if (has_last && last < first) return Spec::kMalformed;
  if (first >= size) return Spec::kOutside;
  range = {first, has_last && last < size - 1 ? last + 1 : size};
  return Spec::kInside;
}

}  // namespace

RangeKind ParseRange(absl::string_view field, uint64_t size, ByteRanges& ranges) {
  ranges.clear();
  if (size == 0 || !absl::StartsWithIgnoreCase(field, "bytes=")) return RangeKind::kWhole;
  field.remove_prefix(6);
  size_t count = 0;
  uint64_t total = 0;
  while (true) {
    const size_t comma = field.find(',');
    const absl::string_view spec = absl::StripAsciiWhitespace(field.substr(0, comma));
    if (!spec.empty()) {  // the grammar of lists allows empty elements
      ByteRange range;
      const Spec kind = ParseSpec(spec, size, range);
      if (kind == Spec::kMalformed || ++count > kMaxRanges) return RangeKind::kWhole;
      if (kind == Spec::kInside) {
        if (range.end - range.begin > size - total) return RangeKind::kWhole;
        total += range.end - range.begin;
        ranges.push_back(range);
      }
    }
    if (comma == absl::string_view::npos) break;
    field.remove_prefix(comma + 1);
  }
  if (count == 0) return RangeKind::kWhole;
  return ranges.empty() ? RangeKind::kUnsatisfiable : RangeKind::kPartial;
}

}  // namespace weft::http
