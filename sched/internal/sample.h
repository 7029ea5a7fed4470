// What a profiler's signal handler learns of the code that it has interrupted.
#ifndef WEFT_SCHED_INTERNAL_SAMPLE_H_
#define WEFT_SCHED_INTERNAL_SAMPLE_H_

#include <ucontext.h>

#include <cstdint>

#include "sched/labels.h"
#include "stack/traceback.h"

namespace weft::internal {

// The calls that were running, on whatever stack they are, and the goroutine's labels, for
// TakeLabels(). In a signal handler, on any thread.
void SampleInterrupted(const ucontext_t& context, stack::Trace& trace, uint32_t* labels) noexcept;

// What `labels` stands for, once. Not in signal handlers.
LabelList TakeLabels(uint32_t labels);

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_SAMPLE_H_
