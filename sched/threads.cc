// The threads of the Ms: made when there is a P to run and no M that sleeps, put to sleep when
// there is none, woken with a P in hand. They are not ended.
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "sched/internal/futex.h"
#include "sched/internal/runtime.h"

namespace weft::internal {
namespace {

constexpr size_t kSchedulerStackBytes = 512 << 10;

void SleepOn(std::atomic<uint32_t>& word) {
  // Acquire: pairs with WakeOn(), for next_p and the like.
  while (word.load(std::memory_order_acquire) == 0) FutexWait(word, 0);
  word.store(0, std::memory_order_relaxed);
}

void WakeOn(std::atomic<uint32_t>& word) {
  word.store(1, std::memory_order_release);
  FutexWake(word, 1);
}

M* PopIdleM() ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock) {
  M* m = sched.idle_ms;
  if (m == nullptr) return nullptr;
  sched.idle_ms = m->next_idle;
  sched.idle_m_count.fetch_sub(1, std::memory_order_relaxed);
  return m;
}

void* ThreadMain(void* arg) {
  M* m = static_cast<M*>(arg);
  prctl(PR_SET_NAME, "weft-m");
  // Not that of whoever made this thread: the monitor blocks all signals, and goroutines must not
  // find theirs blocked at random, nor hand that on to their children.
  pthread_sigmask(SIG_SETMASK, &sched.signal_mask, nullptr);
  AcquireP(m, m->next_p);
  m->next_p = nullptr;
  RunScheduler(m);
}

// A new thread for `p`. False: the system has none.
bool CreateM(P* p, bool spinning) {
  M* m = new M;
  m->next_p = p;
  m->spinning = spinning;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attr, kSchedulerStackBytes);
  pthread_t thread;
  const int error = pthread_create(&thread, &attr, ThreadMain, m);
  pthread_attr_destroy(&attr);
  if (error == 0) return true;
  // The M was never seen by anybody.
  sched.m_count.fetch_sub(1, std::memory_order_relaxed);
  delete m;
  if (sched.m_count.load(std::memory_order_relaxed) == 0) {
    std::fprintf(stderr, "weft: cannot create the first scheduler thread: %s\n",
                 std::strerror(error));
    std::exit(2);
  }
  return false;
}

}  // namespace

M::M() {
  runs_goroutines = true;
  attn.store(InitialAttention(), std::memory_order_relaxed);
  in_runtime.store(1, std::memory_order_relaxed);
  LockGuard guard(sched.lock);
  static int64_t next_id = 0;
  id = next_id++;
  random = static_cast<uint32_t>(id) * 2654435761u | 1;
  sched.m_count.fetch_add(1, std::memory_order_relaxed);
}

void StopM(M* m) {
  sched.lock.Acquire();
  m->next_idle = sched.idle_ms;
  sched.idle_ms = m;
  sched.idle_m_count.fetch_add(1, std::memory_order_relaxed);
  sched.lock.Release();
  SleepOn(m->wake);
  AcquireP(m, m->next_p);
  m->next_p = nullptr;
}

void StartM(P* p, bool spinning) {
  M* m;
  {
    LockGuard guard(sched.lock);
    if (p == nullptr) {
      p = sched.stopping.load(std::memory_order_relaxed) ? nullptr : PopIdleP();
      if (p == nullptr) {
        if (spinning) sched.spinning.fetch_sub(1, std::memory_order_seq_cst);
        return;
      }
    }
    m = PopIdleM();
  }
  if (m != nullptr) {
    m->spinning = spinning;
    m->next_p = p;
    WakeOn(m->wake);
    return;
  }
  if (!CreateM(p, spinning)) {
    // No thread: the P waits, with its queue, for those that there are.
    LockGuard guard(sched.lock);
    PushIdleP(p);
    if (spinning) sched.spinning.fetch_sub(1, std::memory_order_seq_cst);
  }
}

}  // namespace weft::internal
