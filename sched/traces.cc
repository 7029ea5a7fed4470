#include "sched/traces.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "sched/goroutine.h"
#include "sched/internal/futex.h"
#include "sched/internal/lock_holders.h"
#include "sched/internal/runtime.h"
#include "stack/arch.h"
#include "stack/traceback.h"

namespace weft {
namespace {

using internal::G;
using internal::GStatus;
using internal::LockGuard;
using internal::M;
using internal::sched;

// --- how long they have waited ---

struct Wait {
  uint16_t turns;
  Instant since;
  uint32_t seen;         // in that look
  bool counted = false;  // as a long one
};

internal::Lock waits_lock;
std::unordered_map<const G*, Wait>& Waits() ABSL_EXCLUSIVE_LOCKS_REQUIRED(waits_lock) {
  static auto* waits = new std::unordered_map<const G*, Wait>;
  return *waits;
}
uint32_t looks ABSL_GUARDED_BY(waits_lock) = 0;

bool IsWaiting(const G* g) {
  return g->status.load(std::memory_order_acquire) == GStatus::kWaiting;
}

absl::Duration WaitingFor(const G* g, Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(waits_lock) {
  const auto found = Waits().find(g);
  if (found == Waits().end() || found->second.turns != g->turns.load(std::memory_order_relaxed)) {
    return absl::ZeroDuration();
  }
  return now - found->second.since;
}

// --- those that run ---

// What one thread is asked, and answers in its signal handler.
//
//   kIdle -> kAsked        by the asker, before the signal
//   kAsked -> kAnswering   by the handler; -> kDone by the handler
//   kAsked -> kIdle        by the asker, who gives up: a handler that comes later finds nothing
//   kDone -> kIdle         by the asker
//
// One thread is asked at a time, by who has stopped the world. A handler that comes late may answer
// for the thread that is asked next, if it has read asked_thread before that was changed: the
// answer has the goroutine's number, is not the one that was wanted, and the thread is asked again.
enum class Question : uint32_t { kIdle, kAsked, kAnswering, kDone };

std::atomic<Question> question{Question::kIdle};
std::atomic<uint32_t> answered{0};  // changes with each answer, for a futex
std::atomic<int32_t> asked_thread{0};
// Written by whoever is kAnswering.
stack::Trace answer;
uint64_t answer_id = 0;
internal::RunningStacks answer_stacks;

// What our handler has taken the place of, by signal.
std::atomic<const struct sigaction*> before_us[NSIG];

void PassOn(int signal, siginfo_t* info, void* context) {
  const struct sigaction* before = before_us[signal].load(std::memory_order_acquire);
  if (before == nullptr) return;
  if ((before->sa_flags & SA_SIGINFO) != 0) {
    before->sa_sigaction(signal, info, context);
  } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
    before->sa_handler(signal);
  }
}

void Answer(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  Question expected = Question::kAsked;
  // Acquire: pairs with the asker's release.
  if (asked_thread.load(std::memory_order_relaxed) == static_cast<int32_t>(syscall(SYS_gettid)) &&
      question.compare_exchange_strong(expected, Question::kAnswering, std::memory_order_acquire)) {
    const M* m = internal::ThisM();
    const G* g = m == nullptr ? nullptr : m->current.load(std::memory_order_relaxed);
    answer.count = 0;
    answer_id = 0;
    // In the middle of a switch the stack is not the goroutine's.
    if (g != nullptr && m->waiter == g) {
      answer_id = g->id.load(std::memory_order_relaxed);
      const auto state = stack::InterruptedState(*static_cast<const ucontext_t*>(context));
      stack::GetSampledTrace(state, g->stack.context, answer);
      answer_stacks = {answer_id, state.sp, internal::PinnedStackPointer()};
    }
    question.store(Question::kDone, std::memory_order_release);
    answered.fetch_add(1, std::memory_order_release);
    internal::FutexWake(answered, 1);
  } else {
    PassOn(signal, info, context);
  }
  errno = saved;
}

void Install(int signal) {
  if (before_us[signal].load(std::memory_order_relaxed) != nullptr) return;
  auto* before = new struct sigaction;
  struct sigaction ours = {};
  ours.sa_sigaction = Answer;
  // On the thread's signal stack: a goroutine's may have little room left.
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigfillset(&ours.sa_mask);
  // Faults of the stack's own, by which it grows, come in handlers too.
  sigdelset(&ours.sa_mask, SIGSEGV);
  sigdelset(&ours.sa_mask, SIGBUS);
  sigaction(signal, nullptr, before);
  before_us[signal].store(before, std::memory_order_release);
  sigaction(signal, &ours, nullptr);
}

// Has the thread say where its goroutine is, in `answer`. False: it did not in time.
bool Ask(const M* m, int signal, Instant until) {
  const int32_t tid = m->tid.load(std::memory_order_relaxed);
  if (tid == 0) return false;
  asked_thread.store(tid, std::memory_order_relaxed);
  const uint32_t seen = answered.load(std::memory_order_relaxed);
  question.store(Question::kAsked, std::memory_order_release);
  const bool sent = syscall(SYS_tgkill, getpid(), tid, signal) == 0;
  while (sent && question.load(std::memory_order_acquire) != Question::kDone &&
         Instant::Now() < until) {
    internal::FutexWait(answered, seen, until);
  }
  Question expected = Question::kAsked;
  // Nobody answers any more.
  if (question.compare_exchange_strong(expected, Question::kIdle, std::memory_order_acquire)) {
    return false;
  }
  // It is being answered: that ends by itself.
  while (question.load(std::memory_order_acquire) != Question::kDone) sched_yield();
  question.store(Question::kIdle, std::memory_order_relaxed);
  return true;
}

void SetFrames(const stack::Trace& from, GoroutineTrace& trace) {
  trace.frames.assign(from.pcs.begin(), from.pcs.begin() + static_cast<ptrdiff_t>(from.count));
  trace.elided = from.elided;
}

// The world is stopped: who is in no user code stays where it is.
void AddParked(std::vector<GoroutineTrace>& traces) ABSL_EXCLUSIVE_LOCKS_REQUIRED(waits_lock) {
  const Instant now = Instant::Now();
  stack::Trace frames;
  internal::ForEachG([&](const G* g) ABSL_EXCLUSIVE_LOCKS_REQUIRED(waits_lock) {
    const GStatus status = g->status.load(std::memory_order_acquire);
    if (status == GStatus::kIdle || status == GStatus::kDead) return;
    GoroutineTrace& trace = traces.emplace_back();
    trace.goroutine = internal::SnapshotOf(g);
    trace.labels = internal::LabelsOf(g);
    trace.creator = g->creator_id.load(std::memory_order_relaxed);
    const auto site = reinterpret_cast<uintptr_t>(g->creation_site.load(std::memory_order_relaxed));
    trace.created_at = site == 0 ? 0 : site - 1;
    if (status == GStatus::kWaiting) {
      trace.waiting = WaitingFor(g, now);
      trace.waits_for = internal::LockThatStops(g);
    }
    if (status == GStatus::kWaiting || status == GStatus::kRunnable) {
      if (g->stack.home != nullptr) {
        stack::GetTrace(g->stack.context, g->stack.block, frames);
        SetFrames(frames, trace);
      }
    } else {
      trace.unavailable = true;
    }
  });
}

// By number; null: it has none, or has ended.
GoroutineTrace* Find(std::vector<GoroutineTrace>& traces, const G* g) {
  if (g == nullptr) return nullptr;
  const uint64_t id = g->id.load(std::memory_order_relaxed);
  const auto found = std::lower_bound(
      traces.begin(), traces.end(), id,
      [](const GoroutineTrace& trace, uint64_t wanted) { return trace.goroutine.id < wanted; });
  return found == traces.end() || found->goroutine.id != id ? nullptr : &*found;
}

// Those that ran when they were looked at, and have parked since: in the runtime, for want of a P.
// False: there are others without frames.
bool AddParkedSince(std::vector<GoroutineTrace>& traces) {
  const auto lacks = [](const GoroutineTrace& trace) { return trace.unavailable; };
  if (std::none_of(traces.begin(), traces.end(), lacks)) return true;
  stack::Trace frames;
  internal::ForEachG([&](const G* g) {
    const GStatus status = g->status.load(std::memory_order_acquire);
    if (status != GStatus::kWaiting && status != GStatus::kRunnable) return;
    GoroutineTrace* trace = Find(traces, g);
    if (trace == nullptr || !trace->unavailable) return;
    const int64_t locked_m = trace->goroutine.locked_m;
    trace->goroutine = internal::SnapshotOf(g);
    trace->goroutine.locked_m = locked_m;
    if (status == GStatus::kWaiting) trace->waits_for = internal::LockThatStops(g);
    stack::GetTrace(g->stack.context, g->stack.block, frames);
    SetFrames(frames, *trace);
    trace->unavailable = false;
  });
  return std::none_of(traces.begin(), traces.end(), lacks);
}

// What the threads know: who is locked to them, and who runs.
void AddRunning(int signal, Instant until, std::vector<GoroutineTrace>& traces,
                std::vector<internal::RunningStacks>& running) {
  const M* const self = internal::ThisM();
  for (const M* m = sched.all_ms.load(std::memory_order_acquire); m != nullptr; m = m->next_all) {
    if (GoroutineTrace* locked = Find(traces, m->locked_g.load(std::memory_order_acquire))) {
      locked->goroutine.locked_m = m->id;
    }
    GoroutineTrace* trace = Find(traces, m->current.load(std::memory_order_acquire));
    if (trace == nullptr || !trace->unavailable) continue;
    trace->goroutine.m = m->id;
    if (m == self) {
      answer_id = trace->goroutine.id;
      stack::GetCurrentTrace(answer);
      answer_stacks = {answer_id, reinterpret_cast<uintptr_t>(__builtin_frame_address(0)),
                       internal::PinnedStackPointer()};
    } else if (signal == 0 || !Ask(m, signal, until)) {
      continue;
    }
    if (answer_id != trace->goroutine.id) continue;
    SetFrames(answer, *trace);
    trace->unavailable = false;
    running.push_back(answer_stacks);
  }
}

}  // namespace

int DefaultTraceSignal() { return SIGRTMIN + 8; }

std::vector<GoroutineTrace> GetGoroutineTraces(const TraceOptions& options) {
  internal::EnsureStarted();
  if (options.signal != 0) Install(options.signal);
  std::vector<GoroutineTrace> traces;
  traces.reserve(static_cast<size_t>(std::max<int64_t>(NumGoroutine(), 0)));
  if (!options.only_at_once) {
    internal::StopTheWorld();
  } else if (!internal::TryStopTheWorld()) {
    return traces;
  }
  {
    LockGuard guard(waits_lock);
    AddParked(traces);
  }
  std::sort(traces.begin(), traces.end(), [](const GoroutineTrace& a, const GoroutineTrace& b) {
    return a.goroutine.id < b.goroutine.id;
  });
  // Some may be on their way from running to being parked.
  const Instant until = Instant::Now() + options.limit;
  std::vector<internal::RunningStacks> running;
  AddRunning(options.signal, until, traces, running);
  while (!AddParkedSince(traces) && options.signal != 0 && Instant::Now() < until) {
    usleep(500);
    AddRunning(options.signal, until, traces, running);
  }
  if (options.locks) internal::AddHolders(running, traces);
  internal::StartTheWorld();
  return traces;
}

void NoteWaits() {
  const internal::RuntimeSection section;
  LockGuard guard(waits_lock);
  const Instant now = Instant::Now();
  ++looks;
  auto& waits = Waits();
  internal::ForEachG([&](const G* g) ABSL_EXCLUSIVE_LOCKS_REQUIRED(waits_lock) {
    if (!IsWaiting(g)) return;
    const uint16_t turns = g->turns.load(std::memory_order_relaxed);
    const auto [at, is_new] = waits.try_emplace(g, Wait{turns, now, looks});
    if (!is_new && at->second.turns != turns) at->second = {turns, now, looks};
    at->second.seen = looks;
  });
  for (auto at = waits.begin(); at != waits.end();) {
    at = at->second.seen == looks ? std::next(at) : waits.erase(at);
  }
}

bool IsIdleWait(absl::string_view wait_reason) {
  return wait_reason == WaitReasonName(WaitReason::kSleep) ||
         wait_reason == WaitReasonName(WaitReason::kIoWait);
}

int CountNewLongWaits(absl::Duration longer_than) {
  const internal::RuntimeSection section;
  LockGuard guard(waits_lock);
  const Instant now = Instant::Now();
  int count = 0;
  for (auto& [g, wait] : Waits()) {
    if (wait.counted || now - wait.since < longer_than || !IsWaiting(g) ||
        wait.turns != g->turns.load(std::memory_order_relaxed) ||
        IsIdleWait(WaitReasonName(g->wait_reason.load(std::memory_order_relaxed)))) {
      continue;
    }
    wait.counted = true;
    ++count;
  }
  return count;
}

}  // namespace weft
