#include "sched/internal/probes.h"

#if WEFT_HAS_PROBES
#define _SDT_HAS_SEMAPHORES 1
// In registers: Clang would put each argument of each probe on the stack.
#define STAP_SDT_ARG_CONSTRAINT r
#include <sys/sdt.h>
#endif

#include <cstdint>

#include "sched/clock.h"
#include "sched/internal/events.h"

#if WEFT_HAS_PROBES
// Their names and their section are what the notes of <sys/sdt.h> refer to.
#define WEFT_SEMAPHORE(event, probe)                                 \
  extern "C" {                                                       \
  __attribute__((section(".probes"), visibility("hidden"),           \
                 used)) unsigned short weft_##probe##_semaphore = 0; \
  }
WEFT_PROBES(WEFT_SEMAPHORE)
#undef WEFT_SEMAPHORE
#endif

namespace weft::internal {

#if WEFT_HAS_PROBES

void FireProbe(int64_t m, EventHead head, uint64_t g, uint64_t other) noexcept {
  const uint32_t arg = head.arg;
  const uint32_t p = head.p;
  // Debuggers reckon where the probes are from this section's place, and lld leaves out, as of no
  // use, what only notes refer to.
  asm volatile(".reloc ., BFD_RELOC_NONE, _.stapsdt.base");
  switch (head.event) {
#define WEFT_FIRE(event, probe)                    \
  case Event::k##event:                            \
    STAP_PROBE5(weft, probe, g, other, arg, p, m); \
    return;
    WEFT_PROBES(WEFT_FIRE)
#undef WEFT_FIRE
    default:
      return;
  }
}

bool FollowProbes(Instant) {
  uint32_t attached = 0;
#define WEFT_LOOK(event, probe) \
  attached |= __atomic_load_n(&weft_##probe##_semaphore, __ATOMIC_RELAXED);
  WEFT_PROBES(WEFT_LOOK)
#undef WEFT_LOOK
  WantEventsByProbes(attached != 0);
  return false;
}

#else

void FireProbe(int64_t, EventHead, uint64_t, uint64_t) noexcept {}
bool FollowProbes(Instant) { return false; }

#endif

}  // namespace weft::internal
