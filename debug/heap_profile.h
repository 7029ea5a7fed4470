// A profile of the heap: which calls have allocated what is in use.
//
// Linking //debug:heap_profile is all it takes: it makes gperftools' tcmalloc the program's
// allocator, and adds the profile "heap" to those of debug/profile.h. tcmalloc takes samples if it
// is told to when the program starts, here of one allocation in each 512 KiB that are allocated:
//
//   $ TCMALLOC_SAMPLE_PARAMETER=524288 ./server
//
// Types of values: "inuse_objects", and "inuse_space" in bytes, both estimates of all from the
// samples. What was allocated and freed again is not known, nor are the first 16 MiB that the
// program allocates, of which tcmalloc takes no samples. Without the setting the profile is
// FailedPrecondition.
#ifndef WEFT_DEBUG_HEAP_PROFILE_H_
#define WEFT_DEBUG_HEAP_PROFILE_H_

#include "debug/profile.h"

#endif  // WEFT_DEBUG_HEAP_PROFILE_H_
