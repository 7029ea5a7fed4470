// WEFTDEBUG: comma-separated name=value settings, read once when the runtime starts.
//
//   WEFTDEBUG=schedtrace=1000 ./server
//
// Who implements a setting registers it from a static initializer; this target parses. A setting
// that nobody in the program has registered, or a value that it refuses, ends the program with one
// line that names it and what is accepted; so does one that is given twice. WEFTDEBUG=help=1 lists
// the settings that the program has, on standard output, and ends it with status 0.
#ifndef WEFT_SCHED_DEBUG_SETTINGS_H_
#define WEFT_SCHED_DEBUG_SETTINGS_H_

#include "absl/strings/string_view.h"

namespace weft::internal {

struct DebugSetting {
  const char* name;
  const char* accepts;  // "a number of milliseconds, 0 to turn it off"
  // False: the value is not acceptable.
  bool (*apply)(absl::string_view value);
};

// `setting` lives for ever.
void RegisterDebugSetting(const DebugSetting* setting);

// Applies the environment's settings, or ends the program with status 2.
void ApplyDebugSettings();

}  // namespace weft::internal

#endif  // WEFT_SCHED_DEBUG_SETTINGS_H_
