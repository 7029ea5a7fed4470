// A program whose goroutines all queue for one lock, whose holder writes to a slow disk meanwhile.
// To be diagnosed from outside, see debug/README.md.
#include <unistd.h>

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
  // As long as a slow disk takes.
  __attribute__((noinline)) void Flush() {
    const weft::BlockingSection section;
    usleep(20'000);
    asm volatile("");  // not a call that comes last, for which there would be no frame
  }

  weft::Mutex mutex_;
  int last_ ABSL_GUARDED_BY(mutex_) = 0;
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
    std::puts("ready");
    std::fflush(stdout);
    weft::Sleep(absl::Hours(1));
    return 0;
  });
}
