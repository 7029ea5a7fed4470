#include "debug/internal/trace_states.h"

#include <algorithm>
#include <vector>

namespace weft::debug::internal {

using weft::internal::Event;
using weft::internal::EventHead;
using weft::internal::Waker;

namespace {

int ProcOf(const EventHead& head) {
  return head.p == EventHead::kNoP ? -1 : static_cast<int>(head.p);
}

struct Goroutine {
  GoroutineSpan span;
  bool seen = false;
  bool blocking = false;
  int64_t blocking_since = -1;  // when that was last told of
};

struct Proc {
  ProcSpan span;
  bool seen = false;
};

struct Thread {
  ThreadSpan span;
  uint64_t g = 0;
};

class Builder {
 public:
  Builder(const RecordedTrace& trace, SpanSink& sink) : trace_(trace), sink_(sink) {}

  SpanCounts Build() {
    for (const TraceEvent& event : trace_.events) {
      sink_.EventSeen(event);
      Apply(event);
    }
    Finish();
    return counts_;
  }

 private:
  Goroutine& GoroutineOf(uint64_t g) {
    Goroutine& goroutine = goroutines_[g];
    goroutine.span.g = g;
    return goroutine;
  }

  // Nothing is left out since then.
  bool IsWhole(int64_t since) const { return since > last_gap_ && gaps_open_ == 0; }

  // The goroutine is in one of the two states, or should be.
  void Expect(const TraceEvent& event, Goroutine& g, GState state, GState or_state) {
    if (!g.seen) {
      // What it must have been since the beginning, if nothing is left out.
      g.seen = true;
      g.span.begin = 0;
      if (!IsWhole(0)) return;
      g.span.state = state;
      // In a section that ends it has its P, or an event would have given it that.
      if (state == GState::kRunning || state == GState::kBlocking) {
        g.span.p = ProcOf(event.head);
        g.span.m = event.m;
      }
      if (event.head.event == Event::kPark) g.span.reason = 0;
      return;
    }
    if (g.span.state == state || g.span.state == or_state) return;
    if (IsWhole(g.span.begin)) ++counts_.inconsistent;
    g.span.state = GState::kUnknown;
    g.span.p = -1;
    g.blocking = false;
  }

  void Begin(Goroutine& g, const TraceEvent& event, GState state) {
    End(g, event.at);
    g.seen = true;
    const uint64_t id = g.span.g;
    g.span = {.g = id, .state = state, .begin = event.at, .m = event.m};
  }

  void End(Goroutine& g, int64_t at) {
    if (!g.seen) return;
    g.span.end = at;
    if (g.span.end > g.span.begin || g.span.state == GState::kRunning) sink_.Goroutine(g.span);
  }

  Proc& ProcNumber(int p) {
    Proc& proc = procs_[p];
    proc.span.p = p;
    return proc;
  }

  // `before`: what it was since the beginning, if this is the first that is heard of it.
  void BeginProc(int p, const TraceEvent& event, PState state, uint64_t g, bool blocking,
                 PState before, uint64_t before_g) {
    if (p < 0) return;
    Proc& proc = ProcNumber(p);
    if (!proc.seen) {
      proc.seen = true;
      proc.span.state = before;
      proc.span.g = before_g;
      proc.span.m = event.m;
    }
    proc.span.end = event.at;
    proc.span.left = event.head.event;
    proc.span.reason = event.head.event == Event::kPark ? event.head.arg : 0;
    if (proc.span.end > proc.span.begin || proc.span.state == PState::kGoroutine) {
      sink_.Proc(proc.span);
    }
    proc.span = {
        .p = p, .state = state, .begin = event.at, .m = event.m, .g = g, .blocking = blocking};
  }

  void BeginThread(int64_t m, int64_t at, MState state, int p) {
    if (m < 0) return;
    Thread& thread = threads_[m];
    thread.span.m = m;
    thread.span.end = at;
    if (thread.span.end > thread.span.begin && thread.span.state != MState::kElsewhere) {
      sink_.Thread(thread.span);
    }
    thread.span = {.m = m, .state = state, .begin = at, .p = p};
  }

  // By kStart, or as the next one of who left.
  void Runs(const TraceEvent& event, uint64_t id) {
    Goroutine& g = GoroutineOf(id);
    Expect(event, g, GState::kRunnable, GState::kRunnable);
    Begin(g, event, g.blocking ? GState::kBlocking : GState::kRunning);
    g.span.p = ProcOf(event.head);
    if (event.m >= 0) threads_[event.m].g = id;
    BeginProc(ProcOf(event.head), event, PState::kGoroutine, id, g.blocking,
              id == event.g ? PState::kScheduler : PState::kGoroutine, id == event.g ? 0 : event.g);
  }

  void Left(const TraceEvent& event) {
    Goroutine& g = GoroutineOf(event.g);
    const bool no_p = event.head.event == Event::kLostP;
    // A section that has ended without a P is left where that is waited for.
    const GState expected = no_p ? GState::kNoP : GState::kRunning;
    Expect(event, g, expected, GState::kBlocking);
    if (event.head.event == Event::kPark) {
      Begin(g, event, GState::kWaiting);
      g.span.reason = event.head.arg;
    } else if (event.head.event == Event::kEnd) {
      End(g, event.at);
      goroutines_.erase(event.g);
    } else {
      Begin(g, event, GState::kRunnable);
      g.span.cause = event.head.event;
    }
    if (event.m >= 0) threads_[event.m].g = 0;
    if (event.other != 0) {
      Runs(event, event.other);
    } else {
      BeginProc(ProcOf(event.head), event, PState::kScheduler, 0, false, PState::kGoroutine,
                event.g);
    }
  }

  void Runnable(const TraceEvent& event) {
    Goroutine& g = GoroutineOf(event.g);
    const bool is_new = event.head.event == Event::kCreate;
    if (!is_new) Expect(event, g, GState::kWaiting, GState::kWaiting);
    Begin(g, event, GState::kRunnable);
    g.span.cause = event.head.event;
    g.span.by_p = ProcOf(event.head);
    if (is_new) {
      g.span.by = event.m >= 0 ? threads_[event.m].g : 0;
    } else {
      g.span.waker = static_cast<Waker>(event.head.arg);
      g.span.by = event.other;
    }
  }

  // The goroutine, if any, goes on with the P, or without.
  void ProcChanges(const TraceEvent& event) {
    const int p = ProcOf(event.head);
    const bool starts = event.head.event == Event::kProcStart;
    const int64_t m =
        event.head.event == Event::kProcTaken ? static_cast<int64_t>(event.other) : event.m;
    if (event.g != 0) {
      Goroutine& g = GoroutineOf(event.g);
      // It may have left the section meanwhile, or not.
      if (starts) {
        Expect(event, g, g.span.state == GState::kInPlace ? GState::kInPlace : GState::kNoP,
               GState::kBlocking);
      } else {
        Expect(event, g, GState::kRunning, GState::kBlocking);
      }
      const GState with = g.blocking ? GState::kBlocking : GState::kRunning;
      const GState without = g.blocking ? GState::kBlocking : GState::kNoP;
      Begin(g, event, starts ? with : without);
      g.span.m = m;
      g.span.p = starts ? p : -1;
      if (m >= 0) threads_[m].g = event.g;
    }
    if (starts) {
      BeginProc(p, event, event.g != 0 ? PState::kGoroutine : PState::kScheduler, event.g,
                event.g != 0 && GoroutineOf(event.g).blocking, PState::kIdle, 0);
    } else {
      BeginProc(p, event, PState::kIdle, 0, false,
                event.g != 0 ? PState::kGoroutine : PState::kScheduler, event.g);
    }
    BeginThread(m, event.at, starts ? MState::kHasP : MState::kElsewhere, starts ? p : -1);
  }

  void Section(const TraceEvent& event) {
    Goroutine& g = GoroutineOf(event.g);
    const bool begins = event.head.event == Event::kBlockingBegin;
    if (begins) {
      // A long section within another one begins, too.
      Expect(event, g, GState::kRunning, GState::kBlocking);
    } else {
      // It has come back from where it waited for a P.
      Expect(event, g, GState::kBlocking, GState::kRunning);
    }
    g.blocking = begins;
    g.blocking_since = event.at;
    Begin(g, event, begins ? GState::kBlocking : GState::kRunning);
    const int p = ProcOf(event.head);
    g.span.p = p;
    BeginProc(p, event, PState::kGoroutine, event.g, begins, PState::kGoroutine, event.g);
  }

  void WaitsInPlace(const TraceEvent& event) {
    Goroutine& g = GoroutineOf(event.g);
    // Nobody waits so in a section: that has ended in a gap.
    const bool has_ended = g.blocking && !IsWhole(g.blocking_since);
    Expect(event, g, GState::kNoP, has_ended ? GState::kBlocking : GState::kNoP);
    if (has_ended) g.blocking = false;
    Begin(g, event, GState::kInPlace);
  }

  void Gap(const TraceEvent& event) {
    last_gap_ = event.at;
    if (event.head.event == Event::kGapEnd) {
      --gaps_open_;
      return;
    }
    ++gaps_open_;
    ++counts_.gaps;
    if (event.m < 0) return;
    const Thread& thread = threads_[event.m];
    if (thread.span.state == MState::kHasP) {
      BeginProc(thread.span.p, event, PState::kNotRecorded, 0, false, PState::kNotRecorded, 0);
    }
  }

  void Apply(const TraceEvent& event) {
    switch (event.head.event) {
      case Event::kCreate:
      case Event::kUnpark:
        return Runnable(event);
      case Event::kStart:
        return Runs(event, event.g);
      case Event::kPark:
      case Event::kYield:
      case Event::kPreempt:
      case Event::kLostP:
      case Event::kEnd:
        return Left(event);
      case Event::kBlockingBegin:
      case Event::kBlockingEnd:
        return Section(event);
      case Event::kWaitInPlace:
        return WaitsInPlace(event);
      case Event::kProcStart:
      case Event::kProcStop:
      case Event::kProcTaken:
        return ProcChanges(event);
      case Event::kThreadSleep:
        return BeginThread(event.m, event.at, MState::kAsleep, -1);
      case Event::kPollSleep:
        return BeginThread(event.m, event.at, MState::kPolling, -1);
      case Event::kThreadWake:
      case Event::kPollWake:
      case Event::kThreadEnd:
        return BeginThread(event.m, event.at, MState::kElsewhere, -1);
      case Event::kGapBegin:
      case Event::kGapEnd:
        return Gap(event);
      default:
        return;
    }
  }

  void Finish() {
    // By number, so that the same trace gives the same spans.
    std::vector<uint64_t> ids;
    for (const auto& [id, g] : goroutines_) ids.push_back(id);
    std::sort(ids.begin(), ids.end());
    for (const uint64_t id : ids) End(goroutines_[id], trace_.length);
    for (auto& [number, proc] : procs_) {
      proc.span.end = trace_.length;
      proc.span.left = Event::kNone;
      if (proc.span.end > proc.span.begin) sink_.Proc(proc.span);
    }
    for (auto& [number, thread] : threads_) {
      thread.span.end = trace_.length;
      if (thread.span.end > thread.span.begin && thread.span.state != MState::kElsewhere) {
        sink_.Thread(thread.span);
      }
    }
  }

  const RecordedTrace& trace_;
  SpanSink& sink_;
  SpanCounts counts_;
  std::unordered_map<uint64_t, Goroutine> goroutines_;
  std::map<int, Proc> procs_;
  std::map<int64_t, Thread> threads_;
  int gaps_open_ = 0;
  int64_t last_gap_ = -1;
};

}  // namespace

SpanCounts BuildSpans(const RecordedTrace& trace, SpanSink& sink) {
  return Builder(trace, sink).Build();
}

}  // namespace weft::debug::internal
