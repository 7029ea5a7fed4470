// For tests of profiles: reads what EncodeProfile() has written, by profile.proto.
#ifndef WEFT_DEBUG_PROFILE_TESTING_H_
#define WEFT_DEBUG_PROFILE_TESTING_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "debug/profile.h"

namespace weft::testing {

struct DecodedProfile {
  struct Line {
    std::string function;
    std::string file;
    int64_t line = 0;
  };
  struct Location {
    uint64_t address = 0;
    uint64_t mapping = 0;
    std::vector<Line> lines;  // innermost first
  };
  struct Sample {
    std::vector<Location> stack;  // innermost first
    std::vector<int64_t> values;
    std::map<std::string, std::string> labels;

    // All functions, innermost first, those inlined too, separated by " < ".
    std::string Functions() const;
  };
  struct Mapping {
    uint64_t start = 0;
    uint64_t limit = 0;
    uint64_t offset = 0;
    std::string file;
    std::string build_id;
    bool has_all = false;  // functions, files, lines, inlined calls
  };

  std::vector<std::string> sample_types;  // "delay/nanoseconds"
  std::string default_sample_type;
  std::string period_type;
  int64_t period = 0;
  int64_t time_nanos = 0;
  int64_t duration_nanos = 0;
  std::vector<Sample> samples;
  std::map<uint64_t, Mapping> mappings;

  // The sum of value `i` of the samples that have a function with `function` in its name.
  int64_t Sum(absl::string_view function, size_t i = 0) const;
  // The first such sample; null: none.
  const Sample* Find(absl::string_view function) const;
};

// Fails the test where it is not what profile.proto says, or names what it does not have.
DecodedProfile DecodeProfile(const std::string& gzipped);

// The profile as WriteProfile() gives it, which must be OK.
std::string Write(absl::string_view name,
                  debug::ProfileFormat format = debug::ProfileFormat::kPprof);

// What `google-pprof --text` prints for a profile in gperftools' form. Empty: this machine has
// none.
std::string GooglePprof(const std::string& profile);

}  // namespace weft::testing

#endif  // WEFT_DEBUG_PROFILE_TESTING_H_
