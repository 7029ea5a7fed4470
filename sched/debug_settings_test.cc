#include "sched/debug_settings.h"

#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"

namespace weft::internal {
namespace {

std::string first_value;
int applied = 0;

constexpr DebugSetting kFirst = {
    .name = "first", .accepts = "a word without an x", .apply = [](absl::string_view value) {
      first_value = std::string(value);
      ++applied;
      return value.find('x') == absl::string_view::npos;
    }};
constexpr DebugSetting kSecond = {
    .name = "second", .accepts = "1", .apply = [](absl::string_view v) {
      ++applied;
      return v == "1";
    }};

// As users of it do.
const bool registered = [] {
  RegisterDebugSetting(&kFirst);
  RegisterDebugSetting(&kSecond);
  return true;
}();

void Apply(const char* value) {
  applied = 0;
  first_value.clear();
  setenv("WEFTDEBUG", value, 1);
  ApplyDebugSettings();
}

TEST(DebugSettingsTest, UnsetAndEmptyApplyNothing) {
  ASSERT_TRUE(registered);
  applied = 0;
  unsetenv("WEFTDEBUG");
  ApplyDebugSettings();
  Apply("");
  Apply(" , ,");
  EXPECT_EQ(applied, 0);
}

TEST(DebugSettingsTest, AppliesEachSetting) {
  Apply("first=abc");
  EXPECT_EQ(first_value, "abc");
  EXPECT_EQ(applied, 1);
  Apply("first=a=b,second=1");
  EXPECT_EQ(first_value, "a=b");
  EXPECT_EQ(applied, 2);
  Apply("second=1,,first=");
  EXPECT_EQ(first_value, "");
  EXPECT_EQ(applied, 2);
}

TEST(DebugSettingsDeathTest, RefusesBadValuesInOneLine) {
  EXPECT_EXIT(Apply("first=ax"), ::testing::ExitedWithCode(2),
              "^WEFTDEBUG: first=ax: 'ax' is not a word without an x\n$");
  EXPECT_EXIT(Apply("second=1,second"), ::testing::ExitedWithCode(2), "^WEFTDEBUG: second: ");
}

TEST(DebugSettingsDeathTest, RefusesUnknownNamesAndListsTheKnownOnes) {
  EXPECT_EXIT(Apply("third=1"), ::testing::ExitedWithCode(2),
              "^WEFTDEBUG: third=1: no such setting in this program, which has: first, second\n$");
  EXPECT_EXIT(Apply("firs=1"), ::testing::ExitedWithCode(2), "^WEFTDEBUG: firs=1: no such");
}

TEST(DebugSettingsDeathTest, HelpListsThemAndEnds) {
  // EXPECT_EXIT() looks at standard error only.
  const auto help = [] {
    dup2(STDERR_FILENO, STDOUT_FILENO);
    Apply("help=1");
  };
  EXPECT_EXIT(help(), ::testing::ExitedWithCode(0),
              "^WEFTDEBUG=NAME=VALUE,... with these names in this program:\n"
              "  first=  a word without an x\n  second=  1\n$");
  EXPECT_EXIT(Apply("help=2"), ::testing::ExitedWithCode(2), "^WEFTDEBUG: help=2: '2' is not 1\n$");
}

TEST(DebugSettingsDeathTest, RefusesASettingThatIsGivenTwice) {
  EXPECT_EXIT(Apply("second=1,second=1"), ::testing::ExitedWithCode(2),
              "^WEFTDEBUG: second=1: 'second' is given twice\n$");
}

}  // namespace
}  // namespace weft::internal
