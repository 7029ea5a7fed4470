// What may end a wait before what it waits for has come: a Context's cancellation, for the locks
// here, which lie below contexts and know nothing of them.
//
//   const Interruption interruption = InterruptionOf(context);   // found beside the context's
//   class if (!interruption.ops->arm(interruption.object, self, space)) return;   // it has come
//   already while (!done && !interruption.ops->has_come(space)) self->Park(reason);
//   interruption.ops->disarm(interruption.object, space);
#ifndef WEFT_SCHED_SYNC_INTERNAL_INTERRUPTION_H_
#define WEFT_SCHED_SYNC_INTERNAL_INTERRUPTION_H_

#include <cstddef>

#include "sched/waiter.h"

namespace weft::internal {

struct InterruptionOps {
  // Has `waiter` unparked when it comes. False: it has come before; then nothing is armed. `space`
  // is kInterruptionBytes of the waiter's scratch memory, undisturbed until disarm().
  bool (*arm)(void* object, Waiter* waiter, void* space);
  bool (*has_come)(const void* space);
  // Once for each arm(), by the waiter: the space is its own again. Whether it has come. May park.
  bool (*disarm)(void* object, void* space);
};

inline constexpr size_t kInterruptionBytes = 64;

// Passed by value, so that who waits gives away no address of its stack. `object` is kept alive by
// the caller. Null ops: it never comes.
struct Interruption {
  const InterruptionOps* ops = nullptr;
  void* object = nullptr;
};

// Something with a Done() and an Err(), such as weft::Context.
template <typename T>
concept Interrupting = requires(const T& context) {
  { InterruptionOf(context) };
  context.Err();
};

}  // namespace weft::internal

#endif  // WEFT_SCHED_SYNC_INTERNAL_INTERRUPTION_H_
