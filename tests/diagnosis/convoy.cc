// A program whose goroutines all queue for one lock, whose holder writes to a slow disk meanwhile,
// in the end to one that does not answer. To be diagnosed from outside, see debug/README.md.
#include <time.h>

#include <cerrno>
#include <cstdio>

#include "absl/time/time.h"
#include "sched/goroutine.h"
#include "sched/sync/mutex.h"

namespace {

class Journal {
 public:
  __attribute__((noinline)) void Append(int entry) {
    weft::MutexLock lock(mutex_);
    last_ = entry;
    Flush();
  }

 private:
  // As long as a slow disk takes, and then a minute.
  __attribute__((noinline)) void Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const bool answers = ++flushes_ < kMostFlushes;
    if (!answers) {
      std::puts("ready");
      std::fflush(stdout);
    }
    const weft::BlockingSection section;
    // A disk goes on through the signals by which reports ask where a thread is, a sleep does not.
    timespec left = absl::ToTimespec(answers ? absl::Milliseconds(20) : absl::Minutes(1));
    while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
  }

  static constexpr int kMostFlushes = 50;

  weft::Mutex mutex_;
  int last_ ABSL_GUARDED_BY(mutex_) = 0;
  int flushes_ ABSL_GUARDED_BY(mutex_) = 0;
};

__attribute__((noinline)) void Serve(Journal& journal, int client) {
  for (;;) journal.Append(client);
}

}  // namespace

int main() {
  return weft::Main([] {
    Journal journal;
    for (int i = 0; i < 40; ++i) {
      weft::Go([&journal, i] { Serve(journal, i); });
    }
    weft::Sleep(absl::Hours(1));
    return 0;
  });
}
