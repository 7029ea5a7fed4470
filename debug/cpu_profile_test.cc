// Profiles of processor time, and labels: that samples are where the time goes, and whose.
#include "debug/cpu_profile.h"

#include <atomic>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "debug/labels.h"
#include "debug/profile.h"
#include "debug/profile_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"

namespace weft::debug {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using weft::testing::DecodedProfile;
using weft::testing::DecodeProfile;
using weft::testing::Eventually;
using weft::testing::ForEachMaxProcs;
using weft::testing::GooglePprof;
using weft::testing::RunOnGoroutine;
using weft::testing::Write;

std::string Stop(ProfileFormat format = ProfileFormat::kPprof) {
  std::string text;
  EXPECT_TRUE(
      StopCpuProfile([&](absl::string_view bytes) { absl::StrAppend(&text, bytes); }, format).ok());
  return text;
}

std::atomic<uint64_t> sink{0};

// Computes for so much of the thread's processor time.
__attribute__((noinline)) void ComputeHere(absl::Duration how_long) {
  const auto used = [] {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return absl::DurationFromTimespec(now);
  };
  const absl::Duration until = used() + how_long;
  uint64_t x = 1;
  while (used() < until) {
    for (int i = 0; i < 200'000; ++i) x = x * 6364136223846793005u + 1442695040888963407u;
  }
  sink.fetch_add(x);
}

__attribute__((noinline)) void ComputeForOne() {
  ComputeHere(absl::Milliseconds(600));
  asm volatile("");  // not a call that comes last, for which there would be no frame
}

__attribute__((noinline)) void ComputeForTwo() {
  ComputeHere(absl::Milliseconds(150));
  asm volatile("");
}

TEST(CpuProfileTest, SaysWhereAndForWhomTheTimeGoes) {
  for (const int procs : {1, 2}) {
    const int before = SetMaxProcs(procs);
    RunOnGoroutine([] {
      ASSERT_TRUE(StartCpuProfile().ok());
      WaitGroup all;
      all.Add(2);
      DoWithLabels({{"user", "one"}}, [&] {
        Go([&] {
          ComputeForOne();
          all.Done();
        });
      });
      DoWithLabels({{"user", "two"}, {"kind", "short"}}, [&] {
        Go([&] {
          ComputeForTwo();
          all.Done();
        });
      });
      all.Wait();
      const DecodedProfile profile = DecodeProfile(Stop());
      EXPECT_THAT(profile.sample_types, ElementsAre("samples/count", "cpu/nanoseconds"));
      EXPECT_EQ(profile.period_type, "cpu/nanoseconds");
      EXPECT_EQ(profile.period, 10'000'000);
      EXPECT_GE(profile.duration_nanos, absl::ToInt64Nanoseconds(absl::Milliseconds(200)));
      // Sixty samples and fifteen. But a signal comes at one of the system's own ticks, of which a
      // thread meets few where it shares its processor: there were seven instead of thirty.
      const int64_t one = profile.Sum("ComputeForOne", 1);
      const int64_t two = profile.Sum("ComputeForTwo", 1);
      EXPECT_GE(one, absl::ToInt64Nanoseconds(absl::Milliseconds(60)));
      EXPECT_LE(one, absl::ToInt64Nanoseconds(absl::Milliseconds(1'200)));
      EXPECT_GE(two, absl::ToInt64Nanoseconds(absl::Milliseconds(10)));
      EXPECT_GT(one, two);
      for (const DecodedProfile::Sample& sample : profile.samples) {
        if (sample.Functions().find("ComputeForOne") != std::string::npos) {
          EXPECT_THAT(sample.labels, ElementsAre(Pair("user", "one")));
        }
        if (sample.Functions().find("ComputeForTwo") != std::string::npos) {
          EXPECT_THAT(sample.labels, ElementsAre(Pair("kind", "short"), Pair("user", "two")));
        }
      }
    });
    SetMaxProcs(before);
  }
}

TEST(CpuProfileTest, GooglePprofHasTheFunctionOnTop) {
  RunOnGoroutine([] {
    ASSERT_TRUE(StartCpuProfile().ok());
    ComputeForOne();
    const std::string top = GooglePprof(Stop(ProfileFormat::kGperftools));
    if (top.empty()) GTEST_SKIP() << "no google-pprof";
    EXPECT_THAT(top.substr(0, 400), HasSubstr("ComputeHere"));
  });
}

TEST(CpuProfileTest, ThreadsOfTheProgramAreInItToo) {
  ASSERT_TRUE(StartCpuProfile().ok());
  std::thread([] { ComputeForOne(); }).join();
  EXPECT_GT(DecodeProfile(Stop()).Sum("ComputeForOne"), 5);
}

TEST(CpuProfileTest, OneAtATime) {
  EXPECT_EQ(StopCpuProfile([](absl::string_view) { FAIL(); }).code(),
            absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(StartCpuProfile().ok());
  EXPECT_EQ(StartCpuProfile().code(), absl::StatusCode::kFailedPrecondition);
  Stop();
}

TEST(LabelsTest, AreInheritedAndEndWithTheirScope) {
  ForEachMaxProcs([] {
    RunOnGoroutine([] {
      EXPECT_THAT(CurrentLabels(), IsEmpty());
      const Chan<LabelList> from_inside(1);
      const Chan<int> go_on(0);
      const int result = DoWithLabels({{"b", "1"}, {"a", "2"}}, [&] {
        EXPECT_THAT(CurrentLabels(), ElementsAre(Pair("a", "2"), Pair("b", "1")));
        DoWithLabels({{"b", "3"}, {"c", "4"}}, [&] {
          Yield();
          EXPECT_THAT(CurrentLabels(), ElementsAre(Pair("a", "2"), Pair("b", "3"), Pair("c", "4")));
          Go([=] {
            go_on.Recv();
            from_inside.Send(CurrentLabels());
          });
        });
        EXPECT_THAT(CurrentLabels(), ElementsAre(Pair("a", "2"), Pair("b", "1")));
        return 7;
      });
      EXPECT_EQ(result, 7);
      EXPECT_THAT(CurrentLabels(), IsEmpty());
      // It outlives the scope that it was started in, and keeps its labels.
      go_on.Send(1);
      EXPECT_THAT(*from_inside.Recv(), ElementsAre(Pair("a", "2"), Pair("b", "3"), Pair("c", "4")));
    });
  });
}

TEST(LabelsTest, AGoroutineThatIsReusedHasNone) {
  RunOnGoroutine([] {
    for (int i = 0; i < 300; ++i) {
      WaitGroup done;
      done.Add(1);
      const auto start = [&] {
        Go([&done, labels = i % 2] {
          EXPECT_EQ(CurrentLabels().size(), static_cast<size_t>(labels));
          done.Done();
        });
      };
      if (i % 2 == 1) {
        DoWithLabels({{"i", absl::StrCat(i)}}, start);
      } else {
        start();
      }
      done.Wait();
    }
  });
}

TEST(LabelsTest, AreNotThereOnAThread) {
  EXPECT_EQ(DoWithLabels({{"key", "value"}}, [] { return CurrentLabels().size(); }), 0u);
}

__attribute__((noinline)) void WaitInHere(const Chan<int>& c) {
  c.Recv();
  asm volatile("");
}

TEST(LabelsTest, AreInTheProfileOfGoroutines) {
  RunOnGoroutine([] {
    const Chan<int> c(0);
    WaitGroup all;
    all.Add(3);
    for (const char* user : {"one", "two", "two"}) {
      DoWithLabels({{"user", user}}, [&] {
        Go([&] {
          WaitInHere(c);
          all.Done();
        });
      });
    }
    EXPECT_TRUE(Eventually([&] {
      const DecodedProfile profile = DecodeProfile(Write("goroutine"));
      int64_t two = 0;
      for (const DecodedProfile::Sample& sample : profile.samples) {
        const auto user = sample.labels.find("user");
        if (user != sample.labels.end() && user->second == "two") two += sample.values[0];
      }
      return two == 2 && profile.Sum("WaitInHere") == 3;
    }));
    EXPECT_THAT(Write("goroutine", ProfileFormat::kText),
                HasSubstr("# labels: {\"user\":\"two\"}"));
    c.Close();
    all.Wait();
  });
}

}  // namespace
}  // namespace weft::debug
