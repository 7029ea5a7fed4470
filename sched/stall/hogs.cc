#include "sched/stall/hogs.h"

#include <fcntl.h>
#include <netdb.h>
#include <semaphore.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/stall/plain_computation.h"
#include "sched/testing.h"
#include "stack/mode.h"
#include "tests/rounds.h"

namespace weft::testing {
namespace {

constexpr int kHogs = 2;

int fds[2];
sem_t semaphore;
std::mutex std_mutex;
absl::Mutex absl_mutex;

void Nothing() {}

void Loop(const std::atomic<bool>& stop) {
  while (!stop.load(std::memory_order_relaxed)) {
  }
}

// Of our own code: the calls look at the guard word.
__attribute__((noinline)) int Fibonacci(int n) {
  return n < 2 ? n : Fibonacci(n - 1) + Fibonacci(n - 2);
}

void Recursion(const std::atomic<bool>& stop) {
  volatile int result;  // or the optimizer leaves the calls out
  while (!stop.load(std::memory_order_relaxed)) result = Fibonacci(27);
  static_cast<void>(result);
}

void PlainComputation(const std::atomic<bool>& stop) {
  // Two seconds at a time, or a tenth of one.
  const int steps = Rounds(400'000, 20'000);
  while (!stop.load(std::memory_order_relaxed)) ComputePlainly(steps);
}

void MakePipe() {
  if (pipe2(fds, O_CLOEXEC) != 0) std::abort();
}

void ReadFromPipe(const std::atomic<bool>&) {
  char byte;
  if (read(fds[0], &byte, 1) != 1) std::abort();
}

void WriteToPipe() {
  if (write(fds[1], "two", kHogs) != kHogs) std::abort();
}

template <int microseconds>
void SleepFor(const std::atomic<bool>& stop) {
  while (!stop.load(std::memory_order_relaxed)) {
    std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
  }
}

// Where no name server answers, one question takes long enough for one repetition of many.
void AskOnce() {
  if (Repeated()) setenv("RES_OPTIONS", "timeout:1 attempts:1", 1);
}

// A name server that never answers would do as well: it sends, and waits in poll().
void GetAddrInfo(const std::atomic<bool>& stop) {
  while (!stop.load(std::memory_order_relaxed)) {
    addrinfo* result = nullptr;
    if (getaddrinfo("no-such-host.invalid", "80", nullptr, &result) == 0) freeaddrinfo(result);
  }
}

void SystemCalls(const std::atomic<bool>& stop) {
  const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  while (!stop.load(std::memory_order_relaxed)) {
    if (write(null, "x", 1) != 1) std::abort();
  }
  close(null);
}

}  // namespace

const std::vector<Hog>& AllHogs() {
  static const auto* const hogs = new std::vector<Hog>{
      {"EmptyLoop", Nothing, Nothing, Loop},
      {"Recursion", Nothing, Nothing, Recursion},
      {"ComputationWithoutOurFlags", Nothing, Nothing, PlainComputation},
      {"SystemCalls", Nothing, Nothing, SystemCalls},
      {"ReadOnAnEmptyPipe", MakePipe, WriteToPipe, ReadFromPipe},
      {"SleepFor", Nothing, Nothing, SleepFor<50'000>},
      {"ShortSleeps", Nothing, Nothing, SleepFor<200>},
      {"GetAddrInfo", AskOnce, Nothing, GetAddrInfo},
      {"StdMutex", [] { std_mutex.lock(); }, [] { std_mutex.unlock(); },
       [](const std::atomic<bool>&) { const std::lock_guard<std::mutex> guard(std_mutex); }},
#if !WEFT_TSAN  // which reports how absl::Mutex hands over between any two threads
      {"AbslMutex", []() ABSL_NO_THREAD_SAFETY_ANALYSIS { absl_mutex.Lock(); },
       []() ABSL_NO_THREAD_SAFETY_ANALYSIS { absl_mutex.Unlock(); },
       [](const std::atomic<bool>&) { const absl::MutexLock lock(&absl_mutex); }},
#endif
      {"SemWait", [] { sem_init(&semaphore, 0, 0); },
       [] {
         for (int i = 0; i < kHogs; ++i) sem_post(&semaphore);
       },
       [](const std::atomic<bool>&) {
         while (sem_wait(&semaphore) != 0) {
         }
       }},
  };
  return *hogs;
}

std::vector<absl::Duration> TickerBeside(const Hog& hog, int count, int* at_it) {
  const int before = SetMaxProcs(1);
  hog.begin();
  std::atomic<bool> stop{false};
  std::atomic<int> left{kHogs};
  for (int i = 0; i < kHogs; ++i) {
    Go([&] {
      hog.run(stop);
      left.fetch_sub(1);
    });
  }
  std::vector<absl::Duration> late;
  RunOnGoroutine([&] {
    for (int i = 0; i < count; ++i) {
      const Instant due = Instant::Now() + absl::Milliseconds(1);
      Sleep(absl::Milliseconds(1));
      late.push_back(Instant::Now() - due);
    }
  });
  *at_it = left.load();
  stop.store(true);
  hog.end();
  if (!Eventually([&] { return left.load() == 0; })) std::abort();
  SetMaxProcs(before);
  std::sort(late.begin(), late.end());
  return late;
}

}  // namespace weft::testing
