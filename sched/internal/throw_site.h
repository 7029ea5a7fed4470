// Where an exception was thrown that nobody catches.
#ifndef WEFT_SCHED_INTERNAL_THROW_SITE_H_
#define WEFT_SCHED_INTERNAL_THROW_SITE_H_

#include <optional>

#include "stack/arch.h"

namespace weft::internal {

// In a terminate handler: the place in the program's own code that threw, or from where the C++
// runtime was made to give up; nothing if the stack does not tell. The handler's trace cannot start
// at the handler itself: between the two lie frames of the C++ runtime, which is built without
// frame pointers, so these are crossed by the unwind tables.
std::optional<stack::MachineState> FindThrowSite();

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_THROW_SITE_H_
