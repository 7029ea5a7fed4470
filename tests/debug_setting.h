// What WEFTDEBUG asks for, for tests that run under settings which tools/torture chooses.
#ifndef WEFT_TESTS_DEBUG_SETTING_H_
#define WEFT_TESTS_DEBUG_SETTING_H_

#include <cstdlib>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace weft::testing {

// Whether WEFTDEBUG has `setting` ("stackrest=always") in it.
inline bool HasDebugSetting(absl::string_view setting) {
  const char* const all = std::getenv("WEFTDEBUG");
  if (all == nullptr) return false;
  for (const absl::string_view one : absl::StrSplit(all, ',')) {
    if (one == setting) return true;
  }
  return false;
}

}  // namespace weft::testing

#endif  // WEFT_TESTS_DEBUG_SETTING_H_
