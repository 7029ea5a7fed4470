// A profile of processor time: where goroutines and threads compute, by samples.
//
//   absl::Status status = weft::debug::StartCpuProfile();
//   ...
//   status = weft::debug::StopCpuProfile([&](absl::string_view bytes) { file << bytes; });
//
// gperftools has the timer and the signal (SIGPROF), a hundred times for each second of processor
// time, or as often as CPUPROFILE_FREQUENCY says; with the samples that it takes for
// CPUPROFILE=FILE these do not interfere. Samples have the labels of the goroutines that they are
// of (debug/labels.h).
#ifndef WEFT_DEBUG_CPU_PROFILE_H_
#define WEFT_DEBUG_CPU_PROFILE_H_

#include "absl/status/status.h"
#include "debug/profile.h"

namespace weft::debug {

// FailedPrecondition: one is under way, or something else of the program has SIGPROF. From
// goroutines and threads.
absl::Status StartCpuProfile();

// Ends it and gives `sink` what there is, from StartCpuProfile() on: types "samples" and "cpu".
// FailedPrecondition: none is under way. Of a profile of more than ten minutes of processor time
// samples are missing at the end. May park.
absl::Status StopCpuProfile(ProfileSink sink, ProfileFormat format = ProfileFormat::kPprof);

}  // namespace weft::debug

#endif  // WEFT_DEBUG_CPU_PROFILE_H_
