// Exits with 7 while goroutines, timers and a thread are at work: `exit_program WHO`, where WHO
// says who exits, and how.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "sched/goroutine.h"
#include "sched/sync/mutex.h"

namespace {

constexpr int kStatus = 7;

// What a program's own handlers and statics do at its end uses the runtime still.
struct Static {
  ~Static() {
    const weft::MutexLock lock(mutex);
    weft::Yield();
  }
  weft::Mutex mutex;
} used_at_exit;

void StartWork() {
  std::atexit([] { weft::Sleep(absl::Milliseconds(1)); });
  for (int i = 0; i < 8; ++i) {
    weft::Go([i] {
      for (;;) {
        if (i % 2 == 0) weft::Sleep(absl::Microseconds(30));
        weft::Go([] { weft::Yield(); });
        weft::BlockingSection section;
      }
    });
  }
  std::thread([] {
    for (;;) {
      weft::Go([] {});
      absl::SleepFor(absl::Microseconds(50));
    }
  }).detach();
  absl::SleepFor(absl::Milliseconds(3));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string who = argc > 1 ? argv[1] : "";
  if (who == "main") {
    return weft::Main([] {
      StartWork();
      return kStatus;
    });
  }
  StartWork();
  if (who == "exit") std::exit(kStatus);
  if (who == "goroutine") {
    weft::Go([] { std::exit(kStatus); });
    for (;;) pause();
  }
  if (who == "child") {
    const pid_t pid = fork();
    if (pid == 0) std::exit(kStatus);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  }
  return kStatus;
}
