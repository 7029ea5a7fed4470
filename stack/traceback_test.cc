#include "stack/traceback.h"

#include <signal.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "stack/internal/task.h"

namespace weft::stack {

volatile int calls = 0;

// With external linkage: symbols that survive stripping of local ones.
__attribute__((noinline)) void PrintFromHere(int fd) {
  PrintCurrentTrace(fd);
  calls = calls + 1;
}
__attribute__((noinline)) void PrintFromDeep(int fd, int depth) {
  if (depth == 0) {
    PrintFromHere(fd);
  } else {
    PrintFromDeep(fd, depth - 1);
  }
  calls = calls + 1;
}
__attribute__((noinline)) void PauseHere(Task& task) {
  task.Pause();
  calls = calls + 1;
}

namespace {

using testing::ContainsRegex;
using testing::MatchesRegex;

// Nothing comes after the function that the context was made with; a sanitizer puts its own there.
constexpr char kEndsInBase[] =
    "Task::Run\\(\\.\\.\\.\\)\n\t[^\n]*\n([^\n]*SanitizedEntry[^\n]*\n[^\n]*\n)?$";

// What print(fd) writes.
std::string Output(const std::function<void(int)>& print) {
  int ends[2];
  if (pipe(ends) != 0) return "";
  std::string text;
  std::thread reader([&] {
    char buffer[4096];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, n);
  });
  print(ends[1]);
  close(ends[1]);
  reader.join();
  close(ends[0]);
  return text;
}

int CountOf(const std::string& text, const std::string& what) {
  int count = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at) ++count;
  return count;
}

TEST(TracebackTest, PrintsFunctionsAndTheirModules) {
  const std::string text = Output([](int fd) { PrintFromDeep(fd, 2); });
  EXPECT_THAT(text, ContainsRegex("^thread [0-9]+ \\[running\\]:\n"
                                  "weft::stack::PrintFromHere\\(\\.\\.\\.\\)\n"
                                  "\t/[^\n]*traceback_test \\+0x[0-9a-f]+\n"
                                  "weft::stack::PrintFromDeep\\(\\.\\.\\.\\)\n"));
  EXPECT_EQ(CountOf(text, "PrintFromDeep(...)"), 3) << text;
}

#if !WEFT_TSAN  // which calls handlers from a place of its own
// For a handler, which gets nothing but the number.
Task* interrupted = nullptr;
void PauseInHandler(int) { PauseHere(*interrupted); }

TEST(TracebackTest, AHandlersFrameIsFound) {
  struct sigaction action{};
  action.sa_handler = PauseInHandler;
  struct sigaction previous;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &previous), 0);
  SlotCache cache;
  Task task(cache, [](Task& self) {
    PauseHere(self);
    raise(SIGUSR1);
    PauseHere(self);
  });
  interrupted = &task;
  for (const bool in_handler : {false, true, false}) {
    ASSERT_TRUE(task.Resume());
    EXPECT_EQ(HasSignalFrame(task.context()), in_handler);
  }
  EXPECT_FALSE(task.Resume());
  sigaction(SIGUSR1, &previous, nullptr);
}
#endif

TEST(TracebackTest, WorksOnAGoroutineUpToItsBase) {
  const std::string text = Output([](int fd) { RunOnSlot([fd] { PrintFromDeep(fd, 1); }); });
  EXPECT_EQ(CountOf(text, "PrintFromDeep(...)"), 2) << text;
  EXPECT_THAT(text, ContainsRegex(kEndsInBase));
}

TEST(TracebackTest, LeavesOutTheMiddleOfADeepStack) {
  const std::string text =
      Output([](int fd) { RunOnSlot([fd] { PrintFromDeep(fd, 1000); }, SizeClass::k1MiB); });
  EXPECT_EQ(CountOf(text, "(...)\n"), 100) << text;
  EXPECT_THAT(text, ContainsRegex("\n\\.\\.\\.9[0-9][0-9] frames elided\\.\\.\\.\n"));
}

TEST(TracebackTest, ShowsWhereAContextWasLeft) {
  SlotCache cache;
  Task task(cache, [](Task& self) { PauseHere(self); });
  task.Resume();
  const std::string text = Output([&](int fd) { PrintTrace(fd, task.context()); });
  EXPECT_THAT(text, ContainsRegex("PauseHere\\(\\.\\.\\.\\)\n"));
  EXPECT_THAT(text, ContainsRegex(kEndsInBase));
  EXPECT_EQ(CountOf(text, "goroutine"), 0) << text;
  task.Resume();
}

TEST(TracebackTest, AContextThatNeverRanHasNoFrames) {
  EXPECT_EQ(Output([](int fd) { PrintTrace(fd, Context()); }), "");
}

TEST(TracebackTest, NamesTheCreator) {
  const void* pc = reinterpret_cast<const char*>(&PauseHere) + 1;
  EXPECT_THAT(Output([&](int fd) { PrintCreationSite(fd, pc, 12); }),
              MatchesRegex(
                  "created by weft::stack::PauseHere in goroutine 12\n\t/[^\n]* \\+0x[0-9a-f]+\n"));
  EXPECT_THAT(Output([&](int fd) { PrintCreationSite(fd, pc, 0); }),
              ContainsRegex("^created by weft::stack::PauseHere\n"));
}

void Say(int fd, const std::string& text) {
  EXPECT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

TEST(TracebackTest, HooksPrintHeaderAndTrailer) {
  SetTraceHooks({.header = [](int fd) { Say(fd, "goroutine 5 [running]:\n"); },
                 .trailer = [](int fd) { Say(fd, "created by someone\n"); }});
  const std::string text = Output([](int fd) { PrintFromHere(fd); });
  SetTraceHooks({});
  EXPECT_EQ(text.find("goroutine 5 [running]:\nweft::stack::PrintFromHere(...)\n"), 0u) << text;
  EXPECT_THAT(text, ContainsRegex("\ncreated by someone\n$"));
}

TEST(TracebackTest, AFramePointerThatIsNoneEndsTheTrace) {
  const auto pc = reinterpret_cast<uintptr_t>(&PauseHere) + 1;
  // A stack with no frames that could be found in its place.
  static char stack[64 * 1024];
  const auto sp = reinterpret_cast<uintptr_t>(stack);
  for (uintptr_t fp : {uintptr_t{0}, uintptr_t{8}, uintptr_t{0x123456789abcdef0}, sp, sp + 1,
                       ~uintptr_t{0}, ~uintptr_t{7}}) {
    const std::string text =
        Output([&](int fd) { PrintInterruptedTrace(fd, {.pc = pc, .sp = sp, .fp = fp}); });
    EXPECT_EQ(CountOf(text, "(...)\n"), 1) << text;
  }
}

TEST(TracebackTest, AnAddressWithoutASymbolIsPrintedAsSuch) {
  const std::string text =
      Output([&](int fd) { PrintInterruptedTrace(fd, {.pc = 0x10, .sp = 0, .fp = 0}); });
  EXPECT_THAT(text, ContainsRegex("\n0x10\\(\\.\\.\\.\\)\n\t\\? 0x10\n$"));
}

}  // namespace
}  // namespace weft::stack
