// What is recorded of a program under load: every goroutine's states follow each other, by a
// checker of its own, and the spans that are made of them leave nothing out.
#include "debug/internal/trace_states.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "debug/internal/trace_recorder.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/events.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "tests/rounds.h"

namespace weft::debug::internal {
namespace {

using weft::internal::Event;
using weft::testing::ForEachMaxProcs;
using weft::testing::Rounds;
using weft::testing::Shortened;

constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
// For what a load brings about sooner or later.
constexpr absl::Duration kPatience = absl::Seconds(30);

// --- the load ---

void ComputeFor(absl::Duration duration) {
  const Instant end = Instant::Now() + duration;
  while (Instant::Now() < end) {
  }
}

// Goroutines and a thread that do everything that has events of its own, until it is destroyed.
class Load {
 public:
  Load() {
    for (int i = 0; i < 2; ++i) {
      Chan<int> there(0);
      Chan<int> back(0);
      Run([this, there, back] {
        for (int n = 0; !stop_; ++n) {
          there.Send(n);
          back.Recv();
        }
        there.Close();
      });
      Run([there, back] {
        for (const int n : there) back.Send(n);
      });
    }
    Run([this] {
      while (!stop_) {
        WaitGroup some;
        for (int i = 0; i < 20; ++i) {
          some.Add(1);
          Go([&some] { some.Done(); });
        }
        some.Wait();
        Sleep(absl::Microseconds(100));
      }
    });
    Run([this] {
      while (!stop_) Yield();
    });
    Run([this] {
      while (!stop_) Sleep(absl::Microseconds(50));
    });
    Run([this] {
      while (!stop_) {
        {
          const BlockingSection section;
          usleep(100);
        }
        {
          const BlockingSection section(BlockingSection::Expect::kLong);
          usleep(50);
          const BlockingSection inner(BlockingSection::Expect::kLong);
          // Inside the runtime, where its P is needed.
          Yield();
        }
      }
    });
    Run([this] {
      while (!stop_) {
        usleep(300);
        Yield();
      }
    });
    Run([this] {
      while (!stop_) ComputeFor(absl::Milliseconds(1));
    });
    Run([this] {
      while (!stop_) {
        ComputeFor(absl::Milliseconds(12));
        Yield();
      }
    });
    Run([this] {
      LockOSThread();
      while (!stop_) Sleep(absl::Microseconds(200));
      UnlockOSThread();
    });
    Chan<int> from_thread(0);
    Run([from_thread] {
      for ([[maybe_unused]] const int n : from_thread) {
      }
    });
    thread_ = std::thread([this, from_thread] {
      for (int n = 0; !stop_; ++n) {
        from_thread.Send(n);
        Go([] {});
        usleep(100);
      }
      from_thread.Close();
    });
  }

  ~Load() {
    stop_ = true;
    thread_.join();
    running_.Wait();
  }

 private:
  template <typename Fn>
  void Run(Fn fn) {
    running_.Add(1);
    Go([this, fn] {
      fn();
      running_.Done();
    });
  }

  std::atomic<bool> stop_{false};
  WaitGroup running_;
  std::thread thread_;
};

// --- the checker ---

// By events alone, and with no mercy: a state that is known allows only what follows it.
class Checker {
 public:
  // Returns how many events of goroutines there were.
  uint64_t Check(const RecordedTrace& trace) {
    for (const TraceEvent& event : trace.events) {
      EXPECT_GE(event.at, at_);
      EXPECT_LE(event.at, trace.length);
      at_ = event.at;
      Apply(event);
      if (::testing::Test::HasFailure()) {
        ADD_FAILURE() << "at event " << (&event - trace.events.data()) << " of "
                      << trace.events.size();
        break;
      }
    }
    return count_;
  }

  // How often each kind was seen.
  const std::map<Event, uint64_t>& kinds() const { return kinds_; }

 private:
  enum State { kUnknown, kRunnable, kRunning, kWaiting, kNoP, kInPlace, kGone };
  struct G {
    State state = kUnknown;
    bool turn_known = false;
    uint16_t turn = 0;
  };

  void Is(const TraceEvent& event, uint64_t id, std::initializer_list<State> allowed, State next) {
    ++count_;
    G& g = goroutines_[id];
    if (g.state != kUnknown) {
      EXPECT_TRUE(std::find(allowed.begin(), allowed.end(), g.state) != allowed.end())
          << "goroutine " << id << " in state " << g.state << " has event "
          << static_cast<int>(event.head.event);
    }
    g.state = next;
  }

  // Each time that it leaves a thread is counted, and all other events name the last.
  void Turn(uint64_t id, uint16_t turn, bool left) {
    G& g = goroutines_[id];
    if (g.turn_known) {
      EXPECT_EQ(turn, static_cast<uint16_t>(g.turn + (left ? 1 : 0))) << "goroutine " << id;
    }
    g.turn_known = true;
    g.turn = turn;
  }

  void Apply(const TraceEvent& event) {
    ++kinds_[event.head.event];
    switch (event.head.event) {
      case Event::kCreate:
        EXPECT_EQ(goroutines_.count(event.g), 0u) << event.g << " is created twice";
        Is(event, event.g, {}, kRunnable);
        return Turn(event.g, event.head.turn, false);
      case Event::kStart:
        Is(event, event.g, {kRunnable}, kRunning);
        return Turn(event.g, event.head.turn, false);
      case Event::kPark:
      case Event::kYield:
      case Event::kPreempt:
      case Event::kLostP:
      case Event::kEnd: {
        const State next = event.head.event == Event::kPark  ? kWaiting
                           : event.head.event == Event::kEnd ? kGone
                                                             : kRunnable;
        Is(event, event.g, {event.head.event == Event::kLostP ? kNoP : kRunning}, next);
        Turn(event.g, event.head.turn, true);
        if (event.other == 0) return;
        Is(event, event.other, {kRunnable}, kRunning);
        return Turn(event.other, event.head.other_turn, false);
      }
      case Event::kUnpark:
        Is(event, event.g, {kWaiting}, kRunnable);
        return Turn(event.g, event.head.turn, false);
      case Event::kBlockingBegin:
      case Event::kBlockingEnd:
        return Is(event, event.g, {kRunning}, kRunning);
      case Event::kWaitInPlace:
        return Is(event, event.g, {kNoP}, kInPlace);
      case Event::kProcStart:
        HasP(event.m, event.head.p);
        if (event.g != 0) Is(event, event.g, {kNoP, kInPlace}, kRunning);
        return;
      case Event::kProcStop:
        LosesP(event.m, event.head.p);
        if (event.g != 0) Is(event, event.g, {kRunning}, kNoP);
        return;
      case Event::kProcTaken:
        LosesP(static_cast<int64_t>(event.other), event.head.p);
        EXPECT_NE(event.g, 0u);
        return Is(event, event.g, {kRunning}, kNoP);
      default:
        return;
    }
  }

  void HasP(int64_t m, uint16_t p) {
    const auto [holder, is_new] = holders_.insert({p, m});
    EXPECT_TRUE(is_new || holder->second == -1)
        << "P" << p << " is held by M" << holder->second << " and M" << m;
    holder->second = m;
  }

  void LosesP(int64_t m, uint16_t p) {
    const auto [holder, is_new] = holders_.insert({p, m});
    EXPECT_TRUE(is_new || holder->second == m) << "P" << p << " is not M" << m << "'s";
    holder->second = -1;
  }

  std::map<uint64_t, G> goroutines_;
  std::map<uint16_t, int64_t> holders_;
  std::map<Event, uint64_t> kinds_;
  uint64_t count_ = 0;
  int64_t at_ = 0;
};

// Of each goroutine and each P the spans follow each other without a break, and a goroutine that
// runs with a P is what that P's span says.
class SpanChecker final : public SpanSink {
 public:
  void Goroutine(const GoroutineSpan& span) override {
    EXPECT_LE(span.begin, span.end);
    const auto [end, is_new] = goroutine_ends_.insert({span.g, span.end});
    if (!is_new) {
      EXPECT_EQ(end->second, span.begin) << "goroutine " << span.g;
      end->second = span.end;
    }
    if (span.p >= 0) {
      EXPECT_TRUE(span.state == GState::kRunning || span.state == GState::kBlocking);
      with_p_[span.p] += span.end - span.begin;
    }
  }

  void Proc(const ProcSpan& span) override {
    const auto [end, is_new] = proc_ends_.insert({span.p, span.end});
    if (is_new) {
      EXPECT_EQ(span.begin, 0) << "P" << span.p;
    } else {
      EXPECT_EQ(end->second, span.begin) << "P" << span.p;
      end->second = span.end;
    }
    sums_[span.p] += span.end - span.begin;
    if (span.state == PState::kGoroutine) busy_[span.p] += span.end - span.begin;
  }

  void Thread(const ThreadSpan& span) override { EXPECT_LT(span.begin, span.end); }
  void EventSeen(const TraceEvent&) override {}

  void CheckSums(const RecordedTrace& trace) {
    for (const auto& [p, sum] : sums_) EXPECT_EQ(sum, trace.length) << "P" << p;
    for (const auto& [p, busy] : busy_) EXPECT_EQ(busy, with_p_[p]) << "P" << p;
  }

 private:
  std::map<uint64_t, int64_t> goroutine_ends_;
  std::map<int, int64_t> proc_ends_;
  std::map<int, int64_t> sums_;
  std::map<int, int64_t> busy_;
  std::map<int, int64_t> with_p_;
};

void CheckSpans(const RecordedTrace& trace, bool may_have_gaps = false) {
  SpanChecker spans;
  const SpanCounts counts = BuildSpans(trace, spans);
  EXPECT_EQ(counts.inconsistent, 0u);
  if (may_have_gaps) return;
  EXPECT_EQ(counts.gaps, 0u);
  spans.CheckSums(trace);
}

void ChangeProcs() {
  const int before = MaxProcs();
  SetMaxProcs(before + 1);
  Sleep(absl::Milliseconds(1));
  SetMaxProcs(before);
}

// Checks a trace of some of the load, and counts its events by kind.
void TraceLoad(std::map<Event, uint64_t>& kinds) {
  const Load load;
  StartRecorder({.bytes = size_t{256} << 20, .events_per_second = 0});
  for (int i = 0; i < 3; ++i) {
    Sleep(Shortened(absl::Milliseconds(15)));
    ChangeProcs();
  }
  const RecordedTrace trace = StopRecorder(kAll);
  EXPECT_FALSE(trace.beginning_lost);
  Checker checker;
  EXPECT_GT(checker.Check(trace), 0u);
  for (const auto& [kind, count] : checker.kinds()) kinds[kind] += count;
  CheckSpans(trace);
}

TEST(TraceStatesTest, FollowEachOtherUnderLoad) {
  std::map<Event, uint64_t> kinds;
  ForEachMaxProcs([&] { TraceLoad(kinds); });
  if (weft::testing::Repeated()) return;
  // Everything that has an event comes, sooner or later.
  constexpr Event kAllKinds[] = {
      Event::kCreate,       Event::kStart,       Event::kPark,       Event::kYield,
      Event::kEnd,          Event::kUnpark,      Event::kLostP,      Event::kBlockingBegin,
      Event::kBlockingEnd,  Event::kProcStart,   Event::kProcStop,   Event::kProcTaken,
      Event::kTimers,       Event::kThreadSleep, Event::kThreadWake, Event::kStopWorld,
      Event::kWorldStopped, Event::kStartWorld,  Event::kMaxProcs};
  const auto missing = [&] {
    return std::count_if(std::begin(kAllKinds), std::end(kAllKinds),
                         [&](Event kind) { return kinds[kind] == 0; });
  };
  EXPECT_TRUE(weft::testing::Eventually([&] {
    if (missing() > 0 && !::testing::Test::HasFailure()) TraceLoad(kinds);
    return missing() == 0 || ::testing::Test::HasFailure();
  }));
}

TEST(TraceStatesTest, FollowEachOtherWhereverTheTraceBeginsAndEnds) {
  ForEachMaxProcs([] {
    const Load load;
    for (int i = 0; i < Rounds(30); ++i) {
      StartRecorder({.bytes = size_t{64} << 20, .events_per_second = 0});
      Sleep(absl::Microseconds(50 * (i % 5)));
      const RecordedTrace trace = StopRecorder(kAll);
      Checker checker;
      checker.Check(trace);
      CheckSpans(trace);
      if (::testing::Test::HasFailure()) return;
    }
  });
}

TEST(TraceStatesTest, WhatThereIsRoomForIsAWholeEndOfTheHistory) {
  ForEachMaxProcs([] {
    const Load load;
    StartRecorder({.bytes = 256 << 10, .events_per_second = 0});
    // Collecting does not end it, nor lose what comes meanwhile.
    const Instant deadline = Instant::Now() + kPatience;
    bool lost = false;
    for (int i = 0; i < Rounds(10, 2) || (!lost && Instant::Now() < deadline); ++i) {
      Sleep(Shortened(absl::Milliseconds(20)));
      const RecordedTrace trace = CollectRecorded(kAll);
      lost = trace.beginning_lost;
      EXPECT_GT(trace.length, 0);
      Checker checker;
      checker.Check(trace);
      CheckSpans(trace);
      // What lies in it, whenever it began.
      const RecordedTrace last = CollectRecorded(500'000);
      EXPECT_LE(last.length, 500'000);
      Checker of_last;
      of_last.Check(last);
      CheckSpans(last);
    }
    const RecordedTrace trace = StopRecorder(kAll);
    EXPECT_TRUE(trace.beginning_lost);
    Checker checker;
    checker.Check(trace);
    CheckSpans(trace);
  });
}

TEST(TraceStatesTest, ThreadsWithMoreThanTheirShareOfEventsHaveGaps) {
  ForEachMaxProcs([] {
    const Load load;
    StartRecorder({.bytes = size_t{64} << 20, .events_per_second = 5'000});
    const Instant deadline = Instant::Now() + kPatience;
    const auto has_gaps = [](const RecordedTrace& trace) {
      return std::any_of(trace.events.begin(), trace.events.end(), [](const TraceEvent& event) {
        return event.head.event == Event::kGapBegin;
      });
    };
    do {
      Sleep(Shortened(absl::Milliseconds(100)));
      ChangeProcs();
    } while (!has_gaps(CollectRecorded(kAll)) && Instant::Now() < deadline);
    // What begins in gaps that end in it, and what lies within them.
    for (int i = 0; i < Rounds(20); ++i) {
      Sleep(absl::Milliseconds(1));
      CheckSpans(CollectRecorded(2'000'000), /*may_have_gaps=*/true);
    }
    const RecordedTrace trace = StopRecorder(kAll);
    EXPECT_TRUE(has_gaps(trace));
    CheckSpans(trace, /*may_have_gaps=*/true);
    // They are not the next recording's.
    StartRecorder({.bytes = size_t{64} << 20, .events_per_second = 0});
    CheckSpans(StopRecorder(kAll));
  });
}

}  // namespace
}  // namespace weft::debug::internal
