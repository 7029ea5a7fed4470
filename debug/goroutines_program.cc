// What goroutines_test looks at: goroutines in all states. Prints a line when they are in them, and
// then, with the argument `quit` or `ignore`, sends itself SIGQUIT, which it ignores or does not.
// With `fork` it sends it to a child, and prints what ended that.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "sched/goroutine.h"

namespace {

std::atomic<int> ready{0};
std::atomic<bool> stop{false};

__attribute__((noinline)) void ReceiveForEver(weft::Chan<int> from) {
  ready.fetch_add(1);
  from.Recv();
  asm volatile("");  // not a call that comes last, for which there would be no frame
}

__attribute__((noinline)) void ComputeForEver() {
  ready.fetch_add(1);
  while (!stop.load(std::memory_order_relaxed)) {
  }
}

__attribute__((noinline)) void BlockForEver() {
  const weft::BlockingSection section;
  ready.fetch_add(1);
  for (;;) pause();
}

}  // namespace

int main(int argc, char** argv) {
  const bool ignores = argc > 1 && std::strcmp(argv[1], "ignore") == 0;
  if (ignores) signal(SIGQUIT, SIG_IGN);
  return weft::Main([&] {
    const weft::Chan<int> never(0);
    weft::Go([never] { ReceiveForEver(never); });
    weft::Go([] { ComputeForEver(); });
    weft::Go([] { BlockForEver(); });
    while (ready.load() < 3) weft::Sleep(absl::Milliseconds(1));
    if (argc > 1 && std::strcmp(argv[1], "fork") == 0) {
      const pid_t child = fork();
      if (child == 0) {
        kill(getpid(), SIGQUIT);
        _exit(0);
      }
      int status = 0;
      waitpid(child, &status, 0);
      std::printf("signal %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
      return 0;
    }
    if (argc > 2) stop.store(true);  // nobody does, but the compiler cannot know
    std::puts("ready");
    std::fflush(stdout);
    if (argc > 1) kill(getpid(), SIGQUIT);
    if (ignores) {
      weft::Sleep(absl::Milliseconds(100));
      return 0;
    }
    weft::Sleep(absl::Hours(1));
    return 0;
  });
}
