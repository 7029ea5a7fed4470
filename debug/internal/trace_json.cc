#include "debug/internal/trace_json.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "debug/internal/trace_states.h"
#include "sched/waiter.h"

namespace weft::debug::internal {

using weft::internal::Event;
using weft::internal::EventHead;
using weft::internal::Waker;

namespace {

constexpr int kPs = 1;
constexpr int kGoroutines = 2;
constexpr int kThreads = 3;
constexpr int kRegions = 4;
constexpr int kWorld = 5;

constexpr size_t kPieceBytes = 64 << 10;
// Points of the curves of how many goroutines there are in each state.
constexpr int64_t kCurvePoints = 2000;

std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte >= 0x7f) {
      // Bytes that need not be UTF-8 stand for themselves as Latin-1.
      absl::StrAppendFormat(&out, "\\u%04x", byte);
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

std::string Micros(int64_t nanos) { return absl::StrFormat("%d.%03d", nanos / 1000, nanos % 1000); }

const char* WaitName(uint8_t reason) {
  const char* name = WaitReasonName(static_cast<WaitReason>(reason));
  return name[0] == '\0' ? "waiting" : name;
}

const char* CauseName(Event cause, Waker waker) {
  switch (cause) {
    case Event::kCreate:
      return "created";
    case Event::kYield:
      return "yielded";
    case Event::kPreempt:
      return "preempted";
    case Event::kLostP:
      return "came back without a P";
    case Event::kUnpark:
      switch (waker) {
        case Waker::kGoroutine:
          return "woken by a goroutine";
        case Waker::kScheduler:
          return "woken by a timer";
        case Waker::kPoller:
          return "woken by the poller";
        case Waker::kThread:
          return "woken by a thread";
        case Waker::kItself:
          return "woken before it waited";
      }
      break;
    default:
      break;
  }
  return "not recorded";
}

std::string LeftName(Event left, uint8_t reason) {
  switch (left) {
    case Event::kPark:
      return WaitName(reason);
    case Event::kYield:
      return "yield";
    case Event::kPreempt:
      return "preempted";
    case Event::kEnd:
      return "end";
    case Event::kBlockingBegin:
      return "blocking section";
    case Event::kBlockingEnd:
      return "end of blocking section";
    case Event::kProcTaken:
      return "P taken";
    case Event::kProcStop:
      return "P given up";
    default:
      return "";
  }
}

// What Revoked's numbers mean.
const char* TakenWhy(uint8_t why) {
  static constexpr const char* kNames[] = {"", "in a blocking section", "its thread sleeps",
                                           "its time slice is over", "the world stops"};
  return why < sizeof(kNames) / sizeof(kNames[0]) ? kNames[why] : "";
}

std::string StateName(const GoroutineSpan& span) {
  switch (span.state) {
    case GState::kUnknown:
      return "not recorded";
    case GState::kRunnable:
      return "runnable";
    case GState::kRunning:
      return "running";
    case GState::kWaiting:
      return WaitName(span.reason);
    case GState::kBlocking:
      return "blocking section";
    case GState::kNoP:
      return "running without a P";
    case GState::kInPlace:
      return "waiting for a P in place";
  }
  return "";
}

class Writer final : public SpanSink {
 public:
  Writer(const RecordedTrace& trace, const TraceJsonOptions& options,
         absl::FunctionRef<void(absl::string_view)> sink)
      : trace_(trace), options_(options), sink_(sink) {}

  void Write() {
    NameGoroutines();
    text_ = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n";
    NameProcess(kPs, "Ps");
    NameProcess(kGoroutines, "goroutines");
    NameProcess(kThreads, "threads");
    NameProcess(kRegions, "regions and tasks");
    NameProcess(kWorld, "world");
    const SpanCounts counts = BuildSpans(trace_, *this);
    if (stop_began_ >= 0) World("stopping", stop_began_, trace_.length);
    if (stopped_ >= 0) World("stopped", stopped_, trace_.length);
    NameTracks();
    ShowQuiet();
    absl::StrAppend(
        &text_, "{\"ph\":\"M\",\"pid\":", kPs,
        ",\"name\":\"process_labels\",\"args\":{\"labels\":\"\"}}\n],\"otherData\":{\"began\":",
        Quoted(absl::FormatTime(trace_.began, absl::UTCTimeZone())), ",\"length_us\":\"",
        Micros(trace_.length), "\",\"events\":\"", trace_.events.size(), "\",\"beginning_lost\":\"",
        trace_.beginning_lost ? "yes" : "no", "\",\"gaps\":\"", counts.gaps,
        "\",\"inconsistent\":\"", counts.inconsistent, "\"}}\n");
    sink_(text_);
  }

  void Goroutine(const GoroutineSpan& span) override {
    goroutine_tracks_.insert(span.g);
    std::string args;
    if (span.p >= 0) absl::StrAppend(&args, "\"P\":", span.p);
    if (span.state == GState::kRunnable && span.cause != Event::kNone) {
      absl::StrAppend(&args, "\"why\":\"", CauseName(span.cause, span.waker), "\"");
      if (span.by != 0) absl::StrAppend(&args, ",\"by\":", span.by);
    }
    Slice(kGoroutines, span.g, StateName(span), "state", span.begin, span.end, args);
    Count(span.state, span.begin, span.end);
    // The arrow from who woke it to where it runs now.
    if (span.state == GState::kRunnable) {
      woken_[span.g] = {span.begin, span.end, span.by_p};
    }
  }

  void Proc(const ProcSpan& span) override {
    proc_tracks_.insert(span.p);
    switch (span.state) {
      case PState::kIdle:
        return;
      case PState::kScheduler:
        Slice(kPs, static_cast<uint64_t>(span.p), "scheduler", "scheduler", span.begin, span.end,
              absl::StrCat("\"M\":", span.m));
        return;
      case PState::kNotRecorded:
        Slice(kPs, static_cast<uint64_t>(span.p), "not recorded: too many events", "gap",
              span.begin, span.end, "");
        return;
      case PState::kGoroutine:
        break;
    }
    std::string args = absl::StrCat("\"g\":", span.g, ",\"M\":", span.m);
    const std::string left = LeftName(span.left, span.reason);
    if (!left.empty()) absl::StrAppend(&args, ",\"left\":\"", left, "\"");
    if (span.blocking) absl::StrAppend(&args, ",\"blocking section\":true");
    Slice(kPs, static_cast<uint64_t>(span.p), NameOf(span.g), "goroutine", span.begin, span.end,
          args);
    const auto woken = woken_.find(span.g);
    if (woken == woken_.end()) return;
    const Woken w = woken->second;
    woken_.erase(woken);
    if (w.from_p < 0 || w.runs_at != span.begin) return;
    const uint64_t id = ++arrows_;
    Line(absl::StrCat("{\"ph\":\"s\",\"cat\":\"wake\",\"name\":\"wake\",\"id\":", id,
                      ",\"pid\":", kPs, ",\"tid\":", w.from_p, ",\"ts\":", Micros(w.at), "}"));
    Line(absl::StrCat("{\"ph\":\"f\",\"bp\":\"e\",\"cat\":\"wake\",\"name\":\"wake\",\"id\":", id,
                      ",\"pid\":", kPs, ",\"tid\":", span.p, ",\"ts\":", Micros(span.begin), "}"));
  }

  void Thread(const ThreadSpan& span) override {
    thread_tracks_.insert(span.m);
    std::string name;
    switch (span.state) {
      case MState::kHasP:
        name = absl::StrCat("P", span.p);
        break;
      case MState::kAsleep:
        name = "asleep";
        break;
      case MState::kPolling:
        name = "waits for events";
        break;
      case MState::kElsewhere:
        return;
    }
    Slice(kThreads, static_cast<uint64_t>(span.m), name, "thread", span.begin, span.end, "");
  }

  void EventSeen(const TraceEvent& event) override {
    const int p = event.head.p == EventHead::kNoP ? -1 : static_cast<int>(event.head.p);
    switch (event.head.event) {
      case Event::kSteal:
        return Instant(kPs, p, "steal", event.at,
                       absl::StrCat("\"g\":", event.g, ",\"from\":", event.other));
      case Event::kTimers:
        return Instant(kPs, p, "timers", event.at, absl::StrCat("\"ran\":", event.other));
      case Event::kPoll:
        return Instant(kPs, p, "poll", event.at, absl::StrCat("\"ready\":", event.other));
      case Event::kProcTaken:
        return Instant(kPs, p, "P taken", event.at,
                       absl::StrCat("\"g\":", event.g, ",\"from M\":", event.other, ",\"why\":\"",
                                    TakenWhy(event.head.arg), "\""));
      case Event::kThreadStart:
        return Instant(kThreads, event.m, "thread starts", event.at, "");
      case Event::kThreadEnd:
        return Instant(kThreads, event.m, "thread ends", event.at, "");
      case Event::kStopWorld:
        stop_began_ = event.at;
        return;
      case Event::kWorldStopped:
        if (stop_began_ >= 0) World("stopping", stop_began_, event.at);
        stop_began_ = -1;
        stopped_ = event.at;
        return;
      case Event::kStartWorld:
        if (stopped_ >= 0) World("stopped", stopped_, event.at);
        stopped_ = -1;
        return;
      case Event::kMaxProcs:
        return Line(absl::StrCat("{\"ph\":\"C\",\"name\":\"Ps\",\"pid\":", kWorld, ",\"ts\":",
                                 Micros(event.at), ",\"args\":{\"Ps\":", event.other, "}}"));
      case Event::kRegionBegin:
        ++regions_open_[event.g];
        return Region(event, "B");
      case Event::kRegionEnd:
        // One that began before the trace has nothing to end.
        if (regions_open_[event.g] == 0) return;
        --regions_open_[event.g];
        return Region(event, "E");
      case Event::kTaskBegin:
        return Task(event, "b");
      case Event::kTaskEnd:
        return Task(event, "e");
      case Event::kLog:
        return Log(event);
      default:
        return;
    }
  }

 private:
  struct Woken {
    int64_t at;
    int64_t runs_at;
    int from_p;
  };

  void Line(absl::string_view line) {
    absl::StrAppend(&text_, line, ",\n");
    if (text_.size() >= kPieceBytes) {
      sink_(text_);
      text_.clear();
    }
  }

  void Slice(int process, uint64_t track, absl::string_view name, absl::string_view category,
             int64_t begin, int64_t end, absl::string_view args) {
    Line(absl::StrCat(absl::StrCat("{\"ph\":\"X\",\"pid\":", process, ",\"tid\":", track,
                                   ",\"ts\":", Micros(begin), ",\"dur\":", Micros(end - begin)),
                      ",\"cat\":\"", category, "\",\"name\":", Quoted(name), ",\"args\":{", args,
                      "}}"));
  }

  void Instant(int process, int64_t track, absl::string_view name, int64_t at,
               absl::string_view args) {
    if (track < 0) return;
    if (process == kThreads) thread_tracks_.insert(track);
    Line(absl::StrCat(absl::StrCat("{\"ph\":\"i\",\"s\":\"t\",\"pid\":", process,
                                   ",\"tid\":", track, ",\"ts\":", Micros(at)),
                      ",\"name\":", Quoted(name), ",\"args\":{", args, "}}"));
  }

  void World(absl::string_view name, int64_t begin, int64_t end) {
    Slice(kWorld, 0, name, "world", begin, end, "");
  }

  absl::string_view TextOf(const TraceEvent& event) const {
    return event.text < 0 ? absl::string_view() : trace_.texts[static_cast<size_t>(event.text)];
  }

  void Region(const TraceEvent& event, absl::string_view phase) {
    region_tracks_.insert(event.g);
    const std::string args =
        event.other == 0 ? std::string() : absl::StrCat("\"task\":", event.other);
    Line(absl::StrCat(absl::StrCat("{\"ph\":\"", phase, "\",\"cat\":\"region\",\"pid\":", kRegions,
                                   ",\"tid\":", event.g, ",\"ts\":", Micros(event.at)),
                      ",\"name\":", Quoted(TextOf(event)), ",\"args\":{", args, "}}"));
  }

  void Task(const TraceEvent& event, absl::string_view phase) {
    if (event.head.event == Event::kTaskBegin) tasks_[event.other] = std::string(TextOf(event));
    Line(absl::StrCat(absl::StrCat("{\"ph\":\"", phase, "\",\"cat\":\"task\",\"id\":", event.other,
                                   ",\"pid\":", kRegions, ",\"tid\":0,\"ts\":", Micros(event.at)),
                      ",\"name\":", Quoted(tasks_[event.other]), "}"));
  }

  // "category\0message"
  void Log(const TraceEvent& event) {
    const absl::string_view text = TextOf(event);
    const size_t end = std::min(text.find('\0'), text.size());
    std::string args = absl::StrCat("\"category\":", Quoted(text.substr(0, end)));
    if (event.other != 0) absl::StrAppend(&args, ",\"task\":", event.other);
    goroutine_tracks_.insert(event.g);
    Instant(kGoroutines, static_cast<int64_t>(event.g),
            end < text.size() ? text.substr(end + 1) : text.substr(end), event.at, args);
  }

  // A span has ended: what it adds to the curves, which come out as its points are passed. A span
  // that is told of late counts in those points that are still to come.
  void Count(GState state, int64_t begin, int64_t end) {
    const int64_t step = std::max<int64_t>(trace_.length / kCurvePoints, 1);
    const bool runs = state == GState::kRunning || state == GState::kNoP;
    if (!runs && state != GState::kRunnable) return;
    // The first point at or after its beginning.
    for (int64_t at = (begin + step - 1) / step; at * step < end; ++at) {
      auto& [running, runnable] = curve_[at];
      ++(runs ? running : runnable);
    }
  }

  void NameGoroutines() {
    std::map<uintptr_t, std::string> sites;
    for (const TraceEvent& event : trace_.events) {
      if (event.head.event == Event::kName) names_[event.g] = std::string(TextOf(event));
      if (event.head.event != Event::kCreate || event.other == 0 || !options_.describe_site) {
        continue;
      }
      std::string& site = sites[event.other];
      if (site.empty()) site = options_.describe_site(event.other);
      names_.try_emplace(event.g, site);
    }
    for (const AliveGoroutine& g : options_.alive) {
      if (!g.name.empty()) names_[g.id] = g.name;
    }
  }

  std::string NameOf(uint64_t g) const {
    const auto name = names_.find(g);
    if (name == names_.end() || name->second.empty()) return absl::StrCat("G", g);
    return absl::StrCat("G", g, " ", name->second);
  }

  void NameProcess(int process, absl::string_view name) {
    Line(absl::StrCat("{\"ph\":\"M\",\"pid\":", process,
                      ",\"name\":\"process_name\",\"args\":{\"name\":\"", name, "\"}}"));
    Line(absl::StrCat("{\"ph\":\"M\",\"pid\":", process,
                      ",\"name\":\"process_sort_index\",\"args\":{\"sort_index\":", process, "}}"));
  }

  void NameTrack(int process, uint64_t track, absl::string_view name) {
    Line(absl::StrCat("{\"ph\":\"M\",\"pid\":", process, ",\"tid\":", track,
                      ",\"name\":\"thread_name\",\"args\":{\"name\":", Quoted(name), "}}"));
  }

  void NameTracks() {
    const int64_t step = std::max<int64_t>(trace_.length / kCurvePoints, 1);
    int64_t next = 0;
    for (const auto& [point, counts] : curve_) {
      // Between two points of the map there are none.
      if (point != next && next * step < trace_.length) Curve(next * step, 0, 0);
      Curve(point * step, counts.first, counts.second);
      next = point + 1;
    }
    for (const int p : proc_tracks_) {
      NameTrack(kPs, static_cast<uint64_t>(p), absl::StrCat("P", p));
    }
    for (const uint64_t g : goroutine_tracks_) NameTrack(kGoroutines, g, NameOf(g));
    for (const uint64_t g : region_tracks_) NameTrack(kRegions, g, NameOf(g));
    for (const int64_t m : thread_tracks_) {
      NameTrack(kThreads, static_cast<uint64_t>(m), absl::StrCat("M", m));
    }
  }

  void Curve(int64_t at, int running, int runnable) {
    if (std::pair(running, runnable) == curve_now_) return;
    curve_now_ = {running, runnable};
    Line(absl::StrCat(absl::StrCat("{\"ph\":\"C\",\"name\":\"goroutines\",\"pid\":", kWorld,
                                   ",\"ts\":", Micros(at)),
                      ",\"args\":{\"running\":", running, ",\"runnable\":", runnable, "}}"));
  }

  // Goroutines that nothing has happened to.
  void ShowQuiet() {
    for (const AliveGoroutine& g : options_.alive) {
      if (goroutine_tracks_.count(g.id) != 0) continue;
      Slice(kGoroutines, g.id, g.state, "state", 0, trace_.length, "");
      NameTrack(kGoroutines, g.id, NameOf(g.id));
    }
  }

  const RecordedTrace& trace_;
  const TraceJsonOptions& options_;
  absl::FunctionRef<void(absl::string_view)> sink_;
  std::string text_;
  std::unordered_map<uint64_t, std::string> names_;
  std::unordered_map<uint64_t, Woken> woken_;
  std::unordered_map<uint64_t, int> regions_open_;
  std::unordered_map<uint64_t, std::string> tasks_;
  std::set<int> proc_tracks_;
  std::set<uint64_t> goroutine_tracks_;
  std::set<uint64_t> region_tracks_;
  std::set<int64_t> thread_tracks_;
  std::map<int64_t, std::pair<int, int>> curve_;  // running, runnable
  std::pair<int, int> curve_now_ = {-1, -1};
  uint64_t arrows_ = 0;
  int64_t stop_began_ = -1;
  int64_t stopped_ = -1;
};

}  // namespace

void WriteTraceJson(const RecordedTrace& trace, const TraceJsonOptions& options,
                    absl::FunctionRef<void(absl::string_view)> sink) {
  Writer(trace, options, sink).Write();
}

}  // namespace weft::debug::internal
