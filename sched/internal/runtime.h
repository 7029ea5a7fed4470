// The scheduler's own structures: goroutines (G), threads (M), processors (P), and what they share.
//
// A G is a function with a stack. An M is an OS thread. A P is the right to run goroutines, with
// the queue, timers and caches that go with it; there are MaxProcs() of them. To run a G an M holds
// a P, on a lease that may be taken back while the G runs user code (lease.cc).
//
// None of the three is ever freed: monitors, thieves and late wakers read them without a lock.
#ifndef WEFT_SCHED_INTERNAL_RUNTIME_H_
#define WEFT_SCHED_INTERNAL_RUNTIME_H_

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "sched/clock.h"
#include "sched/internal/block_queue.h"
#include "sched/internal/events.h"
#include "sched/internal/find_work.h"
#include "sched/internal/g.h"
#include "sched/internal/handoff.h"
#include "sched/internal/histogram.h"
#include "sched/internal/lock.h"
#include "sched/internal/node_map.h"
#include "sched/internal/poll_history.h"
#include "sched/internal/run_queue.h"
#include "sched/internal/thread.h"
#include "sched/internal/timer_heap.h"
#include "sched/labels.h"
#include "sched/poller.h"
#include "sched/runtime.h"
#include "sched/snapshot.h"
#include "sched/timer.h"
#include "sched/waiter.h"
#include "stack/context.h"
#include "stack/overflow.h"
#include "stack/residence.h"
#include "stack/rest.h"
#include "stack/slots.h"

namespace weft::internal {

struct P;

// Why an M has no P while it runs user code.
enum class Revoked : uint8_t {
  kNot,
  kBlocking,  // in a BlockingSection
  kAsleep,    // blocked without saying so
  kSlice,     // computes
  kStop,      // the world was stopped
};

// On which processors a thread may run: those of the topology's node with this index, or
inline constexpr int16_t kEveryCpu = -1;  // all of the process's, and see numa.h

enum class PStatus : uint32_t { kIdle = 0, kRunning = 1, kSyscall = 2, kStopped = 3, kDead = 4 };

struct M : Thread {
  M();

  // --- the lease; see lease.cc for who may write what ---
  Lock lock;
  std::atomic<P*> p{nullptr};
  std::atomic<Revoked> revoked{Revoked::kNot};  // written under the lock
  // Of the thread that it is at present: 0 and null between two.
  std::atomic<int32_t> tid{0};
  uintptr_t* guard_word ABSL_GUARDED_BY(lock) = nullptr;

  // --- touched by every switch ---
  stack::Context context;            // of the scheduler's stack, this thread's own
  std::atomic<G*> current{nullptr};  // the goroutine on this thread
  // The goroutine to go on with from the scheduler's stack, not queued, or null.
  G* next_after_scheduler = nullptr;
  bool next_inherits_slice = false;
  ExceptionState* exceptions = nullptr;
  std::atomic<bool> spinning{false};  // looking for work; counted in Sched::spinning
  std::atomic<bool> blocking{false};  // its goroutine is in a BlockingSection
  EventPort events;

  // --- the rest ---
  int64_t id = 0;
  P* next_p = nullptr;  // given by whoever wakes it
  std::atomic<P*> last_p{nullptr};
  std::atomic<uint32_t> wake{0};  // 1: next_p is set
  // In Sched::idle_ms, or with next_idle alone in Sched::free_ms.
  M* next_idle = nullptr;
  M* previous_idle = nullptr;
  std::atomic<bool> is_idle{false};  // written under Sched::lock
  M* next_all = nullptr;
  int16_t affinity = kEveryCpu;  // its thread's, see numa.cc
  uint32_t random = 0;
  pthread_t thread = {};  // if it was ended by EndMs()
  std::optional<stack::ThreadSignalStack> signal_stack;
  // The one goroutine that it runs, if LockOSThread() was called.
  std::atomic<G*> locked_g{nullptr};
  int32_t thread_locks = 0;     // by it, without UnlockOSThread()
  bool ends = false;            // that has ended without unlocking: so does the thread
  bool is_main_thread = false;  // which never ends

  // --- the monitor's last look ---
  int64_t seen_cpu = 0;
};

// Of the times that goroutines are made runnable: how long each one of so many waits for its turn
// is counted. The two looks at the clock cost as much as two switches. A prime, as a program's
// goroutines may take turns in any even number.
inline constexpr uint32_t kStampEvery = 251;
// The same, while latencies are profiled (profiles.cc).
extern constinit std::atomic<uint32_t> stamp_every;

struct GoroutineCounts {
  std::atomic<uint64_t> started{0};
  std::atomic<uint64_t> ended{0};
};

// How goroutines' stacks are moved, for a P.
class GMover final : public stack::StackMover {
 public:
  // The P's slots.
  explicit GMover(stack::SlotCache& slots);
  void Ready(stack::Resident& resident) override;
  bool MayRest(const stack::Resident& resident) const override;
  void DelayPoint(const char* point) override;
};

// What the monitor saw when it last looked at a P (retake.cc).
struct LeaseWatch {
  M* m = nullptr;
  uint32_t schedtick = 0;
  uint32_t entries = 0;
  uint32_t switches = 0;
  int64_t still_since = 0;   // since when m has not entered the runtime, as far as seen
  int64_t looked_at = 0;     // when its clock was read, 0: not since then
  int64_t cpu = 0;           // the thread's processor time at that moment
  int64_t asleep_since = 0;  // 0: it was not
  int64_t slice_cpu = -1;    // the thread's processor time when the slice began; -1: not read yet
  int64_t asked_cpu = 0;     // and when it was asked to yield
  bool asked = false;
};

struct alignas(64) P {
  explicit P(int id);

  const int id;
  std::atomic<PStatus> status{PStatus::kIdle};
  std::atomic<uint32_t> schedtick{0};    // goroutines run, not counting those that share a slice
  std::atomic<uint32_t> syscalltick{0};  // BlockingSections
  std::atomic<M*> m{nullptr};
  P* next_idle = nullptr;
  std::atomic<bool> yield_requested{false};  // the slice is over

  RunQueue<G> run_queue;
  HandoffHistory handoffs;
  std::atomic<bool> handoff_was_late{false};  // set by the monitor
  std::atomic<uint32_t> switches{0};          // to goroutines
  std::atomic<uint32_t> polls{0};             // looks at the poller
  PollHistory poll_history;
  int backlogs_taken = 0;  // from other Ps, since the last look
  P* watched = nullptr;    // whether it gets to its backlog, see TakeBacklog()
  uint32_t watched_switches = 0;
  int looks_unchanged = 0;
  // Where it belongs, by the map. Written with sched.lock while no P is in use; for its holder, or
  // with the lock.
  int node = 0;
  std::atomic<int16_t> affinity{kEveryCpu};  // of who holds it
  std::atomic<uint64_t> steals{0};           // of others' queues
  std::atomic<uint64_t> far_steals{0};       // and of these, in other nodes
  TimerHeap timers;
  stack::SlotCache slots;
  GMover stacks;  // where stack::kMayMove

  // Ended goroutines, for reuse.
  static constexpr int kMaxFreeGs = 64;
  G* free_gs[kMaxFreeGs];
  std::atomic<int> free_g_count{0};
  uint64_t next_goroutine_id = 0;  // a block of numbers
  uint64_t last_goroutine_id = 0;
  GoroutineCounts goroutines;
  uint32_t until_stamp = kStampEvery;
  DurationCounts latencies;

  LeaseWatch watch;  // the monitor's
};

inline constexpr int kMaxProcsLimit = 1024;
// Main's goroutine, whoever called Go() before Main().
inline constexpr uint64_t kMainId = 1;

// What has become of leases, see LeaseCounts in snapshot.h.
struct LeaseCounters {
  std::atomic<uint64_t> taken[5] = {};  // by Revoked
  std::atomic<uint64_t> asked{0};
  std::atomic<uint64_t> yielded_in_place{0};
  std::atomic<uint64_t> refused{0};
  std::atomic<uint64_t> barriers{0};
};

// What the Ps of a node share; see numa.cc.
struct alignas(64) Node {
  Lock lock;
  BlockQueue<G> queue ABSL_GUARDED_BY(lock);
  std::atomic<int> size{0};
  P* idle_ps = nullptr;  // under sched.lock
};

struct Sched {
  Lock lock;

  // --- under the lock; the counters may be read without it ---
  BlockQueue<G> global_queue ABSL_GUARDED_BY(lock);
  std::atomic<int> global_size{0};
  std::atomic<int> idle_p_count{0};
  M* idle_ms ABSL_GUARDED_BY(lock) = nullptr;
  std::atomic<int> idle_m_count{0};
  M* free_ms ABSL_GUARDED_BY(lock) = nullptr;  // whose threads have ended
  int leaving_ms ABSL_GUARDED_BY(lock) = 0;    // whose threads are about to, and are not in m_count
  bool ending_ms ABSL_GUARDED_BY(lock) = false;
  M* ended_ms ABSL_GUARDED_BY(lock) = nullptr;  // whose threads wait to be joined
  // Ms that wait for their goroutine to be chosen, see bound.cc.
  std::atomic<int> locked_idle_m_count{0};
  std::atomic<int> max_threads{10'000};
  std::atomic<M*> all_ms{nullptr};  // newest first; only grows
  std::atomic<int> m_count{0};
  bool monitor_sleeping ABSL_GUARDED_BY(lock) = false;
  std::atomic<bool> monitor_waiting{false};
  BlockQueue<G> free_gs ABSL_GUARDED_BY(lock);
  uint64_t next_goroutine_id ABSL_GUARDED_BY(lock) = kMainId + 1;
  GoroutineCounts goroutines;   // started and ended where there was no P
  std::atomic<int> outlaws{0};  // Ms that run user code and have lost their P without saying so
  LeaseCounters leases;
  uint32_t until_stamp ABSL_GUARDED_BY(lock) = kStampEvery;

  std::atomic<int> spinning{0};
  std::atomic<bool> need_spinning{false};  // see proc.cc
  std::atomic<int> p_count{0};
  // One P, with a queue of its own. Changed with the number of Ps or the policy, as these are while
  // no P is in use.
  std::atomic<bool> alone{false};
  std::atomic<Policy> policy{Policy::kGpm};
  // Replaced with them, under the lock too. For who holds a P, or the lock.
  std::atomic<const NodeMap*> node_map{nullptr};
  std::atomic<int> node_count{1};  // the map's
  Node nodes[kMaxProcsLimit];
  // Whether it follows what the system gives the process.
  std::atomic<bool> procs_are_the_systems{false};
  std::atomic<P*> ps[kMaxProcsLimit] = {};

  // --- stopping the world (stop.cc) ---
  std::atomic<bool> stopping{false};
  int stopped ABSL_GUARDED_BY(lock) = 0;
  std::atomic<uint32_t> all_stopped{0};
  // How long stops took. Written by whoever stops the world.
  DurationCounts pauses_stopping;
  DurationCounts pauses_total;

  // --- the poller ---
  std::atomic<Poller*> poller{nullptr};
  // When somebody last polled, looks by Ps that ran out of work left out (P::polls counts them); 0:
  // an M waits in the poller now. Whoever exchanges a number for the 0 is the one that waits.
  std::atomic<int64_t> last_poll{1};
  // Until when that M waits; 0: not known yet.
  std::atomic<int64_t> poll_until{0};

  // Of the thread that started the runtime; what all Ms made since run with.
  sigset_t signal_mask = {};

  std::atomic<bool> started{false};
  std::atomic<bool> forked{false};  // in the child of a fork() for ever
  std::atomic<bool> has_main{false};
  std::atomic<bool> dying{false};
};
extern Sched sched;
// Goroutines run on while the program's statics are destroyed.
static_assert(std::is_trivially_destructible_v<Sched>);

// This thread's M; null on a thread that runs no goroutines.
inline M* ThisM() {
  Thread* thread = ThisThread();
  return thread != nullptr && thread->runs_goroutines ? static_cast<M*>(thread) : nullptr;
}

// The goroutine that calls; null elsewhere, a scheduler's stack included.
inline G* ThisG() {
  Thread* thread = ThisThread();
  if (thread == nullptr || !thread->runs_goroutines) return nullptr;
  return static_cast<G*>(thread->waiter);
}

inline G* AsG(Waiter* waiter) { return static_cast<G*>(waiter); }

// The goroutine whose member it is.
G* AsG(stack::Resident& resident);

// --- start.cc: bringing the runtime up ---
// Starts it if it does not run. From any thread.
void EnsureStarted();
// The same with these options; false: it runs already.
bool StartWith(const RuntimeOptions& options);
// Held while the runtime is being started or stopped.
class StartLock {
 public:
  StartLock();
  ~StartLock();
  StartLock(const StartLock&) = delete;
  StartLock& operator=(const StartLock&) = delete;
};
// Starts it with the calling thread as its first M and `main` as its first goroutine.
[[noreturn]] void StartHere(absl::AnyInvocable<void()> main);

// --- proc.cc: Ms, Ps and who runs what ---
// The scheduler's loop on the calling thread, until that is to end.
void RunScheduler(M* m);
// Queues a goroutine whose status is runnable. With a P: there, as the next to run if `next`;
// without: globally. Wakes somebody to run it if need be. From inside the runtime, any thread; `m`
// is its M, or null.
enum class Place { kNext, kTail };
void Enqueue(M* m, G* g, Place place);
// Where all Ps of the node find it, or, without a P, all.
void EnqueueShared(G* g);
// Queues goroutines that a poller has made ready.
void EnqueueBatch(WakeBatch& batch);
// Starts an M for an idle P if nobody is looking for work.
void WakeP();
// The M that calls, and has a P, looks for work from now on.
void BecomeSpinning(M* m);
// Finds a home for a P whose M has lost or left it: an M if there is work, else the idle list.
// `spare`: from ObtainM(), to be used or given back. Where no thread can be had, the P waits for
// those that there are, or, if they may never come, the program ends.
enum class NoThread { kWaits, kFatal };
void HandOffP(P* p, M* spare = nullptr, NoThread otherwise = NoThread::kWaits);
// Tells whoever waits in the poller that something is due at `when`.
void WakePollerFor(Instant when);
// When the first timer of any P is due.
Instant EarliestTimer();
// Whether goroutines wait in any queue.
bool WorkWaits();

// Whether other Ms may steal: with one P nobody can. For the holder of a P.
inline QueueSharing Sharing() {
  return sched.alone.load(std::memory_order_relaxed) ? QueueSharing::kAlone : QueueSharing::kShared;
}

// --- idle_procs.cc: who has which P ---
// Takes an idle P, `wanted` if that is idle, else the one nearest to the caller; or null.
P* TakeIdleP(P* wanted = nullptr);
// The same for one who knows of work. Null: whoever has a P to spare next will look for it.
P* TakeIdlePToSpin();
void AcquireP(M* m, P* p);
P* ReleaseP(M* m);
void PushIdleP(P* p) ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock);
P* PopIdleP(int near) ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock);

// --- threads.cc: the threads of the Ms ---
// Runs an M with `p` (or an idle one if null). `spinning`: the caller has counted it. Where no
// thread can be had the P is idle until one comes to sleep, ends, or is given back.
void StartM(P* p, bool spinning, M* spare = nullptr, NoThread otherwise = NoThread::kWaits);
// An M that sleeps and that nobody else will wake, for StartM() or ReturnM(), if need be one that
// runs on these processors; null: no thread can be had.
M* ObtainM(int16_t affinity);
void ReturnM(M* m);
// Gives `p` to an M that sleeps outside the idle list, or is about to.
void GivePTo(M* m, P* p);
// The M that calls, and has no P, sleeps until that happens. False: it is to end, as may be where
// it was in the idle list.
bool AwaitP(M* m);
// The M that calls, and has no P, sleeps until it is started with one, or takes one that waits for
// a thread, and spins. False: its thread is to end, as it has not been needed for long.
bool StopM(M* m);
// Ends the threads of all Ms; on return they are gone. The world is stopped, and none of them has a
// goroutine on its hands or locked to it. Not from an M.
void EndMs();
// An M, in the list of all.
M* NewM() ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock);
// The first and the last thing that a thread does as an M.
void EnterM(M* m);
void LeaveM(M* m);

// --- bound.cc: goroutines that only one thread may run ---
// On the scheduler's stack of an M that has taken a goroutine from a queue, or was told to run it:
// if that is bound to another thread, that gets the P, and this M has none. True: so it was.
bool PassToBoundThread(M* m, const G* g);
// The M gives up its P, if it has one, and waits for another one to run its locked goroutine with.
void AwaitLockedG(M* m);
// Its goroutine has ended without unlocking: so does the thread.
void EndLockedM(M* m, G* g);
// What __morestack calls when the guard word holds a request.
void AnswerGuardRequest(stack::Context& context);

// --- stacks.cc: which goroutine has which slot ---
void InitStacks();
// What BringToSlot() does where stacks do not rest, and where a goroutine cannot have a slot now.
void GiveStack(P* p, G* g);
bool CannotRun(P* p, G* g, stack::Residence::Entry entry);
// Gives back the stacks of one that has ended.
void ReturnStacks(P* p, G* g);
// For a P that goes away: what is resident in its slots rests, to wake wherever it can.
void DrainStacks(P* p);

inline stack::ResidenceSharing StackSharing() {
  return Sharing() == QueueSharing::kAlone ? stack::ResidenceSharing::kAlone
                                           : stack::ResidenceSharing::kShared;
}

// Brings the goroutine to a slot, on its first run or back to one. False: it cannot run now, and is
// in a queue, or will be as soon as it can.
inline bool BringToSlot(P* p, G* g) {
  if constexpr (stack::kMayMove) {
    const stack::Residence::Entry entry = p->stacks.residence().Enter(g->stack, StackSharing());
    return entry == stack::Residence::Entry::kRuns || CannotRun(p, g, entry);
  } else {
    if (g->stack.home == nullptr) GiveStack(p, g);
    return true;
  }
}

// The goroutine has left its stack, its registers saved. Before anybody may run it.
inline void LeaveSlot(M* m, G* g) {
  if constexpr (stack::kMayMove) {
    P* p = m->p.load(std::memory_order_relaxed);
    if (p != nullptr) [[likely]] {
      p->stacks.residence().Leave(g->stack);
    } else {
      stack::Residence::LeaveAlone(g->stack);
    }
  }
}

// The same with a P, or false, and nothing is done, if there is more to do than to say so.
inline bool LeaveSlotJustSo(P* p, G* g) {
  if constexpr (stack::kMayMove) {
    if (p == nullptr || !p->stacks.residence().StaysFor(g->stack)) return false;
    stack::Residence::LeaveAlone(g->stack);
  }
  return true;
}

// --- switch.cc: from one goroutine to the next ---
// For functions on the way of each switch: they do not look whether the stack has reached its
// limit, as there is room for them below it. A stack with such a frame cannot rest, so it is for
// those whose frames are gone when the stack is left, as they are where calls that come last are
// jumps.
#if WEFT_HAS_GUARD_WORD && defined(__OPTIMIZE__)
#define WEFT_NO_LIMIT_CHECK __attribute__((no_split_stack))
#else
#define WEFT_NO_LIMIT_CHECK
#endif

// These two by SwitchAway() and its like only. `ended_sections`: what the goroutine's depth of
// runtime sections is to be less by when it goes on.
void LeaveStack(stack::Arrival arrival, int32_t ended_sections) noexcept;
[[noreturn]] void LeaveStackForGood(stack::Arrival arrival) noexcept;

// In the goroutine that has arrived: its lease counts as it left it, from here on. Nothing on the
// scheduler's stack.
inline void Resume(M* m) {
  if (m->waiter == nullptr) return;
  // Release, as in LeaveRuntime(): it may be 0.
  m->in_runtime.store(AsG(m->waiter)->runtime_depth, std::memory_order_release);
}

// What remains to be done with a goroutine that has left. Where all of it is said by what is
// returned, and that is a jump, there are no calls for which Arrive() would save registers.
using Remainder = void (*)(M*, G*);
void ArriveAndDo(M* m, G* left, Remainder remainder);

// First thing on the stack of whatever runs next: `after` with the goroutine that has left, and
// what it returns, if anything.
template <Remainder (*after)(M*, G*)>
WEFT_NO_LIMIT_CHECK void Arrive(void* m, void* left) {
  const Remainder remainder = after(static_cast<M*>(m), static_cast<G*>(left));
  if (remainder != nullptr) [[unlikely]]
    return ArriveAndDo(static_cast<M*>(m), static_cast<G*>(left), remainder);
  Resume(static_cast<M*>(m));
}

// Leaves the goroutine that calls, from inside the runtime. Once its stack is left, `after` is
// called with it, on the stack of whatever runs next. Returns when the goroutine runs again,
// perhaps on another thread. Called last in a function it leaves no frame of that on the stack.
template <Remainder (*after)(M*, G*)>
inline void SwitchAway() {
  LeaveStack(Arrive<after>, 0);
}
// The same, and when the goroutine runs again one runtime section has ended.
template <Remainder (*after)(M*, G*)>
inline void SwitchAwayAndLeave() {
  LeaveStack(Arrive<after>, 1);
}
// The same for a goroutine that has ended.
template <Remainder (*after)(M*, G*)>
[[noreturn]] inline void SwitchAwayForGood() {
  LeaveStackForGood(Arrive<after>);
}
// From the scheduler's stack to a goroutine; returns when one has left to the scheduler.
void SwitchToGoroutine(M* m, G* g, bool inherits_slice);

// --- lease.cc ---
void InitLease();
// What a new M's attn starts with.
uint32_t InitialAttention();
// Takes m's P unless m is inside the runtime; null then, and m's next entry answers. `wanted`: only
// if it is this one.
P* Revoke(M* m, Revoked why, const P* wanted = nullptr);
// Asks m's goroutine to give up `p` at its next entry into the runtime, or at its next function
// call that looks at the guard word.
void RequestYield(M* m, P* p);
// The same again, for who has overwritten the guard word since.
void RepeatRequest(M* m, const P* p);
// The M that calls, inside the runtime, answers whoever has asked. Returns its P, or null if that
// was taken.
P* TakeNotice(M* m);
// AnswerAttention, see thread.h.
void AnswerAttention() noexcept;
// Gives up the P of the M that calls, from inside the runtime: the next entry will find none.
P* SurrenderP(M* m);

// --- goroutine.cc ---
// Makes the goroutine that runs `main` and queues it. On an M.
void SpawnMain(absl::AnyInvocable<void()> main);
// What a goroutine's stack starts with; `g` is a G*.
[[noreturn]] void GoroutineEntry(void* g);
// Where the C++ runtime keeps this thread's exceptions.
ExceptionState* ThisThreadsExceptions();

// --- park.cc ---
extern const GoroutineWaitOps kGoroutineWaitOps;

// --- stop.cc ---
// Stops every P; goroutines in user code go on but stop at their next entry. May park.
void StopTheWorld();
void StartTheWorld();
// False: somebody else has stopped it, or is about to. For those who must not wait for that.
bool TryStopTheWorld();
// Instead of StartTheWorld(): the world stays stopped until ResumeTheWorld().
void LeaveTheWorldStopped();
void ResumeTheWorld();
// The calling M gives its P to the stopper. In the scheduler.
void GiveToStopper(P* p) ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock);
// Makes Ps until there are n, or retires those beyond. World stopped, or not started yet.
void ResizeProcs(int n);

// --- metrics.cc: how long goroutines wait for their turn ---
// Notes when `g` became runnable, and counts how long it waited when it runs.
void Stamp(G* g) noexcept;
void CountLatency(P* p, G* g) noexcept;

// A goroutine is about to be queued. `until_stamp`: of the caller's P, or, under the lock, of
// sched.
inline void StampNowAndThen(uint32_t& until_stamp, G* g) {
  if (--until_stamp != 0) [[likely]]
    return;
  until_stamp = stamp_every.load(std::memory_order_relaxed);
  Stamp(g);
}

// --- profiles.cc: what is counted by stack, see sched/profiles.h ---
// A goroutine that is about to run has waited for its turn.
void ProfileLatency(const G* g, int64_t nanos) noexcept;
// The caller makes a thread.
void ProfileNewThread() noexcept;

// --- labels.cc ---
// For a goroutine that `from` starts. Not where that has no labels.
void InheritLabels(const G* from, G* g) noexcept;
// Of the calling goroutine, which is at its end.
void DropLabels() noexcept;
// While the world is stopped, or of the calling goroutine.
LabelList LabelsOf(const G* g);

// --- fork.cc ---
// From now on children of fork() have no runtime, see runtime.h.
void HandleForks();
[[noreturn]] void RefuseInChild();

// --- give_back.cc ---
// All that no goroutine uses. The world is stopped for good.
void GiveBackAllStacks();

// --- monitor.cc ---
void RegisterSchedulerDuties();
void StartSchedulerMonitor();

// --- retake.cc ---
// The monitor's duty: takes Ps back from those that do not let others run.
bool Retake(Instant now);

// --- deadlock.cc ---
// On the monitor's thread, when every P is idle: ends the program if no goroutine can ever run
// again.
enum class Liveness {
  kAlive,     // something is under way, or an event or a timer can come
  kSettling,  // threads are on their way to sleep: ask again
  // Only a thread of the program's own could wake a goroutine now; or one that comes from the
  // poller, as may be for a moment.
  kForeign,
};
Liveness CheckDeadlock();

// --- snapshot.cc ---
GoroutineSnapshot SnapshotOf(const G* g);

// --- all_goroutines.cc ---
// Makes new Gs, at most `most`, into `out`; returns how many.
int MakeGs(G** out, int most);
// Calls visit(g) for every G ever made, the ended ones too. Their fields may change meanwhile.
void ForEachG(absl::FunctionRef<void(G*)> visit);
// Prints "goroutine 7 [chan receive, 2 minutes]:" and the trace of each that has not ended, in the
// order of their numbers, to `fd`. Only where nothing runs, or where a torn trace of a running one
// does no harm: the program is about to end.
void PrintAllGoroutines(int fd);
void PrintGoroutineHeader(const G* g, int fd);
// Of the calling goroutine; something plain on a thread without one. For stack::TraceHooks, so safe
// in signal handlers.
void PrintCurrentGoroutineHeader(int fd);
void PrintCurrentGoroutineCreator(int fd);

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_RUNTIME_H_
