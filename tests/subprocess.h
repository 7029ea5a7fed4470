// Runs a program and says how it ended: for tests of what a process prints when it dies.
//
//   weft::testing::ProcessResult r = weft::testing::RunProcess({"tests/reports_program",
//   "deadlock"}); EXPECT_EQ(r.exit_status, 2); EXPECT_THAT(r.err, StartsWith("fatal error: all
//   goroutines are asleep - deadlock!\n"));
//
// Linked without the scheduler, so that the test itself is an ordinary program.
#ifndef WEFT_TESTS_SUBPROCESS_H_
#define WEFT_TESTS_SUBPROCESS_H_

#include <string>
#include <vector>

#include "absl/time/time.h"

namespace weft::testing {

struct ProcessResult {
  int exit_status = -1;    // -1: it did not exit by itself
  int signal = 0;          // what killed it, or 0
  bool timed_out = false;  // it ran until the limit and was killed then
  std::string out;         // all of its standard output
  std::string err;         // all of its standard error
};

struct ProcessOptions {
  // "NAME=value", added to this process's environment, without its WEFT* variables but the seed of
  // random delays.
  std::vector<std::string> env = {};
  // It is killed after that long.
  absl::Duration limit = absl::Seconds(60);
};

// Runs argv[0], a path, with these arguments, standard input from /dev/null. From any thread;
// blocks it. A program that cannot be started ends the test's process with a message.
ProcessResult RunProcess(const std::vector<std::string>& argv, const ProcessOptions& options = {});

}  // namespace weft::testing

#endif  // WEFT_TESTS_SUBPROCESS_H_
