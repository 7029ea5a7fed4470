#include "sched/internal/delay.h"

#include <sched.h>
#include <time.h>

#include <atomic>
#include <cstdlib>

namespace weft::internal {
namespace {

std::atomic<DelayHook> delay_hook{nullptr};
std::atomic<uint64_t> seed_of_next_thread{0};

// SplitMix64 (Steele, Lea, Flood, 2014): one add and three mixes a number, any seed will do.
uint64_t NextRandom() {
  static constinit thread_local uint64_t state = 0;
  if (state == 0) {
    state = seed_of_next_thread.fetch_add(0x9e3779b97f4a7c15, std::memory_order_relaxed) | 1;
  }
  uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// What the environment asks for; 0: nothing. Spread out, so that successive numbers differ in more
// than the lowest bits (the multiplier is L'Ecuyer's, 1999).
uint64_t EnvironmentSeed() {
  const char* value = std::getenv("WEFT_DELAY_SEED");
  return value == nullptr ? 0 : std::strtoull(value, nullptr, 10) * 0xd1342543de82ef95;
}

void RandomDelay(const char*) {
  const uint64_t random = NextRandom();
  if (random % 16 == 0) {
    sched_yield();
  } else if (random % 128 == 1) {
    timespec pause = {0, static_cast<long>((random >> 32) % 50'000)};
    nanosleep(&pause, nullptr);
  }
}

}  // namespace

void SetDelayHook(DelayHook hook) {
  if (hook == nullptr && EnvironmentSeed() != 0) hook = RandomDelay;
  delay_hook.store(hook, std::memory_order_release);
}

void EnableRandomDelays(uint64_t seed) {
  seed_of_next_thread.store(seed ^ EnvironmentSeed(), std::memory_order_relaxed);
  SetDelayHook(RandomDelay);
}

__attribute__((noinline)) void DelayPoint(const char* point) {
  // Acquire: pairs with SetDelayHook, for what the hook reads.
  if (DelayHook hook = delay_hook.load(std::memory_order_acquire); hook != nullptr) hook(point);
}

#ifndef NDEBUG
namespace {
[[maybe_unused]] const bool enabled_by_environment = [] {
  if (EnvironmentSeed() != 0) EnableRandomDelays(0);
  return true;
}();
}  // namespace
#endif

}  // namespace weft::internal
