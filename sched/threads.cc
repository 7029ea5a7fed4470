// The threads of the Ms: made when there is a P to run and no M that sleeps, put to sleep when
// there is none, woken with a P in hand, and ended when they have not been needed for long.
//
// An M that sleeps is in Sched::idle_ms, or somebody has it in hand (ObtainM), or it waits for one
// goroutine (bound.cc). It is woken by a P in next_p and 1 in its wake word, in that order, by the
// one who has it in hand or whom that goroutine was left to; so there is one waker at a time. With
// null in place of a P it ends.
//
// The list is last in, first out: who sleeps at its bottom has not been needed for longest. An M
// that comes when kKept others sleep already does so for kIdleFor at most; it may end only if it is
// still in the list then, for else its waker is on the way. Its structure is used again for the
// next thread.
//
// There may be no M that sleeps for a P, and no thread to be had for another one: all that there
// may be are in use, or the system refuses. Then the P, with what is in its queue, is idle, beside
// work that nobody was woken for, and waits for a thread of those that there are. So who puts it on
// the idle list says that a spinner is needed (Sched::need_spinning), and
// - looks under the same lock whether an M has come to sleep meanwhile; one that comes later finds
//   under that lock that it is needed, and takes the P instead;
// - then looks whether one waits in the poller, and ends that wait; one that is about to says so
//   (Sched::last_poll) before it looks whether it is needed;
// and who had an M in hand, or makes room for another thread, looks when that is done.
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "sched/fatal.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/internal/emit.h"
#include "sched/internal/fatal_report.h"
#include "sched/internal/futex.h"
#include "sched/internal/numa.h"
#include "sched/internal/runtime.h"
#include "sched/internal/signal_mask.h"
#include "stack/morestack.h"

namespace weft::internal {
namespace {

constexpr size_t kSchedulerStackBytes = 512 << 10;

// So many Ms beyond two for each P may sleep for ever, and others for this long. To make one takes
// 30 us, so bursts that are further apart do not notice.
constexpr int kKeptBeyond = 16;
constexpr absl::Duration kIdleFor = absl::Seconds(5);
// How often EndMs() looks whether they have come.
constexpr absl::Duration kLookAgain = absl::Microseconds(50);

int Kept() { return 2 * sched.p_count.load(std::memory_order_relaxed) + kKeptBeyond; }

// Sleeps until the word is 1, and makes it 0; false at the deadline.
bool SleepOn(std::atomic<uint32_t>& word, Instant deadline = Instant::Never()) {
  // Acquire: pairs with WakeOn(), for next_p and the like.
  while (word.load(std::memory_order_acquire) == 0) {
    if (!deadline.IsNever() && Instant::Now() >= deadline) return false;
    FutexWait(word, 0, deadline);
  }
  word.store(0, std::memory_order_relaxed);
  return true;
}

void WakeOn(std::atomic<uint32_t>& word) {
  word.store(1, std::memory_order_release);
  FutexWake(word, 1);
}

void PushIdleM(M* m) ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock) {
  m->is_idle.store(true, std::memory_order_relaxed);
  m->previous_idle = nullptr;
  m->next_idle = sched.idle_ms;
  if (sched.idle_ms != nullptr) sched.idle_ms->previous_idle = m;
  sched.idle_ms = m;
  sched.idle_m_count.fetch_add(1, std::memory_order_relaxed);
}

void UnlinkIdleM(M* m) ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock) {
  (m->previous_idle != nullptr ? m->previous_idle->next_idle : sched.idle_ms) = m->next_idle;
  if (m->next_idle != nullptr) m->next_idle->previous_idle = m->previous_idle;
  m->is_idle.store(false, std::memory_order_relaxed);
  sched.idle_m_count.fetch_sub(1, std::memory_order_relaxed);
}

// The latest, or, of so many latest, the first that runs on these processors already: to change
// them takes longer than to look.
constexpr int kLooksForAffinity = 16;

M* PopIdleM(int16_t affinity) ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock) {
  M* m = sched.idle_ms;
  if (m == nullptr) return nullptr;
  M* better = m;
  for (int i = 0; i < kLooksForAffinity && better != nullptr; ++i, better = better->next_idle) {
    if (better->affinity == affinity) {
      m = better;
      break;
    }
  }
  UnlinkIdleM(m);
  return m;
}

// The same, or an M for a thread that is still to be made, counted already. Null: there are as many
// threads as there may be.
M* PopIdleOrFreeM(int16_t affinity, bool* needs_thread) ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock) {
  *needs_thread = false;
  if (M* m = PopIdleM(affinity); m != nullptr) return m;
  // And the monitor's.
  if (sched.m_count.load(std::memory_order_relaxed) + 1 >=
      sched.max_threads.load(std::memory_order_relaxed)) {
    return nullptr;
  }
  sched.m_count.fetch_add(1, std::memory_order_relaxed);
  *needs_thread = true;
  M* m = sched.free_ms;
  if (m == nullptr) {
    m = NewM();
  } else {
    sched.free_ms = m->next_idle;
  }
  m->affinity = InitialAffinity();
  return m;
}

// Sleeps until the M is given a P, which it then has. False: it is to end.
bool AwaitPUntil(M* m, Instant deadline) {
  EmitOfM(m, Event::kThreadSleep);
  while (!SleepOn(m->wake, deadline)) {
    WEFT_DELAY_POINT("threads.idle_for_long");
    LockGuard guard(sched.lock);
    // Once out of the list it is somebody else's, who will wake it.
    if (m->is_idle.load(std::memory_order_relaxed) &&
        sched.idle_m_count.load(std::memory_order_relaxed) > Kept()) {
      UnlinkIdleM(m);
      return false;
    }
    deadline = Instant::Never();
  }
  EmitOfM(m, Event::kThreadWake);
  if (m->next_p == nullptr) return false;
  AcquireP(m, m->next_p);
  return true;
}

void* ThreadMain(void* arg) {
  M* m = static_cast<M*>(arg);
  prctl(PR_SET_NAME, "weft-m");
  EnterM(m);
  // The program's: goroutines must not find signals blocked, nor hand that on to their children.
  pthread_sigmask(SIG_SETMASK, &sched.signal_mask, nullptr);
  if (AwaitP(m)) RunScheduler(m);
  BlockAllSignals();
  LeaveM(m);
  return nullptr;
}

// A thread for an M that has none; it sleeps. False: the system refuses, and the M is free again.
bool MakeThread(M* m) {
  ProfileNewThread();
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, kSchedulerStackBytes);
  int error = 0;
  {
    AllSignalsBlocked blocked;
    pthread_t thread;
    error = pthread_create(&thread, &attr, ThreadMain, m);
  }
  pthread_attr_destroy(&attr);
  if (error == 0) return true;
  LockGuard guard(sched.lock);
  m->next_idle = sched.free_ms;
  sched.free_ms = m;
  if (sched.m_count.fetch_sub(1, std::memory_order_relaxed) == 1) {
    std::fprintf(stderr, "weft: cannot create the first scheduler thread: %s\n",
                 std::strerror(error));
    _exit(2);
  }
  return false;
}

// After an M has become idle, or another thread may be had.
void WakePThatWaitsForThread() {
  if (sched.idle_p_count.load(std::memory_order_seq_cst) > 0 &&
      sched.need_spinning.load(std::memory_order_seq_cst)) {
    WakeP();
  }
}

// For a P that StartM() has no M for: it is idle, see the top of this file. But if an M has come to
// sleep meanwhile, that is taken off the list, to be given the P.
M* LeaveIdle(P* p, bool spinning) {
  WEFT_DELAY_POINT("threads.none");
  {
    LockGuard guard(sched.lock);
    const bool stopping = sched.stopping.load(std::memory_order_relaxed);
    if (stopping) {
      // Who starts the world again looks for work itself.
      GiveToStopper(p);
    } else {
      if (M* m = PopIdleM(p->affinity.load(std::memory_order_relaxed)); m != nullptr) return m;
      PushIdleP(p);
      // Before it no longer counts as spinning, see BecomeSpinning().
      sched.need_spinning.store(true, std::memory_order_seq_cst);
    }
    // With the lock: who looks for work on the strength of what was said above must not have given
    // up by the time that others cease to rely on this one.
    if (spinning) sched.spinning.fetch_sub(1, std::memory_order_seq_cst);
    if (stopping) return nullptr;
  }
  if (sched.last_poll.load(std::memory_order_seq_cst) == 0) {
    sched.poller.load(std::memory_order_acquire)->Break();
  }
  return nullptr;
}

bool AtThreadLimit() {
  return sched.m_count.load(std::memory_order_relaxed) + 1 >=
         sched.max_threads.load(std::memory_order_relaxed);
}

[[noreturn]] void ThreadsExhausted() {
  if (!ClaimFatalReport()) HangForReport();
  PrintReportPreamble();
  if (AtThreadLimit()) {
    WriteReport(absl::StrCat("runtime: program exceeds ",
                             sched.max_threads.load(std::memory_order_relaxed),
                             "-thread limit\nfatal error: thread exhaustion\n\n"));
  } else {
    WriteReport("runtime: the system refuses another thread\nfatal error: thread exhaustion\n\n");
  }
  PrintAllGoroutines(STDERR_FILENO);
  EndProcess();
}

}  // namespace

M::M() {
  runs_goroutines = true;
  attn.store(InitialAttention(), std::memory_order_relaxed);
  in_runtime.store(1, std::memory_order_relaxed);
  static std::atomic<int64_t> next_id{0};
  id = next_id.fetch_add(1, std::memory_order_relaxed);
  random = static_cast<uint32_t>(id) * 2654435761u | 1;
}

M* NewM() {
  M* m = new M;
  m->next_all = sched.all_ms.load(std::memory_order_relaxed);
  m->events.m = m->id;
  m->events.wanted.store(events_wanted.load(std::memory_order_relaxed), std::memory_order_relaxed);
  // Release: whoever walks the list sees the M whole.
  sched.all_ms.store(m, std::memory_order_release);
  return m;
}

void EnterM(M* m) {
  m->tid.store(static_cast<int32_t>(syscall(SYS_gettid)), std::memory_order_relaxed);
  m->context = stack::Context();
  m->exceptions = ThisThreadsExceptions();
  stack::HoldFpControl(m->context);
  stack::SetThreadContext(&m->context);
  // The default slack would make every timed wait up to 50 us late.
  prctl(PR_SET_TIMERSLACK, 1);
  m->signal_stack.emplace().Install();
  {
    LockGuard guard(m->lock);
    if (stack::kHasGuardWord) m->guard_word = stack::GuardWord();
  }
  SetThisThread(m);
  EmitOfM(m, Event::kThreadStart);
}

void LeaveM(M* m) {
  {
    // Now, so that the next line may make another one.
    LockGuard guard(sched.lock);
    sched.m_count.fetch_sub(1, std::memory_order_relaxed);
    ++sched.leaving_ms;
  }
  if (m->p.load(std::memory_order_relaxed) != nullptr) {
    HandOffP(ReleaseP(m), /*spare=*/nullptr, NoThread::kFatal);
  }
  WakePThatWaitsForThread();
  EmitOfM(m, Event::kThreadEnd);
  // What destructors of thread_locals do from here on they do on a plain thread.
  SetThisThread(nullptr);
  stack::SetThreadContext(nullptr);
  m->signal_stack.reset();
  {
    LockGuard guard(m->lock);
    // A request that nobody has answered must not wait for the next thread that has this memory:
    // libc hands it on as it is. With the lock, under which requests are made.
    if (m->guard_word != nullptr) __atomic_store_n(m->guard_word, 0, __ATOMIC_RELAXED);
    m->guard_word = nullptr;
    m->attn.store(InitialAttention(), std::memory_order_relaxed);
  }
  m->tid.store(0, std::memory_order_relaxed);
  m->ends = false;
  LockGuard guard(sched.lock);
  --sched.leaving_ms;
  if (sched.ending_ms) {
    m->thread = pthread_self();
    m->next_idle = sched.ended_ms;
    sched.ended_ms = m;
  } else {
    pthread_detach(pthread_self());
    m->next_idle = sched.free_ms;
    sched.free_ms = m;
  }
}

bool StopM(M* m) {
  WEFT_DELAY_POINT("threads.stop");
  Instant deadline = Instant::Never();
  P* p = nullptr;
  {
    LockGuard guard(sched.lock);
    if (sched.need_spinning.load(std::memory_order_relaxed) &&
        !sched.stopping.load(std::memory_order_relaxed)) {
      p = PopIdleP(NearNode());
    }
    if (p == nullptr) {
      if (sched.idle_m_count.load(std::memory_order_relaxed) >= Kept() && !m->is_main_thread) {
        deadline = Instant::Now() + kIdleFor;
      }
      PushIdleM(m);
    }
  }
  if (p == nullptr) return AwaitPUntil(m, deadline);
  AcquireP(m, p);
  BecomeSpinning(m);
  return true;
}

bool AwaitP(M* m) { return AwaitPUntil(m, Instant::Never()); }

void GivePTo(M* m, P* p) {
  m->next_p = p;
  WakeOn(m->wake);
}

M* ObtainM(int16_t affinity) {
  M* m;
  bool needs_thread;
  {
    LockGuard guard(sched.lock);
    m = PopIdleOrFreeM(affinity, &needs_thread);
  }
  if (m == nullptr || (needs_thread && !MakeThread(m))) return nullptr;
  return m;
}

void ReturnM(M* m) {
  {
    LockGuard guard(sched.lock);
    PushIdleM(m);
  }
  WakePThatWaitsForThread();
}

void EndMs() {
  for (;;) {
    M* m;
    bool all_left;
    {
      LockGuard guard(sched.lock);
      sched.ending_ms = true;
      m = PopIdleM(kEveryCpu);
      all_left = sched.m_count.load(std::memory_order_relaxed) == 0 && sched.leaving_ms == 0;
    }
    if (all_left) break;
    if (m != nullptr) {
      GivePTo(m, nullptr);
    } else {
      // One waits for events, or is on its way to sleep, or to its end.
      sched.poller.load(std::memory_order_acquire)->Break();
      absl::SleepFor(kLookAgain);
    }
  }
  M* ended;
  {
    LockGuard guard(sched.lock);
    sched.ending_ms = false;
    ended = std::exchange(sched.ended_ms, nullptr);
  }
  while (M* m = ended) {
    ended = m->next_idle;
    // Without the lock: destructors of thread_locals may start goroutines.
    pthread_join(m->thread, nullptr);
    LockGuard guard(sched.lock);
    m->next_idle = sched.free_ms;
    sched.free_ms = m;
  }
}

void StartM(P* p, bool spinning, M* spare, NoThread otherwise) {
  M* m = spare;
  bool needs_thread = false;
  {
    LockGuard guard(sched.lock);
    if (p == nullptr) {
      p = sched.stopping.load(std::memory_order_relaxed) ? nullptr : PopIdleP(NearNode());
      if (p == nullptr) {
        if (spinning) {
          // Others may have relied on the one that was to spin. Whoever puts a P on the idle list
          // next takes its place.
          sched.need_spinning.store(true, std::memory_order_seq_cst);
          sched.spinning.fetch_sub(1, std::memory_order_seq_cst);
        }
        return;
      }
    }
    if (m == nullptr)
      m = PopIdleOrFreeM(p->affinity.load(std::memory_order_relaxed), &needs_thread);
  }
  if (m == nullptr || (needs_thread && !MakeThread(m))) {
    if (otherwise == NoThread::kFatal) ThreadsExhausted();
    m = LeaveIdle(p, spinning);
    if (m == nullptr) return;
  }
  m->spinning.store(spinning, std::memory_order_relaxed);
  GivePTo(m, p);
}

}  // namespace weft::internal

namespace weft {

int SetMaxThreads(int n) {
  using internal::sched;
  internal::EnsureStarted();
  if (n < 1) return sched.max_threads.load(std::memory_order_relaxed);
  const int old = sched.max_threads.exchange(n, std::memory_order_relaxed);
  if (sched.m_count.load(std::memory_order_relaxed) + 1 > n) internal::ThreadsExhausted();
  const internal::RuntimeSection section;
  internal::WakePThatWaitsForThread();
  return old;
}

}  // namespace weft
