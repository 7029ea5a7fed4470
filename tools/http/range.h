// The Range field (RFC 9110, 14.2).
#ifndef WEFT_TOOLS_HTTP_RANGE_H_
#define WEFT_TOOLS_HTTP_RANGE_H_

#include <cstddef>
#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/strings/string_view.h"

namespace weft::http {

// Bytes [begin, end), never empty.
struct ByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;

  friend bool operator==(const ByteRange& a, const ByteRange& b) {
    return a.begin == b.begin && a.end == b.end;
  }
};

using ByteRanges = absl::InlinedVector<ByteRange, 2>;

enum class RangeKind : uint8_t {
  kWhole,          // no ranges, or none worth serving: answer 200 with everything
  kPartial,        // `ranges` has at least one: 206
  kUnsatisfiable,  // well-formed, but nothing of it is within the file: 416
};

// More ranges than this in one request are answered by the whole file.
inline constexpr size_t kMaxRanges = 16;

// What `field`, the value of Range, asks of a file of `size` bytes, in the order of the request.
// Fields that are malformed or in other units are ignored, as the RFC has it. So are those that
// ask for more bytes in all than the file has: no honest client does, and they multiply work. An
// empty file is always served whole. Pure.
RangeKind ParseRange(absl::string_view field, uint64_t size, ByteRanges& ranges);

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_RANGE_H_
