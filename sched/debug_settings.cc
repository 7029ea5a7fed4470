#include "sched/debug_settings.h"

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
  std::exit(2);
}

void Apply(absl::string_view item) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(item, absl::MaxSplits('=', 1));
  for (const DebugSetting* setting : Settings()) {
    if (parts.first != setting->name) continue;
    if (!setting->apply(parts.second)) {
      Refuse(item, absl::StrCat("'", parts.second, "' is not ", setting->accepts));
    }
    return;
  }
  std::vector<std::string> names;
  for (const DebugSetting* setting : Settings()) names.push_back(setting->name);
  Refuse(item, names.empty()
                   ? "no settings are linked into this program"
                   : absl::StrCat("no such setting in this program, which has: ",
                                  absl::StrJoin(names, ", ")));
}

}  // namespace

void RegisterDebugSetting(const DebugSetting* setting) { Settings().push_back(setting); }

void ApplyDebugSettings() {
  const char* value = std::getenv("WEFTDEBUG");
  if (value == nullptr) return;
  for (absl::string_view item : absl::StrSplit(value, ',', absl::SkipWhitespace())) Apply(item);
}

}  // namespace weft::internal
