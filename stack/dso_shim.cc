// In each shared object that the macros build: tells the program, while the object is loaded, which
// of its code may be on a stack that moves. Everything here is this object's own.

#include "stack/text_range.h"

namespace weft::stack {
namespace {

// Defined by the linker where the object has the section, null where it has not.
extern "C" {
extern const char __start_weft_text[] __attribute__((weak, visibility("hidden")));
extern const char __stop_weft_text[] __attribute__((weak, visibility("hidden")));
}

// Before the object's own initializers, which may be run by a goroutine, and after its destructors.
constexpr int kOutermost = 101;

__attribute__((constructor(kOutermost))) void Register() {
  weft_register_movable_code(__start_weft_text, __stop_weft_text);
}

__attribute__((destructor(kOutermost))) void Deregister() {
  weft_deregister_movable_code(__start_weft_text, __stop_weft_text);
}

}  // namespace
}  // namespace weft::stack
