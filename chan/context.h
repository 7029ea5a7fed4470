// Contexts: a deadline, a cancellation, and values, handed down from call to call.
//
//   absl::Status Serve(const weft::Context& parent, Request request) {
//     auto [context, cancel] = weft::WithTimeout(parent, absl::Seconds(2));
//     const absl::Cleanup cleanup = cancel;
//     weft::Chan<Reply> reply(1);
//     weft::Go([context = context, reply, request] { reply.Send(Ask(context, request)); });
//     absl::Status status;
//     weft::Select(reply.OnRecv([&](std::optional<Reply> r) { Use(*r); }),
//                  context.Done().OnRecv([&] { status = context.Err(); }));
//     return status;
//   }
//
// As Go's package context. Contexts form a tree: a context is done when it is cancelled itself, or
// its deadline has passed, or its parent is done, and stays so. Take one as the first parameter of
// whatever may wait, and hand it on.
//
// A Context is a handle, cheap to copy; its copies are the same context. A default-made one is nil,
// and good for nothing. What nobody has a handle to is freed, cancelled or not; a context keeps its
// parents, but not its children. All functions may be called at once, from goroutines and threads
// (but one handle object must not be assigned to while another thread uses it). Not from signal
// handlers. None parks.
#ifndef WEFT_CHAN_CONTEXT_H_
#define WEFT_CHAN_CONTEXT_H_

#include <concepts>
#include <optional>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/internal/context_node.h"
#include "sched/internal/closure.h"
#include "sched/sync/internal/interruption.h"

namespace weft {

// The channel of Context::Done(). Nothing is ever sent on it.
using DoneChan = RecvChan<std::monostate>;

class Context {
 public:
  // Nil.
  Context() = default;

  // When it will be done at the latest; nothing if nobody has said so.
  std::optional<absl::Time> Deadline() const { return node().Deadline(); }

  // Closed when the context is done; each call returns the same channel. Nil for one that is never
  // done.
  DoneChan Done() const { return node().Done(); }

  // OK while it is not done. Then, for good: CANCELLED "context canceled", or DEADLINE_EXCEEDED
  // "context deadline exceeded".
  absl::Status Err() const { return node().Err(); }

  // The value that WithValue() has given to `key` in this context or the nearest of its parents;
  // null where there is none, or it is not a V. It lives as long as any handle to this context.
  template <typename V, std::equality_comparable K>
  const V* Value(const K& key) const {
    const internal::ValueRef found = node().Find(internal::KeyOf(key));
    return found.type != nullptr && *found.type == typeid(V) ? static_cast<const V*>(found.value)
                                                             : nullptr;
  }

  // "context.Background.WithCancel" and the like, for logs.
  std::string DebugString() const { return node().DebugString(); }

  bool is_nil() const { return node_ == nullptr; }
  friend bool operator==(const Context& a, const Context& b) { return a.node_ == b.node_; }

  Context(const Context& other) : node_(other.node_) {
    if (node_ != nullptr) node_->Ref();
  }
  Context(Context&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  Context& operator=(Context other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~Context() {
    if (node_ != nullptr) node_->Unref();
  }

 private:
  friend struct internal::ContextAccess;

  explicit Context(internal::ContextNode* node) : node_(node) {}  // takes over one reference

  const internal::ContextNode& node() const {
    if (node_ == nullptr) [[unlikely]]
      internal::NilContext();
    return *node_;
  }

  internal::ContextNode* node_ = nullptr;
};

// Cancels the context that it was made with, and all that come from it: when it returns they are
// done. Calls after the first do nothing. A handle too: it keeps the context.
class CancelFunc {
 public:
  CancelFunc() = default;
  void operator()() const;

 private:
  friend struct internal::ContextAccess;
  explicit CancelFunc(Context context) : context_(std::move(context)) {}
  Context context_;
};

// The same, and says why: Cause() of these contexts is `cause` (Err() is what it always is), or, if
// that is OK, what Err() is.
class CancelCauseFunc {
 public:
  CancelCauseFunc() = default;
  void operator()(const absl::Status& cause) const;

 private:
  friend struct internal::ContextAccess;
  explicit CancelCauseFunc(Context context) : context_(std::move(context)) {}
  Context context_;
};

struct ContextWithCancel {
  Context context;
  CancelFunc cancel;
};
struct ContextWithCancelCause {
  Context context;
  CancelCauseFunc cancel;
};

// The roots: never done, no deadline, no values. TODO is for where it is not clear yet which
// context should be there.
Context Background();
Context TODO();

// All that follow end the program with "panic: cannot create context from nil parent" if `parent`
// is nil.

// A child of `parent`, to be cancelled by calling `cancel`.
[[nodiscard]] ContextWithCancel WithCancel(const Context& parent);
[[nodiscard]] ContextWithCancelCause WithCancelCause(const Context& parent);

// The same, done with DEADLINE_EXCEEDED at `deadline` at the latest; at once where that has passed.
// A deadline of the parent that is earlier counts. `cause` is what Cause() is then; OK: the same as
// Err(). The timer is stopped when the context is done or freed. Starts the scheduler.
[[nodiscard]] ContextWithCancel WithDeadline(const Context& parent, absl::Time deadline,
                                             absl::Status cause = absl::OkStatus());
// The same when `timeout` has passed; a change of the wall clock makes no difference.
[[nodiscard]] ContextWithCancel WithTimeout(const Context& parent, absl::Duration timeout,
                                            absl::Status cause = absl::OkStatus());

// A child that has `value` for `key`. Keys are compared by type and value: have a type of your own,
// so that nobody else's key is the same.
//   struct UserKey { bool operator==(const UserKey&) const = default; };
//   Context c = WithValue(parent, UserKey{}, User{...});   const User* user =
//   c.Value<User>(UserKey{});
template <typename K, typename V>
Context WithValue(const Context& parent, K key, V value);

// A child that has the values of `parent`, and is never done.
Context WithoutCancel(const Context& parent);

// Why it is done: the cause given by whoever has cancelled it, or its parent, first; else what
// Err() is. OK while it is not done.
absl::Status Cause(const Context& context);

// Takes back what AfterFunc() has asked for. True: the function has not been called and will not
// be. False: it has (it may be running), or it was taken back before.
class StopFunc {
 public:
  bool operator()() const;

 private:
  friend struct internal::ContextAccess;
  explicit StopFunc(internal::CallRef call) : call_(std::move(call)) {}
  internal::CallRef call_;
};

// For what waits for something else too (sched/sync/internal/interruption.h).
internal::Interruption InterruptionOf(const Context& context);

namespace internal {

struct ContextAccess {
  // A handle to a new node.
  static Context Own(ContextNode* node) { return Context(node); }
  static Context Share(ContextNode* node) {
    node->Ref();
    return Context(node);
  }
  static ContextNode* NodeOf(const Context& context) { return context.node_; }
  static CancelFunc MakeCancel(Context context) { return CancelFunc(std::move(context)); }
  static CancelCauseFunc MakeCancelCause(Context context) {
    return CancelCauseFunc(std::move(context));
  }
  static StopFunc MakeStop(CallRef call) { return StopFunc(std::move(call)); }
};

}  // namespace internal

// Starts a goroutine that runs `f()` when `context` is done, now if it is already. Kept, with the
// context, until that or until it is stopped. Whoever cancels does not wait for it. `f` is
// destroyed when it has run, or when it is stopped.
template <typename F>
StopFunc AfterFunc(const Context& context, F&& f) {
  return internal::CallAfterDone(context, internal::Closure(std::forward<F>(f)));
}

// For contexts of your own: holds another one, and does what that does, but for what is overridden.
// A context that overrides Done() must override Err() too, so that they agree. Contexts made from
// one whose Done() is its own cost a goroutine each, until either is done.
//
//   class Request : public weft::CustomContext { ... };
//   weft::Context context = weft::MakeContext<Request>(parent, ...);
class CustomContext : public internal::ContextNode {
 public:
  explicit CustomContext(Context held) : held_(std::move(held)) {}

  std::optional<absl::Time> Deadline() const override { return held_.Deadline(); }
  DoneChan Done() const override { return held_.Done(); }
  absl::Status Err() const override { return held_.Err(); }
  std::string DebugString() const override { return held_.DebugString(); }

  const Context& held() const { return held_; }

 private:
  internal::ValueRef Find(const internal::KeyRef& key) const final;
  internal::CancelNode* cancel_node() const final;

  Context held_;
};

template <std::derived_from<CustomContext> T, typename... Args>
Context MakeContext(Args&&... args) {
  return internal::ContextAccess::Own(new T(std::forward<Args>(args)...));
}

namespace internal {

template <typename K, typename V>
class ValueNode final : public ValueNodeBase {
 public:
  ValueNode(const Context& parent, K key, V value)
      : ValueNodeBase(parent), key_(std::move(key)), value_(std::move(value)) {}

 private:
  const void* Get(const KeyRef& key) const override {
    return *key.type == typeid(K) && key_ == *static_cast<const K*>(key.key) ? &value_ : nullptr;
  }
  const std::type_info& ValueType() const override { return typeid(V); }
  const std::type_info& KeyType() const override { return typeid(K); }

  const K key_;
  const V value_;
};

}  // namespace internal

template <typename K, typename V>
Context WithValue(const Context& parent, K key, V value) {
  static_assert(std::equality_comparable<K>, "key is not comparable");
  static_assert(!std::is_null_pointer_v<K>, "nil key");
  static_assert(!std::is_same_v<K, const char*> && !std::is_same_v<K, char*>,
                "a key of a type of your own, not a pointer to characters");
  internal::CheckParent(parent);
  return internal::ContextAccess::Own(
      new internal::ValueNode<K, V>(parent, std::move(key), std::move(value)));
}

}  // namespace weft

#endif  // WEFT_CHAN_CONTEXT_H_
