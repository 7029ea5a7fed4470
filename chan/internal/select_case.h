// The cases of a Select: what Chan's OnSend and OnRecv return.
//
// A case is made while the arguments of Select are evaluated, and lives until it is done. Select
// then calls, for each case:
//   Arm(record, at)        describes the operation in `record`, and moves the element of a send
//   that is
//                          no word to the scratch memory at `at` (kStageBytes of it);
//   Settle(record, sent)   once it is over: a send that was not done takes its element back;
// and for the one that was served, when all are settled:
//   Run(record, outcome)   takes the element of a receive out of scratch memory, and calls the
//   user.
#ifndef WEFT_CHAN_INTERNAL_SELECT_CASE_H_
#define WEFT_CHAN_INTERNAL_SELECT_CASE_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "chan/internal/chan_core.h"
#include "chan/internal/element.h"
#include "chan/internal/select_core.h"

namespace weft::internal {

enum class CaseKind { kChannel, kAfter, kDefault };

struct IgnoreSent {
  void operator()() const {}
};
struct IgnoreReceived {
  void operator()() const {}
};

// Scratch memory for an element of type T, from any place aligned to 16.
template <typename T>
inline constexpr size_t kStageBytesOf =
    TransportOf<T>() == Transport::kStaged
        ? (sizeof(T) + (alignof(T) > 16 ? alignof(T) - 16 : 0) + 15) / 16 * 16
        : 0;

template <typename T, typename F>
class RecvCase {
 public:
  static_assert(std::is_invocable_v<F&, std::optional<T>> || std::is_invocable_v<F&>,
                "OnRecv takes f(std::optional<T>) or f()");
  static constexpr CaseKind kKind = CaseKind::kChannel;
  static constexpr size_t kStageBytes = kStageBytesOf<T>;

  RecvCase(ChanCore* core, F f) : core_(core), f_(std::move(f)) {}
  RecvCase(const RecvCase&) = delete;
  RecvCase& operator=(const RecvCase&) = delete;

  void Arm(SelectRecord& record, std::byte* at) {
    record.chan = core_;
    record.is_send = false;
    record.value = &record.word;
    if constexpr (TransportOf<T>() == Transport::kStaged) record.value = Stage<T>::Align(at);
  }

  void Settle(SelectRecord&, bool) {}

  [[gnu::always_inline]] void Run(SelectRecord& record, Outcome outcome) {
    if (outcome != Outcome::kDone) {
      Call(std::nullopt);
    } else if constexpr (TransportOf<T>() == Transport::kStaged) {
      Call(Unstage(static_cast<T*>(record.value)));
    } else {
      Call(WordElement<T>(core_, record.word));
    }
  }

 private:
  [[gnu::always_inline]] void Call(std::optional<T>&& value) {
    if constexpr (std::is_invocable_v<F&, std::optional<T>>) {
      f_(std::move(value));
    } else {
      f_();
    }
  }

  ChanCore* core_;
  F f_;
};

// `Held` is T where the case has the value itself, and T* where it moves it out of the caller's.
template <typename T, typename Held, typename F>
class SendCase {
 public:
  static_assert(std::is_invocable_v<F&, bool> || std::is_invocable_v<F&>,
                "OnSend takes f(bool) or f()");
  static constexpr CaseKind kKind = CaseKind::kChannel;
  static constexpr size_t kStageBytes = kStageBytesOf<T>;
  static constexpr Transport kTransport = TransportOf<T>();
  static constexpr bool kGivesBack = std::is_same_v<Held, T*> && kSendMovesOut<T>;

  // Boxed: takes the value into the box now, as that may throw.
  template <typename V>
  SendCase(ChanCore* core, V&& value, F f)
      : core_(core), held_(Hold(std::forward<V>(value))), f_(std::move(f)) {
    if constexpr (kTransport == Transport::kBoxed && std::is_same_v<Held, T*>) {
      box_ = MakeBox(*held_);
    } else if constexpr (kTransport == Transport::kBoxed) {
      box_ = std::make_unique<Box<T>>(value);
    }
  }
  SendCase(const SendCase&) = delete;
  SendCase& operator=(const SendCase&) = delete;
  ~SendCase() {
    // The Select did not come to run: another argument has thrown.
    if constexpr (kTransport == Transport::kBoxed && std::is_nothrow_move_constructible_v<T>) {
      TakeBack();
    }
  }

  void Arm(SelectRecord& record, std::byte* at) {
    record.chan = core_;
    record.is_send = true;
    record.value = &record.word;
    if constexpr (kTransport == Transport::kWord) {
      record.word = ToWord(held_);
    } else if constexpr (kTransport == Transport::kBoxed) {
      record.word = box_->self;
    } else {
      T* stage = Stage<T>::Align(at);
      record.value = stage;
      if constexpr (std::is_same_v<Held, T*>) {
        std::construct_at(stage, std::move(*held_));
      } else {
        std::construct_at(stage, std::move(held_));
      }
    }
  }

  void Settle(SelectRecord& record, bool sent) {
    if constexpr (kTransport == Transport::kStaged) {
      if (sent) return;
      T* stage = static_cast<T*>(record.value);
      if constexpr (kGivesBack) GiveBack(*held_, *stage);
      std::destroy_at(stage);
    } else if constexpr (kTransport == Transport::kBoxed) {
      if (sent) {
        static_cast<void>(box_.release());
      } else {
        TakeBack();
      }
    }
  }

  [[gnu::always_inline]] void Run(SelectRecord&, Outcome outcome) {
    if constexpr (std::is_invocable_v<F&, bool>) {
      f_(outcome == Outcome::kDone);
    } else {
      f_();
    }
  }

 private:
  struct Nothing {};
  static constexpr bool kInBox = kTransport == Transport::kBoxed && !std::is_same_v<Held, T*>;
  using Kept = std::conditional_t<kInBox, Nothing, Held>;

  template <typename V>
  static Kept Hold(V&& value) {
    if constexpr (kInBox) {
      return {};
    } else {
      return std::forward<V>(value);
    }
  }

  void TakeBack() {
    if constexpr (kGivesBack && kTransport == Transport::kBoxed) {
      if (std::unique_ptr<Box<T>> box = std::move(box_); box != nullptr) {
        if constexpr (std::is_nothrow_move_constructible_v<T>) {
          GiveBack(*held_, box->value);
        } else {
          // What was chosen has been done and cannot be undone: the value is lost, not the Select.
          try {
            GiveBack(*held_, box->value);
          } catch (...) {
          }
        }
      }
    }
  }

  ChanCore* core_;
  [[no_unique_address]] Kept held_;
  [[no_unique_address]] std::conditional_t<kTransport == Transport::kBoxed, std::unique_ptr<Box<T>>,
                                           Nothing> box_;
  F f_;
};

}  // namespace weft::internal

#endif  // WEFT_CHAN_INTERNAL_SELECT_CASE_H_
