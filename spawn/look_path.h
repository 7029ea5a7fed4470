// Where a program of a given name is.
#ifndef WEFT_SPAWN_LOOK_PATH_H_
#define WEFT_SPAWN_LOOK_PATH_H_

#include <string>

#include "absl/status/statusor.h"

namespace weft {

// The path of the first file of that name in the directories of PATH that this user may run. A name
// with a slash in it is a path itself and only checked.
//
// Errors, with Go's texts: NotFound (exec: "x": executable file not found in $PATH);
// PermissionDenied; FailedPrecondition where what was found is in the current directory, by an
// empty or relative entry of PATH: a program that somebody else put there is not run by accident.
absl::StatusOr<std::string> LookPath(const std::string& name);

}  // namespace weft

#endif  // WEFT_SPAWN_LOOK_PATH_H_
