#include "debug/frames.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

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

constexpr size_t kMostHolders = 4;

// "8", "8 or 11".
std::string Holders(const GoroutineTrace& trace) {
  const auto& all = trace.holders;
  const size_t shown = std::min(all.size(), kMostHolders);
  std::string text =
      absl::StrJoin(all.begin(), all.begin() + static_cast<ptrdiff_t>(shown), " or ");
  if (shown < all.size()) absl::StrAppend(&text, " or ", all.size() - shown, " others");
  return text;
}

}  // namespace

std::string WaitState(const GoroutineTrace& trace) {
  const GoroutineSnapshot& g = trace.goroutine;
  std::string state = g.wait_reason[0] != '\0' ? g.wait_reason : StateName(g.status);
  if (const int64_t minutes = absl::ToInt64Minutes(trace.waiting); minutes > 0) {
    absl::StrAppend(&state, ", ", minutes, " minutes");
  }
  if (g.locked_m >= 0) absl::StrAppend(&state, ", locked to thread");
  if (!trace.holders.empty()) absl::StrAppend(&state, ", perhaps held by ", Holders(trace));
  return state;
}

bool IsRuntime(const SourceLocation& at) {
  constexpr absl::string_view kInternal[] = {"weft::internal::", "weft::stack::", "__morestack"};
  return std::any_of(std::begin(kInternal), std::end(kInternal), [&](absl::string_view prefix) {
    return absl::StartsWith(at.function, prefix);
  });
}

SourceLocation CreationSite(uintptr_t pc) {
  const std::vector<SourceLocation> all = Symbolize(pc);
  for (const SourceLocation& at : all) {
    if (!IsRuntime(at) && !absl::StartsWith(at.function, "weft::Go<")) return at;
  }
  return all.back();
}

}  // namespace weft::debug
