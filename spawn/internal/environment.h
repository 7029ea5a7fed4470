// The environment that a child gets.
#ifndef WEFT_SPAWN_INTERNAL_ENVIRONMENT_H_
#define WEFT_SPAWN_INTERNAL_ENVIRONMENT_H_

#include <string>
#include <vector>

namespace weft::spawn::internal {

// Without those variables whose name comes again later.
std::vector<std::string> LastOfEachName(const std::vector<std::string>& env);

// "PWD=" and where `dir` leads from here; "" for no `dir`, or where that cannot be told.
std::string PwdOf(const std::string& dir);

// This process's variables, but for PWD if `pwd` has another one, which is appended. Points to them
// and to `pwd`: they are not copied, which would cost as much as the rest of a start's preparation.
std::vector<char*> InheritedEnvironment(const std::string& pwd);

}  // namespace weft::spawn::internal

#endif  // WEFT_SPAWN_INTERNAL_ENVIRONMENT_H_
