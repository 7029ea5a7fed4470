// The USDT probes: that they are in the program, by readelf, and that a debugger which attaches to
// one is stopped there.
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/subprocess.h"

#if defined(__has_include) && __has_include(<sys/sdt.h>)
#define WEFT_HAS_PROBES 1
#else
#define WEFT_HAS_PROBES 0
#endif

namespace weft {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using weft::testing::ProcessResult;
using weft::testing::RunProcess;

constexpr char kProgram[] = "debug/trace_program";

bool IsInstalled(const char* tool) { return access(tool, X_OK) == 0; }

TEST(ProbesTest, AreInTheProgram) {
  constexpr char kReadelf[] = "/usr/bin/readelf";
  if (!IsInstalled(kReadelf)) GTEST_SKIP() << kReadelf << " is not installed";
  const ProcessResult r = RunProcess({kReadelf, "--notes", "--wide", kProgram});
  ASSERT_EQ(r.exit_status, 0) << r.err;
  if (!WEFT_HAS_PROBES) {
    EXPECT_THAT(r.out, ::testing::Not(HasSubstr("Provider: weft")));
    return;
  }
  // One of each sort; all have five arguments and a semaphore.
  for (const char* probe : {"create", "start", "park", "unpark", "end", "blocking_begin",
                            "proc_taken", "steal", "thread_start", "stop_world", "max_procs"}) {
    EXPECT_THAT(r.out, ContainsRegex(absl::StrCat("Provider: weft\n +Name: ", probe,
                                                  "\n +Location: 0x[0-9a-f]+, Base: 0x[0-9a-f]+, "
                                                  "Semaphore: 0x0*[1-9a-f][0-9a-f]*\n"
                                                  " +Arguments: [^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+\n")));
  }
}

TEST(ProbesTest, StopADebuggerThatHasAttached) {
  constexpr char kGdb[] = "/usr/bin/gdb";
  if (!IsInstalled(kGdb)) GTEST_SKIP() << kGdb << " is not installed";
  if (!WEFT_HAS_PROBES) GTEST_SKIP() << "sys/sdt.h was not installed";
  const ProcessResult r = RunProcess(
      {kGdb, "-nx", "-batch", "-ex", "set debuginfod enabled off", "-ex",
       "set startup-with-shell off", "-ex", "break -probe-stap weft:unpark", "-ex", "run", "-ex",
       "printf \"g=%lu by=%lu of %d\\n\", $_probe_arg0, $_probe_arg1, $_probe_argc", "-ex", "kill",
       "--args", kProgram, "long"},
      {.limit = absl::Seconds(120)});
  if (r.err.find("ptrace: Operation not permitted") != std::string::npos) {
    GTEST_SKIP() << "processes may not be traced here";
  }
  EXPECT_THAT(r.out, ContainsRegex("g=[1-9][0-9]* by=[0-9]+ of 5\n")) << r.out << r.err;
}

}  // namespace
}  // namespace weft
