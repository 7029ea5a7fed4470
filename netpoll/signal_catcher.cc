#include "netpoll/signal_catcher.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include "absl/strings/str_cat.h"
#include "netpoll/syscall.h"
#include "sched/fatal.h"
#include "sched/internal/signal_handler.h"

namespace weft::internal {
namespace {

// By the compiler's functions, see signal_handler.h.
SignalSet wanted = 0;
SignalSet pending = 0;
// What Afterwards::kIgnore was said of, until it is caught again. A handler that has been entered
// but has not counted itself yet may begin when all is over: its signal came before, and is ignored
// too.
SignalSet passed_over = 0;
// Handlers of each signal that are between counting themselves and their end.
int in_handler[kSignals + 1];

// Whether the action is not what it was: it is ours, or ignored on our behalf.
std::atomic<SignalSet> changed{0};
struct sigaction original[kSignals + 1];

int wake_fd = -1;
constinit const uint64_t one = 1;

template <typename Function>
void ForEach(SignalSet signals, Function function) {
  for (; signals != 0; signals &= signals - 1) function(__builtin_ctzll(signals) + 1);
}

WEFT_SIGNAL_HANDLER void Handle(int signal);

void Handle(int signal) {
  const int saved_errno = errno;
  const SignalSet bit = SignalSet{1} << (signal - 1);
  __atomic_fetch_add(&in_handler[signal], 1, __ATOMIC_SEQ_CST);
  if ((__atomic_load_n(&wanted, __ATOMIC_SEQ_CST) & bit) != 0) {
    // Release, as all of the pair: TakeCaughtSignals() is where the program learns of it.
    if (__atomic_fetch_or(&pending, bit, __ATOMIC_SEQ_CST) == 0) {
      syscall(SYS_write, wake_fd, &one, sizeof(one));
    }
  } else if ((__atomic_load_n(&passed_over, __ATOMIC_SEQ_CST) & bit) == 0) {
    syscall(SYS_tgkill, syscall(SYS_getpid), syscall(SYS_gettid), signal);
  }
  __atomic_fetch_sub(&in_handler[signal], 1, __ATOMIC_SEQ_CST);
  errno = saved_errno;
}

// In the child of a fork(), which has no runtime: whoever catches signals there does so by itself.
void RestoreInChild() {
  __atomic_store_n(&wanted, 0, __ATOMIC_RELAXED);
  ForEach(changed.load(std::memory_order_relaxed), [](int signal) {
    struct sigaction now;
    if (SetSignalAction(signal, nullptr, &now) == 0 && now.sa_handler == Handle) {
      SetSignalAction(signal, &original[signal], nullptr);
    }
  });
}

// Keeps what it was.
void SetAction(int signal, const struct sigaction& action) {
  const bool first = (changed.load(std::memory_order_relaxed) & SignalBit(signal)) == 0;
  if (first) {
    SetSignalAction(signal, nullptr, &original[signal]);
    changed.fetch_or(SignalBit(signal), std::memory_order_relaxed);
  }
  SetSignalAction(signal, &action, nullptr);
}

}  // namespace

SignalSet CatchableSignals() {
  static const SignalSet signals = [] {
    SignalSet set = ~SignalSet{0};
    for (const int signal : {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
      set &= ~SignalBit(signal);
    }
    // Between the last of the old ones, 31, and those that libc gives to programs are its own.
    for (int signal = 32; signal < SIGRTMIN; ++signal) set &= ~SignalBit(signal);
    return set;
  }();
  return signals;
}

int StartCatchingSignals() {
  wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wake_fd < 0) Fatal(absl::StrCat("signal: eventfd failed: ", strerror(errno)));
  pthread_atfork(nullptr, nullptr, RestoreInChild);
  return wake_fd;
}

void CatchSignals(SignalSet signals) {
  signals &= ~__atomic_load_n(&wanted, __ATOMIC_RELAXED);
  __atomic_fetch_or(&wanted, signals, __ATOMIC_SEQ_CST);
  struct sigaction action = {};
  action.sa_handler = Handle;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  ForEach(signals, [&](int signal) { SetAction(signal, action); });
  // After the actions: what a handler that has found `wanted` clear sends again must find ours.
  __atomic_fetch_and(&passed_over, ~signals, __ATOMIC_SEQ_CST);
}

void ReleaseSignals(SignalSet signals, Afterwards afterwards) {
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  // The action first: a handler that finds `wanted` clear sends the signal again, and had better
  // not get it back.
  ForEach(signals, [&](int signal) {
    if (afterwards == Afterwards::kIgnore) {
      SetAction(signal, ignore);
    } else if ((changed.load(std::memory_order_relaxed) & SignalBit(signal)) != 0) {
      SetSignalAction(signal, &original[signal], nullptr);
      changed.fetch_and(~SignalBit(signal), std::memory_order_relaxed);
    }
  });
  // Before `wanted`, as a handler looks at it afterwards.
  if (afterwards == Afterwards::kIgnore) {
    __atomic_fetch_or(&passed_over, signals, __ATOMIC_SEQ_CST);
  }
  __atomic_fetch_and(&wanted, ~signals, __ATOMIC_SEQ_CST);
  ForEach(signals, [](int signal) {
    while (__atomic_load_n(&in_handler[signal], __ATOMIC_SEQ_CST) != 0) sched_yield();
  });
}

bool IsIgnored(int signal) {
  struct sigaction action;
  return SetSignalAction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

SignalSet TakeCaughtSignals() { return __atomic_exchange_n(&pending, 0, __ATOMIC_SEQ_CST); }

}  // namespace weft::internal
