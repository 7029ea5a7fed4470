#include "chan/select_vector.h"

#include "sched/fatal.h"

namespace weft {

int SelectVector::Run() {
  size_t channels = 0;
  size_t stage_bytes = 0;
  internal::SelectMode mode = internal::SelectMode::kWait;
  for (const std::unique_ptr<Case>& c : cases_) {
    // All that may call the user's code, or throw, comes before the scratch memory is in use.
    c->Prepare();
    if (c->kind() == internal::CaseKind::kChannel) ++channels;
    if (c->kind() == internal::CaseKind::kDefault) mode = internal::SelectMode::kDefault;
    stage_bytes += c->stage_bytes();
  }
  if (channels > internal::SelectState::kMaxSize) Panic("select: too many cases (max 65536)");

  const size_t stages_at = (internal::SelectState::BytesWithoutStages(channels) + 15) / 16 * 16;
  std::byte* scratch = static_cast<std::byte*>(Waiter::Current()->Scratch(stages_at + stage_bytes));
  auto* state =
      ::new (static_cast<void*>(scratch)) internal::SelectState(static_cast<uint32_t>(channels));
  std::byte* stage = scratch + stages_at;
  Instant deadline = Instant::Never();
  size_t deadline_position = 0;
  uint32_t index = 0;
  for (size_t i = 0; i < cases_.size(); ++i) {
    Case& c = *cases_[i];
    if (c.kind() == internal::CaseKind::kChannel) {
      internal::SelectRecord& record = state->records()[index];
      record.index = static_cast<uint16_t>(index++);
      c.Arm(record, stage);
      stage += c.stage_bytes();
    } else if (c.deadline() < deadline) {
      deadline = c.deadline();
      deadline_position = i;
    }
  }

  const int fired = internal::RunSelect(
      state, mode, deadline, cases_.empty() ? WaitReason::kSelectNoCases : WaitReason::kSelect);
  const internal::Outcome outcome = state->outcome.load(std::memory_order_relaxed);

  int channel = 0;
  size_t chosen = deadline_position;
  for (size_t i = 0; i < cases_.size(); ++i) {
    Case& c = *cases_[i];
    if (c.kind() == internal::CaseKind::kChannel) {
      if (channel == fired) chosen = i;
      c.Settle(state->records()[channel], channel == fired && outcome == internal::Outcome::kDone);
      ++channel;
    } else if (c.kind() == internal::CaseKind::kDefault && fired == internal::kSelectDefault) {
      chosen = i;
    }
  }
  cases_[chosen]->Run(fired >= 0 ? &state->records()[fired] : nullptr, outcome);
  return static_cast<int>(chosen);
}

}  // namespace weft
