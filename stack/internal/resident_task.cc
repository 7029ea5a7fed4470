#include "stack/internal/resident_task.h"

#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>

#include "stack/grow.h"
#include "stack/morestack.h"
#include "stack/residence.h"

namespace weft::stack {

namespace {

struct Run : Resident {
  const std::function<void()>* body = nullptr;
  Context thread;
};

void Begin(void* arg) {
  auto* run = static_cast<Run*>(static_cast<Resident*>(arg));
  (*run->body)();
  SwitchFinal(run->context, run->thread);
}

// What the C++ runtime keeps for a thread's exceptions (the Itanium C++ ABI's __cxa_eh_globals).
struct Exceptions {
  void* caught;
  unsigned int uncaught;
};

Resident* Movable(Context& context) {
  const auto* exceptions = reinterpret_cast<const Exceptions*>(abi::__cxa_get_globals());
  if (exceptions->caught != nullptr || exceptions->uncaught != 0) return nullptr;
  return reinterpret_cast<Resident*>(&context);
}

}  // namespace

void RunAsResident(const std::function<void()>& body, SizeClass size_class) {
  InstallGrowth({.movable = Movable});
  SlotCache cache;
  Run run;
  run.body = &body;
  run.home = Acquire(cache, size_class);
  run.pinned = AcquirePinned(cache);
  if (run.home == nullptr || (kHasPinnedStack && run.pinned == nullptr)) {
    std::fprintf(stderr, "no slot: %s\n", WhyNoSlot());
    std::abort();
  }
  run.home->owner.store(Residence::Runs(run), std::memory_order_relaxed);
  MakeContext(run.context, *run.home, run.pinned, Begin, static_cast<Resident*>(&run));
  Context* const outer = SetThreadContext(&run.thread);
  Switch(run.thread, run.context);
  SetThreadContext(outer);
  DestroyContext(run.context);
  run.home->owner.store(Slot::kFree, std::memory_order_relaxed);
  Release(cache, run.home);
  ReleasePinned(cache, run.pinned);
}

}  // namespace weft::stack
