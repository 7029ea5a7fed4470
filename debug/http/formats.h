// Strict parsers of what the pages print, written from the formats' definitions: for tests.
#ifndef WEFT_DEBUG_HTTP_FORMATS_H_
#define WEFT_DEBUG_HTTP_FORMATS_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace weft::debug::testing {

// The values in a JSON text by their paths, "sched.steals", "procs.0.id", as they are written
// (strings decoded). Nothing: it is not JSON (RFC 8259), or has a name twice in an object.
std::optional<std::map<std::string, std::string>> ParseJson(absl::string_view text);

struct PrometheusFamily {
  std::string type;
  std::string help;
  // "name{labels}" as written, and the value.
  std::vector<std::pair<std::string, double>> samples;
};

// Of the text format, version 0.0.4, with what its readers want besides: HELP and TYPE come first
// and once, samples belong to the family above them, none comes twice, buckets do not decrease and
// end with +Inf, which is the count. Else `*problem` says what is wrong.
std::map<std::string, PrometheusFamily> ParsePrometheus(absl::string_view text,
                                                        std::string* problem);

}  // namespace weft::debug::testing

#endif  // WEFT_DEBUG_HTTP_FORMATS_H_
