// Profiles: that what is written can be read, and says where goroutines are. DB-13.
#include "debug/profile.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "debug/profile_data.h"
#include "debug/profile_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/snapshot.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"

namespace weft::debug {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;
using weft::testing::DecodedProfile;
using weft::testing::DecodeProfile;
using weft::testing::Eventually;
using weft::testing::ForEachMaxProcs;
using weft::testing::GooglePprof;
using weft::testing::Write;

__attribute__((noinline)) void WaitInHere(const Chan<int>& c) {
  c.Recv();
  asm volatile("");  // not a call that comes last, for which there would be no frame
}

// Goroutines that wait in WaitInHere() while `fn` runs.
template <typename Fn>
void WithWaiting(int count, Fn fn) {
  const Chan<int> c(0);
  WaitGroup all;
  all.Add(count);
  for (int i = 0; i < count; ++i) {
    Go([&] {
      WaitInHere(c);
      all.Done();
    });
  }
  // All of them, or some have other frames.
  EXPECT_TRUE(Eventually([&] {
    const SchedSnapshot now = GetSchedSnapshot(SnapshotDetail::kAll);
    return std::count_if(now.goroutine_list.begin(), now.goroutine_list.end(),
                         [](const GoroutineSnapshot& g) { return g.status == 4; }) >= count;
  }));
  fn();
  c.Close();
  all.Wait();
}

TEST(ProfileTest, GoroutineProfileCountsThoseAtTheSamePlace) {
  ForEachMaxProcs([] {
    WithWaiting(7, [] {
      DecodedProfile profile;
      EXPECT_TRUE(Eventually([&] {
        profile = DecodeProfile(Write("goroutine"));
        return profile.Sum("WaitInHere") == 7;
      }));
      EXPECT_THAT(profile.sample_types, ElementsAre("goroutine/count"));
      EXPECT_EQ(profile.period_type, "goroutine/count");
      EXPECT_EQ(profile.period, 1);
      EXPECT_LT(std::abs(profile.time_nanos - absl::GetCurrentTimeNanos()),
                absl::ToInt64Nanoseconds(absl::Minutes(1)));
      const DecodedProfile::Sample* sample = profile.Find("WaitInHere");
      ASSERT_NE(sample, nullptr);
      EXPECT_EQ(sample->values[0], 7);
      // The innermost, with file and line, and no frame of the runtime's.
      EXPECT_THAT(sample->Functions(), Not(HasSubstr("weft::internal")));
      const DecodedProfile::Line& line = sample->stack.front().lines.back();
      EXPECT_THAT(line.function, HasSubstr("WaitInHere"));
      EXPECT_THAT(line.file, HasSubstr("debug/profile_test.cc"));
      EXPECT_GT(line.line, 30);
    });
  });
}

TEST(ProfileTest, NamesTheProgramAndItsBuild) {
  const DecodedProfile profile = DecodeProfile(Write("goroutine"));
  ASSERT_EQ(profile.mappings.count(1), 1u);
  const DecodedProfile::Mapping& program = profile.mappings.at(1);
  EXPECT_THAT(program.file, HasSubstr("profile_test"));
  EXPECT_TRUE(program.has_all);
  EXPECT_LE(program.start, reinterpret_cast<uintptr_t>(&WaitInHere));
  EXPECT_GT(program.limit, reinterpret_cast<uintptr_t>(&WaitInHere));
  bool libc_has_one = false;
  for (const auto& [id, mapping] : profile.mappings) {
    libc_has_one |= absl::StrContains(mapping.file, "libc.so") && mapping.build_id.size() >= 16;
  }
  EXPECT_TRUE(libc_has_one);
}

TEST(ProfileTest, DB13_TwoProfilesInARowHaveAsManyGoroutines) {
  ForEachMaxProcs([] {
    WithWaiting(3, [] {
      const auto count = [] {
        const auto data = GetProfile("goroutine");
        EXPECT_TRUE(data.ok());
        int64_t sum = 0;
        for (const ProfileSample& sample : data->samples) sum += sample.values[0];
        return sum;
      };
      EXPECT_TRUE(Eventually([&] {
        const int64_t first = count();
        return first == count() && first == NumGoroutine();
      }));
    });
  });
}

TEST(ProfileTest, TextHasGosForm) {
  WithWaiting(2, [] {
    std::string text;
    EXPECT_TRUE(Eventually([&] {
      text = Write("goroutine", ProfileFormat::kText);
      return absl::StrContains(text, "2 @ ") && absl::StrContains(text, "WaitInHere");
    }));
    EXPECT_THAT(text, ContainsRegex("^goroutine profile: total [0-9]+\n"));
    EXPECT_THAT(text, ContainsRegex("2 @( 0x[0-9a-f]+)+\n"
                                    "#\t0x[0-9a-f]+\t[^\n]*WaitInHere\\+0x[0-9a-f]+\t"
                                    "[^\n]*debug/profile_test.cc:[0-9]+\n"));
    EXPECT_THAT(Write("goroutine", ProfileFormat::kFullText), HasSubstr("[chan receive]:\n"));
  });
}

TEST(ProfileTest, GooglePprofReadsIt) {
  WithWaiting(9, [] {
    std::string text;
    EXPECT_TRUE(Eventually([&] {
      const std::string profile = Write("goroutine", ProfileFormat::kGperftools);
      text = GooglePprof(profile);
      return text.empty() || absl::StrContains(text, "WaitInHere");
    }));
    if (text.empty()) GTEST_SKIP() << "no google-pprof";
    // "       9 100.0% 100.0%        9 100.0% NAME", the largest first.
    EXPECT_THAT(text, ContainsRegex("^Total: [0-9]+ samples\n *9 [^\n]*WaitInHere"));
  });
}

TEST(ProfileTest, ListsProfilesWithTheirCounts) {
  Go([] {});
  const std::vector<ProfileInfo> profiles = Profiles();
  for (size_t i = 1; i < profiles.size(); ++i) {
    EXPECT_LT(profiles[i - 1].name, profiles[i].name);
  }
  WithWaiting(4, [] {
    bool found = false;
    for (const ProfileInfo& profile : Profiles()) {
      if (profile.name != "goroutine") continue;
      found = true;
      EXPECT_GE(profile.count, 4);
      EXPECT_FALSE(profile.description.empty());
    }
    EXPECT_TRUE(found);
  });
}

TEST(ProfileTest, UnknownNameIsNotFound) {
  EXPECT_EQ(WriteProfile("goroutines", [](absl::string_view) { FAIL(); }).code(),
            absl::StatusCode::kNotFound);
}

TEST(ProfileDataTest, MergesSamplesWithTheSameFramesAndLabels) {
  ProfileData data;
  data.samples = {
      {{1, 2}, {1, 10}}, {{1, 2}, {2, 20}}, {{1}, {5, 1}}, {{1, 2}, {1, 1}, {{"key", "value"}}}};
  Merge(data);
  ASSERT_EQ(data.samples.size(), 3u);
  EXPECT_THAT(data.samples[0].values, ElementsAre(5, 1));
  EXPECT_THAT(data.samples[1].values, ElementsAre(3, 30));
  EXPECT_THAT(data.samples[2].values, ElementsAre(1, 1));
}

TEST(ProfileDataTest, ADifferenceIsWhatHasComeSince) {
  ProfileData before{.name = "x", .sample_types = {{"a", "count"}, {"b", "nanoseconds"}}};
  ProfileData after = before;
  before.time = absl::FromUnixSeconds(1'000);
  after.time = absl::FromUnixSeconds(1'003);
  before.samples = {{{0x10, 0x20}, {2, 200}, {{"k", "v"}}}, {{0x30}, {5, 50}}, {{0x40}, {9, 90}}};
  after.samples = {{{0x10, 0x20}, {3, 900}, {{"k", "v"}}}, {{0x30}, {5, 50}}, {{0x50}, {1, 10}}};
  const ProfileData difference = Difference(before, after);
  EXPECT_EQ(difference.time, before.time);
  EXPECT_EQ(difference.duration, absl::Seconds(3));
  std::map<std::vector<uintptr_t>, std::vector<int64_t>> values;
  for (const ProfileSample& sample : difference.samples) values[sample.frames] = sample.values;
  EXPECT_THAT(values, ElementsAre(Pair(ElementsAre(0x10, 0x20), ElementsAre(1, 700)),
                                  Pair(ElementsAre(0x40), ElementsAre(-9, -90)),
                                  Pair(ElementsAre(0x50), ElementsAre(1, 10))));
}

TEST(ProfileDataTest, KeepsWhatItIsGiven) {
  ProfileData data = {.name = "cpu",
                      .sample_types = {{"samples", "count"}, {"cpu", "nanoseconds"}},
                      .default_sample_type = "cpu",
                      .period_type = {"cpu", "nanoseconds"},
                      .period = 10'000'000,
                      .time = absl::FromUnixSeconds(1'700'000'000),
                      .duration = absl::Seconds(3)};
  data.samples.push_back({{reinterpret_cast<uintptr_t>(&WaitInHere) + 1},
                          {3, -30'000'000},
                          {{"user", "one"}, {"way", "\"two\""}}});
  const DecodedProfile profile = DecodeProfile(EncodeProfile(data));
  EXPECT_THAT(profile.sample_types, ElementsAre("samples/count", "cpu/nanoseconds"));
  EXPECT_EQ(profile.default_sample_type, "cpu");
  EXPECT_EQ(profile.period_type, "cpu/nanoseconds");
  EXPECT_EQ(profile.period, 10'000'000);
  EXPECT_EQ(profile.time_nanos, 1'700'000'000'000'000'000);
  EXPECT_EQ(profile.duration_nanos, 3'000'000'000);
  ASSERT_EQ(profile.samples.size(), 1u);
  EXPECT_THAT(profile.samples[0].values, ElementsAre(3, -30'000'000));
  EXPECT_EQ(profile.samples[0].labels.at("user"), "one");
  EXPECT_EQ(profile.samples[0].labels.at("way"), "\"two\"");
  EXPECT_THAT(FormatProfile(data),
              HasSubstr("# labels: {\"user\":\"one\", \"way\":\"\\\"two\\\"\"}"));
}

// What pprof calls the stack of a call that is inlined, innermost first.
__attribute__((always_inline)) inline uintptr_t HereInlined() {
  uintptr_t pc;
  asm volatile("lea (%%rip), %0\n\tnop" : "=r"(pc));  // the nop, which is of this line
  return pc;
}

__attribute__((noinline)) uintptr_t Here() { return HereInlined(); }

TEST(ProfileDataTest, InlinedCallsAreLinesOfOneLocation) {
  ProfileData data = {.name = "x", .sample_types = {{"x", "count"}}};
  data.samples.push_back({{Here()}, {1}});
  const DecodedProfile profile = DecodeProfile(EncodeProfile(data));
  ASSERT_EQ(profile.samples.size(), 1u);
  ASSERT_EQ(profile.samples[0].stack.size(), 1u);
  const auto& lines = profile.samples[0].stack[0].lines;
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0].function, HasSubstr("HereInlined"));
  EXPECT_THAT(lines[1].function, HasSubstr("Here"));
  EXPECT_LT(lines[0].line, lines[1].line);
}

}  // namespace
}  // namespace weft::debug
