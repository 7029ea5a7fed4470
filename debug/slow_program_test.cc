// That the profiles of PROFILES.md's program say what is said there.
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/string_view.h"
#include "debug/profile_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/subprocess.h"

namespace weft::debug {
namespace {

using ::testing::ContainsRegex;
using weft::testing::DecodedProfile;
using weft::testing::DecodeProfile;
using weft::testing::ProcessResult;
using weft::testing::RunProcess;

std::string Contents(const std::string& name) {
  std::stringstream text;
  text << std::ifstream(::testing::TempDir() + "/" + name, std::ios::binary).rdbuf();
  return text.str();
}

TEST(SlowProgramTest, ProfilesBlameTheRefresh) {
  // Random delays would take processor time of their own, of which the profile would tell.
  const ProcessResult result =
      RunProcess({"debug/slow_program", ::testing::TempDir()}, {.env = {"WEFT_DELAY_SEED=0"}});
  ASSERT_EQ(result.exit_status, 0) << result.err;
  // Those who serve wait for most of the time, for one.
  const DecodedProfile block = DecodeProfile(Contents("block.pb.gz"));
  EXPECT_GT(block.Sum("Serve", 1), 1'000'000'000);
  const DecodedProfile mutex = DecodeProfile(Contents("mutex.pb.gz"));
  EXPECT_GT(mutex.Sum("RefreshNowAndThen", 1), 200'000'000);
  // What serves computes. (Of all samples it may be few on a busy machine: it gets little of the
  // second that the profile takes, while to write that costs the same.)
  const DecodedProfile cpu = DecodeProfile(Contents("cpu.pb.gz"));
  EXPECT_TRUE(cpu.Sum("Serve") < 10 || cpu.Sum("Checksum") > cpu.Sum("Serve") / 3)
      << cpu.Sum("Checksum") << " of " << cpu.Sum("Serve") << " of " << cpu.Sum("");
  EXPECT_THAT(Contents("goroutine.txt"), ContainsRegex("# labels: ..what.:.serve"));
}

}  // namespace
}  // namespace weft::debug
