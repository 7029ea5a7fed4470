// The head of an HTTP/1.x request, and what its target asks for.
//
// A server of pages needs little of HTTP: one request a connection, no ranges, no conditions. So
// here are sixty lines instead of a library that each program with pages would have to link.
#ifndef WEFT_DEBUG_HTTP_REQUEST_H_
#define WEFT_DEBUG_HTTP_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace weft::debug::internal {

struct RequestHead {
  enum class State { kIncomplete, kComplete, kBad };

  State state = State::kIncomplete;
  int status = 0;            // what to answer, where bad
  const char* problem = "";  // and why

  size_t size = 0;  // of the head, with the empty line that ends it
  std::string method;
  std::string target;  // as sent
  std::string host;    // with its port; "": HTTP/1.0, which need not say
  uint64_t content_length = 0;
  bool expects_continue = false;
};

// Of the request that `input` begins with. Refuses what is malformed by RFC 9112, folded fields and
// bodies in chunks. Pure.
RequestHead ParseHead(absl::string_view input);

struct Target {
  std::string path;                          // decoded
  std::map<std::string, std::string> query;  // decoded; the first of each name

  // The value of the parameter, or "".
  std::string Get(const std::string& name) const;
};

// Of "/debug/goroutines?q=a%20b". Nothing: it does not begin with a slash, or has a broken escape
// or a control character. Pure.
std::optional<Target> ParseTarget(absl::string_view target);

// Whether a server on this machine alone may take a request to `host`: it is "localhost" or an
// address. Browsers send other names when a page from elsewhere has had its own name resolve to
// this machine, to read what is here (DNS rebinding).
bool IsLocalHost(absl::string_view host);

}  // namespace weft::debug::internal

#endif  // WEFT_DEBUG_HTTP_REQUEST_H_
