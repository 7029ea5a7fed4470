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

}  // namespace

extern "C" {

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
