#include "sched/waiter.h"

#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <new>

#include "sched/internal/contention.h"
#include "sched/internal/delay.h"
#include "sched/internal/futex.h"
#include "sched/internal/lock.h"

namespace weft {
namespace internal {

extern "C" {
thread_local constinit Thread* weft_this_thread = nullptr;
}

__attribute__((noinline)) void SetThisThread(Thread* thread) { weft_this_thread = thread; }

void (*answer_attention)() noexcept = nullptr;
constinit std::atomic<const GoroutineWaitOps*> goroutine_wait_ops{nullptr};
constinit std::atomic<ContentionObserver> contention_observer{nullptr};

namespace {

class ThreadWaiter : public Waiter {
 public:
  ThreadWaiter() : Waiter(Kind::kThread, scratch_space) { thread.waiter = this; }

  Thread thread;
  ThreadWaiter* next_free = nullptr;

 private:
  ScratchSpace scratch_space;
};

// Waiters of threads that have ended. They are handed to new threads and never freed, so that a
// late Unpark() always finds a word to write to.
class ThreadWaiterPool {
 public:
  ThreadWaiter* Get() {
    LockGuard guard(lock_);
    if (free_ == nullptr) return new ThreadWaiter;
    ThreadWaiter* waiter = free_;
    free_ = waiter->next_free;
    return waiter;
  }

  void Put(ThreadWaiter* waiter) {
    LockGuard guard(lock_);
    waiter->next_free = free_;
    free_ = waiter;
  }

 private:
  Lock lock_;
  ThreadWaiter* free_ ABSL_GUARDED_BY(lock_) = nullptr;
};

ThreadWaiterPool& Pool() {
  static ThreadWaiterPool* pool = new ThreadWaiterPool;
  return *pool;
}

// Runs at thread exit, again if a later destructor of the thread has waited once more.
void DetachThread(void* waiter) {
  SetThisThread(nullptr);
  Pool().Put(static_cast<ThreadWaiter*>(waiter));
}

pthread_key_t DetachKey() {
  static const pthread_key_t key = [] {
    pthread_key_t k;
    if (pthread_key_create(&k, DetachThread) != 0) {
      std::fputs("weft: no thread-specific key is left for the thread waiters\n", stderr);
      std::abort();
    }
    return k;
  }();
  return key;
}

// Not inlined, or a goroutine's wait would have its locals on the pinned stack.
__attribute__((noinline)) bool ThreadParkUntil(Waiter* self, Instant deadline) noexcept {
  if (WaiterProtocol::TakeToken(*self)) return true;
  if (deadline <= Instant::Now()) return false;
  if (!WaiterProtocol::Publish(*self)) return true;
  std::atomic<uint32_t>& word = WaiterProtocol::word(*self);
  for (;;) {
    FutexWait(word, WaiterProtocol::kWait, deadline);
    // Acquire: pairs with the waker's release in Give().
    if (word.load(std::memory_order_acquire) != WaiterProtocol::kWait) return true;
    if (!deadline.IsNever() && Instant::Now() >= deadline) {
      return !WaiterProtocol::Withdraw(*self);
    }
  }
}

void Ready(Waiter* waiter) noexcept {
  if (waiter->kind() == Waiter::Kind::kGoroutine) {
    WaitOps().ready(waiter);
  } else {
    FutexWake(WaiterProtocol::word(*waiter), 1);
  }
}

}  // namespace
}  // namespace internal

const char* WaitReasonName(WaitReason reason) {
  switch (reason) {
    case WaitReason::kNone:
      return "";
    case WaitReason::kIoWait:
      return "IO wait";
    case WaitReason::kChanReceiveNilChan:
      return "chan receive (nil chan)";
    case WaitReason::kChanSendNilChan:
      return "chan send (nil chan)";
    case WaitReason::kSelect:
      return "select";
    case WaitReason::kSelectNoCases:
      return "select (no cases)";
    case WaitReason::kChanReceive:
      return "chan receive";
    case WaitReason::kChanSend:
      return "chan send";
    case WaitReason::kSemacquire:
      return "semacquire";
    case WaitReason::kSleep:
      return "sleep";
    case WaitReason::kCondWait:
      return "sync.Cond.Wait";
    case WaitReason::kMutexLock:
      return "sync.Mutex.Lock";
    case WaitReason::kRWMutexRLock:
      return "sync.RWMutex.RLock";
    case WaitReason::kRWMutexLock:
      return "sync.RWMutex.Lock";
    case WaitReason::kWaitGroupWait:
      return "sync.WaitGroup.Wait";
  }
  return "unknown wait reason";
}

void WakeBatch::PushBack(Waiter* waiter) {
  waiter->next_ = nullptr;
  if (tail == nullptr) {
    head = waiter;
  } else {
    tail->next_ = waiter;
  }
  tail = waiter;
  ++size;
}

Waiter* WakeBatch::PopFront() {
  Waiter* waiter = head;
  if (waiter == nullptr) return nullptr;
  head = waiter->next_;
  if (head == nullptr) tail = nullptr;
  --size;
  return waiter;
}

Waiter* Waiter::AttachThread() noexcept {
  internal::Thread* thread = internal::ThisThread();
  if (thread != nullptr && thread->runs_goroutines) {
    std::fputs("fatal error: a timer or poller callback tried to wait on a scheduler stack\n",
               stderr);
    std::abort();
  }
  internal::ThreadWaiter* waiter = internal::Pool().Get();
  pthread_setspecific(internal::DetachKey(), waiter);
  internal::SetThisThread(&waiter->thread);
  return waiter;
}

void Waiter::Park(WaitReason reason) noexcept {
  if (kind_ == Kind::kGoroutine) {
    internal::WaitOps().park(this, reason);
    return;
  }
  internal::ThreadParkUntil(this, Instant::Never());
}

bool Waiter::ParkUntil(Instant deadline, WaitReason reason) noexcept {
  if (deadline.IsNever()) {
    Park(reason);
    return true;
  }
  if (kind_ == Kind::kGoroutine) {
    return internal::WaitOps().park_until(this, deadline, reason);
  }
  return internal::ThreadParkUntil(this, deadline);
}

void Waiter::Unpark() noexcept {
  if (WaiterProtocol::Give(*this)) internal::Ready(this);
}

void Waiter::UnparkInto(WakeBatch& batch) {
  if (!WaiterProtocol::Give(*this)) return;
  if (kind_ == Kind::kGoroutine) {
    batch.PushBack(this);
  } else {
    internal::Ready(this);
  }
}

void* Waiter::LargerScratch(size_t bytes) noexcept {
  // The outgrown block stays: a waker of an earlier wait may still be reading it. Sizes double, so
  // all blocks of a waiter together are less than twice the largest. Each hangs on the next larger
  // one, so that leak checkers find it.
  constexpr size_t kLinkBytes = 16;
  uint32_t size = scratch_bytes_;
  while (size < bytes) size *= 2;
  auto* block = static_cast<std::byte*>(::operator new(kLinkBytes + size));
  ::new (static_cast<void*>(block)) void*(scratch_);
  scratch_ = block + kLinkBytes;
  scratch_bytes_ = size;
  return scratch_;
}

}  // namespace weft
