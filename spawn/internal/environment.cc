#include "spawn/internal/environment.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace weft::spawn::internal {

std::vector<std::string> LastOfEachName(const std::vector<std::string>& env) {
  std::vector<std::string> kept;
  absl::flat_hash_set<absl::string_view> names;
  for (auto variable = env.rbegin(); variable != env.rend(); ++variable) {
    const absl::string_view text = *variable;
    const size_t equals = text.find('=');
    if (equals == absl::string_view::npos || names.insert(text.substr(0, equals)).second) {
      kept.push_back(*variable);
    }
  }
  std::reverse(kept.begin(), kept.end());
  return kept;
}

std::string PwdOf(const std::string& dir) {
  if (dir.empty()) return "";
  if (dir[0] == '/') return absl::StrCat("PWD=", dir);
  const std::unique_ptr<char, void (*)(void*)> here(getcwd(nullptr, 0), &free);
  return here == nullptr ? "" : absl::StrCat("PWD=", here.get(), "/", dir);
}

std::vector<char*> InheritedEnvironment(const std::string& pwd) {
  std::vector<char*> env;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    if (pwd.empty() || !absl::StartsWith(*variable, "PWD=")) env.push_back(*variable);
  }
  if (!pwd.empty()) env.push_back(const_cast<char*>(pwd.c_str()));
  return env;
}

}  // namespace weft::spawn::internal
