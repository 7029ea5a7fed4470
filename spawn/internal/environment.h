// A child's environment.
#ifndef WEFT_SPAWN_INTERNAL_ENVIRONMENT_H_
#define WEFT_SPAWN_INTERNAL_ENVIRONMENT_H_

#include <string>
#include <vector>

namespace weft::spawn::internal {

// `env` without those that a later one of the same name replaces, in the order of what is left.
// What has no '=' has no name, and stays.
std::vector<std::string> LastOfEachName(const std::vector<std::string>& env);

// This process's variables, with PWD as a child in `dir` has it; `dir` empty: unchanged.
std::vector<std::string> InheritedEnvironment(const std::string& dir);

}  // namespace weft::spawn::internal

#endif  // WEFT_SPAWN_INTERNAL_ENVIRONMENT_H_
