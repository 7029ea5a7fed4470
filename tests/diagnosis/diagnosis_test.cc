// That the tools show what debug/README.md says they do: the functions and reasons there, not the
// numbers.
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "stack/mode.h"
#include "tests/rounds.h"
#include "tests/subprocess.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using weft::testing::IsTurn;
using weft::testing::ProcessResult;
using weft::testing::RunProcess;

// AddressSanitizer has locals elsewhere than on the stack.
constexpr bool kHoldersAreSeen = WEFT_ASAN == 0;

// Sends it a signal when it is ready, and a while has passed in which what is wrong shows.
ProcessResult RunAndSignal(absl::string_view name, absl::string_view debug,
                           absl::string_view seconds, absl::string_view signal) {
  return RunProcess({"/bin/bash", "-c",
                     absl::StrCat("coproc exec tests/diagnosis/", name,
                                  "; pid=$COPROC_PID; read -r <&\"${COPROC[0]}\"; sleep ", seconds,
                                  "; kill -", signal, " $pid; wait $pid")},
                    {.env = {absl::StrCat("WEFTDEBUG=", debug)}});
}

// The lines under a title of the README that are shown as output, without leading space.
std::vector<std::string> Shown(absl::string_view title) {
  std::ifstream file("debug/README.md");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t begin = text.find(absl::StrCat("### ", title, "\n"));
  EXPECT_NE(begin, std::string::npos) << title;
  if (begin == std::string::npos) return {};
  size_t end = text.find("\n#", begin + 1);
  std::vector<std::string> shown;
  for (const absl::string_view line : absl::StrSplit(text.substr(begin, end - begin), '\n')) {
    if (absl::StartsWith(line, "    ")) shown.emplace_back(absl::StripAsciiWhitespace(line));
  }
  return shown;
}

// Each of `what` is in the output, and is what the README shows.
void ExpectBoth(const std::string& output, absl::string_view title,
                const std::vector<std::string>& what) {
  const std::vector<std::string> shown = Shown(title);
  for (const std::string& text : what) {
    EXPECT_THAT(output, HasSubstr(text));
    EXPECT_THAT(shown, ::testing::Contains(HasSubstr(text))) << "in debug/README.md, " << title;
  }
}

TEST(DiagnosisTest, OfAStall) {
  if (!IsTurn("stall", 8)) GTEST_SKIP() << "in every eighth repetition";
  const ProcessResult result = RunAndSignal("stall", "", "0.5", "QUIT");
  EXPECT_EQ(result.exit_status, 2);
  ExpectBoth(result.err, "It stands still",
             {"[chan receive]:", "[chan send]:", "(anonymous namespace)::Produce(...)",
              "(anonymous namespace)::Collect(...)"});
  // ThreadSanitizer keeps signals back while a thread is in a system call.
  if (WEFT_TSAN) return;
  ExpectBoth(result.err, "It stands still",
             {"[running]:", "(anonymous namespace)::AskPeer(...)",
              "(anonymous namespace)::Enrich(...)", "tests/diagnosis/stall.cc:"});
}

TEST(DiagnosisTest, OfAConvoy) {
  if (!IsTurn("convoy", 8)) GTEST_SKIP() << "in every eighth repetition";
  const ProcessResult result = RunAndSignal("convoy", "blocked=200ms", "1", "QUIT");
  ExpectBoth(result.err, "It is slow",
             {"goroutines wait for longer than 200ms", "[sync.Mutex.Lock",
              "(anonymous namespace)::Journal::Append(...)", "tests/diagnosis/convoy.cc:"});
  if (WEFT_TSAN) return;
  ExpectBoth(result.err, "It is slow", {"[syscall]:", "Journal::Flush(...)"});
  if (kHoldersAreSeen) ExpectBoth(result.err, "It is slow", {"perhaps held by "});
}

TEST(DiagnosisTest, OfALeak) {
  if (!IsTurn("leak", 8)) GTEST_SKIP() << "in every eighth repetition";
  const ProcessResult result = RunAndSignal("leak", "blocked=200ms", "2", "KILL");
  ExpectBoth(result.err, "It grows",
             {"goroutines wait for longer than 200ms",
              "goroutines [chan send]: ", "(anonymous namespace)::AskServer(...)",
              "created by (anonymous namespace)::AskBoth", "tests/diagnosis/leak.cc:"});
  EXPECT_THAT(result.err, Not(HasSubstr("[sleep")));
}

TEST(DiagnosisTest, OfADeadlock) {
  if (!IsTurn("deadlock", 8)) GTEST_SKIP() << "in every eighth repetition";
  const ProcessResult result = RunProcess({"tests/diagnosis/deadlock"});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, StartsWith("fatal error: all goroutines are asleep - deadlock!\n\n"));
  ExpectBoth(result.err, "It has locked itself up",
             {"fatal error: all goroutines are asleep - deadlock!",
              "[sync.Mutex.Lock]:", "(anonymous namespace)::Transfer("});
  if (!kHoldersAreSeen) return;
  ExpectBoth(result.err, "It has locked itself up", {"lock cycle: goroutine ", " for a lock of "});
}

}  // namespace
}  // namespace weft
