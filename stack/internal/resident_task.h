// A function that runs as a resident, on a stack that may move: for tests.
#ifndef WEFT_STACK_INTERNAL_RESIDENT_TASK_H_
#define WEFT_STACK_INTERNAL_RESIDENT_TASK_H_

#include <functional>

#include "stack/slots.h"

namespace weft::stack {

// Runs body() on a slot of the class, to its end. Its stack may move unless an exception is under
// way. From a thread's own stack; one thread at a time.
void RunAsResident(const std::function<void()>& body, SizeClass size_class = DefaultSizeClass());

}  // namespace weft::stack

#endif  // WEFT_STACK_INTERNAL_RESIDENT_TASK_H_
