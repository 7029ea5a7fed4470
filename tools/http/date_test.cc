#include "tools/http/date.h"

#include <gtest/gtest.h>
#include <time.h>

#include <string>

namespace weft::http {
namespace {

std::string Format(int64_t seconds) {
  std::string text;
  AppendHttpDate(seconds, text);
  return text;
}

TEST(DateTest, FormatsTheExampleOfTheRfc) {
  EXPECT_EQ(Format(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(Format(0), "Thu, 01 Jan 1970 00:00:00 GMT");
  EXPECT_EQ(Format(-1), "Wed, 31 Dec 1969 23:59:59 GMT");
}

TEST(DateTest, AgreesWithTheLibrary) {
  for (int64_t seconds = 0; seconds < int64_t{8} << 32; seconds += 12345679) {
    const time_t time = static_cast<time_t>(seconds);
    tm parts;
    gmtime_r(&time, &parts);
    char want[64];
    strftime(want, sizeof(want), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    ASSERT_EQ(Format(seconds), want);
    int64_t back = 0;
    ASSERT_TRUE(ParseHttpDate(want, back));
    ASSERT_EQ(back, seconds);
  }
}

TEST(DateTest, ParsesAllThreeForms) {
  for (const char* text : {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
                           "Sun Nov  6 08:49:37 1994"}) {
    int64_t seconds = 0;
    EXPECT_TRUE(ParseHttpDate(text, seconds)) << text;
    EXPECT_EQ(seconds, 784111777) << text;
  }
}

TEST(DateTest, RefusesOtherTexts) {
  for (const char* text : {"", "0", "now", "infinite-past", "infinite-future",
                           "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 GMT x",
                           "Sun, 32 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"}) {
    int64_t seconds = 0;
    EXPECT_FALSE(ParseHttpDate(text, seconds)) << text;
  }
}

TEST(DateTest, KnowsTheTime) {
  const int64_t before = time(nullptr);
  const int64_t now = NowSeconds();
  EXPECT_GE(now, before - 1);
  EXPECT_LE(now, time(nullptr) + 1);
}

}  // namespace
}  // namespace weft::http
