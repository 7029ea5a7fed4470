// What the tests of commands share. They lie in its namespace.
#ifndef WEFT_SPAWN_COMMAND_TESTING_H_
#define WEFT_SPAWN_COMMAND_TESTING_H_

#include <signal.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "sched/sync/testing.h"
#include "spawn/command.h"
#include "spawn/testing.h"
#include "tests/rounds.h"

namespace weft::spawn::testing {

using weft::testing::Rounds;
using weft::testing::Tasks;

// Runs its tests from threads and goroutines.
class CommandTest : public weft::testing::WorldTest {
 protected:
  void SetUp() override {
    // As weft::Main has it.
    signal(SIGPIPE, SIG_IGN);
  }
};
#define IN_ALL_WORLDS(test) \
  INSTANTIATE_TEST_SUITE_P(, test, weft::testing::Worlds(), weft::testing::WorldName)

inline Command Shell(const std::string& script, CommandOptions options = {}) {
  return Command("/bin/sh", {"-c", script}, std::move(options));
}

// What a command could leave open. (The scheduler's own files come and go.)
inline std::vector<std::string> CommandFiles() {
  std::vector<std::string> files;
  for (const std::string& file : OpenFiles()) {
    if (absl::StrContains(file, "pipe:") || absl::StrContains(file, "pidfd") ||
        absl::StrContains(file, "/dev/")) {
      files.push_back(file);
    }
  }
  return files;
}

// Reads to the end of a line.
inline std::string ReadLine(const PipeEnd& end) {
  std::string line;
  char c;
  while (end.Read(absl::MakeSpan(&c, 1)).value_or(0) == 1 && c != '\n') line += c;
  return line;
}

}  // namespace weft::spawn::testing

#endif  // WEFT_SPAWN_COMMAND_TESTING_H_
