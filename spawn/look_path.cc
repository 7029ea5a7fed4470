#include "spawn/look_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "spawn/start_error.h"

namespace weft {
namespace {

// 0, or why this file cannot be run.
int CheckExecutable(const std::string& path) {
  struct stat file;
  if (stat(path.c_str(), &file) != 0) return errno;
  if (S_ISDIR(file.st_mode)) return EISDIR;
  // By the effective user, as exec does it. Root may run what anybody may.
  return faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

absl::Status Error(absl::StatusCode code, const std::string& name, absl::string_view cause) {
  return absl::Status(code, absl::StrCat("exec: \"", name, "\": ", cause));
}

}  // namespace

absl::StatusOr<std::string> LookPath(const std::string& name) {
  if (name.find('/') != std::string::npos) {
    const int error = CheckExecutable(name);
    if (error == 0) return name;
    return Error(absl::ErrnoToStatusCode(error), name, spawn::internal::ErrnoText(error));
  }
  const char* const path = getenv("PATH");
  bool forbidden = false;
  if (!name.empty() && path != nullptr) {
    for (const absl::string_view dir : absl::StrSplit(path, ':')) {
      const std::string file = absl::StrCat(dir.empty() ? "." : dir, "/", name);
      const int error = CheckExecutable(file);
      forbidden = forbidden || error == EACCES;
      if (error != 0) continue;
      if (file[0] == '/') return file;
      return Error(absl::StatusCode::kFailedPrecondition, name,
                   "cannot run executable found relative to current directory");
    }
  }
  if (forbidden) return Error(absl::StatusCode::kPermissionDenied, name, "permission denied");
  return Error(absl::StatusCode::kNotFound, name, "executable file not found in $PATH");
}

}  // namespace weft
