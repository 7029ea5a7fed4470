// The programs that lock_os_thread_test runs, by name: `threads_program NAME`.
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/time/time.h"
#include "sched/goroutine.h"
#include "sched/waiter.h"

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
    if (name == "thread-exhaustion") return ThreadExhaustion();
    std::fprintf(stderr, "no program %s\n", name.c_str());
    return 64;
  });
}
