// What stacks take, and how often they rest and move.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "debug/http/page.h"
#include "debug/http/vars.h"
#include "sched/snapshot.h"
#include "stack/grow.h"
#include "stack/rest.h"
#include "stack/segment.h"
#include "stack/slots.h"

namespace weft::debug::internal {
namespace {

constexpr size_t kMostStacks = 20;

void AddRow(Literal what, const absl::AlphaNum& value, Html& html) {
  html.Markup("<tr><th>").Markup(what).Markup("<td class=\"number\">").Text(value);
  html.Markup("</tr>\n");
}

void AddSlots(const stack::Stats& s, Html& html) {
  html.Markup(
      "<h2>Slots</h2>\n<div class=\"wide\"><table><thead><tr><th>class<th class=\"number\">size"
      "<th class=\"number\">made<th class=\"number\">in use<th class=\"number\">kept by Ps"
      "<th class=\"number\">free<th class=\"number\">without memory</tr></thead><tbody>\n");
  for (size_t i = 0; i < s.classes.size(); ++i) {
    const stack::Stats::Class& c = s.classes[i];
    if (c.made == 0) continue;
    html.Markup("<tr><td>").Text(SlotClassName(i)).Markup("<td class=\"number\">");
    html.Text(FormatBytes(c.stack_bytes));
    for (const size_t number : {c.made, c.in_use, c.cached, c.central, c.trimmed}) {
      html.Markup("<td class=\"number\">").Text(number);
    }
    html.Markup("</tr>\n");
  }
  html.Markup("</tbody></table></div>\n<div class=\"wide\"><table><tbody>\n");
  AddRow("address space", FormatBytes(s.bytes_reserved), html);
  AddRow("mappings", s.mappings, html);
  AddRow("guards", s.guard_markers ? "by MADV_GUARD_INSTALL" : "by mprotect", html);
  html.Markup("</tbody></table></div>\n");
}

void AddRests(const stack::RestStats& r, Html& html) {
  html.Markup("<h2>Stacks at rest</h2>\n<div class=\"wide\"><table><tbody>\n");
  AddRow("copied out of their slots", r.rests, html);
  AddRow("bytes of these", FormatBytes(r.bytes_rested), html);
  AddRow("came back to the same slot", r.wakes_at_home, html);
  AddRow("came back to another", r.moves, html);
  AddRow("waited for the end of a copy", r.left_to_copier, html);
  AddRow("pinned stacks given back empty", r.pinned_returned, html);
  AddRow("stayed: a foreign frame", r.kept_foreign_frame, html);
  AddRow("stayed: a broken chain of frames", r.kept_broken_chain, html);
  AddRow("stayed: too large", r.kept_too_large, html);
  AddRow("stayed: an exception under way", r.kept_held, html);
  AddRow("stayed: no memory", r.kept_no_memory, html);
  AddRow("slots whose unused pages were given back", r.given_back, html);
  AddRow("memory of stacks at rest now", FormatBytes(r.block_bytes), html);
  html.Markup("</tbody></table></div>\n");
}

void AddGrowth(const stack::GrowStats& g, const stack::SegmentStats& segments, Html& html) {
  html.Markup("<h2>Growth</h2>\n<div class=\"wide\"><table><tbody>\n");
  AddRow("moved while they ran", g.moves, html);
  AddRow("of these, to a larger slot", g.growths, html);
  AddRow("bytes of these", FormatBytes(g.bytes_moved), html);
  AddRow("stayed: a foreign frame", g.kept_foreign_frame, html);
  AddRow("stayed: a broken chain of frames", g.kept_broken_chain, html);
  AddRow("stayed: their owner", g.kept_held, html);
  AddRow("stayed: no slot", g.kept_no_slot, html);
  AddRow("calls that went to a segment", segments.links, html);
  AddRow("segments", segments.made, html);
  html.Markup("</tbody></table></div>\n");
}

void AddLargest(Html& html) {
  std::vector<GoroutineSnapshot> all = GetGoroutineSnapshots();
  const auto bytes = [](const GoroutineSnapshot& g) { return g.stack_used + g.pinned_stack_used; };
  uint64_t used = 0;
  size_t resting = 0;
  for (const GoroutineSnapshot& g : all) {
    used += bytes(g);
    resting += g.stack_rest_bytes != 0;
  }
  html.Markup("<h2>The largest</h2>\n<p>").Text(all.size()).Markup(" goroutines use ");
  html.Text(FormatBytes(used)).Markup("; ").Text(resting).Markup(" stacks are at rest.</p>\n");
  const size_t shown = std::min(all.size(), kMostStacks);
  std::partial_sort(all.begin(), all.begin() + static_cast<ptrdiff_t>(shown), all.end(),
                    [&](const auto& a, const auto& b) { return bytes(a) > bytes(b); });
  html.Markup(
      "<div class=\"wide\"><table><thead><tr><th class=\"number\">goroutine<th>name"
      "<th class=\"number\">in use<th class=\"number\">pinned<th class=\"number\">at rest"
      "<th class=\"number\">may grow to<th class=\"number\">moves<th>kind</tr></thead><tbody>\n");
  for (size_t i = 0; i < shown; ++i) {
    const GoroutineSnapshot& g = all[i];
    html.Markup("<tr><td class=\"number\"><a href=\"/debug/goroutines?id=").Text(g.id);
    html.Markup("\">").Text(g.id).Markup("</a><td>").Text(g.name);
    for (const uint64_t number :
         {g.stack_used, g.pinned_stack_used, g.stack_rest_bytes, g.stack_limit}) {
      html.Markup("<td class=\"number\">").Text(FormatBytes(number));
    }
    html.Markup("<td class=\"number\">").Text(g.stack_moves).Markup("<td>").Text(g.stack_mode);
    html.Markup("</tr>\n");
  }
  html.Markup("</tbody></table></div>\n");
}

}  // namespace

HttpReply StacksPage() {
  Html html;
  html.Markup("<h1>Stacks</h1>\n");
  AddSlots(stack::GetStats(), html);
  AddRests(stack::GetRestStats(), html);
  AddGrowth(stack::GetGrowStats(), stack::GetSegmentStats(), html);
  AddLargest(html);
  return Page("stacks", html);
}

}  // namespace weft::debug::internal
