// Prints how many nodes the scheduler has Ps in.
#include <cstdio>

#include "sched/goroutine.h"
#include "sched/snapshot.h"

int main() {
  return weft::Main([] {
    std::printf("%d nodes\n", weft::GetSchedSnapshot().nodes);
    return 0;
  });
}
