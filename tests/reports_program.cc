// The programs that reports_test runs, by name: `reports_program NAME`. Most of them die.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "sched/clock.h"
#include "sched/fatal.h"
#include "sched/goroutine.h"
#include "sched/timer.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace reports {

void ParkForEver(weft::WaitReason reason) {
  for (;;) weft::Waiter::Current()->Park(reason);
}

using weft::testing::Shortened;

// In the system, unknown to the runtime.
void BlockFor(absl::Duration time) {
  std::this_thread::sleep_for(absl::ToChronoMilliseconds(Shortened(time)));
}

void Print(const char* text) {
  for (; *text != '\0'; ++text) {
    if (write(STDOUT_FILENO, text, 1) != 1) std::abort();
  }
}

// --- deadlocks ---

int Deadlock() {
  ParkForEver(weft::WaitReason::kSelectNoCases);
  return 0;
}

int DeadlockOfMany() {
  for (int i = 0; i < 3; ++i) {
    weft::Go([] { ParkForEver(weft::WaitReason::kChanReceive); });
  }
  weft::Go([] { ParkForEver(weft::WaitReason::kMutexLock); });
  weft::Sleep(absl::Milliseconds(5));
  ParkForEver(weft::WaitReason::kSemacquire);
  return 0;
}

// After a load that has made many threads, and sections that have handed Ps on.
int DeadlockAfterLoad() {
  for (int i = 0; i < 50; ++i) {
    weft::Go([] {
      weft::BlockingSection section(weft::BlockingSection::Expect::kLong);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    });
  }
  weft::Sleep(absl::Milliseconds(30));
  ParkForEver(weft::WaitReason::kChanSend);
  return 0;
}

// The last one that could wake main is a plain thread, which ends without doing so.
int DeadlockWhenThreadsAreGone() {
  std::thread([] { BlockFor(absl::Milliseconds(300)); }).detach();
  ParkForEver(weft::WaitReason::kSelect);
  return 0;
}

// ... or does.
int WokenByThread() {
  std::atomic<bool> woken{false};
  weft::Waiter* self = weft::Waiter::Current();
  std::thread thread([&] {
    BlockFor(absl::Milliseconds(400));
    woken.store(true);
    self->Unpark();
  });
  while (!woken.load()) self->Park(weft::WaitReason::kSelect);
  thread.join();
  Print("woken\n");
  return 0;
}

int WokenFromBlockingSection() {
  std::atomic<bool> woken{false};
  weft::Waiter* self = weft::Waiter::Current();
  weft::Go([&woken, self] {
    {
      weft::BlockingSection section(weft::BlockingSection::Expect::kLong);
      BlockFor(absl::Milliseconds(300));
    }
    woken.store(true);
    self->Unpark();
  });
  while (!woken.load()) self->Park(weft::WaitReason::kSelect);
  Print("woken\n");
  return 0;
}

// A thread that blocks without saying so holds its P.
int WokenFromPlainBlocking() {
  std::atomic<bool> woken{false};
  weft::Waiter* self = weft::Waiter::Current();
  weft::Go([&woken, self] {
    BlockFor(absl::Milliseconds(300));
    woken.store(true);
    self->Unpark();
  });
  while (!woken.load()) self->Park(weft::WaitReason::kSelect);
  Print("woken\n");
  return 0;
}

// ... as does one that computes and never calls the runtime.
int WokenFromComputing() {
  std::atomic<bool> woken{false};
  weft::Waiter* self = weft::Waiter::Current();
  weft::Go([&woken, self] {
    const weft::Instant end = weft::Instant::Now() + Shortened(absl::Milliseconds(300));
    while (weft::Instant::Now() < end) {
    }
    woken.store(true);
    self->Unpark();
  });
  while (!woken.load()) self->Park(weft::WaitReason::kSelect);
  Print("woken\n");
  return 0;
}

int WokenByTimer() {
  weft::Go([] { weft::Sleep(Shortened(absl::Milliseconds(300))); });
  weft::Sleep(Shortened(absl::Milliseconds(400)));
  Print("woken\n");
  return 0;
}

int SleepForEver() {
  weft::Sleep(absl::InfiniteDuration());
  return 0;
}

int PendingTimer() {
  static weft::CallbackTimer timer([](weft::CallbackTimer&) {});
  timer.Start(weft::Instant::Now() + absl::Hours(1));
  ParkForEver(weft::WaitReason::kSelect);
  return 0;
}

int StoppedTimer() {
  static weft::CallbackTimer timer([](weft::CallbackTimer&) {});
  timer.Start(weft::Instant::Now() + absl::Hours(1));
  weft::Sleep(absl::Milliseconds(20));
  timer.Stop();
  ParkForEver(weft::WaitReason::kSelect);
  return 0;
}

int MainExits() {
  std::atexit([] { Print("exit handler\n"); });
  weft::Go([] {
    weft::Sleep(absl::Milliseconds(5));
    Print("other\n");
  });
  weft::Exit();
}

// --- exceptions ---

int PanicInMain() { throw std::runtime_error("test"); }

__attribute__((noinline)) void ThrowDeep(int depth) {
  if (depth == 0) throw std::logic_error("crash");
  ThrowDeep(depth - 1);
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

__attribute__((noinline)) void StartTheOne() {
  weft::Go({.name = "the one"}, [] { ThrowDeep(3); });
}

int PanicInGoroutine() {
  StartTheOne();
  ParkForEver(weft::WaitReason::kSelect);
  return 0;
}

__attribute__((noinline)) void ThrowInThread() { throw std::runtime_error("in a thread"); }

int PanicInThread() {
  std::thread([] { ThrowInThread(); }).join();
  return 0;
}

struct Odd {};

// Throws from where the compiler does not see it.
template <typename E>
__attribute__((noinline)) void Throw(E e) {
  static volatile bool always = true;
  if (always) throw e;
}

// Its destructor may throw, which others' must not.
struct ThrowsInTheEnd {
  __attribute__((noinline)) ~ThrowsInTheEnd() noexcept(false) { throw std::string("hello"); }
};

int PanicAfterExit() {
  const ThrowsInTheEnd cleanup;
  weft::Exit();
}

int PanicWithString() { throw std::string("a string"); }
int PanicWithLiteral() { throw "a literal"; }
int PanicWithNumber() { throw 42; }
int PanicWithType() { throw Odd(); }

int PanicFromNoexcept() {
  []() noexcept { Throw(std::runtime_error("escaped")); }();
  return 0;
}

int PanicWhileHandling() {
  try {
    throw std::runtime_error("first");
  } catch (const std::exception&) {
    throw std::runtime_error("second");
  }
}

int Terminates() { std::terminate(); }

struct ErrorThatYields : std::exception {
  const char* what() const noexcept override {
    for (int i = 0; i < 10; ++i) weft::Yield();
    weft::Sleep(absl::Milliseconds(1));
    return "errorThatGosched";
  }
};
int PanicThatYields() {
  for (int i = 0; i < 4; ++i) {
    weft::Go([] {
      for (;;) weft::Yield();
    });
  }
  throw ErrorThatYields();
}

// While one says what it has to say, others want to say something too, and there is one P.
int PanicsThatYield() {
  for (int i = 0; i < 4; ++i) {
    weft::Go([] { throw ErrorThatYields(); });
  }
  throw ErrorThatYields();
}

struct ErrorThatPrints : std::exception {
  const char* what() const noexcept override {
    const char* lines = "1\n2\n";
    weft::BlockingSection section(weft::BlockingSection::Expect::kLong);
    if (write(STDERR_FILENO, lines, 4) != 4) std::abort();
    return "3";
  }
};
int PanicThatPrints() { throw ErrorThatPrints(); }

struct ErrorThatBlocks : std::exception {
  const char* what() const noexcept override {
    weft::BlockingSection section(weft::BlockingSection::Expect::kLong);
    BlockFor(absl::Milliseconds(300));
    return "took its time";
  }
};
int PanicThatBlocks() { throw ErrorThatBlocks(); }

struct ErrorThatThrows : std::exception {
  const char* what() const noexcept override {
    Throw(std::string("important\nmessage"));
    return "";
  }
};
int PanicWhilePanicking() { throw ErrorThatThrows(); }

struct ErrorThatThrowsItself : std::exception {
  const char* what() const noexcept override {
    Throw(ErrorThatThrowsItself());
    return "";
  }
};
int PanicLoop() { throw ErrorThatThrowsItself(); }

__attribute__((noinline)) void Crasher() {
  ThrowDeep(2);
  std::atomic_signal_fence(std::memory_order_seq_cst);  // no tail call: it is to be in the trace
}

int PanicRace() {
  weft::Go([] { Crasher(); });
  for (int i = 0; i < 20; ++i) weft::Yield();
  return 0;
}

int ManyPanics() {
  for (int i = 0; i < 20; ++i) {
    weft::Go([] { throw std::runtime_error("one of many"); });
  }
  ParkForEver(weft::WaitReason::kSelect);
  return 0;
}

// --- misuse ---

int GoOfNothing() {
  weft::Go(std::function<void()>());
  return 0;
}

int ExitOnThread() {
  std::thread([] { weft::Exit(); }).join();
  return 0;
}

int FatalText() { weft::Fatal("a broken rule"); }
int PanicText() { weft::Panic("send on closed channel"); }

// --- the end, and what comes after ---

int Returns7() {
  // Whatever the others are doing.
  for (int i = 0; i < 100; ++i) {
    weft::Go([] {
      for (;;) weft::Yield();
    });
    weft::Go([] { ParkForEver(weft::WaitReason::kSelect); });
  }
  return 7;
}

// Exit handlers and destructors of statics may use the runtime as any code may.
struct UsesRuntimeAtExit {
  ~UsesRuntimeAtExit() {
    std::atomic<int> ran{0};
    for (int i = 0; i < 10; ++i) weft::Go([&] { ran.fetch_add(1); });
    while (ran.load() < 10) weft::Yield();
    weft::Sleep(absl::Milliseconds(1));
    Print("destructor\n");
  }
};

int UsedAtExit() {
  static UsesRuntimeAtExit uses;
  std::atexit([] {
    std::atomic<bool> ran{false};
    weft::Waiter* self = weft::Waiter::Current();
    weft::Go([&ran, self] {
      ran.store(true);
      self->Unpark();
    });
    while (!ran.load()) self->Park(weft::WaitReason::kSelect);
    Print("exit handler\n");
  });
  return 3;
}

int SignalsAreNotBlocked() {
  // On threads that the monitor has started, and others.
  std::atomic<int> left{200};
  std::atomic<int> blocked{0};
  for (int i = 0; i < 200; ++i) {
    weft::Go([&] {
      {
        weft::BlockingSection section;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      sigset_t mask;
      pthread_sigmask(SIG_SETMASK, nullptr, &mask);
      for (const int signal : {SIGINT, SIGTERM, SIGSEGV, SIGUSR1, SIGCHLD}) {
        if (sigismember(&mask, signal)) blocked.fetch_add(1);
      }
      left.fetch_sub(1);
    });
  }
  while (left.load() > 0) weft::Sleep(absl::Milliseconds(1));
  return blocked.load() == 0 ? 0 : 1;
}

int IgnoresSigpipe() {
  int fds[2];
  if (pipe(fds) != 0) return 2;
  close(fds[0]);
  return write(fds[1], "x", 1) == -1 && errno == EPIPE ? 0 : 1;
}

int NothingToSay() { return 0; }

// A program that is not Main()'s: its threads may do anything yet, so nobody says that it is stuck.
int Embedded() {
  for (int i = 0; i < 3; ++i) {
    weft::Go([] { ParkForEver(weft::WaitReason::kChanReceive); });
  }
  BlockFor(absl::Milliseconds(400));
  Print("still here\n");
  return 0;
}

const std::map<std::string, int (*)()>& Programs() {
  static const auto* programs = new std::map<std::string, int (*)()>{
      {"deadlock", Deadlock},
      {"deadlock-many", DeadlockOfMany},
      {"deadlock-after-load", DeadlockAfterLoad},
      {"deadlock-threads-gone", DeadlockWhenThreadsAreGone},
      {"deadlock-stopped-timer", StoppedTimer},
      {"woken-by-thread", WokenByThread},
      {"woken-from-section", WokenFromBlockingSection},
      {"woken-from-plain-blocking", WokenFromPlainBlocking},
      {"woken-from-computing", WokenFromComputing},
      {"woken-by-timer", WokenByTimer},
      {"sleep-for-ever", SleepForEver},
      {"pending-timer", PendingTimer},
      {"main-exits", MainExits},
      {"panic-main", PanicInMain},
      {"panic-goroutine", PanicInGoroutine},
      {"panic-thread", PanicInThread},
      {"panic-after-exit", PanicAfterExit},
      {"panic-string", PanicWithString},
      {"panic-literal", PanicWithLiteral},
      {"panic-number", PanicWithNumber},
      {"panic-type", PanicWithType},
      {"panic-noexcept", PanicFromNoexcept},
      {"panic-handling", PanicWhileHandling},
      {"terminate", Terminates},
      {"panic-yields", PanicThatYields},
      {"panics-yield", PanicsThatYield},
      {"panic-prints", PanicThatPrints},
      {"panic-blocks", PanicThatBlocks},
      {"panic-while-panicking", PanicWhilePanicking},
      {"panic-loop", PanicLoop},
      {"panic-race", PanicRace},
      {"panic-many", ManyPanics},
      {"go-nothing", GoOfNothing},
      {"exit-on-thread", ExitOnThread},
      {"fatal-text", FatalText},
      {"panic-text", PanicText},
      {"returns-7", Returns7},
      {"used-at-exit", UsedAtExit},
      {"signals", SignalsAreNotBlocked},
      {"sigpipe", IgnoresSigpipe},
      {"nothing", NothingToSay},
  };
  return *programs;
}

}  // namespace reports

// A goroutine from before main(): the runtime must come up in static initialization.
std::atomic<int> early_runs{0};
const bool early = [] {
  if (std::getenv("EARLY") != nullptr) {
    for (int i = 0; i < 10; ++i) weft::Go([] { early_runs.fetch_add(1); });
  }
  return true;
}();

int main(int argc, char** argv) {
  if (argc != 2) return 64;
  if (std::string(argv[1]) == "embedded") return reports::Embedded();
  const auto program = reports::Programs().find(argv[1]);
  if (program == reports::Programs().end()) return 64;
  if (std::getenv("EARLY") != nullptr) {
    while (early_runs.load() < 10) weft::Yield();
  }
  return weft::Main([&] { return program->second(); });
}
