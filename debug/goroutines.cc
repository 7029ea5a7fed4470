#include "debug/goroutines.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "debug/frames.h"
#include "debug/symbolizer.h"
#include "sched/goroutine.h"
#include "stack/traceback.h"

namespace weft::debug {
namespace {

// "	file:line +0x1d", or the module and the offset in it as addr2line takes it.
std::string Place(const SourceLocation& at) {
  if (!at.file.empty()) {
    const std::string place = absl::StrCat("\t", at.file, ":", at.line);
    if (at.is_inlined) return absl::StrCat(place, "\n");
    return absl::StrCat(place, " +0x", absl::Hex(at.offset_in_function), "\n");
  }
  return absl::StrCat("\t", at.module.empty() ? "?" : at.module, " +0x", absl::Hex(at.offset),
                      "\n");
}

absl::string_view Function(const SourceLocation& at) {
  if (at.function.empty()) return "?";
  return at.function;
}

struct Line {
  std::string text;
  bool is_internal = false;
};

// Lines of addresses that come again and again. One address has several where calls are inlined.
class Lines {
 public:
  const std::vector<Line>& Of(uintptr_t pc) {
    std::vector<Line>& lines = lines_[pc];
    if (lines.empty()) {
      for (const SourceLocation& at : Symbolize(pc)) {
        lines.push_back({absl::StrCat(Function(at), "(...)\n", Place(at)), IsRuntime(at)});
      }
    }
    return lines;
  }

 private:
  std::map<uintptr_t, std::vector<Line>> lines_;
};

// Without those of the runtime's insides, as Go has it; with them where there are no others.
void AppendFrames(const std::vector<uintptr_t>& frames, uint64_t elided, Lines& lines,
                  std::string& text) {
  const bool all = std::all_of(frames.begin(), frames.end(), [&](uintptr_t pc) {
    const std::vector<Line>& of = lines.Of(pc);
    return std::all_of(of.begin(), of.end(), [](const Line& line) { return line.is_internal; });
  });
  for (size_t i = 0; i < frames.size(); ++i) {
    if (i == stack::Trace::kEnd && elided > 0) {
      absl::StrAppend(&text, "...", elided, " frames elided...\n");
    }
    for (const Line& line : lines.Of(frames[i])) {
      if (all || !line.is_internal) text += line.text;
    }
  }
}

// All but the header.
std::string Body(const GoroutineTrace& trace, Lines& lines, bool with_creator) {
  std::string text;
  if (trace.unavailable) text = "\tgoroutine running on other thread; stack unavailable\n";
  AppendFrames(trace.frames, trace.elided, lines, text);
  if (trace.created_at != 0) {
    const SourceLocation at = CreationSite(trace.created_at);
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
    groups[{WaitState(trace), Body(trace, lines, /*with_creator=*/false)}].push_back(
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
    absl::StrAppend(&text, "goroutine ", trace.goroutine.id, " [", WaitState(trace), "]:\n",
                    Body(trace, lines, /*with_creator=*/true), "\n");
  }
  return text;
}

void WriteGoroutines(int fd, const DumpOptions& options) {
  const std::string text = FormatGoroutines(
      GetGoroutineTraces({.signal = options.signal, .limit = options.limit, .locks = true}),
      options.group);
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
