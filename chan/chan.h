// Channels: Go's way for goroutines, and threads, to hand values to each other.
//
//   weft::Chan<std::string> lines(16);          // room for 16; Chan<T>(0): sender and receiver
//   meet weft::Go([lines] {
//     while (std::optional<std::string> line = ReadLine()) lines.Send(*std::move(line));
//     lines.Close();
//   });
//   for (std::string line : lines) Use(line);   // until closed and drained
//
// A Chan is a handle: its copies are the same channel, which lives until the last one is gone
// (elements that nobody has received are destroyed then). A default-made one is Go's nil channel:
// its sends and receives wait for ever, and in a Select it is never ready. All operations may be
// called at once from goroutines and threads in any mix, but one handle object must not be assigned
// to while another thread uses it. Not from signal handlers.
//
// Promises, Go's where Go has the operation:
// - Values arrive in the order in which they were sent. Waiting senders, and waiting receivers,
//   are served first come, first served, and a value goes directly to a waiting receiver.
// - Memory written before a Send is visible after the Recv that gets the value; memory written
//   before a Close is visible to those who learn of it; and memory written before the n-th Recv is
//   visible after the (n + capacity)-th Send.
// - Close wakes everyone who waits. Values sent before it are still received.
// - No operation allocates memory, but for elements that are larger than 1 KiB, aligned to more
// than
//   64 bytes, or whose move may throw: those travel in one allocation each.
//
// The element type T is movable; it may be move-only, empty or large.
// - T's move constructor, its move assignment, and the destructor of a moved-from T must not call
//   into Weft: where they are noexcept they may run under the channel's lock.
// - If copying or moving a value into Send throws, nothing has been sent, and the value is as the
//   failed operation has left it. Where T's move may throw and T can be copied, it is copied, as in
//   std::vector: the caller's value is then never touched.
// - If moving a received value out to the receiver throws, the exception passes out of Recv, and
// the
//   value (as the failed move has left it) is the next to be received.
#ifndef WEFT_CHAN_CHAN_H_
#define WEFT_CHAN_CHAN_H_

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"
#include "chan/internal/chan_core.h"
#include "chan/internal/element.h"
#include "chan/internal/select_case.h"

namespace weft {

// What TryRecv returns: `result` is kDone exactly where `value` has one.
template <typename T>
using TryReceived = internal::TryReceived<T>;

namespace internal {

// The sending half of the interface. `Handle` is the class that inherits it, which has core().
template <typename Handle, typename T>
class Sending {
 public:
  // Sends `value`, waiting until there is room in the buffer, or without a buffer until a receiver
  // takes it. False: the channel is closed, or was closed while this waited; nothing has been sent.
  // May park.
  [[gnu::always_inline]] bool Send(const T& value) const
    requires std::copy_constructible<T>
  {
    if constexpr (TransportOf<T>() == Transport::kBoxed) {
      auto box = std::make_unique<Box<T>>(value);
      return SendBox(target(), box);
    } else {
      T copy(value);
      return SendElement(target(), copy);
    }
  }

  // The same, moving `value`. Where it returns false, `value` has its old value still or again (if
  // T's move throws on the way back, that exception passes out and the value is lost).
  [[gnu::always_inline]] bool Send(T&& value) const { return SendElement<T>(target(), value); }

  // Sends `value` if that is possible without waiting. Never parks. What is not sent stays in
  // `value`, as with Send().
  [[gnu::always_inline]] TryResult TrySend(const T& value) const
    requires std::copy_constructible<T>
  {
    // Copies may be dear: not for a channel that is full.
    if (target() == nullptr || target()->SendWouldBlock()) return TryResult::kWouldBlock;
    if constexpr (TransportOf<T>() == Transport::kBoxed) {
      auto box = std::make_unique<Box<T>>(value);
      return TrySendBox(target(), box);
    } else {
      T copy(value);
      return TrySendElement(target(), copy);
    }
  }
  [[gnu::always_inline]] TryResult TrySend(T&& value) const {
    return TrySendElement<T>(target(), value);
  }

  // Closes the channel for sending: every waiting sender and receiver, and everyone later, learns
  // of it, receivers once the buffer is empty. False: it was closed already, or is nil. Never
  // parks.
  bool Close() const { return CloseChan(target()); }

  // A case of a Select (chan/select.h) that sends `value`; then f(true) or f() is called. A closed
  // channel counts as ready: the case may be chosen, sends nothing, and f(false) or f() is called.
  //
  // From an lvalue the case takes a copy at once. From an rvalue it moves when the Select runs, and
  // the value is back in `value` if another case was chosen or the channel is closed; so `value`,
  // a temporary mostly, must live until the Select is done.
  template <typename F = IgnoreSent>
  [[gnu::always_inline]] auto OnSend(const T& value, F f = {}) const
    requires std::copy_constructible<T>
  {
    return SendCase<T, T, F>(target(), value, std::move(f));
  }
  template <typename F = IgnoreSent>
  [[gnu::always_inline]] auto OnSend(T&& value, F f = {}) const {
    // A word is copied and leaves `value` as it is in any case.
    using Held = std::conditional_t<TransportOf<T>() == Transport::kWord, T, T*>;
    if constexpr (std::is_pointer_v<Held> && !std::is_same_v<Held, T>) {
      return SendCase<T, Held, F>(target(), &value, std::move(f));
    } else {
      return SendCase<T, Held, F>(target(), value, std::move(f));
    }
  }

 private:
  ChanCore* target() const { return static_cast<const Handle*>(this)->core(); }
};

// The receiving half.
template <typename Handle, typename T>
class Receiving {
 public:
  // Receives the next value, waiting for it. Empty: the channel is closed, and everything that was
  // sent before has been received. May park.
  [[gnu::always_inline]] std::optional<T> Recv() const { return RecvElement<T>(target()); }

  // Receives a value if there is one now; kClosed is Recv's "empty". Never parks.
  [[gnu::always_inline]] TryReceived<T> TryRecv() const { return TryRecvElement<T>(target()); }

  // A case of a Select (chan/select.h) that receives; then f(value) is called, with a
  // std::optional<T> as Recv() returns it, or f().
  template <typename F = IgnoreReceived>
  [[gnu::always_inline]] auto OnRecv(F f = {}) const {
    return RecvCase<T, F>(target(), std::move(f));
  }

  // For `for (T value : channel)`: receives until the channel is closed and drained. Each step may
  // park.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using pointer = T*;
    using reference = T&&;

    [[gnu::always_inline]] explicit Iterator(ChanCore* core)
        : core_(core), value_(RecvElement<T>(core)) {}

    // To be moved from, or bound to `auto&&`.
    T&& operator*() const { return std::move(*value_); }
    [[gnu::always_inline]] Iterator& operator++() {
      std::optional<T> next = RecvElement<T>(core_);
      // Not by assignment, which T may not have.
      value_.reset();
      if (next.has_value()) value_.emplace(*std::move(next));
      return *this;
    }
    [[gnu::always_inline]] void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& i, std::default_sentinel_t) {
      return !i.value_.has_value();
    }

   private:
    ChanCore* core_;
    mutable std::optional<T> value_;
  };
  [[gnu::always_inline]] Iterator begin() const { return Iterator(target()); }
  std::default_sentinel_t end() const { return {}; }

 private:
  ChanCore* target() const { return static_cast<const Handle*>(this)->core(); }
};

// What all handles have.
template <typename T>
class AnyHandle : public ChanHandle {
 public:
  using value_type = T;

  // Values in the buffer, as of some moment during the call; 0 for a nil channel.
  int64_t len() const {
    return HasBuffer() ? static_cast<int64_t>(core()->count.load(std::memory_order_acquire)) : 0;
  }
  // Size of the buffer; 0 for a nil channel.
  int64_t cap() const { return HasBuffer() ? static_cast<int64_t>(core()->capacity) : 0; }

  bool is_nil() const { return core() == nullptr; }

  // Whether both are the same channel, or both nil.
  friend bool operator==(const AnyHandle& a, const AnyHandle& b) { return a.core() == b.core(); }

 protected:
  AnyHandle() = default;
  explicit AnyHandle(ChanHandle channel) : ChanHandle(std::move(channel)) {}

 private:
  bool HasBuffer() const { return core() != nullptr && !core()->ops->hides_buffer; }
};

struct RecvChanMaker;

}  // namespace internal

template <typename T>
class Chan;

// The right to send into a channel, and to close it. A default-made one is nil.
template <typename T>
class SendChan : public internal::AnyHandle<T>, public internal::Sending<SendChan<T>, T> {
 public:
  SendChan() = default;

 private:
  friend class Chan<T>;
  explicit SendChan(const internal::ChanHandle& channel) : internal::AnyHandle<T>(channel) {}
};

// The right to receive from a channel.
template <typename T>
class RecvChan : public internal::AnyHandle<T>, public internal::Receiving<RecvChan<T>, T> {
 public:
  RecvChan() = default;

 private:
  friend class Chan<T>;
  friend struct internal::RecvChanMaker;
  explicit RecvChan(const internal::ChanHandle& channel) : internal::AnyHandle<T>(channel) {}
};

// A channel, with both rights. Converts to either of them, and there is no way back.
template <typename T>
class Chan : public internal::AnyHandle<T>,
             public internal::Sending<Chan<T>, T>,
             public internal::Receiving<Chan<T>, T> {
 public:
  // Nil.
  Chan() = default;

  // A new channel with a buffer for `capacity` values; 0: none, senders and receivers meet. Ends
  // the program with "panic: makechan: size out of range" where Make() would return
  // InvalidArgument.
  explicit Chan(int64_t capacity) : Chan(New(capacity)) {}

  // The same for a capacity that is not known to be sane. InvalidArgument "makechan: size out of
  // range": negative, or more than an address space holds. ResourceExhausted: more than there is.
  static absl::StatusOr<Chan> Make(int64_t capacity) {
    absl::StatusCode error;
    internal::ChanCore* core = NewCore(capacity, &error);
    if (core == nullptr) return internal::MakeChanError(error);
    return Chan(internal::ChanHandle(core));
  }

  operator SendChan<T>() const {  // NOLINT: implicit, as in Go
    return SendChan<T>(static_cast<const internal::ChanHandle&>(*this));
  }
  operator RecvChan<T>() const {  // NOLINT
    return RecvChan<T>(static_cast<const internal::ChanHandle&>(*this));
  }

 private:
  explicit Chan(internal::ChanHandle channel) : internal::AnyHandle<T>(std::move(channel)) {}

  static internal::ChanCore* NewCore(int64_t capacity, absl::StatusCode* error) {
    static_assert(std::is_object_v<T> && !std::is_array_v<T> && !std::is_const_v<T>,
                  "a channel carries objects: no references, arrays or const types");
    static_assert(std::is_move_constructible_v<T> && std::is_destructible_v<T>,
                  "a channel's element type must be movable");
    return internal::NewChanCore(internal::kElementKind<T>, capacity, &internal::kElementOps<T>,
                                 error);
  }
  static internal::ChanHandle New(int64_t capacity) {
    absl::StatusCode error;
    internal::ChanCore* core = NewCore(capacity, &error);
    if (core == nullptr) internal::MakeChanPanic(error);
    return internal::ChanHandle(core);
  }
};

namespace internal {

// Receiving handles of channels that the library itself sends to, or closes.
struct RecvChanMaker {
  template <typename T>
  static RecvChan<T> Make(const ChanHandle& channel) {
    return RecvChan<T>(channel);
  }
};

}  // namespace internal
}  // namespace weft

#endif  // WEFT_CHAN_CHAN_H_
