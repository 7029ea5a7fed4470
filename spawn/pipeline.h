// Commands of which each reads what the one before writes: a | b | c.
//
//   std::vector<weft::Command> commands;
//   commands.emplace_back("sort", std::vector<std::string>{"names"});
//   commands.emplace_back("uniq");
//   weft::CommandResult names = weft::Pipeline(std::move(commands)).Output();
#ifndef WEFT_SPAWN_PIPELINE_H_
#define WEFT_SPAWN_PIPELINE_H_

#include <vector>

#include "absl/status/status.h"
#include "spawn/command.h"

namespace weft {

// The first command's input and the last one's output are as their options say, and so is each
// one's standard error; what is between them is replaced. One goroutine or thread at a time uses
// it.
class Pipeline {
 public:
  explicit Pipeline(std::vector<Command> commands) : commands_(std::move(commands)) {}

  // Starts all of them, in order. If one fails, those before it are killed and waited for.
  absl::Status Start();

  // Waits for all of them. May park. OK if all ended well; a command whose reader had enough, and
  // which SIGPIPE ended therefore, did. Else the failure of the last of those that failed, as a
  // shell's pipefail has it.
  absl::Status Wait();

  absl::Status Run();

  // Run() with the last one's standard output as text.
  CommandResult Output();

  // Each of them, for its exit_status() and the like.
  std::vector<Command>& commands() { return commands_; }

 private:
  std::vector<Command> commands_;
};

}  // namespace weft

#endif  // WEFT_SPAWN_PIPELINE_H_
