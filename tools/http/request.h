// The head of an HTTP/1.x request, parsed by Boost.Beast.
//
//   Request request;
//   ParseResult result = ParseRequest(bytes_so_far, 8192, request);
//   // kIncomplete: read more and call again with everything read so far.
//
// Parsing starts from the first byte each time, so nothing but the bytes is kept while a request is
// on its way, and a request that comes in one piece, as nearly all do, is parsed once.
#ifndef WEFT_TOOLS_HTTP_REQUEST_H_
#define WEFT_TOOLS_HTTP_REQUEST_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace weft::http {

enum class Method : uint8_t {
  kGet,
  kHead,
  kOther,    // one that exists, but that a file server does not answer
  kUnknown,  // no method of HTTP
};

// How the end of the body is told.
enum class BodyKind : uint8_t { kNone, kLength, kChunked };

// What a file server asks of a request. The views point into the parsed bytes.
struct Request {
  Method method = Method::kUnknown;
  BodyKind body = BodyKind::kNone;
  int minor_version = 1;             // of HTTP/1.x
  bool keep_alive = false;           // as Connection and the version have it
  bool expects_continue = false;     // Expect: 100-continue, from a client of HTTP/1.1
  bool unknown_expectation = false;  // any other Expect
  uint64_t content_length = 0;       // where body is kLength
  absl::string_view method_name;
  absl::string_view target;        // as sent: "/a%20b?c"
  absl::string_view version_line;  // "HTTP/1.1"

  // Values of fields, empty where absent. A field that may come only once and came twice is empty
  // too: without it the answer is the whole file, which is always right.
  absl::string_view range;
  absl::string_view if_match;
  absl::string_view if_none_match;
  absl::string_view if_modified_since;
  absl::string_view if_unmodified_since;
  absl::string_view if_range;
  bool has_if_range = false;  // also where it came twice
};

struct ParseResult {
  enum class State : uint8_t { kIncomplete, kComplete, kBad };

  State state = State::kIncomplete;
  size_t consumed = 0;        // bytes of the head, where complete
  int status = 0;             // what to answer, where bad: 400, 414, 431, 501 or 505
  absl::string_view problem;  // and why, as a phrase for the client; a literal
};

// Parses the request that `input` begins with. `limit` is the most bytes that its head may have.
// Empty lines before it are skipped, as RFC 9112 (2.2) asks. Fills `request` where the result is
// kComplete; where it is kBad, as much of it as was understood, for the log. Pure; never parks.
ParseResult ParseRequest(absl::string_view input, size_t limit, Request& request);

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_REQUEST_H_
