// Profiles: where goroutines are, wait, contend and are started, for pprof.
//
//   weft::SetBlockProfileRate(absl::Microseconds(10));  // sched/profiles.h
//   ...
//   std::ofstream file("block.pb.gz", std::ios::binary);
//   absl::Status status = weft::debug::WriteProfile(
//       "block", [&](absl::string_view bytes) { file.write(bytes.data(), bytes.size()); });
//
//   $ go tool pprof -top block.pb.gz
//
// Names, types of samples and units are Go's (runtime/pprof):
//
//   goroutine     where all goroutines are
//   block         where they have waited
//   mutex         where locks were unlocked that others waited for
//   schedlatency  where they had waited before they were late to run ("turns", "delay")
//   threadcreate  what made the scheduler make a thread
//
// sched/profiles.h turns block, mutex and schedlatency on.
#ifndef WEFT_DEBUG_PROFILE_H_
#define WEFT_DEBUG_PROFILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "debug/profile_data.h"

namespace weft::debug {

enum class ProfileFormat {
  kPprof,       // pprof's file, gzipped: for `go tool pprof` and whatever else reads it
  kText,        // Go's debug=1: counts, frames, files and lines
  kFullText,    // Go's debug=2: for "goroutine" a dump of all (goroutines.h), else as kText
  kGperftools,  // for Debian's google-pprof
};

// Gets the profile's bytes, in one piece or several, in order. May park.
using ProfileSink = absl::FunctionRef<void(absl::string_view)>;

// Takes the profile with that name and gives it to `sink`. NotFound: the program has none of that
// name. Other errors are the profile's; in all cases `sink` has not been called. From goroutines
// and threads; may park. "goroutine" stops the world for a moment (sched/traces.h); no other one
// does. Functions and lines are looked up in the program's debug information, which takes up to
// seconds of processor time in a large program.
absl::Status WriteProfile(absl::string_view name, ProfileSink sink,
                          ProfileFormat format = ProfileFormat::kPprof);

// The same as data.
absl::StatusOr<ProfileData> GetProfile(absl::string_view name);

struct ProfileInfo {
  absl::string_view name;
  absl::string_view description;  // a sentence
  int64_t count = 0;              // of its first value: as many goroutines, threads, contentions
};

// All that this program has, by name.
std::vector<ProfileInfo> Profiles();

// A profile that a target adds when it is linked, from a static initializer.
struct ProfileSource {
  absl::string_view name;
  absl::string_view description;
  absl::StatusOr<ProfileData> (*take)();
  int64_t (*count)();  // cheap
};
// `source` lives for ever.
void RegisterProfile(const ProfileSource* source);

}  // namespace weft::debug

#endif  // WEFT_DEBUG_PROFILE_H_
