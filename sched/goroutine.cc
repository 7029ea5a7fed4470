#include "sched/goroutine.h"

#include <cxxabi.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/base/attributes.h"
#include "sched/fatal.h"
#include "sched/internal/delay.h"
#include "sched/internal/emit.h"
#include "sched/internal/fatal_report.h"
#include "sched/internal/runtime.h"
#include "sched/sysmon.h"

namespace weft::internal {
namespace {

// Numbers a P takes at a time.
constexpr uint64_t kIdBlock = 16;
// How many free Gs go between a P and the shared ones at a time.
constexpr int kFreeGBlock = P::kMaxFreeGs / 2;

// What Exit() throws. Not derived from std::exception, so that only catch (...) sees it.
struct GoroutineExit {};

// Wakes the goroutine whose wait has reached its deadline.
void WaitTimerFired(CallbackTimer& timer) {
  // The timer is a member of a G at a fixed place; offsetof on a type with bases is conditionally
  // supported, and both our compilers do.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
  G* g = reinterpret_cast<G*>(reinterpret_cast<char*>(&timer) - offsetof(G, wait_timer));
#pragma GCC diagnostic pop
  g->Unpark();
}

// Free Gs into `out`, at least one: of the shared ones, or new ones.
int TakeFreeGs(G** out, int most) {
  {
    LockGuard guard(sched.lock);
    const uint32_t count = sched.free_gs.PopBack(out, static_cast<uint32_t>(most));
    if (count > 0) return static_cast<int>(count);
  }
  return MakeGs(out, most);
}

void Prefetch(const void* address) { __builtin_prefetch(address, /*rw=*/1); }

G* GetG(P* p) {
  if (p == nullptr) {
    G* g;
    TakeFreeGs(&g, 1);
    return g;
  }
  int count = p->free_g_count.load(std::memory_order_relaxed);
  if (count == 0) count = TakeFreeGs(p->free_gs, kFreeGBlock);
  G* g = p->free_gs[--count];
  p->free_g_count.store(count, std::memory_order_relaxed);
  if (count > 0) {
    // Spawns come in rows, and the next one's memory may have been untouched for long.
    const G* next = p->free_gs[count - 1];
    Prefetch(next);
    Prefetch(&next->closure);
    Prefetch(&next->id);
  }
  return g;
}

void PutG(P* p, G* g) {
  int count = p->free_g_count.load(std::memory_order_relaxed);
  p->free_gs[count++] = g;
  if (count == P::kMaxFreeGs) {
    count -= kFreeGBlock;
    LockGuard guard(sched.lock);
    sched.free_gs.PushBack(p->free_gs + count, kFreeGBlock);
  }
  p->free_g_count.store(count, std::memory_order_relaxed);
}

// Release: whoever finds by NumGoroutine() that a goroutine has ended sees what it has done.
void Count(std::atomic<uint64_t>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void AssignId(P* p, G* g) {
  if (p == nullptr) {
    LockGuard guard(sched.lock);
    g->id.store(sched.next_goroutine_id++, std::memory_order_relaxed);
    // Counted here, under the lock, as several threads may come at once.
    Count(sched.goroutines.started);
    return;
  }
  if (p->next_goroutine_id == p->last_goroutine_id) {
    LockGuard guard(sched.lock);
    p->next_goroutine_id = sched.next_goroutine_id;
    p->last_goroutine_id = sched.next_goroutine_id += kIdBlock;
  }
  g->id.store(p->next_goroutine_id++, std::memory_order_relaxed);
  Count(p->goroutines.started);
}

// On the next one's stack.
Remainder FinishGoroutine(M* m, G* g) {
  EmitLeft(m, g, Event::kEnd);
  P* p = m->p.load(std::memory_order_relaxed);
  g->status.store(GStatus::kDead, std::memory_order_relaxed);
  ReturnStacks(p, g);
  g->exceptions = ExceptionState();
  if (g->bound) [[unlikely]]
    EndLockedM(m, g);
  Count(p->goroutines.ended);
  PutG(p, g);
  return nullptr;
}

void EnqueueAtTail(M* m, G* g) { Enqueue(m, g, Place::kTail); }

void QueueAtTailSlowly(M* m, G* g) {
  EmitLeft(m, g, Event::kYield);
  LeaveSlot(m, g);
  g->status.store(GStatus::kRunnable, std::memory_order_release);  // see GStatus
  EnqueueAtTail(m, g);
}

Remainder QueueAtTail(M* m, G* g) {
  P* p = m->p.load(std::memory_order_relaxed);
  if (p == nullptr || WantsFrequent(m) || p->until_stamp == 1 || !LeaveSlotJustSo(p, g))
      [[unlikely]]
    return QueueAtTailSlowly;
  g->status.store(GStatus::kRunnable, std::memory_order_relaxed);
  // With one P there is nobody to wake for it.
  if (Sharing() != QueueSharing::kAlone || !p->run_queue.PutTail(g, QueueSharing::kAlone)) {
    return EnqueueAtTail;
  }
  --p->until_stamp;
  return nullptr;
}

// From inside a runtime section, or where somebody wants this thread's attention, or on a thread
// that runs no goroutine.
ABSL_ATTRIBUTE_NOINLINE void YieldSlowly() {
  if (ThisG() == nullptr) {
    sched_yield();
    return;
  }
  EnterRuntime();
  SwitchAwayAndLeave<QueueAtTail>();
}

// A runnable goroutine, not queued yet. `p` may be null.
G* NewG(P* p, const GoOptions& options, Closure&& closure) {
  G* g = GetG(p);
  AssignId(p, g);
  const G* creator = ThisG();
  g->creator_id.store(creator == nullptr ? 0 : creator->id.load(std::memory_order_relaxed),
                      std::memory_order_relaxed);
  g->creation_site.store(nullptr, std::memory_order_relaxed);
  g->name.store(PackedName(options.name), std::memory_order_relaxed);
  g->stack_class = options.stack_bytes == 0 ? stack::DefaultSizeClass()
                                            : stack::SizeClassFor(options.stack_bytes);
  g->stack.pinned_class = stack::PinnedClassFor(options.stack_bytes);
  g->runtime_depth = 0;
  g->blocking_sections = 0;
  if (creator != nullptr && creator->has_labels) [[unlikely]]
    InheritLabels(creator, g);
  g->closure = std::move(closure);
  // Release: who lists all goroutines, and acquires it, does not find who had this G before.
  g->status.store(GStatus::kRunnable, std::memory_order_release);
  return g;
}

// A goroutine's stack begins with these two, so they keep nothing there: who asks for the goroutine
// asks the thread, and a stack protector has nothing to protect where a frame holds no array.
#if defined(__has_attribute)
#if __has_attribute(no_stack_protector)
__attribute__((no_stack_protector))
#endif
#endif
WEFT_STACK_BASE __attribute__((noinline)) void
RunClosure() {
  try {
    ThisG()->closure();
  } catch (const GoroutineExit&) {
    // No catch (...): an exception that nobody takes must find no handler at all, so that the
    // terminate handler runs before anything is unwound and can show where it was thrown.
    if (ThisG() == nullptr) RefuseInChild();
    if constexpr (stack::kHasPinnedStack) stack::ResetPinnedStack(ThisG()->stack.pinned->hi);
  }
  if (ThisG() == nullptr) [[unlikely]]
    RefuseInChild();
  ThisG()->closure.Reset();
  if (ThisG()->has_labels) [[unlikely]]
    DropLabels();
}

}  // namespace

G::G() : Waiter(Kind::kGoroutine, scratch_space), wait_timer(WaitTimerFired) {}

ExceptionState* ThisThreadsExceptions() {
  static_assert(sizeof(ExceptionState) == 2 * sizeof(void*));
  return reinterpret_cast<ExceptionState*>(abi::__cxa_get_globals());
}

void GoroutineEntry(void*) {
  RunClosure();
  EnterRuntime();
  SwitchAwayForGood<FinishGoroutine>();
}

void SpawnMain(absl::AnyInvocable<void()> main) {
  RuntimeSection section;
  M* m = ThisM();
  P* p = m->p.load(std::memory_order_relaxed);
  G* g = NewG(p, GoOptions{.name = "main"}, Closure(std::move(main)));
  // It may run code that counts on some MiB, as a program's first thread has.
  if (stack::StackGrowth() == stack::Growth::kInPlace) {
    g->stack.pinned_class = stack::SizeClass::kPinned64MiB;
  }
  g->id.store(kMainId, std::memory_order_relaxed);
  EmitCreate(m, g);
  Enqueue(m, g, Place::kNext);
}

__attribute__((noinline)) void Spawn(const GoOptions& options, Closure&& closure) {
  if (closure.empty()) Fatal("go of nil func value");
  EnsureStarted();
  RuntimeSection section;
  M* m = ThisM();
  G* g = NewG(m == nullptr ? nullptr : m->p.load(std::memory_order_relaxed), options,
              std::move(closure));
  g->creation_site.store(__builtin_return_address(0), std::memory_order_relaxed);
  EmitCreate(m, g);
  Enqueue(m, g, Place::kNext);
}

}  // namespace weft::internal

namespace weft {

using internal::G;
using internal::M;
using internal::P;
using internal::sched;

namespace {

// Over all Ps, and where there was none.
uint64_t Sum(std::atomic<uint64_t> internal::GoroutineCounts::* counter) {
  uint64_t sum = (sched.goroutines.*counter).load(std::memory_order_acquire);
  for (const auto& slot : sched.ps) {
    const P* p = slot.load(std::memory_order_acquire);
    if (p == nullptr) break;
    sum += (p->goroutines.*counter).load(std::memory_order_acquire);
    WEFT_DELAY_POINT("goroutine.counted");
  }
  return sum;
}

}  // namespace

WEFT_NO_LIMIT_CHECK void Yield() {
  if (internal::TryEnterRuntime() == nullptr) [[unlikely]]
    return internal::YieldSlowly();
  internal::SwitchAwayAndLeave<internal::QueueAtTail>();
}

void Sleep(absl::Duration duration) {
  if (duration <= absl::ZeroDuration()) return;
  Instant until = Instant::Now() + duration;
  // Even a sleep without end has a timer, and a program that sleeps is not deadlocked.
  if (until.IsNever()) until = Instant::FromNanos(until.nanos() - 1);
  Waiter* self = Waiter::Current();
  while (self->ParkUntil(until, WaitReason::kSleep)) {
    // A token that was meant for an earlier wait.
  }
}

bool internal::IsExit(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const internal::GoroutineExit&) {
    return true;
  } catch (...) {
    return false;
  }
}

void Exit() {
  if (internal::ThisG() == nullptr) Fatal("Exit called on a thread that runs no goroutine");
  throw internal::GoroutineExit();
}

int64_t NumGoroutine() {
  // All that have ended first, as a goroutine may end on another P than it was started on: whoever
  // is seen to have ended is then seen to have been started too, and the result is never too low.
  // It may be too high for a moment. Acquire: pairs with the release in Count().
  const uint64_t ended = Sum(&internal::GoroutineCounts::ended);
  const uint64_t started = Sum(&internal::GoroutineCounts::started);
  return static_cast<int64_t>(started - ended);
}

uint64_t GoroutineId() {
  const G* g = internal::ThisG();
  return g == nullptr ? 0 : g->id.load(std::memory_order_relaxed);
}

BlockingSection::BlockingSection(Expect expect) {
  G* g = internal::ThisG();
  if (g == nullptr) return;
  // Counted before the entry: where that moves the goroutine, it arrives as what it is. Inside
  // another section there may be nothing to hand on: a P that was taken is not given back.
  if (g->blocking_sections++ > 0 &&
      (expect == Expect::kShort ||
       internal::ThisM()->p.load(std::memory_order_relaxed) == nullptr)) {
    return;
  }
  internal::RuntimeSection section;
  M* m = internal::ThisM();
  P* p = m->p.load(std::memory_order_relaxed);
  p->syscalltick.store(p->syscalltick.load(std::memory_order_relaxed) + 1,
                       std::memory_order_relaxed);
  g->status.store(internal::GStatus::kSyscall, std::memory_order_relaxed);
  m->blocking.store(true, std::memory_order_relaxed);
  internal::EmitBlocking(m, g, internal::Event::kBlockingBegin, expect == Expect::kLong ? 1 : 0);
  if (expect == Expect::kLong) {
    internal::HandOffP(internal::SurrenderP(m));
  } else if (internal::MonitorPace() > absl::Microseconds(100) &&
             sched.spinning.load(std::memory_order_relaxed) == 0 && internal::WorkWaits()) {
    // Its next round would come too late for those who wait.
    internal::WakeMonitor();
  }
}

BlockingSection::~BlockingSection() {
  G* g = internal::ThisG();
  if (g == nullptr) return;
  // An inner section ends and the outer one goes on. Else cleared first: the section's end may have
  // to wait for a P, and then it no longer blocks.
  if (--g->blocking_sections > 0) return;
  internal::ThisM()->blocking.store(false, std::memory_order_relaxed);
  internal::RuntimeSection section;
  internal::EmitBlocking(internal::ThisM(), g, internal::Event::kBlockingEnd, 0);
  g->status.store(internal::GStatus::kRunning, std::memory_order_relaxed);
}

int Main(absl::AnyInvocable<int()> main) {
  signal(SIGPIPE, SIG_IGN);
  sched.has_main.store(true, std::memory_order_relaxed);
  internal::StartHere([main = std::move(main)]() mutable {
    const int status = main();
    if (internal::FatalReportUnderWay()) internal::HangForReport();
    // From the goroutine that ran main, whatever the others are doing.
    std::exit(status);
  });
}

}  // namespace weft
