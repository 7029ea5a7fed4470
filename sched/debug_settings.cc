#include "sched/debug_settings.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace weft::internal {
namespace {

std::vector<const DebugSetting*>& Settings() {
  static auto* settings = new std::vector<const DebugSetting*>;
  return *settings;
}

[[noreturn]] void Refuse(absl::string_view item, const std::string& why) {
  std::fprintf(stderr, "WEFTDEBUG: %.*s: %s\n", static_cast<int>(item.size()), item.data(),
               why.c_str());
  // Not by exit(): its handlers may want the runtime, whose start this is.
  _exit(2);
}

[[noreturn]] void Help() {
  std::vector<std::string> lines;
  for (const DebugSetting* setting : Settings()) {
    lines.push_back(absl::StrCat("  ", setting->name, "=  ", setting->accepts, "\n"));
  }
  std::sort(lines.begin(), lines.end());
  std::printf("WEFTDEBUG=NAME=VALUE,... with these names in this program:\n%s",
              absl::StrJoin(lines, "").c_str());
  std::fflush(stdout);
  _exit(0);
}

void Apply(absl::string_view item, std::vector<const DebugSetting*>& given) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(item, absl::MaxSplits('=', 1));
  if (parts.first == "help") {
    if (parts.second != "1") Refuse(item, absl::StrCat("'", parts.second, "' is not 1"));
    Help();
  }
  for (const DebugSetting* setting : Settings()) {
    if (parts.first != setting->name) continue;
    if (std::find(given.begin(), given.end(), setting) != given.end()) {
      Refuse(item, absl::StrCat("'", setting->name, "' is given twice"));
    }
    given.push_back(setting);
    if (!setting->apply(parts.second)) {
      Refuse(item, absl::StrCat("'", parts.second, "' is not ", setting->accepts));
    }
    return;
  }
  std::vector<std::string> names;
  for (const DebugSetting* setting : Settings()) names.push_back(setting->name);
  Refuse(item, names.empty() ? "no settings are linked into this program"
                             : absl::StrCat("no such setting in this program, which has: ",
                                            absl::StrJoin(names, ", ")));
}

}  // namespace

void RegisterDebugSetting(const DebugSetting* setting) { Settings().push_back(setting); }

void ApplyDebugSettings() {
  const char* value = std::getenv("WEFTDEBUG");
  if (value == nullptr) return;
  std::vector<const DebugSetting*> given;
  for (absl::string_view item : absl::StrSplit(value, ',', absl::SkipWhitespace())) {
    Apply(item, given);
  }
}

}  // namespace weft::internal
