#include "tools/http/range.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace weft::http {
namespace {

// "whole", "none", or the ranges as "0-10 20-30", ends exclusive.
std::string Parse(absl::string_view field, uint64_t size) {
  ByteRanges ranges;
  switch (ParseRange(field, size, ranges)) {
    case RangeKind::kWhole:
      return "whole";
    case RangeKind::kUnsatisfiable:
      return "none";
    case RangeKind::kPartial:
      break;
  }
  std::string text;
  for (const ByteRange& r : ranges) {
    absl::StrAppend(&text, text.empty() ? "" : " ", r.begin, "-", r.end);
  }
  return text;
}

TEST(RangeTest, ReadsSingleRanges) {
  EXPECT_EQ(Parse("bytes=0-0", 100), "0-1");
  EXPECT_EQ(Parse("bytes=0-99", 100), "0-100");
  EXPECT_EQ(Parse("bytes=10-19", 100), "10-20");
  EXPECT_EQ(Parse("bytes=10-", 100), "10-100");
  EXPECT_EQ(Parse("bytes=99-", 100), "99-100");
  EXPECT_EQ(Parse("bytes=-1", 100), "99-100");
  EXPECT_EQ(Parse("Bytes=-30", 100), "70-100");
}

TEST(RangeTest, CutsAtTheEndOfTheFile) {
  EXPECT_EQ(Parse("bytes=10-100", 100), "10-100");
  EXPECT_EQ(Parse("bytes=10-18446744073709551615", 100), "10-100");
  EXPECT_EQ(Parse("bytes=10-99999999999999999999999999", 100), "10-100");
  EXPECT_EQ(Parse("bytes=-100", 100), "0-100");
  EXPECT_EQ(Parse("bytes=-101", 100), "0-100");
  EXPECT_EQ(Parse("bytes=-99999999999999999999999999", 100), "0-100");
}

TEST(RangeTest, TellsWhatIsOutside) {
  EXPECT_EQ(Parse("bytes=100-", 100), "none");
  EXPECT_EQ(Parse("bytes=100-200,500-", 100), "none");
  EXPECT_EQ(Parse("bytes=99999999999999999999999999-", 100), "none");
  EXPECT_EQ(Parse("bytes=-0", 100), "none");
}

TEST(RangeTest, ReadsSeveralInTheirOrder) {
  EXPECT_EQ(Parse("bytes=0-9,20-29", 100), "0-10 20-30");
  EXPECT_EQ(Parse("bytes=50-59, 0-9 ,\t-5", 100), "50-60 0-10 95-100");
  EXPECT_EQ(Parse("bytes=,,0-9,,", 100), "0-10");
  EXPECT_EQ(Parse("bytes=0-9,200-", 100), "0-10");
}

TEST(RangeTest, IgnoresWhatIsMalformed) {
  for (const char* field :
       {"", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=1", "bytes=5-4",
        "bytes=1-2-3", "bytes=1 - 2", "bytes=--1", "bytes=+1-2", "bytes=0x1-2", "items=0-1",
        "bytes 0-1", "bytes=0-1;2-3", " bytes=0-1", "bytes=0-9,x"}) {
    EXPECT_EQ(Parse(field, 100), "whole") << field;
  }
}

TEST(RangeTest, ServesTheWholeInsteadOfMultiplyingWork) {
  EXPECT_EQ(Parse("bytes=0-,0-", 100), "whole");
  EXPECT_EQ(Parse("bytes=0-59,40-99", 100), "whole");
  std::string many = "bytes=0-0";
  for (size_t i = 1; i < kMaxRanges; ++i) absl::StrAppend(&many, ",", i, "-", i);
  EXPECT_NE(Parse(many, 100), "whole");
  EXPECT_EQ(Parse(absl::StrCat(many, ",40-40"), 100), "whole");
}

TEST(RangeTest, ServesEmptyFilesWhole) {
  EXPECT_EQ(Parse("bytes=0-", 0), "whole");
  EXPECT_EQ(Parse("bytes=-1", 0), "whole");
}

TEST(RangeTest, WorksAtTheLimitsOfItsNumbers) {
  EXPECT_EQ(Parse("bytes=18446744073709551614-18446744073709551615", UINT64_MAX),
            "18446744073709551614-18446744073709551615");
  EXPECT_EQ(Parse("bytes=0-,0-", UINT64_MAX), "whole");
}

TEST(RangeTest, AnyBytesGiveRangesWithinTheFile) {
  const std::vector<std::string> pieces = {
      "bytes=", "0", "1",  "9",         "99", "-", ",", " ", "18446744073709551615",
      "=",      "x", "\t", "4294967296"};
  std::mt19937_64 random(3);
  int partial = 0;
  for (int round = 0; round < 200000; ++round) {
    std::string field = random() % 8 == 0 ? "" : "bytes=";
    for (int n = random() % 10; n >= 0; --n) field += pieces[random() % pieces.size()];
    const uint64_t size = random() >> (random() % 64);
    ByteRanges ranges;
    const RangeKind kind = ParseRange(field, size, ranges);
    if (kind != RangeKind::kPartial) continue;
    ++partial;
    uint64_t total = 0;
    ASSERT_GE(ranges.size(), 1u);
    ASSERT_LE(ranges.size(), kMaxRanges);
    for (const ByteRange& r : ranges) {
      ASSERT_LT(r.begin, r.end) << field;
      ASSERT_LE(r.end, size) << field;
      total += r.end - r.begin;
    }
    ASSERT_LE(total, size);
  }
  EXPECT_GT(partial, 1000);
}

}  // namespace
}  // namespace weft::http
