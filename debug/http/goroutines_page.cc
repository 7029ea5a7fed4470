// All goroutines: those that wait for the same at the same place once, or each in a line, or one.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "debug/frames.h"
#include "debug/http/page.h"
#include "debug/symbolizer.h"
#include "sched/traces.h"
#include "stack/traceback.h"

namespace weft::debug::internal {
namespace {

constexpr size_t kMostGroups = 200;
constexpr size_t kMostLines = 1000;
constexpr size_t kMostIds = 50;

// Where addresses are, which come again and again.
class Places {
 public:
  const std::vector<SourceLocation>& Of(uintptr_t pc) {
    std::vector<SourceLocation>& all = places_[pc];
    if (all.empty()) all = Symbolize(pc);
    return all;
  }
  const SourceLocation& Creation(uintptr_t pc) {
    const auto [at, is_new] = creations_.try_emplace(pc);
    if (is_new) at->second = CreationSite(pc);
    return at->second;
  }

 private:
  std::map<uintptr_t, std::vector<SourceLocation>> places_;
  std::map<uintptr_t, SourceLocation> creations_;
};

std::string Reason(const GoroutineTrace& trace) {
  GoroutineTrace now = trace;
  now.waiting = absl::ZeroDuration();
  return WaitState(now);
}

std::string Function(const SourceLocation& at) { return at.function.empty() ? "?" : at.function; }

std::string Place(const SourceLocation& at) {
  if (!at.file.empty()) return absl::StrCat(at.file, ":", at.line);
  return absl::StrCat(at.module.empty() ? "?" : at.module, " +0x", absl::Hex(at.offset));
}

bool IsAllRuntime(uintptr_t pc, Places& places) {
  const std::vector<SourceLocation>& of = places.Of(pc);
  return std::all_of(of.begin(), of.end(), IsRuntime);
}

bool IsAllRuntime(const std::vector<uintptr_t>& frames, Places& places) {
  return std::all_of(frames.begin(), frames.end(),
                     [&](uintptr_t pc) { return IsAllRuntime(pc, places); });
}

// The innermost function that is the program's own, or else what there is.
std::string TopFunction(const GoroutineTrace& trace, Places& places) {
  std::string first;
  for (const uintptr_t pc : trace.frames) {
    for (const SourceLocation& at : places.Of(pc)) {
      if (first.empty() && !IsRuntime(at)) first = Function(at);
      if (!at.function.empty() && !absl::StartsWith(at.function, "weft::") &&
          !absl::StartsWith(at.function, "std::") && !IsRuntime(at)) {
        return at.function;
      }
    }
  }
  if (!first.empty()) return first;
  if (trace.unavailable) return "stack unavailable";
  return trace.created_at != 0 ? Function(places.Creation(trace.created_at)) : "";
}

// Whether `wanted`, in lower case, is in anything that is known of it.
bool Matches(const GoroutineTrace& trace, const std::string& wanted, Places& places) {
  const auto has = [&](absl::string_view text) {
    return absl::StrContains(absl::AsciiStrToLower(text), wanted);
  };
  if (wanted.empty() || has(WaitState(trace)) || has(trace.goroutine.name) ||
      absl::StrCat(trace.goroutine.id) == wanted) {
    return true;
  }
  if (trace.created_at != 0) {
    const SourceLocation& at = places.Creation(trace.created_at);
    if (has(at.function) || has(at.file)) return true;
  }
  for (const uintptr_t pc : trace.frames) {
    for (const SourceLocation& at : places.Of(pc)) {
      if (has(at.function) || has(at.file)) return true;
    }
  }
  return false;
}

void AddStack(const GoroutineTrace& trace, Places& places, Html& html) {
  html.Markup("<ol class=\"stack\">\n");
  if (trace.unavailable) html.Markup("<li class=\"dim\">its thread did not answer</li>\n");
  const bool all = IsAllRuntime(trace.frames, places);
  for (size_t i = 0; i < trace.frames.size(); ++i) {
    if (i == stack::Trace::kEnd && trace.elided > 0) {
      html.Markup("<li class=\"dim\">").Text(trace.elided).Markup(" frames left out</li>\n");
    }
    for (const SourceLocation& at : places.Of(trace.frames[i])) {
      if (IsRuntime(at) && !all) continue;
      html.Markup("<li><code>").Text(Function(at)).Markup("</code> <span class=\"place mono\">");
      html.Text(Place(at)).Markup("</span></li>\n");
    }
  }
  if (trace.created_at != 0) {
    const SourceLocation& at = places.Creation(trace.created_at);
    html.Markup("<li>created by <code>").Text(Function(at)).Markup("</code>");
    html.Markup(" <span class=\"place mono\">").Text(Place(at)).Markup("</span></li>\n");
  }
  html.Markup("</ol>\n");
}

void AddLink(uint64_t id, Html& html) {
  html.Markup("<a href=\"/debug/goroutines?id=").Text(id).Markup("\">").Text(id).Markup("</a>");
}

void AddMinutes(absl::Duration least, absl::Duration most, Html& html) {
  const int64_t from = absl::ToInt64Minutes(least);
  const int64_t to = absl::ToInt64Minutes(most);
  if (to == 0) return;
  html.Markup(" <span class=\"minutes\">");
  if (from != to) html.Text(from).Markup(" to ");
  html.Text(to).Markup(" min</span>");
}

void AddForm(const std::string& text, const std::string& state, bool list,
             const std::set<std::string>& states, Html& html) {
  html.Markup(
          "<form action=\"/debug/goroutines\">\n"
          "<input type=\"search\" name=\"q\" placeholder=\"function, file, state, name or number\""
          " aria-label=\"filter\" value=\"")
      .Text(text)
      .Markup("\">\n<select name=\"state\" aria-label=\"state\"><option value=\"\">any state");
  for (const std::string& each : states) {
    html.Markup("<option");
    if (each == state) html.Markup(" selected");
    html.Markup(" value=\"").Text(each).Markup("\">").Text(each);
  }
  html.Markup("</select>\n<select name=\"view\" aria-label=\"view\">");
  html.Markup("<option value=\"groups\">groups<option value=\"list\"");
  if (list) html.Markup(" selected");
  html.Markup(">list</select>\n<button>Show</button>\n</form>\n");
}

void AddGroups(const std::vector<const GoroutineTrace*>& shown, Places& places, Html& html) {
  using Key = std::tuple<std::string, uintptr_t, std::vector<uintptr_t>>;
  std::map<Key, std::vector<const GoroutineTrace*>> by_place;
  for (const GoroutineTrace* trace : shown) {
    // Inside the runtime there are several ways to wait for one thing.
    std::vector<uintptr_t> frames;
    std::copy_if(trace->frames.begin(), trace->frames.end(), std::back_inserter(frames),
                 [&](uintptr_t pc) { return !IsAllRuntime(pc, places); });
    by_place[{Reason(*trace), trace->created_at, std::move(frames)}].push_back(trace);
  }
  std::vector<const std::vector<const GoroutineTrace*>*> groups;
  for (const auto& [key, group] : by_place) groups.push_back(&group);
  std::sort(groups.begin(), groups.end(), [](const auto* a, const auto* b) {
    if (a->size() != b->size()) return a->size() > b->size();
    return a->front()->goroutine.id < b->front()->goroutine.id;
  });
  if (groups.size() > kMostGroups) {
    html.Markup("<p class=\"dim\">The largest ").Text(kMostGroups).Markup(" of ");
    html.Text(groups.size()).Markup(" groups.</p>\n");
    groups.resize(kMostGroups);
  }
  for (const auto* group : groups) {
    const GoroutineTrace& first = *group->front();
    const auto [least, most] =
        std::minmax_element(group->begin(), group->end(),
                            [](const auto* a, const auto* b) { return a->waiting < b->waiting; });
    html.Markup(groups.size() <= 3 ? Literal("<details open>") : Literal("<details>"));
    html.Markup("<summary><b>").Text(group->size()).Markup("</b> <span class=\"state\">");
    html.Text(Reason(first)).Markup("</span>");
    AddMinutes((*least)->waiting, (*most)->waiting, html);
    html.Markup(" <code>").Text(TopFunction(first, places)).Markup("</code></summary>\n");
    AddStack(first, places, html);
    html.Markup("<p class=\"ids\">");
    for (size_t i = 0; i < std::min(group->size(), kMostIds); ++i) {
      AddLink((*group)[i]->goroutine.id, html);
      html.Markup(" ");
    }
    if (group->size() > kMostIds)
      html.Text(absl::StrCat("and ", group->size() - kMostIds, " more"));
    html.Markup("</p></details>\n");
  }
}

void AddList(std::vector<const GoroutineTrace*> shown, Places& places, Html& html) {
  if (shown.size() > kMostLines) {
    html.Markup("<p class=\"dim\">The first ").Text(kMostLines).Markup(".</p>\n");
    shown.resize(kMostLines);
  }
  html.Markup(
      "<div class=\"wide\"><table><thead><tr><th class=\"number\">goroutine<th>state"
      "<th class=\"number\">minutes<th class=\"number\">thread<th>name<th>function"
      "<th class=\"number\">creator<th>created by</tr></thead><tbody>\n");
  for (const GoroutineTrace* trace : shown) {
    const GoroutineSnapshot& g = trace->goroutine;
    html.Markup("<tr><td class=\"number\">");
    AddLink(g.id, html);
    html.Markup("<td>").Text(Reason(*trace)).Markup("<td class=\"number\">");
    if (g.status == 4) html.Text(absl::ToInt64Minutes(trace->waiting));
    html.Markup("<td class=\"number\">");
    if (g.m >= 0) html.Text(g.m);
    html.Markup("<td>").Text(g.name).Markup("<td class=\"mono\">");
    html.Text(TopFunction(*trace, places)).Markup("<td class=\"number\">");
    if (trace->creator != 0) AddLink(trace->creator, html);
    html.Markup("<td class=\"mono\">");
    if (trace->created_at != 0) html.Text(Function(places.Creation(trace->created_at)));
    html.Markup("</tr>\n");
  }
  html.Markup("</tbody></table></div>\n");
}

HttpReply One(const std::vector<GoroutineTrace>& traces, const std::string& number) {
  uint64_t id = 0;
  const auto found = std::find_if(traces.begin(), traces.end(), [&](const GoroutineTrace& trace) {
    return absl::SimpleAtoi(number, &id) && trace.goroutine.id == id;
  });
  if (found == traces.end()) return NotFound(absl::StrCat("goroutine ", number));
  const GoroutineSnapshot& g = found->goroutine;
  Places places;
  Html html;
  html.Markup("<h1>Goroutine ").Text(g.id).Markup("</h1>\n<p><span class=\"state\">");
  html.Text(Reason(*found)).Markup("</span>");
  AddMinutes(found->waiting, found->waiting, html);
  html.Markup(" ").Text(g.name).Markup("</p>\n<details open><summary>stack</summary>");
  AddStack(*found, places, html);
  html.Markup("</details>\n<div class=\"wide\"><table><tbody>\n");
  if (found->creator != 0) {
    html.Markup("<tr><th>started by goroutine<td>");
    AddLink(found->creator, html);
    html.Markup("</tr>\n");
  }
  if (g.m >= 0) html.Markup("<tr><th>on thread<td>M").Text(g.m).Markup("</tr>\n");
  if (g.locked_m >= 0) html.Markup("<tr><th>locked to<td>M").Text(g.locked_m).Markup("</tr>\n");
  html.Markup("<tr><th>stack<td>").Text(g.stack_mode).Markup("</tr>\n<tr><th>in use<td>");
  html.Text(FormatBytes(g.stack_used)).Markup("</tr>\n<tr><th>at rest<td>");
  html.Text(FormatBytes(g.stack_rest_bytes)).Markup("</tr>\n<tr><th>may grow to<td>");
  html.Text(FormatBytes(g.stack_limit)).Markup("</tr>\n<tr><th>pinned stack in use<td>");
  html.Text(FormatBytes(g.pinned_stack_used)).Markup("</tr>\n<tr><th>moves<td>");
  html.Text(g.stack_moves).Markup("</tr>\n</tbody></table></div>\n");
  return Page(absl::StrCat("goroutine ", g.id), html);
}

}  // namespace

HttpReply GoroutinesPage(const Target& target) {
  const std::vector<GoroutineTrace> traces = GetGoroutineTraces({.signal = DefaultTraceSignal()});
  if (target.query.count("id") != 0) return One(traces, target.Get("id"));
  const std::string text = target.Get("q");
  const std::string wanted = absl::AsciiStrToLower(text);
  const std::string state = target.Get("state");
  const bool list = target.Get("view") == "list";
  Places places;
  std::set<std::string> states;
  std::vector<const GoroutineTrace*> shown;
  for (const GoroutineTrace& trace : traces) {
    const std::string reason = Reason(trace);
    states.insert(reason);
    if ((state.empty() || state == reason) && Matches(trace, wanted, places)) {
      shown.push_back(&trace);
    }
  }
  Html html;
  html.Markup("<h1>").Text(traces.size()).Markup(" goroutines</h1>\n");
  AddForm(text, state, list, states, html);
  if (shown.size() != traces.size()) html.Markup("<p>").Text(shown.size()).Markup(" match.</p>\n");
  if (list) {
    AddList(shown, places, html);
  } else {
    AddGroups(shown, places, html);
  }
  return Page("goroutines", html);
}

}  // namespace weft::debug::internal
