// The profile of the heap: what is in use is there, in its place and about as large as it is.
#include <string>

#include "debug/profile_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "stack/mode.h"
#include "tests/subprocess.h"

namespace weft::debug {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using weft::testing::DecodedProfile;
using weft::testing::DecodeProfile;
using weft::testing::GooglePprof;
using weft::testing::ProcessOptions;
using weft::testing::ProcessResult;
using weft::testing::RunProcess;

constexpr char kProgram[] = "debug/heap_profile_program";
const ProcessOptions kSampling = {.env = {"TCMALLOC_SAMPLE_PARAMETER=65536"}};

class HeapProfileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (WEFT_ASAN || WEFT_TSAN) GTEST_SKIP() << "the sanitizer has an allocator of its own";
  }
};

TEST_F(HeapProfileTest, SaysWhatIsInUse) {
  const ProcessResult result = RunProcess({kProgram}, kSampling);
  ASSERT_EQ(result.exit_status, 0) << result.err;
  const DecodedProfile profile = DecodeProfile(result.out);
  EXPECT_THAT(profile.sample_types, ElementsAre("inuse_objects/count", "inuse_space/bytes"));
  EXPECT_EQ(profile.default_sample_type, "inuse_space");
  EXPECT_EQ(profile.period_type, "space/bytes");
  EXPECT_EQ(profile.period, 65536);
  // 48 MiB of large ones, some 700 samples, and 16 MiB of small ones, some 250: within a fifth of
  // the truth, and half of it, for all that happens.
  EXPECT_NEAR(static_cast<double>(profile.Sum("AllocateLarge", 1)), 48 << 20, 10 << 20);
  EXPECT_NEAR(static_cast<double>(profile.Sum("AllocateLarge", 0)), 1024, 210);
  EXPECT_NEAR(static_cast<double>(profile.Sum("AllocateSmall", 1)), 20 << 20, 10 << 20);
  EXPECT_EQ(profile.Sum("AllocateAndFree", 1), 0);
}

TEST_F(HeapProfileTest, GooglePprofHasTheFunctionOnTop) {
  const ProcessResult result = RunProcess({kProgram, "google"}, kSampling);
  ASSERT_EQ(result.exit_status, 0) << result.err;
  const std::string top = GooglePprof(result.out);
  if (top.empty()) GTEST_SKIP() << "no google-pprof";
  EXPECT_THAT(top.substr(0, 300), HasSubstr("AllocateLarge"));
}

TEST_F(HeapProfileTest, WithoutSamplesSaysWhatToDo) {
  const ProcessResult result = RunProcess({kProgram});
  EXPECT_EQ(result.exit_status, 3);
  EXPECT_THAT(result.err, HasSubstr("TCMALLOC_SAMPLE_PARAMETER"));
}

}  // namespace
}  // namespace weft::debug
