// That the profiles of PROFILES.md's program say what is said there.
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "debug/profile_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/subprocess.h"

namespace weft::debug {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using weft::testing::DecodedProfile;
using weft::testing::DecodeProfile;
using weft::testing::ProcessResult;
using weft::testing::RunProcess;

std::string ContentsOf(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::string Contents(const std::string& name) {
  return ContentsOf(absl::StrCat(::testing::TempDir(), "/", name));
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
  // What serves computes. (Of all samples it may be few: to write goroutine.txt takes its time
  // too.)
  const DecodedProfile cpu = DecodeProfile(Contents("cpu.pb.gz"));
  EXPECT_GE(cpu.Sum("Serve"), 4) << cpu.Sum("");
  EXPECT_GT(cpu.Sum("Checksum"), cpu.Sum("Serve") / 3) << cpu.Sum("");
  EXPECT_THAT(Contents("goroutine.txt"), ContainsRegex("# labels: ..what.:.serve"));
}

// Lines of the program as PROFILES.md shows them.
TEST(SlowProgramTest, LinesInTheReadmeAreTheProgramsOwn) {
  const std::string readme = ContentsOf("debug/PROFILES.md");
  const std::vector<std::string> source = absl::StrSplit(ContentsOf("debug/slow_program.cc"), '\n');
  const auto line = [&](const std::ssub_match& number) -> std::string {
    const size_t n = std::stoul(number.str());
    return n >= 1 && n <= source.size() ? source[n - 1] : "";
  };
  const auto all = [&](const std::regex& form) {
    return std::vector<std::smatch>(std::sregex_iterator(readme.begin(), readme.end(), form), {});
  };
  // As pprof lists them.
  const std::vector<std::smatch> listed =
      all(std::regex(R"(\n +(?:\.|[0-9.]+m?s) +(?:\.|[0-9.]+m?s) +([0-9]+):(.*))"));
  EXPECT_EQ(listed.size(), 4u);
  for (const std::smatch& match : listed) EXPECT_EQ(line(match[1]), match[2].str());
  // As frames of a stack.
  const std::vector<std::smatch> frames =
      all(std::regex(R"(::([A-Za-z:]+)\+0x[0-9a-f]+\tdebug/slow_program\.cc:([0-9]+))"));
  const std::map<std::string, std::string> calls = {{"Cache::Find", "MutexLock lock("},
                                                    {"Serve", "cache.Find("}};
  EXPECT_EQ(frames.size(), calls.size());
  for (const std::smatch& match : frames) {
    ASSERT_EQ(calls.count(match[1]), 1u) << match[1];
    EXPECT_THAT(line(match[2]), HasSubstr(calls.at(match[1]))) << match[0];
  }
}

}  // namespace
}  // namespace weft::debug
