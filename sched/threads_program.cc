// The programs that lock_os_thread_test runs, by name: `threads_program NAME`.
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/time/time.h"
#include "sched/goroutine.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace {

void ParkForEver() {
  for (;;) weft::Waiter::Current()->Park(weft::WaitReason::kSelectNoCases);
}

int LockedDeadlock() {
  weft::LockOSThread();
  ParkForEver();
  return 0;
}

int LockedDeadlock2() {
  weft::Go([] {
    weft::LockOSThread();
    ParkForEver();
  });
  weft::Sleep(absl::Milliseconds(1));
  ParkForEver();
  return 0;
}

int LockedMainExitsDeadlock() {
  weft::LockOSThread();
  weft::Exit();
}

int LockedMainExits() {
  weft::LockOSThread();
  const long main_thread = syscall(SYS_gettid);
  weft::Go([main_thread] {
    for (int i = 0; i < 20; ++i) {
      weft::Sleep(absl::Milliseconds(1));
      if (syscall(SYS_gettid) == main_thread) _exit(3);
    }
    std::puts("OK");
    std::exit(0);
  });
  weft::Exit();
}

// main() has memory of its own, and its thread is busy with a goroutine as the process ends.
int ExitWhileMainComputes() {
  weft::SetMaxProcs(2);
  weft::Go([] {
    std::puts("OK");
    std::exit(0);
  });
  for (;;) asm volatile("");
}

// So has a goroutine that waits for ever.
int ExitWhileOthersWait() {
  for (int i = 0; i < 100; ++i) {
    weft::Go([i] {
      const std::string own(static_cast<size_t>(100 + i), 'x');
      if (own.find('y') == std::string::npos) ParkForEver();
    });
  }
  weft::Sleep(absl::Milliseconds(10));
  std::puts("OK");
  return 0;
}

// Waits until MaxProcs() is `wanted`, not idly. False: it did not come.
bool Becomes(int wanted, absl::Duration limit) {
  const absl::Duration step = absl::Milliseconds(weft::testing::Rounds(1, 5));
  for (absl::Duration waited; weft::MaxProcs() != wanted; waited += step) {
    if (waited > limit) return false;
    weft::Sleep(step);
  }
  return true;
}

// Takes all processors but one from the program's first thread, and gives them back.
int FollowAffinity() {
  cpu_set_t all;
  if (sched_getaffinity(getpid(), sizeof(all), &all) != 0) return 1;
  const int count = CPU_COUNT(&all);
  if (count < 2) {
    std::puts("OK");
    return 0;
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  }
  if (weft::MaxProcs() < 2) return 2;  // the cgroup's quota gives two at least
  const int usual = weft::MaxProcs();
  if (sched_setaffinity(getpid(), sizeof(one), &one) != 0) return 3;
  if (!Becomes(1, absl::Seconds(20))) return 4;
  if (sched_setaffinity(getpid(), sizeof(all), &all) != 0) return 5;
  if (!Becomes(usual, absl::Seconds(20))) return 6;
  // Who sets it decides from then on, even if the number is the same.
  weft::SetMaxProcs(usual);
  if (sched_setaffinity(getpid(), sizeof(one), &one) != 0) return 7;
  if (Becomes(1, absl::Seconds(2))) return 8;
  if (weft::SetDefaultMaxProcs() != usual || weft::MaxProcs() != 1) return 9;
  std::puts("OK");
  return 0;
}

int ThreadExhaustion() {
  weft::SetMaxThreads(10);
  for (int i = 0; i < 100; ++i) {
    weft::Go([] {
      weft::LockOSThread();
      ParkForEver();
    });
  }
  for (int i = 0; i < 1'000; ++i) weft::Sleep(absl::Milliseconds(1));
  return 0;
}

}  // namespace

int main(int, char** argv) {
  const std::string name = argv[1];
  return weft::Main([&name]() -> int {
    if (name == "locked-deadlock") return LockedDeadlock();
    if (name == "locked-deadlock-2") return LockedDeadlock2();
    if (name == "locked-main-exits-deadlock") return LockedMainExitsDeadlock();
    if (name == "locked-main-exits") return LockedMainExits();
    if (name == "exit-while-main-computes") return ExitWhileMainComputes();
    if (name == "exit-while-others-wait") return ExitWhileOthersWait();
    if (name == "follow-affinity") return FollowAffinity();
    if (name == "thread-exhaustion") return ThreadExhaustion();
    std::fprintf(stderr, "no program %s\n", name.c_str());
    return 64;
  });
}
