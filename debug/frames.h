// What a reader wants to know of a goroutine's trace, for dumps, pages and profiles alike.
#ifndef WEFT_DEBUG_FRAMES_H_
#define WEFT_DEBUG_FRAMES_H_

#include <cstdint>
#include <string>

#include "debug/symbolizer.h"
#include "sched/traces.h"

namespace weft::debug {

// What Go's dumps have in brackets: "chan receive, 2 minutes, locked to thread"; and, of one that
// waits for a lock, "perhaps held by 8 or 11", see GoroutineTrace::holders.
std::string WaitState(const GoroutineTrace& trace);

// Whether it is in the runtime's insides, which dumps leave out.
bool IsRuntime(const SourceLocation& at);

// Where a goroutine was started, of GoroutineTrace::created_at: not in Go() itself, which is
// inlined there. Symbolizes.
SourceLocation CreationSite(uintptr_t pc);

}  // namespace weft::debug

#endif  // WEFT_DEBUG_FRAMES_H_
