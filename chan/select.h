// Select: waits for several channel operations, and does one of them.
//
//   weft::Select(requests.OnRecv([&](std::optional<Request> r) { if (r) Serve(*r); }),
//                replies.OnSend(next, [&] { ++sent; }),
//                weft::After(absl::Seconds(1), [&] { Expire(); }));
//
// Of the sends and receives that are possible now it does one, each with the same probability, and
// calls its function. If none is possible it runs Default's function, where that is given, and
// otherwise waits until one is, or until the time of After has passed. Then it returns: its value
// is the position of the case that was chosen, from 0, as an int.
//
//   const int chosen = weft::Select{a.OnRecv(f), b.OnSend(Next(), g)};
//
// - Every argument is evaluated once, whichever case is chosen. Braces evaluate them from left to
//   right, as Go does; with parentheses C++ leaves the order to the compiler.
// - A closed channel is always possible: OnRecv's function gets an empty optional, OnSend's gets
//   false (and may take no argument). A nil channel is never possible, which takes a case out
//   of a loop's Select.
// - A Select never hands a value to itself. One channel may be in several cases.
// - The functions are called when everything is over, with no lock held: they may do anything,
//   select again, or throw. Returning from one leaves only the function.
// - A Select with no case at all waits for ever.
//
// From goroutines and threads. Parks, unless a case is possible or Default is given. Allocates
// nothing (see chan.h for the elements that are the exception), but that the first one with several
// cases on a goroutine or thread gets memory that is kept for the next ones.
//
// For a number of cases that is known only when running see chan/select_vector.h.
#ifndef WEFT_CHAN_SELECT_H_
#define WEFT_CHAN_SELECT_H_

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include "absl/time/time.h"
#include "chan/internal/select_case.h"
#include "chan/internal/select_core.h"
#include "sched/clock.h"
#include "sched/waiter.h"

namespace weft {

// The case that is chosen when `timeout`, from the evaluation of After on, has passed and nothing
// else has been possible. At once if it is not positive and nothing else is possible; not at all
// beside a Default. Of several the earliest counts. It needs no timer and costs nothing if the
// Select does not wait.
template <typename F = internal::IgnoreReceived>
class After {
 public:
  static constexpr internal::CaseKind kKind = internal::CaseKind::kAfter;

  explicit After(absl::Duration timeout, F f = {})
      : deadline_(Instant::Now() + timeout), f_(std::move(f)) {}

  Instant deadline() const { return deadline_; }
  [[gnu::always_inline]] void Run() { f_(); }

 private:
  Instant deadline_;
  F f_;
};

// The case that is chosen when no other is possible now. At most one.
template <typename F = internal::IgnoreReceived>
class Default {
 public:
  static constexpr internal::CaseKind kKind = internal::CaseKind::kDefault;

  Default() = default;
  explicit Default(F f) : f_(std::move(f)) {}

  [[gnu::always_inline]] void Run() { f_(); }

 private:
  F f_;
};
Default() -> Default<>;

namespace internal {

template <typename Case>
concept SelectCase = requires {
  { std::remove_cvref_t<Case>::kKind } -> std::convertible_to<CaseKind>;
};

template <CaseKind kind, typename... Cases>
inline constexpr size_t kCasesOf = (size_t{0} + ... + size_t{Cases::kKind == kind});

template <typename Case>
constexpr size_t StageBytes() {
  if constexpr (Case::kKind == CaseKind::kChannel) {
    return Case::kStageBytes;
  } else {
    return 0;
  }
}

// Inlined, so that the cases and their functions' captures stay what they were before: locals of
// the caller, in registers where possible. What others may look at is in scratch memory.
template <typename... Cases>
[[gnu::always_inline]] inline int SelectAmong(Cases&... cases) {
  constexpr size_t kSize = kCasesOf<CaseKind::kChannel, Cases...>;
  constexpr bool kHasDefault = kCasesOf<CaseKind::kDefault, Cases...> != 0;
  constexpr size_t kStagesAt = (SelectState::BytesWithoutStages(kSize) + 15) / 16 * 16;
  constexpr size_t kBytes = (kStagesAt + ... + StageBytes<Cases>());
  static_assert(kCasesOf<CaseKind::kDefault, Cases...> <= 1, "a Select has one Default at most");
  static_assert(kSize <= SelectState::kMaxSize, "a Select has 65536 channel cases at most");

  std::byte* scratch = static_cast<std::byte*>(Waiter::Current()->Scratch(kBytes));
  SelectState* state = ::new (static_cast<void*>(scratch)) SelectState(kSize);
  std::byte* stage = scratch + kStagesAt;
  uint16_t index = 0;
  Instant deadline = Instant::Never();
  int deadline_position = 0;
  int position = 0;
  [[maybe_unused]] const auto arm = [&]<typename Case>(Case& c) __attribute__((always_inline)) {
    if constexpr (Case::kKind == CaseKind::kChannel) {
      SelectRecord& record = state->records()[index];
      record.index = index++;
      c.Arm(record, stage);
      stage += StageBytes<Case>();
    } else if constexpr (Case::kKind == CaseKind::kAfter) {
      if (c.deadline() < deadline) {
        deadline = c.deadline();
        deadline_position = position;
      }
    }
    ++position;
  };
  (arm(cases), ...);

  const int fired =
      RunSelect(state, kHasDefault ? SelectMode::kDefault : SelectMode::kWait, deadline,
                sizeof...(Cases) == 0 ? WaitReason::kSelectNoCases : WaitReason::kSelect);
  const Outcome outcome = state->outcome.load(std::memory_order_relaxed);

  int at = 0;
  [[maybe_unused]] const auto settle = [&]<typename Case>(Case& c) __attribute__((always_inline)) {
    if constexpr (Case::kKind == CaseKind::kChannel) {
      c.Settle(state->records()[at], at == fired && outcome == Outcome::kDone);
      ++at;
    }
  };
  (settle(cases), ...);

  int chosen = 0;
  int channel_at = 0;
  position = 0;
  [[maybe_unused]] const auto run = [&]<typename Case>(Case& c) __attribute__((always_inline)) {
    bool is_it;
    if constexpr (Case::kKind == CaseKind::kChannel) {
      is_it = channel_at++ == fired;
      if (is_it) c.Run(state->records()[fired], outcome);
    } else if constexpr (Case::kKind == CaseKind::kAfter) {
      is_it = fired == kSelectTimedOut && position == deadline_position;
      if (is_it) c.Run();
    } else {
      is_it = fired == kSelectDefault;
      if (is_it) c.Run();
    }
    if (is_it) chosen = position;
    ++position;
    return is_it;
  };
  static_cast<void>((run(cases) || ...));
  return chosen;
}

}  // namespace internal

// See above. Written as a class only so that braces may be used; it is the call.
class Select {
 public:
  template <internal::SelectCase... Cases>
  [[gnu::always_inline]] explicit Select(Cases&&... cases)
      : chosen_(internal::SelectAmong(cases...)) {}

  // The position of the case that was chosen.
  operator int() const { return chosen_; }  // NOLINT: the value of the call

 private:
  int chosen_;
};

}  // namespace weft

#endif  // WEFT_CHAN_SELECT_H_
