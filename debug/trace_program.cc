// For trace_test: programs whose traces are known.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "debug/trace.h"
#include "sched/clock.h"
#include "sched/fatal.h"
#include "sched/goroutine.h"

namespace {

void ComputeFor(absl::Duration duration) {
  const weft::Instant end = weft::Instant::Now() + duration;
  while (weft::Instant::Now() < end) {
  }
}

// A producer that computes 5 ms for each of four messages, and a consumer that computes 2 ms.
void Pipeline() {
  const weft::debug::Task task("pipeline");
  weft::Chan<int> messages(0);
  weft::Chan<int> done(0);
  weft::Go({.name = "consumer"}, [&task, messages, done] {
    for (const int n : messages) {
      const weft::debug::Region region("consume", &task);
      weft::debug::Log("got", std::to_string(n), &task);
      ComputeFor(absl::Milliseconds(2));
    }
    done.Send(0);
  });
  for (int i = 0; i < 4; ++i) {
    const weft::debug::Region region("produce");
    ComputeFor(absl::Milliseconds(5));
    messages.Send(i);
  }
  messages.Close();
  done.Recv();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  return weft::Main([&] {
    Pipeline();
    // Until somebody ends it, or as long as that takes.
    for (int i = 0; what == "long" && i < 300; ++i) Pipeline();
    if (what == "fatal") weft::Fatal("it was to be so");
    if (what == "deadlock") weft::Chan<int>(0).Recv();
    if (what == "exit") std::exit(3);
    return 0;
  });
}
