// How elements of a type travel through a channel, and the typed ends of each operation.
//
//   Word    trivially copyable and at most eight bytes: a register on the way in and out, so that
//           no local's address is taken, a word in the ring.
//   Staged  its move cannot throw, and it is not large: itself, in the ring; between the ring and
//           the caller in the scratch memory of the caller's Waiter.
//   Boxed   the others: moving it under the lock might throw, or hold up everyone else. The channel
//           carries a pointer to it on the heap, as a word.
#ifndef WEFT_CHAN_INTERNAL_ELEMENT_H_
#define WEFT_CHAN_INTERNAL_ELEMENT_H_

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "chan/internal/chan_core.h"
#include "sched/waiter.h"

namespace weft::internal {

enum class Transport { kWord, kStaged, kBoxed };

// Copying more than this under the lock takes longer than an allocation.
inline constexpr size_t kMaxStagedBytes = 1024;

template <typename T>
constexpr Transport TransportOf() {
  if (std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t)) return Transport::kWord;
  if (std::is_nothrow_move_constructible_v<T> && std::is_nothrow_destructible_v<T> &&
      sizeof(T) <= kMaxStagedBytes && alignof(T) <= alignof(ChanCore)) {
    return Transport::kStaged;
  }
  return Transport::kBoxed;
}

template <typename T>
uint64_t ToWord(const T& value) {
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(T));
  return word;
}

template <typename T>
T FromWord(uint64_t word) {
  // Not memcpy into a T: T need not be default constructible.
  std::array<std::byte, sizeof(T)> bytes;
  std::memcpy(bytes.data(), &word, sizeof(T));
  return std::bit_cast<T>(bytes);
}

template <typename T>
struct Box : BoxBase {
  template <typename... Args>
  explicit Box(Args&&... args) : value(std::forward<Args>(args)...) {}

  static Box* Of(uint64_t word) { return static_cast<Box*>(BoxBase::Of(word)); }

  T value;
};

// A sender's value into a box of its own. Like std::vector, it copies where a move could throw and
// a copy is possible: then the sender's value is untouched whatever happens.
template <typename T>
std::unique_ptr<Box<T>> MakeBox(T& value) {
  return std::make_unique<Box<T>>(std::move_if_noexcept(value));
}

// A receiver's box, which goes back into its channel unless its value is moved out.
template <typename T>
class ReceivedBox {
 public:
  ReceivedBox(ChanCore* core, uint64_t word) : core_(core), box_(Box<T>::Of(word)) {}
  ReceivedBox(const ReceivedBox&) = delete;
  ReceivedBox& operator=(const ReceivedBox&) = delete;
  ~ReceivedBox() {
    if (box_ != nullptr) ReturnBox(core_, box_);
  }

  // May throw what T's move throws.
  std::optional<T> Deliver() {
    std::optional<T> value(std::in_place, std::move_if_noexcept(box_->value));
    delete std::exchange(box_, nullptr);
    return value;
  }

 private:
  ChanCore* core_;
  Box<T>* box_;
};

// After a send that did not take place: moves the element at `from` back into the sender's `value`,
// which it was moved out of. May throw only where no move of T is safe; a T of that sort that
// cannot be assigned stays moved out of.
template <typename T>
void GiveBack(T& value, T& from) {
  if constexpr (std::is_nothrow_move_assignable_v<T>) {
    value = std::move(from);
  } else if constexpr (std::is_nothrow_move_constructible_v<T>) {
    std::destroy_at(&value);
    std::construct_at(&value, std::move(from));
  } else if constexpr (std::is_move_assignable_v<T>) {
    value = std::move(from);
  }
}

// Whether sending from an rvalue has moved out of it, so that it must be given back if not sent.
template <typename T>
inline constexpr bool kSendMovesOut =
    TransportOf<T>() == Transport::kStaged ||
    (TransportOf<T>() == Transport::kBoxed &&
     (std::is_nothrow_move_constructible_v<T> || !std::is_copy_constructible_v<T>));

// The one waiting record of a plain operation and the place of its element, in the scratch memory
// of the caller's Waiter.
template <typename T>
struct Stage {
  static constexpr size_t kPadding = alignof(T) > 16 ? alignof(T) - 16 : 0;

  WaitRecord* record;
  T* value;  // uninitialized

  [[gnu::always_inline]] static Stage Get() {
    void* scratch = Waiter::Current()->Scratch(kStageOffset + kPadding + sizeof(T));
    return {static_cast<WaitRecord*>(scratch),
            Align(static_cast<std::byte*>(scratch) + kStageOffset)};
  }

  // The first place for a T at or after `at`.
  static T* Align(std::byte* at) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(at);
    return reinterpret_cast<T*>((address + alignof(T) - 1) & ~uintptr_t{alignof(T) - 1});
  }
};

// An element out of a stage.
template <typename T>
[[gnu::always_inline]] inline std::optional<T> Unstage(T* stage) {
  std::optional<T> value(std::in_place, std::move(*stage));
  std::destroy_at(stage);
  return value;
}

template <typename T>
constexpr ElementOps MakeElementOps() {
  ElementOps ops{sizeof(uint64_t), nullptr, nullptr};
  if constexpr (TransportOf<T>() == Transport::kWord) {
    if (std::is_empty_v<T>) ops.bytes = 0;
  } else if constexpr (TransportOf<T>() == Transport::kStaged) {
    ops.bytes = sizeof(T);
    if constexpr (!std::is_trivially_copyable_v<T>) {
      ops.relocate = [](void* to, void* from) {
        T* old = static_cast<T*>(from);
        std::construct_at(static_cast<T*>(to), std::move(*old));
        std::destroy_at(old);
      };
    }
    if constexpr (!std::is_trivially_destructible_v<T>) {
      ops.destroy = [](void* element) { std::destroy_at(static_cast<T*>(element)); };
    }
  } else {
    ops.destroy = [](void* element) {
      uint64_t word;
      std::memcpy(&word, element, sizeof(word));
      delete Box<T>::Of(word);
    };
  }
  return ops;
}

template <typename T>
inline constexpr ElementOps kElementOps = MakeElementOps<T>();

template <typename T>
inline constexpr ChanCore::Kind kElementKind =
    TransportOf<T>() == Transport::kStaged ? ChanCore::Kind::kStaged : ChanCore::Kind::kWord;

// Sends the word of `box`, which then is the channel's; or leaves it with the caller.
template <typename T>
bool SendBox(ChanCore* core, std::unique_ptr<Box<T>>& box) {
  if (!SendWord(core, box->self)) return false;
  static_cast<void>(box.release());
  return true;
}
template <typename T>
TryResult TrySendBox(ChanCore* core, std::unique_ptr<Box<T>>& box) {
  const TryResult result = TrySendWord(core, box->self);
  if (result == TryResult::kDone) static_cast<void>(box.release());
  return result;
}

// The typed operations. Inlined, so that what they return is made in the caller's frame out of
// registers or scratch memory.

template <typename T>
[[gnu::always_inline]] inline bool SendElement(ChanCore* core, T& value) {
  if constexpr (TransportOf<T>() == Transport::kWord) {
    return SendWord(core, ToWord(value));
  } else if constexpr (TransportOf<T>() == Transport::kStaged) {
    const Stage<T> stage = Stage<T>::Get();
    std::construct_at(stage.value, std::move(value));
    if (SendStaged(core, stage.record, stage.value) == TryResult::kDone) return true;
    GiveBack(value, *stage.value);
    std::destroy_at(stage.value);
    return false;
  } else {
    std::unique_ptr<Box<T>> box = MakeBox(value);
    if (SendBox(core, box)) return true;
    if constexpr (kSendMovesOut<T>) GiveBack(value, box->value);
    return false;
  }
}

template <typename T>
[[gnu::always_inline]] inline TryResult TrySendElement(ChanCore* core, T& value) {
  if constexpr (TransportOf<T>() == Transport::kWord) {
    return TrySendWord(core, ToWord(value));
  } else {
    // Before anything is moved; a closed channel is found out below.
    if (core == nullptr || core->SendWouldBlock()) return TryResult::kWouldBlock;
    if constexpr (TransportOf<T>() == Transport::kStaged) {
      T* stage = Stage<T>::Get().value;
      std::construct_at(stage, std::move(value));
      const TryResult result = TrySendStaged(core, stage);
      if (result != TryResult::kDone) {
        GiveBack(value, *stage);
        std::destroy_at(stage);
      }
      return result;
    } else {
      std::unique_ptr<Box<T>> box = MakeBox(value);
      const TryResult result = TrySendBox(core, box);
      if constexpr (kSendMovesOut<T>) {
        if (result != TryResult::kDone) GiveBack(value, box->value);
      }
      return result;
    }
  }
}

// What a receive of a word has brought.
template <typename T>
[[gnu::always_inline]] inline std::optional<T> WordElement(ChanCore* core, uint64_t word) {
  if constexpr (TransportOf<T>() == Transport::kWord) {
    static_cast<void>(core);
    return FromWord<T>(word);
  } else {
    return ReceivedBox<T>(core, word).Deliver();
  }
}

template <typename T>
[[gnu::always_inline]] inline std::optional<T> RecvElement(ChanCore* core) {
  if constexpr (TransportOf<T>() == Transport::kStaged) {
    const Stage<T> stage = Stage<T>::Get();
    if (RecvStaged(core, stage.record, stage.value) != TryResult::kDone) return std::nullopt;
    return Unstage(stage.value);
  } else {
    const ReceivedWord received = RecvWord(core);
    if (received.result != TryResult::kDone) return std::nullopt;
    return WordElement<T>(core, received.word);
  }
}

template <typename T>
struct TryReceived {
  TryResult result;
  std::optional<T> value;
};

template <typename T>
[[gnu::always_inline]] inline TryReceived<T> TryRecvElement(ChanCore* core) {
  if constexpr (TransportOf<T>() == Transport::kStaged) {
    if (core == nullptr || core->ReceiveWouldBlock()) return {TryResult::kWouldBlock, std::nullopt};
    T* stage = Stage<T>::Get().value;
    const TryResult result = TryRecvStaged(core, stage);
    if (result != TryResult::kDone) return {result, std::nullopt};
    return {result, Unstage(stage)};
  } else {
    const ReceivedWord received = TryRecvWord(core);
    if (received.result != TryResult::kDone) return {received.result, std::nullopt};
    return {received.result, WordElement<T>(core, received.word)};
  }
}

}  // namespace weft::internal

#endif  // WEFT_CHAN_INTERNAL_ELEMENT_H_
