// A profile as data, and what can be made of it: pprof's file, text, gperftools' file.
//
// The first is a gzipped protocol buffer, described by profile.proto of github.com/google/pprof,
// which `go tool pprof` and many others read. It has everything that they show, functions and lines
// too, so that they need neither the program nor the machine it ran on.
#ifndef WEFT_DEBUG_PROFILE_DATA_H_
#define WEFT_DEBUG_PROFILE_DATA_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace weft::debug {

// What a number counts and in what: {"delay", "nanoseconds"}.
struct ValueType {
  std::string type;
  std::string unit;
};

struct ProfileSample {
  // Instructions, innermost first: of callers, in the call, as GoroutineTrace::frames has them.
  std::vector<uintptr_t> frames = {};
  std::vector<int64_t> values = {};  // one for each of ProfileData::sample_types
  std::vector<std::pair<std::string, std::string>> labels = {};
};

struct ProfileData {
  std::string name;  // "goroutine"
  std::vector<ValueType> sample_types;
  // Which of them readers show first; empty: the last.
  std::string default_sample_type = {};
  // What lies between two samples: {"cpu", "nanoseconds"}, 10,000,000.
  ValueType period_type = {};
  int64_t period = 1;
  absl::Time time = {};          // when it was taken, or begun
  absl::Duration duration = {};  // over which; zero for one of a moment
  // Frames of the runtime's insides are left out of the output, but where a sample has no others.
  bool hides_runtime = true;
  std::vector<ProfileSample> samples = {};
};

// Samples with the same frames and labels become one, and have no frames any more that are not to
// be shown. The largest first, by the first value.
void Merge(ProfileData& data);

// What has come between two profiles of the same kind, both merged: for each place its values in
// `after` less those in `before`, without the places where nothing has. A value is negative where
// less is left: goroutines.
ProfileData Difference(const ProfileData& before, ProfileData after);

// pprof's file, gzipped. Reads the program's debug information for it: milliseconds.
std::string EncodeProfile(const ProfileData& data);

// Text in the form of Go's `debug=1`: each sample with its functions, files and lines.
std::string FormatProfile(const ProfileData& data);

// gperftools' file with the names of functions in it, for google-pprof: of values like "delay" in
// nanoseconds its form for contention, of bytes that for heaps, of all others that for processor
// time, with as many samples as there are of the first value.
std::string EncodeForGperftools(const ProfileData& data);

}  // namespace weft::debug

#endif  // WEFT_DEBUG_PROFILE_DATA_H_
