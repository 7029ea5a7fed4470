#include "debug/goroutines.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "debug/symbolizer.h"
#include "sched/goroutine.h"
#include "stack/traceback.h"

namespace weft::debug {
namespace {

const char* StateName(int status) {
  switch (status) {
    case 1:
      return "runnable";
    case 2:
      return "running";
    case 3:
      return "syscall";
    case 4:
      return "waiting";
    case 9:
      return "preempted";
  }
  return "???";
}

// What stands in brackets.
std::string State(const GoroutineTrace& trace) {
  const GoroutineSnapshot& g = trace.goroutine;
  std::string state = g.wait_reason[0] != '\0' ? g.wait_reason : StateName(g.status);
  if (const int64_t minutes = absl::ToInt64Minutes(trace.waiting); minutes > 0) {
    absl::StrAppend(&state, ", ", minutes, " minutes");
  }
  if (g.locked_m >= 0) absl::StrAppend(&state, ", locked to thread");
  return state;
}

// "	file:line +0x1d", or the module and the offset in it as addr2line takes it.
std::string Place(const SourceLocation& at) {
  if (!at.file.empty()) {
    return absl::StrCat("\t", at.file, ":", at.line, " +0x", absl::Hex(at.offset_in_function),
                        "\n");
  }
  return absl::StrCat("\t", at.module.empty() ? "?" : at.module, " +0x", absl::Hex(at.offset),
                      "\n");
}

absl::string_view Function(const SourceLocation& at) {
  if (at.function.empty()) return "?";
  return absl::StripSuffix(at.function, "()");
}

// Of the runtime's insides. Not where the function has a line of somebody else's inlined.
bool IsInternal(const SourceLocation& at) {
  constexpr absl::string_view kInternal[] = {
      "weft::internal::", "weft::stack::internal::", "__morestack"};
  constexpr absl::string_view kFolders[] = {"sched/", "stack/", "chan/", "netpoll/"};
  const bool is_named_so =
      std::any_of(std::begin(kInternal), std::end(kInternal),
                  [&](absl::string_view prefix) { return absl::StartsWith(at.function, prefix); });
  return is_named_so && (at.file.empty() || std::any_of(std::begin(kFolders), std::end(kFolders),
                                                        [&](absl::string_view folder) {
                                                          return absl::StrContains(at.file, folder);
                                                        }));
}

struct Line {
  std::string text;
  bool is_internal = false;
};

// Lines of addresses that come again and again.
class Lines {
 public:
  const Line& Of(uintptr_t pc) {
    Line& line = lines_[pc];
    if (line.text.empty()) {
      const SourceLocation at = Symbolize(pc);
      line.text = absl::StrCat(Function(at), "(...)\n", Place(at));
      line.is_internal = IsInternal(at);
    }
    return line;
  }

 private:
  std::map<uintptr_t, Line> lines_;
};

// Without those of the runtime's insides, as Go does; with them where there are no others.
void AppendFrames(const std::vector<uintptr_t>& frames, uint64_t elided, Lines& lines,
                  std::string& text) {
  const bool all = std::all_of(frames.begin(), frames.end(),
                               [&](uintptr_t pc) { return lines.Of(pc).is_internal; });
  for (size_t i = 0; i < frames.size(); ++i) {
    if (i == stack::Trace::kEnd && elided > 0) {
      absl::StrAppend(&text, "...", elided, " frames elided...\n");
    }
    if (const Line& line = lines.Of(frames[i]); all || !line.is_internal) text += line.text;
  }
}

// All but the header.
std::string Body(const GoroutineTrace& trace, Lines& lines, bool with_creator) {
  std::string text;
  if (trace.unavailable) text = "\tgoroutine running on other thread; stack unavailable\n";
  AppendFrames(trace.frames, trace.elided, lines, text);
  if (trace.created_at != 0) {
    const SourceLocation at = Symbolize(trace.created_at);
    absl::StrAppend(&text, "created by ", Function(at));
    if (with_creator && trace.creator != 0) {
      absl::StrAppend(&text, " in goroutine ", trace.creator);
    }
    absl::StrAppend(&text, "\n", Place(at));
  }
  return text;
}

std::string FormatGrouped(const std::vector<GoroutineTrace>& traces) {
  std::map<std::pair<std::string, std::string>, std::vector<uint64_t>> groups;
  Lines lines;
  for (const GoroutineTrace& trace : traces) {
    groups[{State(trace), Body(trace, lines, /*with_creator=*/false)}].push_back(
        trace.goroutine.id);
  }
  std::string text;
  for (const auto& [what, ids] : groups) {
    absl::StrAppend(&text, ids.size(), ids.size() == 1 ? " goroutine [" : " goroutines [",
                    what.first, "]: ", absl::StrJoin(ids, " "), "\n", what.second, "\n");
  }
  return text;
}

}  // namespace

std::string FormatGoroutines(const std::vector<GoroutineTrace>& traces, bool group) {
  if (group) return FormatGrouped(traces);
  std::string text;
  Lines lines;
  for (const GoroutineTrace& trace : traces) {
    absl::StrAppend(&text, "goroutine ", trace.goroutine.id, " [", State(trace), "]:\n",
                    Body(trace, lines, /*with_creator=*/true), "\n");
  }
  return text;
}

void WriteGoroutines(int fd, const DumpOptions& options) {
  const std::string text = FormatGoroutines(
      GetGoroutineTraces({.signal = options.signal, .limit = options.limit}), options.group);
  absl::string_view rest = text;
  const BlockingSection section;
  while (!rest.empty()) {
    const ssize_t n = write(fd, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    rest.remove_prefix(static_cast<size_t>(n));
  }
}

__attribute__((noinline)) std::string CurrentStack() {
  stack::Trace trace;
  stack::GetCurrentTrace(trace);
  const uint64_t id = GoroutineId();
  std::string text = id != 0 ? absl::StrCat("goroutine ", id, " [running]:\n")
                             : absl::StrCat("thread ", syscall(SYS_gettid), " [running]:\n");
  Lines lines;
  // Without this function's own.
  const size_t skip = trace.count > 0 ? 1 : 0;
  AppendFrames({trace.pcs.begin() + skip, trace.pcs.begin() + static_cast<ptrdiff_t>(trace.count)},
               trace.elided, lines, text);
  return text;
}

}  // namespace weft::debug
