#include "debug/internal/profile_frames.h"

#include "absl/strings/match.h"
#include "debug/frames.h"

namespace weft::debug::internal {
namespace {

bool IsHidden(const SourceLocation& at) {
  return IsRuntime(at) || absl::StartsWith(at.function, "weft::Waiter::") ||
         absl::StartsWith(at.function, "weft::Go<");
}

}  // namespace

const ProfileFrame& ProfileFrames::At(uintptr_t pc, bool whole) {
  const auto [found, is_new] = frames_.try_emplace({pc, whole});
  ProfileFrame& frame = found->second;
  if (!is_new) return frame;
  frame.pc = pc;
  frame.is_whole = whole;
  for (SourceLocation& at : Symbolize(pc)) {
    if (whole || !IsHidden(at)) frame.lines.push_back(std::move(at));
  }
  return frame;
}

std::vector<const ProfileFrame*> ProfileFrames::Of(const ProfileSample& sample) {
  std::vector<const ProfileFrame*> shown;
  if (hides_runtime_) {
    for (const uintptr_t pc : sample.frames) {
      const ProfileFrame& frame = At(pc, /*whole=*/false);
      if (!frame.lines.empty()) shown.push_back(&frame);
    }
  }
  if (!shown.empty()) return shown;
  for (const uintptr_t pc : sample.frames) shown.push_back(&At(pc, /*whole=*/true));
  return shown;
}

}  // namespace weft::debug::internal
