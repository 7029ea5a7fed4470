// Everything a child needs, laid out before it exists.
#ifndef WEFT_SPAWN_INTERNAL_PREPARED_H_
#define WEFT_SPAWN_INTERNAL_PREPARED_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "spawn/fork_exec.h"
#include "spawn/internal/child.h"

namespace weft::spawn::internal {

// A ChildPlan and the memory that it points into. The arguments of the constructor outlive it.
class Prepared {
 public:
  Prepared(const std::string& path, const std::vector<std::string>& argv,
           const ForkExecOptions& options);
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;

  // What makes no sense about the arguments, if anything; then there is no plan.
  absl::Status Check() const;

  // Fills the plan, all but what depends on how the child is made. `mask` is the one that the
  // calling thread had.
  void Fill(ChildPlan& plan, KernelSignals mask);

 private:
  const std::string& path_;
  const std::vector<std::string>& args_;
  const ForkExecOptions& options_;

  std::vector<char*> argv_;
  std::vector<std::string> given_env_;
  std::string pwd_;
  std::vector<char*> env_;
  std::vector<int> files_;
  std::vector<LimitWish> limits_;
  std::vector<unsigned long> cpus_;
};

}  // namespace weft::spawn::internal

#endif  // WEFT_SPAWN_INTERNAL_PREPARED_H_
