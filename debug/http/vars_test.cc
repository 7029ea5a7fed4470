#include "debug/http/vars.h"

#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "debug/http/formats.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/testing.h"

namespace weft::debug::internal {
namespace {

using testing::ParseJson;
using testing::ParsePrometheus;
using testing::PrometheusFamily;
using weft::testing::Eventually;
using weft::testing::ForEachMaxProcs;
using weft::testing::RunOnGoroutine;

std::map<std::string, PrometheusFamily> Parse(const std::string& text) {
  std::string problem;
  std::map<std::string, PrometheusFamily> families = ParsePrometheus(text, &problem);
  EXPECT_EQ(problem, "");
  return families;
}

double Only(const std::map<std::string, PrometheusFamily>& families, const std::string& name) {
  const auto found = families.find(name);
  if (found == families.end() || found->second.samples.size() != 1) return -1;
  return found->second.samples[0].second;
}

// Both formats say what GetSchedMetrics() says (DB-10), while goroutines run and wait.
TEST(VarsTest, BothFormatsCountGoroutines) {
  ForEachMaxProcs([] {
    constexpr int kWaiters = 100;
    Chan<int> release(0);
    const int64_t before = NumGoroutine();
    for (int i = 0; i < kWaiters; ++i) Go([release]() mutable { release.Recv(); });
    // One that is between a queue and a thread counts as waiting too, so that one look is not
    // enough.
    std::vector<Variable> variables;
    std::map<std::string, PrometheusFamily> families;
    EXPECT_TRUE(Eventually([&] {
      variables = GetVariables();
      families = Parse(FormatPrometheus(variables));
      return Only(families, "weft_sched_goroutines_waiting_goroutines") >= kWaiters;
    }));
    EXPECT_EQ(Only(families, "weft_sched_gomaxprocs_threads"), MaxProcs());
    EXPECT_GE(Only(families, "weft_sched_goroutines_goroutines"), before + kWaiters);
    EXPECT_GE(Only(families, "weft_sched_goroutines_created_goroutines_total"), kWaiters);
    EXPECT_GT(Only(families, "process_resident_memory_bytes"), 1 << 20);
    EXPECT_GT(Only(families, "process_open_fds"), 2);
    EXPECT_GT(Only(families, "process_start_time_seconds"), 1e9);
    EXPECT_GE(Only(families, "process_threads"), 2);
    EXPECT_EQ(families.at("weft_sched_run_queue").samples.size(), static_cast<size_t>(MaxProcs()));

    const auto json = ParseJson(FormatJson(variables));
    ASSERT_TRUE(json.has_value());
    EXPECT_EQ(json->at("metrics./sched/gomaxprocs:threads"), absl::StrCat(MaxProcs()));
    int64_t waiting = 0;
    ASSERT_TRUE(
        absl::SimpleAtoi(json->at("metrics./sched/goroutines/waiting:goroutines"), &waiting));
    EXPECT_GE(waiting, kWaiters);
    EXPECT_TRUE(absl::EndsWith(json->at("cmdline.0"), "vars_test")) << json->at("cmdline.0");
    EXPECT_EQ(json->count("sched.steals"), 1u);
    release.Close();
    EXPECT_TRUE(Eventually([&] { return NumGoroutine() <= before; }));
  });
}

TEST(VarsTest, FromGoroutinesToo) {
  RunOnGoroutine([] { Parse(FormatPrometheus(GetVariables())); });
}

TEST(VarsTest, HistogramsAndLabelsAreWellFormed) {
  Variable histogram = {"metrics", "/a/b-c:seconds", "help", Variable::Kind::kHistogram};
  histogram.histogram.bounds = {absl::ZeroDuration(),    absl::Seconds(1), absl::Seconds(2),
                                absl::Seconds(4),        absl::Seconds(8), absl::Seconds(16),
                                absl::InfiniteDuration()};
  histogram.histogram.counts = {1, 2, 0, 0, 4, 8};
  Variable label = {"sched", "x", "help", Variable::Kind::kCounter};
  label.labels = {{"name", "a\"b\\c\nd\xff"}};
  label.value = 0.5;
  const std::string text = FormatPrometheus({histogram, label});
  Parse(text);
  EXPECT_EQ(text,
            "# HELP weft_a_b_c_seconds help; the sum is reckoned from the buckets' middles\n"
            "# TYPE weft_a_b_c_seconds histogram\n"
            "weft_a_b_c_seconds_bucket{le=\"1\"} 1\n"
            "weft_a_b_c_seconds_bucket{le=\"16\"} 7\n"
            "weft_a_b_c_seconds_bucket{le=\"+Inf\"} 15\n"
            "weft_a_b_c_seconds_sum 179.5\n"
            "weft_a_b_c_seconds_count 15\n"
            "# HELP weft_sched_x_total help\n# TYPE weft_sched_x_total counter\n"
            "weft_sched_x_total{name=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\"} 0.5\n");
  const auto json = ParseJson(FormatJson({histogram, label}));
  ASSERT_TRUE(json.has_value());
  EXPECT_EQ(json->at("metrics./a/b-c:seconds.count"), "15");
  EXPECT_EQ(json->at("metrics./a/b-c:seconds.buckets.2.1"), "4");
  EXPECT_EQ(json->at("sched.x.0.name"), "a\"b\\c\nd\xef\xbf\xbd");
  EXPECT_EQ(json->at("sched.x.0.value"), "0.5");
}

// The parsers that the tests above rely on.
TEST(FormatsTest, JsonThatIsNoneIsRefused) {
  EXPECT_TRUE(ParseJson("{\"a\":[1,-2.5e3,\"x\",true,null,{}]}").has_value());
  for (const char* text : {"", "{", "{}}", "{\"a\":1,}", "[1 2]", "01", "1.", "'x'", "\"\n\"",
                           "\"\\x\"", "{a:1}", "{\"a\":1,\"a\":2}", "[,]", "tru", "-"}) {
    EXPECT_FALSE(ParseJson(text).has_value()) << text;
  }
}

TEST(FormatsTest, PrometheusThatIsNoneIsRefused) {
  const std::string good =
      "# HELP a b c\n# TYPE a histogram\na_bucket{le=\"1\"} 1\n"
      "a_bucket{le=\"+Inf\"} 2\na_sum 3\na_count 2\n";
  Parse(good);
  const auto is_refused = [&](const std::string& from, const std::string& to) {
    std::string problem;
    ParsePrometheus(absl::StrReplaceAll(good, {{from, to}}), &problem);
    return !problem.empty();
  };
  EXPECT_TRUE(is_refused("a_count 2\n", "a_count 2"));
  EXPECT_TRUE(is_refused("a_count 2", "a_count 3"));
  EXPECT_TRUE(is_refused("} 1", "} 3"));
  EXPECT_TRUE(is_refused("} 1", "}1"));
  EXPECT_TRUE(is_refused("+Inf", "2"));
  EXPECT_TRUE(is_refused("le=\"1\"", "le=1"));
  EXPECT_TRUE(is_refused("# TYPE a histogram\n", ""));
  EXPECT_TRUE(is_refused("# HELP a b c\n", ""));
  EXPECT_TRUE(is_refused("histogram", "unknown"));
  EXPECT_TRUE(is_refused("a_sum 3\n", ""));
  EXPECT_TRUE(is_refused("a_sum 3", "b_sum 3"));
  EXPECT_TRUE(is_refused("a_sum 3\n", "a_sum 3\na_sum 3\n"));
  EXPECT_TRUE(is_refused("a_sum 3", "a_sum x"));
}

}  // namespace
}  // namespace weft::debug::internal
