// A program that stands still, and hides why: one of its goroutines reads from somebody who never
// answers. To be diagnosed from outside, see debug/README.md.
#include <unistd.h>

#include <cstdio>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "sched/goroutine.h"

namespace {

struct Job {
  int id = 0;
};

// The peer has accepted, and says nothing.
__attribute__((noinline)) int AskPeer(int fd, const Job& job) {
  char answer = 0;
  const ssize_t n = read(fd, &answer, 1);
  return n == 1 ? job.id + answer : -1;
}

__attribute__((noinline)) void Enrich(weft::Chan<Job> in, weft::Chan<int> out, int fd) {
  for (const Job& job : in) out.Send(AskPeer(fd, job));
}

__attribute__((noinline)) void Produce(weft::Chan<Job> out) {
  for (int i = 0;; ++i) out.Send({i});
}

__attribute__((noinline)) void Collect(weft::Chan<int> in) {
  for (const int result : in) std::printf("%d\n", result);
}

}  // namespace

int main() {
  return weft::Main([] {
    int fds[2];
    if (pipe(fds) != 0) return 1;
    const weft::Chan<Job> jobs(0);
    const weft::Chan<int> results(0);
    const int fd = fds[0];
    weft::Go([jobs] { Produce(jobs); });
    weft::Go([jobs, results, fd] { Enrich(jobs, results, fd); });
    std::puts("ready");
    std::fflush(stdout);
    Collect(results);
    return 0;
  });
}
