// Who runs what: the scheduler's loop.
//
// The problem is to keep as many threads awake as there is work, and not more. Threads that look
// for work cost processor time; a thread that sleeps when work arrives costs its latency. Knowing
// exactly is impossible without a central lock, so, as in Go:
//
// - An M without work *spins*: it looks through all queues for a while. At most half as many spin
//   as are busy.
// - Whoever makes work wakes an M only if there is an idle P and nobody spins. The M that is woken
//   spins; a spinner that finds work wakes the next before it runs it. So bursts wake one M after
//   the other, and a steady trickle none.
// - The last spinner must not go to sleep past work that arrives meanwhile:
//
//     who makes work                      who gives up
//     1 publish it (exchange: a full      1 under sched.lock: look at the global queue;
//       barrier on x86)                     put the P on the idle list
//     2 read idle_p_count, spinning       2 --spinning (a locked instruction)
//     3 a P is idle and nobody spins:     3 look again at all local queues and the global
//       ++spinning, start an M              queue; on a find take an idle P and spin again
//
//   Either the maker reads the state after 2, and starts an M; or the second look comes after 1,
//   and finds the work. Both barriers are needed: a release store in 1 would let 2 overtake it. The
//   second look covers the global queue too, since a plain thread may have pushed there between the
//   giver-up's 1 and 2, when it still counted as spinning. It does not cover timers: who has found
//   nothing goes on to wait in the poller, where timers are looked at once more (below), unless
//   somebody waits there already, who is told of them.
//
// - Where work is found or made and no P is idle, Sched::need_spinning says so to the next M that
//   puts a P on the idle list. One that spins looks again anyway. One that does not, as enough
//   others did, reads need_spinning once its P is there, and then takes a P and spins. Whoever says
//   it looks for an idle P afterwards, or has found none under sched.lock: one of the two sees the
//   other. Where it is a thread that cannot be had for an idle P, it says so to the next M without
//   one: see threads.cc.
//
// - One idle M waits in the poller, with the earliest timer as its deadline; the others on futexes.
//   It is chosen by Sched::last_poll (0 while somebody waits there). A timer that becomes the
//   earliest ends that wait: poll_until is published, then the timers are looked at again, then
//   the wait begins; who adds a timer does so in the opposite order.
//
// With the policy `numa` Ps belong to nodes, and what is in their way to each other, and what of
// the above holds for it, is in numa.cc. What a P looks at one after the other is in find_work.h.
//
// With the policy `global` there is the global queue and no other: what is made ready goes there,
// whoever has made it, and a P that looks for work takes one goroutine at a time. All else is as
// above: local queues are empty, so that there is nothing to switch to directly, and to steal are
// only timers.
//
// Rejected: waking an M for each piece of work (threads thrash when each runs for a microsecond);
// handing work directly to a sleeping thread (it takes the work away from those who look already,
// and destroys locality).
#include "sched/internal/delay.h"
#include "sched/internal/emit.h"
#include "sched/internal/find_work.h"
#include "sched/internal/numa.h"
#include "sched/internal/runtime.h"
#include "sched/sysmon.h"

namespace weft::internal {

constinit Sched sched;

namespace {

// Before it looks at the poller a P helps another one that has not gone on to its next goroutine
// for so many of these looks.
constexpr int kLooksUnchanged = 8;
// How often it does so before it goes on to look there, if it is not about to leave that look out.
constexpr int kBacklogsInARow = 4;
// How long a thief leaves a running P's runnext alone: its owner is about to run it.
constexpr int64_t kStealNextPauseNanos = 3'000;

// How many goroutines a P takes from a shared queue: as many as each P should have, or where there
// is no other queue just the next.
uint32_t Share() {
  return sched.policy.load(std::memory_order_relaxed) == Policy::kGlobal
             ? 1
             : RunQueue<G>::kCapacity / 2;
}

uint32_t NextRandom(M* m) {
  // xorshift32 (G. Marsaglia, "Xorshift RNGs", 2003).
  uint32_t x = m->random;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return m->random = x;
}

// A spinner has found work: another one takes over looking.
void StopSpinning(M* m) {
  m->spinning.store(false, std::memory_order_relaxed);
  sched.spinning.fetch_sub(1, std::memory_order_seq_cst);
  EmitFrequentOfM(m, Event::kSpinEnd);
  WakeP();
}

// Takes a share of the global queue: one to run, the rest into the local ring.
G* TakeGlobal(P* p, uint32_t most) ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock) {
  const auto size = static_cast<uint32_t>(sched.global_queue.size());
  if (size == 0) return nullptr;
  const auto procs = static_cast<uint32_t>(sched.p_count.load(std::memory_order_relaxed));
  G* taken[RunQueue<G>::kCapacity / 2];
  const uint32_t count =
      sched.global_queue.PopFront(taken, ShareOf(size, procs, most, p->run_queue.Room()));
  if (count > 1) p->run_queue.PutTail(taken + 1, count - 1);
  WEFT_DELAY_POINT("proc.take_global");
  // Last, and release: who sees no work here in its second look, finds in the P's queue what has
  // moved there.
  sched.global_size.store(sched.global_queue.size(), std::memory_order_release);
  return taken[0];
}

// How the holder of a P looks for work, for find_work.h.
class Looker {
 public:
  using Task = G;

  Looker(M* m, P* p) : m_(m), p_(p) {}

  // TakeOwn() has found what runs in the rest of the time slice.
  bool inherits_slice() const { return inherits_slice_; }
  // Timers ran, so the own queue may have work now.
  bool timers_ran() const { return timers_ran_; }

  uint32_t Random() { return NextRandom(m_); }
  bool MustStop() const { return sched.stopping.load(std::memory_order_relaxed); }

  G* TakeOwn() { return p_->run_queue.Take(&inherits_slice_, Sharing()); }
  G* TakeFromGlobal(uint32_t most) {
    if (sched.global_size.load(std::memory_order_relaxed) == 0) return nullptr;
    LockGuard guard(sched.lock);
    return TakeGlobal(p_, most);
  }
  G* TakeFromNode(int node, uint32_t most) {
    G* g = internal::TakeFromNode(p_, node, most);
    // Not all that were taken run now, and a spinner that gave up while they moved may have seen
    // none of them. (One that spins itself wakes the next before it runs what it has found.)
    if (g != nullptr && !m_->spinning.load(std::memory_order_relaxed)) WakeP();
    return g;
  }

  G* RunTimersOf(int victim) {
    TimerHeap& timers = Victim(victim)->timers;
    const Instant earliest = timers.Earliest();
    if (earliest.IsNever()) return nullptr;
    const Instant now = Instant::Now();
    const int ran = earliest > now ? 0 : timers.RunDue(now);
    if (ran == 0) return nullptr;
    EmitFrequentOfM(m_, Event::kTimers, static_cast<uint64_t>(ran));
    timers_ran_ = true;
    return p_->run_queue.Take(&inherits_slice_, QueueSharing::kShared);
  }
  bool HasNothing(int victim) {
    const P* v = Victim(victim);
    return v->status.load(std::memory_order_relaxed) == PStatus::kIdle && v->run_queue.Empty();
  }
  G* StealHalf(int victim) {
    G* g = p_->run_queue.StealHalf(Victim(victim)->run_queue);
    if (g != nullptr) NoteSteal(g, victim);
    return g;
  }
  G* StealNext(int victim) {
    P* v = Victim(victim);
    if (!v->run_queue.HasNext()) return nullptr;
    if (v->status.load(std::memory_order_relaxed) == PStatus::kRunning) {
      timespec pause = {0, kStealNextPauseNanos};
      nanosleep(&pause, nullptr);
    }
    G* g = RunQueue<G>::StealNext(v->run_queue);
    if (g != nullptr) NoteSteal(g, victim);
    return g;
  }

 private:
  static P* Victim(int number) { return sched.ps[number].load(std::memory_order_acquire); }

  void NoteSteal(const G* g, int victim) {
    EmitSteal(m_, g, victim);
    const auto count = [](std::atomic<uint64_t>& counter) {
      counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    };
    count(p_->steals);
    if (Victim(victim)->node != p_->node) count(p_->far_steals);
  }

  M* m_;
  P* p_;
  bool inherits_slice_ = false;
  bool timers_ran_ = false;
};

// A share of what waits at one other P that does not get to it; or null. A P
// whose thread the system has put aside, or whose goroutine computes, keeps what it has taken from
// the poller, and that is older than what the poller has now: without this the others would serve
// the new for ever. One that goes on is left alone: where two Ps level their queues all the time
// both run out at once, and sleep (64 echoing connections on two Ps took 1.6 times as long).
G* TakeBacklog(M* m, P* p) {
  const uint32_t count = static_cast<uint32_t>(sched.p_count.load(std::memory_order_acquire));
  if (count == 1 || p->backlogs_taken == kBacklogsInARow) return nullptr;
  P* victim = p->watched;
  if (victim == nullptr) {
    victim = sched.ps[NextRandom(m) % (count - 1)].load(std::memory_order_acquire);
    if (victim == p) victim = sched.ps[count - 1].load(std::memory_order_acquire);
    p->watched = victim;
    p->watched_switches = victim->switches.load(std::memory_order_relaxed);
    p->looks_unchanged = 0;
    return nullptr;
  }
  if (victim->run_queue.Size() == 0 ||
      victim->switches.load(std::memory_order_relaxed) != p->watched_switches) {
    p->watched = nullptr;
    return nullptr;
  }
  if (++p->looks_unchanged < kLooksUnchanged) return nullptr;
  G* g = p->run_queue.StealHalf(victim->run_queue);
  if (g == nullptr) return nullptr;
  EmitSteal(m, g, victim->id);
  ++p->backlogs_taken;
  // Not all of them run now, and a spinner that gave up while they moved may have seen none of
  // them. (One that spins itself wakes the next before it runs what it has found.)
  if (!m->spinning.load(std::memory_order_relaxed)) WakeP();
  return g;
}

// For an M that has no P and knows of work. True: it has a P again and spins.
bool SpinAgain(M* m) {
  P* p = TakeIdlePToSpin();
  if (p == nullptr) return false;
  AcquireP(m, p);
  BecomeSpinning(m);
  return true;
}

// The second look of an M that has given up its P and no longer counts as spinning. True: it has a
// P again and spins.
bool LookAgain(M* m) {
  WEFT_DELAY_POINT("proc.look_again");
  // Before the Ps' own: what a P takes from there is in its own before it is gone from here.
  bool found = SharedWorkWaits();
  const int count = sched.p_count.load(std::memory_order_acquire);
  for (int i = 0; i < count && !found; ++i) {
    found = !sched.ps[i].load(std::memory_order_acquire)->run_queue.Empty();
  }
  return found && SpinAgain(m);
}

// One of those that a poller has made ready, to run; the others are queued.
G* TakeFirst(M* m, WakeBatch& ready) {
  G* g = AsG(ready.PopFront());
  EmitUnpark(m, g, Waker::kPoller);
  g->status.store(GStatus::kRunnable, std::memory_order_release);  // see GStatus
  if (!ready.empty()) EnqueueBatch(ready);
  return g;
}

// The M that has no P waits for events. Returns a goroutine to run, or null with or without a P.
G* WaitInPoller(M* m) {
  // Nobody waits while a P does, for a thread: see threads.cc. last_poll is 0 by now.
  const bool needed = sched.need_spinning.load(std::memory_order_seq_cst) &&
                      sched.idle_p_count.load(std::memory_order_seq_cst) > 0;
  // Published before the timers are looked at for the last time: see the top of this file.
  Instant until = needed ? Instant() : EarliestTimer();
  sched.poll_until.exchange(until.nanos(), std::memory_order_seq_cst);
  WEFT_DELAY_POINT("proc.poll_until");
  if (const Instant again = EarliestTimer(); again < until) {
    until = again;
    sched.poll_until.store(until.nanos(), std::memory_order_seq_cst);
  }
  WakeBatch ready;
  EmitOfM(m, Event::kPollSleep);
  sched.poller.load(std::memory_order_acquire)->Poll(until, ready);
  WEFT_DELAY_POINT("proc.poll_returned");
  EmitOfM(m, Event::kPollWake, static_cast<uint64_t>(ready.size));
  sched.poll_until.store(0, std::memory_order_seq_cst);
  // Before looking for a P: an M that has just put its P on the idle list either finds this and
  // becomes the poller, or we find its P.
  sched.last_poll.exchange(Instant::Now().nanos(), std::memory_order_seq_cst);
  P* p = TakeIdleP();
  if (p == nullptr) {
    if (!ready.empty()) EnqueueBatch(ready);
    return nullptr;
  }
  AcquireP(m, p);
  if (!ready.empty()) return TakeFirst(m, ready);
  BecomeSpinning(m);
  return nullptr;
}

// Finds a goroutine to run, however long it takes. On return the M has a P; null: it has none, and
// its thread is to end.
G* FindRunnable(M* m, bool* inherits_slice) {
  *inherits_slice = false;
  for (;;) {
    P* p = m->p.load(std::memory_order_relaxed);
    if (p == nullptr) {
      if (!StopM(m)) return nullptr;
      continue;
    }
    if (sched.stopping.load(std::memory_order_acquire)) [[unlikely]] {
      if (m->spinning.load(std::memory_order_relaxed)) {
        m->spinning.store(false, std::memory_order_relaxed);
        sched.spinning.fetch_sub(1, std::memory_order_seq_cst);
        EmitFrequentOfM(m, Event::kSpinEnd);
      }
      LockGuard guard(sched.lock);
      if (sched.stopping.load(std::memory_order_relaxed)) {
        ReleaseP(m);
        GiveToStopper(p);
      }
      continue;
    }
    if (const Instant earliest = p->timers.Earliest(); !earliest.IsNever()) {
      const Instant now = Instant::Now();
      if (const int ran = earliest <= now ? p->timers.RunDue(now) : 0; ran > 0) {
        EmitFrequentOfM(m, Event::kTimers, static_cast<uint64_t>(ran));
      }
    }
    const NodeMap& map = *sched.node_map.load(std::memory_order_acquire);
    Looker looker(m, p);
    if (G* g =
            TakeQueued(looker, map, p->node, p->schedtick.load(std::memory_order_relaxed), Share());
        g != nullptr) {
      *inherits_slice = looker.inherits_slice();
      return g;
    }

    Poller* poller = sched.poller.load(std::memory_order_acquire);
    if (poller->waiters() > 0 && sched.last_poll.load(std::memory_order_relaxed) != 0) {
      // No Busy(): a P comes to that by looks that found something. From one in vain, or left out,
      // it, or who spins in its place, goes on to steal the same goroutines.
      if (G* g = TakeBacklog(m, p); g != nullptr) return g;
      p->backlogs_taken = 0;
      if (p->poll_history.Look()) {
        WakeBatch ready;
        p->polls.store(p->polls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        poller->Poll(Instant(), ready);
        if (!ready.empty()) {
          p->poll_history.Busy();
          EmitFrequentOfM(m, Event::kPoll, static_cast<uint64_t>(ready.size));
          return TakeFirst(m, ready);
        }
        p->poll_history.InVain();
      }
    }

    const int busy = sched.p_count.load(std::memory_order_relaxed) -
                     sched.idle_p_count.load(std::memory_order_relaxed);
    if (m->spinning.load(std::memory_order_relaxed) ||
        2 * sched.spinning.load(std::memory_order_relaxed) < busy) {
      if (!m->spinning.load(std::memory_order_relaxed)) BecomeSpinning(m);
      if (G* g = Steal(looker, map, p->node, p->id, Share()); g != nullptr) {
        p->poll_history.Busy();
        return g;
      }
      if (looker.timers_ran()) continue;
    }

    sched.lock.Acquire();
    if (sched.stopping.load(std::memory_order_relaxed)) {
      sched.lock.Release();
      continue;
    }
    if (G* g = TakeGlobal(p, Share()); g != nullptr) {
      sched.lock.Release();
      p->poll_history.Busy();
      return g;
    }
    ReleaseP(m);
    PushIdleP(p);
    sched.lock.Release();

    if (m->spinning.load(std::memory_order_relaxed)) {
      m->spinning.store(false, std::memory_order_relaxed);
      EmitFrequentOfM(m, Event::kSpinEnd);
      WEFT_DELAY_POINT("proc.stop_spinning");
      sched.spinning.fetch_sub(1, std::memory_order_seq_cst);
      if (LookAgain(m)) continue;
    } else if (sched.need_spinning.load(std::memory_order_seq_cst) && SpinAgain(m)) {
      continue;
    }
    WEFT_DELAY_POINT("proc.to_poller");
    if (sched.last_poll.exchange(0, std::memory_order_seq_cst) != 0) {
      if (G* g = WaitInPoller(m); g != nullptr) return g;
      continue;
    }
  }
}

// Puts half of the full ring and `g` in a queue that others share.
void Overflow(P* p, G* g) {
  G* items[RunQueue<G>::kCapacity / 2 + 1];
  uint32_t count = p->run_queue.TakeHalfIfFull(items);
  items[count++] = g;
  if (sched.node_count.load(std::memory_order_relaxed) > 1) {
    PutInNode(p, items, count);
    return;
  }
  LockGuard guard(sched.lock);
  sched.global_queue.PushBack(items, count);
  sched.global_size.store(sched.global_queue.size(), std::memory_order_seq_cst);
}

}  // namespace

void BecomeSpinning(M* m) {
  m->spinning.store(true, std::memory_order_relaxed);
  // In this order: whoever has found that it was said already may rely on what this M looks at now.
  sched.need_spinning.store(false, std::memory_order_relaxed);
  sched.spinning.fetch_add(1, std::memory_order_seq_cst);
  EmitFrequentOfM(m, Event::kSpin);
}

void RunScheduler(M* m) {
  do {
    bool inherits_slice = false;
    G* g = m->locked_g.load(std::memory_order_relaxed);
    if (g != nullptr) {
      AwaitLockedG(m);
    } else {
      g = FindRunnable(m, &inherits_slice);
      if (g == nullptr) return;
      if (m->spinning.load(std::memory_order_relaxed)) StopSpinning(m);
    }
    SwitchToGoroutine(m, g, inherits_slice);
  } while (!m->ends);
}

void WakeP() {
  // Pairs with the idle protocol: the work was published by a locked instruction before.
  if (sched.idle_p_count.load(std::memory_order_seq_cst) == 0) {
    if (sched.spinning.load(std::memory_order_relaxed) != 0 ||
        sched.need_spinning.load(std::memory_order_relaxed)) {
      return;
    }
    sched.need_spinning.exchange(true, std::memory_order_seq_cst);
    WEFT_DELAY_POINT("proc.need_spinning");
    if (sched.idle_p_count.load(std::memory_order_seq_cst) == 0) return;
  }
  int none = 0;
  if (sched.spinning.load(std::memory_order_seq_cst) != 0 ||
      !sched.spinning.compare_exchange_strong(none, 1, std::memory_order_seq_cst,
                                              std::memory_order_relaxed)) {
    return;
  }
  StartM(nullptr, /*spinning=*/true);
}

void Enqueue(M* m, G* g, Place place) {
  P* p = m == nullptr ? nullptr : m->p.load(std::memory_order_relaxed);
  if (p == nullptr) {
    EnqueueShared(g);
    return;
  }
  const QueueSharing sharing = Sharing();
  if (sharing == QueueSharing::kAlone) {
    StampNowAndThen(p->until_stamp, g);
    // The only P there is, is this one: nobody to wake.
    if (place == Place::kNext) g = p->run_queue.ExchangeNext(g, sharing);
    if (g != nullptr && !p->run_queue.PutTail(g, sharing)) Overflow(p, g);
    return;
  }
  if (sched.policy.load(std::memory_order_relaxed) == Policy::kGlobal) [[unlikely]] {
    EnqueueShared(g);
    return;
  }
  StampNowAndThen(p->until_stamp, g);
  if (place == Place::kNext) {
    g = p->run_queue.ExchangeNext(g, sharing);
    if (g == nullptr && p->run_queue.Size() == 0) {
      if (p->handoff_was_late.load(std::memory_order_relaxed)) {
        p->handoff_was_late.store(false, std::memory_order_relaxed);
        p->handoffs.Missed();
      }
      if (!p->handoffs.Put()) WakeP();
      return;
    }
    p->handoffs.Missed();
  }
  if (g != nullptr && !p->run_queue.PutTail(g, sharing)) Overflow(p, g);
  WakeP();
}

void EnqueueShared(G* g) {
  const M* m = ThisM();
  P* p = m == nullptr || sched.node_count.load(std::memory_order_relaxed) == 1
             ? nullptr
             : m->p.load(std::memory_order_relaxed);
  if (p != nullptr) {
    StampNowAndThen(p->until_stamp, g);
    PutInNode(p, &g, 1);
  } else {
    LockGuard guard(sched.lock);
    StampNowAndThen(sched.until_stamp, g);
    sched.global_queue.PushBack(g);
    sched.global_size.store(sched.global_queue.size(), std::memory_order_seq_cst);
  }
  WakeP();
}

void EnqueueBatch(WakeBatch& batch) {
  M* m = ThisM();
  for (Waiter* w = batch.head; w != nullptr; w = WaiterProtocol::next(*w)) {
    EmitUnpark(m, AsG(w), Waker::kPoller);
    AsG(w)->status.store(GStatus::kRunnable, std::memory_order_release);  // see GStatus
  }
  P* p = m == nullptr ? nullptr : m->p.load(std::memory_order_relaxed);
  // As many as there are idle Ps go where these can find them without stealing.
  const bool all = p == nullptr || sched.policy.load(std::memory_order_relaxed) == Policy::kGlobal;
  int for_others = all ? batch.size : sched.idle_p_count.load(std::memory_order_seq_cst);
  if (for_others > batch.size) for_others = batch.size;
  if (for_others > 0) {
    {
      LockGuard guard(sched.lock);
      for (int i = 0; i < for_others; ++i) {
        G* g = AsG(batch.PopFront());
        StampNowAndThen(sched.until_stamp, g);
        sched.global_queue.PushBack(g);
      }
      sched.global_size.store(sched.global_queue.size(), std::memory_order_seq_cst);
    }
    const int idle = sched.idle_p_count.load(std::memory_order_seq_cst);
    for (int i = 0; i < for_others && i < idle; ++i) StartM(nullptr, /*spinning=*/false);
  }
  bool local = false;
  while (Waiter* w = batch.PopFront()) {
    local = true;
    StampNowAndThen(p->until_stamp, AsG(w));
    if (!p->run_queue.PutTail(AsG(w), QueueSharing::kShared)) Overflow(p, AsG(w));
  }
  // Even without a P left idle a moment ago, one may be now: the rule for who makes work.
  if (local || for_others > 0) WakeP();
}

bool WorkWaits() {
  if (SharedWorkWaits()) return true;
  const int count = sched.p_count.load(std::memory_order_acquire);
  for (int i = 0; i < count; ++i) {
    if (!sched.ps[i].load(std::memory_order_acquire)->run_queue.Empty()) return true;
  }
  return false;
}

void HandOffP(P* p, M* spare, NoThread otherwise) {
  p->m.store(nullptr, std::memory_order_relaxed);
  if (!p->run_queue.Empty() || SharedWorkWaits()) {
    StartM(p, /*spinning=*/false, spare, otherwise);
    return;
  }
  // Nobody looks for work and nobody is idle: what appears next would find no taker.
  int none = 0;
  if (sched.spinning.load(std::memory_order_seq_cst) == 0 &&
      sched.idle_p_count.load(std::memory_order_seq_cst) == 0 &&
      sched.spinning.compare_exchange_strong(none, 1, std::memory_order_seq_cst,
                                             std::memory_order_relaxed)) {
    StartM(p, /*spinning=*/true, spare, otherwise);
    return;
  }
  {
    LockGuard guard(sched.lock);
    if (sched.stopping.load(std::memory_order_relaxed)) {
      GiveToStopper(p);
      p = nullptr;
    } else if (sched.global_queue.empty() && p->run_queue.Empty() &&
               // Somebody must wait in the poller.
               sched.last_poll.load(std::memory_order_seq_cst) == 0) {
      PushIdleP(p);
      p = nullptr;
    }
  }
  if (p != nullptr) {
    StartM(p, /*spinning=*/false, spare, otherwise);
    return;
  }
  if (spare != nullptr) ReturnM(spare);
  if (sched.need_spinning.load(std::memory_order_seq_cst)) WakeP();
}

Instant EarliestTimer() {
  Instant earliest = Instant::Never();
  const int count = sched.p_count.load(std::memory_order_acquire);
  for (int i = 0; i < count; ++i) {
    WEFT_DELAY_POINT("proc.earliest_timer");
    const Instant at = sched.ps[i].load(std::memory_order_acquire)->timers.Earliest();
    if (at < earliest) earliest = at;
  }
  return earliest;
}

void WakePollerFor(Instant when) {
  if (sched.last_poll.load(std::memory_order_seq_cst) == 0) {
    const int64_t until = sched.poll_until.load(std::memory_order_seq_cst);
    if (until == 0 || when.nanos() < until) {
      sched.poller.load(std::memory_order_acquire)->Break();
    }
  } else {
    // Somebody who is idle should go and wait there.
    WakeP();
  }
}

}  // namespace weft::internal
