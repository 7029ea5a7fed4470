// What the scheduler does: charts and tables that a script keeps up to date, and one sample at a
// time for it and for others.
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "debug/http/page.h"
#include "debug/schedtrace.h"
#include "sched/metrics.h"
#include "sched/snapshot.h"

namespace weft::debug::internal {
namespace {

int Queued(const SchedSnapshot& s) {
  int queued = s.global_queue_size;
  for (const ProcSnapshot& p : s.procs) queued += p.run_queue_size;
  return queued;
}

struct Chart {
  Literal key;  // in the sample
  Literal title;
  int64_t (*value)(const SchedSnapshot&);
};

constexpr Chart kCharts[] = {
    {"queued", "goroutines in queues", [](const SchedSnapshot& s) -> int64_t { return Queued(s); }},
    {"idleprocs", "idle Ps", [](const SchedSnapshot& s) -> int64_t { return s.idle_procs; }},
    {"threads", "threads", [](const SchedSnapshot& s) -> int64_t { return s.threads; }},
    {"idlethreads", "idle threads",
     [](const SchedSnapshot& s) -> int64_t { return s.idle_threads; }},
    {"spinningthreads", "threads that look for work",
     [](const SchedSnapshot& s) -> int64_t { return s.spinning_threads; }},
    {"goroutines", "goroutines", [](const SchedSnapshot& s) -> int64_t { return s.goroutines; }},
};

Literal StateOf(const ProcSnapshot& p) {
  switch (p.status) {
    case 0:
      return "idle";
    case 1:
      return "running";
    case 2:
      return "blocking";
    case 3:
      return "stopped";
  }
  return "?";
}

void AddCharts(const SchedSnapshot& s, Html& html) {
  html.Markup("<div class=\"charts\" id=\"charts\">\n");
  for (const Chart& chart : kCharts) {
    html.Markup("<div class=\"chart\" data-name=\"").Markup(chart.key).Markup("\"><h3>");
    html.Markup(chart.title).Markup("</h3><span class=\"range\"></span><div class=\"now\">");
    html.Text(chart.value(s)).Markup("</div><svg viewBox=\"0 0 300 54\" ");
    html.Markup("preserveAspectRatio=\"none\" aria-hidden=\"true\">");
    html.Markup("<polygon/><polyline vector-effect=\"non-scaling-stroke\"/></svg></div>\n");
  }
  html.Markup("</div>\n");
}

void AddProcs(const SchedSnapshot& s, Html& html) {
  html.Markup(
      "<h2>Ps</h2>\n<div class=\"wide\"><table><thead><tr><th class=\"number\">P"
      "<th class=\"number\">state<th class=\"number\">M<th class=\"number\">queue"
      "<th class=\"number\">goroutines run<th class=\"number\">blocking sections"
      "<th class=\"number\">timers</tr></thead><tbody id=\"procs\">\n");
  for (const ProcSnapshot& p : s.procs) {
    html.Markup("<tr><td class=\"number\">").Text(p.id).Markup("<td class=\"number\">");
    html.Markup(StateOf(p)).Markup("<td class=\"number\">");
    if (p.m >= 0) html.Text(p.m);
    for (const int64_t number : {int64_t{p.run_queue_size}, int64_t{p.schedtick},
                                 int64_t{p.syscalltick}, int64_t{p.timers}}) {
      html.Markup("<td class=\"number\">").Text(number);
    }
    html.Markup("</tr>\n");
  }
  html.Markup("</tbody></table></div>\n");
}

void AddLatencies(Html& html) {
  const SchedMetrics metrics = GetSchedMetrics();
  const struct {
    Literal what;
    const DurationHistogram& histogram;
  } rows[] = {{"from runnable to running, a sample", metrics.latencies},
              {"until the world stood still", metrics.pauses_stopping},
              {"until the world went on", metrics.pauses_total}};
  html.Markup(
      "<h2>Latencies since the start</h2>\n<div class=\"wide\"><table><thead><tr><th>"
      "<th class=\"number\">count<th class=\"number\">half<th class=\"number\">99%"
      "<th class=\"number\">99.9%</tr></thead><tbody>\n");
  for (const auto& [what, histogram] : rows) {
    html.Markup("<tr><th>").Markup(what).Markup("<td class=\"number\">").Text(histogram.total());
    for (const double q : {0.5, 0.99, 0.999}) {
      html.Markup("<td class=\"number\">").Text(absl::FormatDuration(histogram.Quantile(q)));
    }
    html.Markup("</tr>\n");
  }
  html.Markup("</tbody></table></div>\n");
}

}  // namespace

HttpReply SchedPage() {
  const absl::Duration at = SchedTraceTime();
  const SchedSnapshot s = GetSchedSnapshot();
  Html html;
  html.Markup("<h1>Scheduler</h1>\n<p>").Text(s.max_procs);
  html.Markup(s.max_procs == 1 ? Literal(" P, ") : Literal(" Ps, ")).Text(s.goroutines);
  html.Markup(
      " goroutines. <span class=\"dim\">A sample each second.</span> <span id=\"status\" "
      "class=\"minutes\"></span></p>\n<p><button id=\"pause\" hidden>Pause</button></p>\n");
  AddCharts(s, html);
  AddProcs(s, html);
  html.Markup("<h2>Trace</h2>\n<pre id=\"lines\">").Text(FormatSchedTrace(s, at));
  html.Markup(
      "</pre>\n<p><a href=\"/debug/schedtrace?detail=1\">with each P, thread and goroutine</a>"
      "</p>\n");
  AddLatencies(html);
  return Page("sched", html);
}

HttpReply SchedSample() {
  const absl::Duration at = SchedTraceTime();
  const SchedSnapshot s = GetSchedSnapshot();
  Json json;
  json.BeginObject().Key("ms").Int(absl::ToInt64Milliseconds(at));
  json.Key("line").String(FormatSchedTrace(s, at));
  json.Key("gomaxprocs").Int(s.max_procs).Key("runqueue").Int(s.global_queue_size);
  for (const Chart& chart : kCharts) json.Key(chart.key.text()).Int(chart.value(s));
  json.Key("procs").BeginArray();
  for (const ProcSnapshot& p : s.procs) {
    json.BeginObject().Key("id").Int(p.id).Key("status").Int(p.status).Key("m").Int(p.m);
    json.Key("runqsize").Int(p.run_queue_size).Key("schedtick").Int(p.schedtick);
    json.Key("syscalltick").Int(p.syscalltick).Key("timers").Int(p.timers).EndObject();
  }
  HttpReply reply;
  reply.content_type = "application/json";
  reply.body = json.EndArray().EndObject().text() + "\n";
  return reply;
}

HttpReply SchedTracePage(const Target& target) {
  const absl::Duration at = SchedTraceTime();
  if (target.Get("detail") != "1") return PlainText(FormatSchedTrace(GetSchedSnapshot(), at));
  return PlainText(FormatSchedDetail(GetSchedSnapshot(SnapshotDetail::kAll), at));
}

}  // namespace weft::debug::internal
