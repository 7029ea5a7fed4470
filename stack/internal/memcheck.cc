#include "stack/internal/memcheck.h"

#include <cstdint>

#include "stack/arch.h"

namespace weft::stack::internal {

namespace {

// Valgrind's client requests, by valgrind.h and memcheck.h of its distribution.
constexpr uintptr_t kRunningOnValgrind = 0x1001;
constexpr uintptr_t kStackRegister = 0x1501;
constexpr uintptr_t kMemcheck = uintptr_t{'M'} << 24 | uintptr_t{'C'} << 16;
constexpr uintptr_t kMakeMemUndefined = kMemcheck + 1;
constexpr uintptr_t kMakeMemDefined = kMemcheck + 2;

// Of the x86-64 ABI.
constexpr uintptr_t kRedZone = 128;

uintptr_t Address(const void* address) { return reinterpret_cast<uintptr_t>(address); }

}  // namespace

constinit bool under_valgrind = false;

__attribute__((constructor(101))) static void FindValgrind() {
  under_valgrind = ValgrindRequest(kRunningOnValgrind, 0, 0) != 0;
}

void NoteStack(const void* lo, const void* hi) {
  // It wants the last byte's address.
  ValgrindRequest(kStackRegister, Address(lo), Address(hi) - 1);
}

void NoteWritesUnderValgrind(const void* sp, const void* hi) {
  // What lies below is the stack pointer's too, and Memcheck marks only what is new of that as the
  // pointer moves on.
  const uintptr_t lo = Address(sp) - kRedZone;
  ValgrindRequest(kMakeMemUndefined, lo, Address(hi) - lo);
}

uintptr_t GuessUnderValgrind(uintptr_t word) {
  ValgrindRequest(kMakeMemDefined, Address(&word), sizeof word);
  return word;
}

}  // namespace weft::stack::internal
