// The shared object of dso_test.

#include <cstddef>
#include <stdexcept>

namespace {

volatile int opaque = 1;

__attribute__((noinline)) int Recurse(int depth) {
  volatile char frame[256];
  frame[0] = 1;
  return depth == 0 ? 0 : Recurse(depth - 1) + frame[0];
}

// Calls park(arg) at each depth, on the way down and on the way up.
__attribute__((noinline)) int ParkBelow(int depth, void (*park)(void*), void* arg) {
  volatile char frame[64];
  frame[0] = 2;
  park(arg);
  const int below = depth == 0 ? 0 : ParkBelow(depth - 1, park, arg);
  park(arg);
  return below + frame[0];
}

}  // namespace

extern "C" {

int weft_test_park(int depth, void (*park)(void*), void* arg) {
  return ParkBelow(depth, park, arg);
}

int weft_test_recurse(int depth) { return Recurse(depth); }

// With a frame of variable size, on the machine stack, made after a call of before().
#if defined(__clang__)
__attribute__((no_sanitize("safe-stack")))
#endif
int weft_test_alloca(size_t size, void (*before)()) {
  before();
  auto* bytes = static_cast<volatile char*>(__builtin_alloca(size));
  bytes[0] = 1;
  bytes[size - 1] = 2;
  return bytes[0] + bytes[size - 1] + Recurse(opaque);
}

int weft_test_catch() {
  try {
    if (opaque == 1) throw std::runtime_error("caught");
  } catch (const std::exception&) {
    return Recurse(1);
  }
  return 0;
}
}
