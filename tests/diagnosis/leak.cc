// A program that leaks goroutines: who asks two servers, and takes the first answer, leaves the
// other one's goroutine behind. To be diagnosed from outside, see debug/README.md.
#include <cstdio>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "sched/goroutine.h"

namespace {

__attribute__((noinline)) void AskServer(int server, weft::Chan<int> answers) {
  weft::Sleep(absl::Microseconds(100 * server));
  answers.Send(server);
  asm volatile("");  // not a call that comes last, for which there would be no frame
}

__attribute__((noinline)) int AskBoth() {
  const weft::Chan<int> answers(0);
  for (int server = 1; server <= 2; ++server) {
    weft::Go([server, answers] { AskServer(server, answers); });
  }
  return *answers.Recv();
}

}  // namespace

int main() {
  return weft::Main([] {
    for (int i = 0; i < 500; ++i) AskBoth();
    std::puts("ready");
    std::fflush(stdout);
    weft::Sleep(absl::Hours(1));
    return 0;
  });
}
