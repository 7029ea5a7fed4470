// The frames of a profile's samples with their functions, files and lines.
#ifndef WEFT_DEBUG_INTERNAL_PROFILE_FRAMES_H_
#define WEFT_DEBUG_INTERNAL_PROFILE_FRAMES_H_

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "debug/profile_data.h"
#include "debug/symbolizer.h"

namespace weft::debug::internal {

// An instruction and the calls that are inlined there, innermost first. Those of the runtime's
// insides are not among them where they are hidden.
struct ProfileFrame {
  uintptr_t pc = 0;
  bool is_whole = true;  // nothing is hidden
  std::vector<SourceLocation> lines;
};

class ProfileFrames {
 public:
  explicit ProfileFrames(bool hides_runtime) : hides_runtime_(hides_runtime) {}

  // What is to be shown of a sample's frames. Valid as long as this object.
  std::vector<const ProfileFrame*> Of(const ProfileSample& sample);

 private:
  const ProfileFrame& At(uintptr_t pc, bool whole);

  const bool hides_runtime_;
  std::map<std::pair<uintptr_t, bool>, ProfileFrame> frames_;
};

}  // namespace weft::debug::internal

#endif  // WEFT_DEBUG_INTERNAL_PROFILE_FRAMES_H_
