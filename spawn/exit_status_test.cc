#include "spawn/exit_status.h"

#include <signal.h>

#include "gtest/gtest.h"

namespace weft {
namespace {

TEST(ExitStatusTest, TextsAreGos) {
  EXPECT_EQ(ExitStatus(0).ToString(), "exit status 0");
  EXPECT_EQ(ExitStatus(3 << 8).ToString(), "exit status 3");
  EXPECT_EQ(ExitStatus(SIGSEGV | 0x80).ToString(), "signal: segmentation fault (core dumped)");
  EXPECT_EQ(ExitStatus(SIGKILL).ToString(), "signal: killed");
  EXPECT_EQ(ExitStatus(40).ToString(), "signal: signal 40");
  EXPECT_EQ(ExitStatus().ToString(), "not ended");
  EXPECT_TRUE(ExitError(ExitStatus(0)).ok());
  EXPECT_EQ(ExitStatusOf(ExitError(ExitStatus(SIGSEGV | 0x80))), ExitStatus(SIGSEGV | 0x80));
  EXPECT_FALSE(ExitStatusOf(absl::UnknownError("exit status 3")).has_value());
}

}  // namespace
}  // namespace weft
