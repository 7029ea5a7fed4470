// What is behind a Context.
#ifndef WEFT_CHAN_INTERNAL_CONTEXT_NODE_H_
#define WEFT_CHAN_INTERNAL_CONTEXT_NODE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <typeinfo>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "sched/internal/closure.h"

namespace weft {

class Context;
class StopFunc;

namespace internal {

class CancelNode;
struct CallNode;
struct ContextAccess;

// A key: what, and of which type. A ValueNode compares it with its own.
struct KeyRef {
  const std::type_info* type;
  const void* key;
};
template <typename K>
KeyRef KeyOf(const K& key) {
  return {&typeid(K), std::addressof(key)};
}

// A value; null type: there is none.
struct ValueRef {
  const std::type_info* type = nullptr;
  const void* value = nullptr;
};

class ContextNode {
 public:
  ContextNode() = default;
  ContextNode(const ContextNode&) = delete;
  ContextNode& operator=(const ContextNode&) = delete;
  virtual ~ContextNode() = default;

  virtual std::optional<absl::Time> Deadline() const = 0;
  virtual RecvChan<std::monostate> Done() const = 0;
  virtual absl::Status Err() const = 0;
  virtual std::string DebugString() const = 0;

  virtual ValueRef Find(const KeyRef& key) const = 0;
  // The nearest one, from here upward, that can be cancelled; null: none.
  virtual CancelNode* cancel_node() const = 0;

  void Ref() {
    if (done_ != nullptr) {
      done_->Ref();
    } else {
      refs_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  void Unref() {
    if (done_ != nullptr) {
      done_->Unref();
    } else if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      delete this;
    }
  }

 protected:
  // Handles to the channel of Done() keep a node too: they are counted together, in the channel.
  explicit ContextNode(ChanCore* done) : done_(done) {}

 private:
  ChanCore* const done_ = nullptr;
  std::atomic<uint64_t> refs_{1};
};

// What has a parent and is done when that is.
class ForwardingNode : public ContextNode {
 public:
  explicit ForwardingNode(const Context& parent);
  ~ForwardingNode() override;

  std::optional<absl::Time> Deadline() const override;
  RecvChan<std::monostate> Done() const override;
  absl::Status Err() const override;
  ValueRef Find(const KeyRef& key) const override;
  CancelNode* cancel_node() const override;

 protected:
  ContextNode* const parent_;
};

class ValueNodeBase : public ForwardingNode {
 public:
  using ForwardingNode::ForwardingNode;
  ValueRef Find(const KeyRef& key) const final;
  std::string DebugString() const final;

 private:
  // Null: another key.
  virtual const void* Get(const KeyRef& key) const = 0;
  virtual const std::type_info& KeyType() const = 0;
  virtual const std::type_info& ValueType() const = 0;
};

// A handle to what AfterFunc() has asked for.
class CallRef {
 public:
  explicit CallRef(CallNode* call) : call_(call) {}  // takes over one reference
  CallRef(const CallRef& other);
  CallRef(CallRef&& other) noexcept : call_(std::exchange(other.call_, nullptr)) {}
  CallRef& operator=(CallRef other) noexcept {
    std::swap(call_, other.call_);
    return *this;
  }
  ~CallRef();

  CallNode* get() const { return call_; }

 private:
  CallNode* call_;
};

[[noreturn]] void NilContext();
// Ends the program where it is nil.
void CheckParent(const Context& parent);
StopFunc CallAfterDone(const Context& context, Closure&& f);

// For tests: how many children, and functions of AfterFunc(), wait for the context to be done.
int64_t CountChildren(const Context& context);

}  // namespace internal
}  // namespace weft

#endif  // WEFT_CHAN_INTERNAL_CONTEXT_NODE_H_
