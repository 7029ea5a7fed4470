// The tree of contexts, as in Go's context/context.go, with counted references instead of a
// collector.
//
// A node that can be cancelled (CancelNode) has the channel of Done() in it. References go upward:
// a node keeps its parents. Downward go plain pointers: a node lists its children, CancelNodes and
// functions to be called, and each child takes itself from the list before it is freed.
//
// A child may be touched by whoever has its parent's lock while it is in the list, and by the one
// that has taken it out of the list until it gives that lock back: a child that is being freed asks
// for its parent's lock first, and so waits for either. Nothing that a node owns need be counted
// for that.
//
// Locks are taken from the root downward. Cancelling a node means, under its lock: the error is
// written, the channel closed, and the children are taken out one by one and cancelled in the same
// way, all of it before the lock is given back: whoever finds the node cancelled already, or comes
// to the lock, finds all below it cancelled too. The walk keeps the locks of its path, and no
// stack.
//
// What may run the user's code is done when no lock is held: starting the functions of AfterFunc(),
// and dropping references, on which destructors of values may depend. For the same reason a
// deadline's callback, which runs on a scheduler's stack, leaves everything to a goroutine.
//
// err_ and cause_ do not change once the channel is closed, and are read without the lock by
// whoever has seen that it is.
#include "chan/context.h"

#include <cstddef>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "chan/select.h"
#include "sched/clock.h"
#include "sched/fatal.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/internal/lock.h"
#include "sched/internal/thread.h"
#include "sched/timer.h"
#include "sched/waiter.h"

namespace weft {
namespace internal {
namespace {

void LastHandleGone(ChanCore* core);
void DeadlineHasPassed(CallbackTimer& timer);

constexpr ElementOps kDoneOps = {.bytes = 0,
                                 .relocate = nullptr,
                                 .destroy = nullptr,
                                 .last_handle_gone = LastHandleGone,
                                 .hides_buffer = false};

const absl::Status& Canceled() {
  static const auto* const status = new absl::Status(absl::CancelledError("context canceled"));
  return *status;
}
const absl::Status& DeadlineExceeded() {
  static const auto* const status =
      new absl::Status(absl::DeadlineExceededError("context deadline exceeded"));
  return *status;
}

}  // namespace

// What a CancelNode lists.
struct Child {
  enum class Kind : uint8_t { kNode, kCall };

  explicit Child(Kind k) : kind(k) {}

  const Kind kind;
  bool listed = false;       // under the lock of `in`
  CancelNode* in = nullptr;  // the node that lists it or has done so; set before it is listed
  Child* next = nullptr;     // under that lock
  Child* prev = nullptr;
};

class CancelNode final : public ContextNode, public Child {
 public:
  struct DoneCore : ChanCore {
    explicit DoneCore(CancelNode* o) : ChanCore(Kind::kWord, 0, &kDoneOps), owner(o) {}
    CancelNode* const owner;
  };
  struct Alarm : CallbackTimer {
    explicit Alarm(CancelNode* o) : CallbackTimer(DeadlineHasPassed), owner(o) {}
    CancelNode* const owner;
  };

  CancelNode(const Context& parent, std::optional<absl::Time> deadline, absl::Status late_cause)
      : ContextNode(&done),
        Child(Child::Kind::kNode),
        done(this),
        parent(parent),
        deadline(deadline),
        late_cause(std::move(late_cause)),
        alarm(this) {}

  std::optional<absl::Time> Deadline() const override {
    return deadline.has_value() ? deadline : parent.Deadline();
  }
  RecvChan<std::monostate> Done() const override {
    done.Ref();
    return RecvChanMaker::Make<std::monostate>(ChanHandle(&done));
  }
  absl::Status Err() const override { return IsDone() ? err : absl::OkStatus(); }
  ValueRef Find(const KeyRef& key) const override {
    return ContextAccess::NodeOf(parent)->Find(key);
  }
  CancelNode* cancel_node() const override { return const_cast<CancelNode*>(this); }
  std::string DebugString() const override {
    return deadline.has_value() ? absl::StrCat(parent.DebugString(), ".WithDeadline(",
                                               absl::FormatTime(*deadline), ")")
                                : absl::StrCat(parent.DebugString(), ".WithCancel");
  }

  // Acquire: pairs with the release of the closing, for err and cause.
  bool IsDone() const { return done.closed.load(std::memory_order_acquire); }

  // Under the lock; not done so far.
  void Finish(const absl::Status& why_done, const absl::Status& root_cause) {
    err = why_done;
    cause = root_cause;
    Silence();
    CloseChan(&done);
  }
  // Under the lock, by who keeps the node in some way.
  void Silence() {
    if (alarm.Stop()) keepers.fetch_sub(1, std::memory_order_relaxed);
  }
  void SetAlarm(Instant due) {
    lock.Acquire();
    if (!IsDone() && !alarm.Start(due)) keepers.fetch_add(1, std::memory_order_relaxed);
    lock.Release();
  }
  void LetGo() {
    // Acquire and release: what other keepers did comes before the end.
    if (keepers.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  // Under the lock.
  void List(Child* child) {
    child->listed = true;
    child->prev = nullptr;
    child->next = children;
    if (children != nullptr) children->prev = child;
    children = child;
  }
  void Unlist(Child* child) {
    child->listed = false;
    (child->prev == nullptr ? children : child->prev->next) = child->next;
    if (child->next != nullptr) child->next->prev = child->prev;
  }

  Lock lock;
  Child* children = nullptr;
  absl::Status err;
  absl::Status cause;
  mutable DoneCore done;
  const Context parent;
  Context listed_in;  // keeps Child::in
  const std::optional<absl::Time> deadline;
  const absl::Status late_cause;
  Alarm alarm;
  // The callback of the alarm, from its start to the end of what it does; and all handles as one.
  std::atomic<uint32_t> keepers{1};
};

// A function that is to be called.
struct CallNode : Child {
  explicit CallNode(Closure&& f) : Child(Kind::kCall), function(std::move(f)) {}

  std::atomic<uint32_t> refs{2};  // of the handle, and of whoever is to call
  std::atomic<bool> armed{true};  // whoever makes it false has the function
  bool own_context = false;       // `context` was made for this
  Context context;                // keeps Child::in
  Closure function;
};

namespace {

void Unref(CallNode* call) {
  if (call->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete call;
}

// Has the child taken out of its list, and waits for whoever has taken it out before. True: it was
// listed.
bool Leave(Child* child) {
  if (child->in == nullptr) return false;
  WEFT_DELAY_POINT("context.leave");
  RuntimeSection section;
  CancelNode* in = child->in;
  in->lock.Acquire();
  const bool listed = child->listed;
  if (listed) in->Unlist(child);
  in->lock.Release();
  return listed;
}

// Starts the functions that are linked by `next`.
void StartAll(Child* calls) {
  while (calls != nullptr) {
    auto* call = static_cast<CallNode*>(std::exchange(calls, calls->next));
    if (call->armed.exchange(false, std::memory_order_acq_rel)) {
      Spawn({.name = "context.AfterFunc"}, std::move(call->function));
    }
    Unref(call);
  }
}

// Cancels `top` and all below it. The caller keeps `top`.
void CancelTree(CancelNode* top, const absl::Status& err,
                const absl::Status& cause) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  Child* calls = nullptr;
  EnterRuntime();
  top->lock.Acquire();
  if (!top->IsDone()) {
    top->Finish(err, cause);
    CancelNode* at = top;
    for (;;) {
      Child* child = at->children;
      if (child == nullptr) {
        if (at == top) break;
        // Not looked at after its lock is free, but for that its parent's lock is held.
        CancelNode* up = at->in;
        at->lock.Release();
        at = up;
        continue;
      }
      at->Unlist(child);
      if (child->kind == Child::Kind::kCall) {
        child->next = calls;
        calls = child;
        continue;
      }
      auto* node = static_cast<CancelNode*>(child);
      node->lock.Acquire();
      if (node->IsDone()) {
        node->lock.Release();
        continue;
      }
      node->Finish(err, cause);
      at = node;
    }
  }
  top->lock.Release();
  LeaveRuntime();
  StartAll(calls);
}

// For who is not called by the parent.
void CancelAndLeave(CancelNode* node, const absl::Status& err, const absl::Status& cause) {
  CancelTree(node, err, cause);
  Leave(node);
}

// Lists the child, of which only the caller knows, with the node that ends `parent`. False: that
// node is done already.
bool Join(Child* child, CancelNode* node, Context* keeps_node) {
  *keeps_node = ContextAccess::Share(node);
  RuntimeSection section;
  const LockGuard guard(node->lock);
  if (node->IsDone()) return false;
  child->in = node;
  node->List(child);
  return true;
}

// The node whose cancelling is the end of `context`; null: it has a channel of its own, or none.
CancelNode* EndOf(const Context& context, const DoneChan& done) {
  CancelNode* node = ContextAccess::NodeOf(context)->cancel_node();
  return node != nullptr && &node->done == done.core() ? node : nullptr;
}

bool IsClosed(const DoneChan& done) { return done.core()->closed.load(std::memory_order_acquire); }

// Has the node, of which only the caller knows, cancelled when its parent is done.
void FollowParent(CancelNode* node) {
  const Context& parent = node->parent;
  const DoneChan done = parent.Done();
  if (done.is_nil()) return;
  if (!IsClosed(done)) {
    if (CancelNode* end = EndOf(parent, done); end != nullptr) {
      if (Join(node, end, &node->listed_in)) return;
    } else {
      Go({.name = "context"}, [context = ContextAccess::Share(node)] {
        auto* self = static_cast<CancelNode*>(ContextAccess::NodeOf(context));
        const DoneChan above = self->parent.Done();
        const DoneChan own = self->Done();
        Select{above.OnRecv(), own.OnRecv()};
        if (IsClosed(above)) CancelTree(self, self->parent.Err(), Cause(self->parent));
      });
      return;
    }
  }
  CancelTree(node, parent.Err(), Cause(parent));
}

CancelNode* NewChild(const Context& parent, std::optional<absl::Time> deadline = std::nullopt,
                     absl::Status late_cause = absl::OkStatus()) {
  CheckParent(parent);
  auto* node = new CancelNode(parent, deadline, std::move(late_cause));
  FollowParent(node);
  return node;
}

void CancelByUser(const Context& context, const absl::Status& cause) {
  ContextNode* node = ContextAccess::NodeOf(context);
  if (node == nullptr) Panic("context: use of a nil CancelFunc");
  CancelAndLeave(static_cast<CancelNode*>(node), Canceled(), cause.ok() ? Canceled() : cause);
}

// On a scheduler's stack.
void DeadlineHasPassed(CallbackTimer& timer) {
  CancelNode* node = static_cast<CancelNode::Alarm&>(timer).owner;
  Go({.name = "context deadline"}, [node] {
    CancelAndLeave(node, DeadlineExceeded(),
                   node->late_cause.ok() ? DeadlineExceeded() : node->late_cause);
    node->LetGo();
  });
}

void LastHandleGone(ChanCore* core) {
  CancelNode* node = static_cast<CancelNode::DoneCore*>(core)->owner;
  Leave(node);
  {
    RuntimeSection section;
    const LockGuard guard(node->lock);
    node->Silence();
  }
  node->LetGo();
}

ContextWithCancel WithAlarm(const Context& parent, absl::Time deadline, Instant due,
                            absl::Status cause) {
  CheckParent(parent);
  if (const std::optional<absl::Time> sooner = parent.Deadline();
      due.IsNever() || (sooner.has_value() && *sooner <= deadline)) {
    return WithCancel(parent);
  }
  CancelNode* node = NewChild(parent, deadline, std::move(cause));
  Context context = ContextAccess::Own(node);
  if (due <= Instant::Now()) {
    CancelAndLeave(node, DeadlineExceeded(),
                   node->late_cause.ok() ? DeadlineExceeded() : node->late_cause);
  } else {
    RuntimeSection section;
    node->SetAlarm(due);
  }
  return {context, ContextAccess::MakeCancel(context)};
}

class RootNode final : public ContextNode {
 public:
  explicit RootNode(const char* name) : name_(name) {}
  std::optional<absl::Time> Deadline() const override { return std::nullopt; }
  RecvChan<std::monostate> Done() const override { return {}; }
  absl::Status Err() const override { return absl::OkStatus(); }
  std::string DebugString() const override { return name_; }
  ValueRef Find(const KeyRef&) const override { return {}; }
  CancelNode* cancel_node() const override { return nullptr; }

 private:
  const char* const name_;
};

class WithoutCancelNode final : public ForwardingNode {
 public:
  using ForwardingNode::ForwardingNode;
  std::optional<absl::Time> Deadline() const override { return std::nullopt; }
  RecvChan<std::monostate> Done() const override { return {}; }
  absl::Status Err() const override { return absl::OkStatus(); }
  std::string DebugString() const override {
    return absl::StrCat(parent_->DebugString(), ".WithoutCancel");
  }
  CancelNode* cancel_node() const override { return nullptr; }
};

// In a wait for something else: a record among the receivers of Done(), which get nothing but its
// end.
constexpr InterruptionOps kInterruptionOps = {
    .arm =
        [](void* object, Waiter* waiter, void* space) {
          auto* core = static_cast<ChanCore*>(object);
          auto* record = ::new (space) WaitRecord;
          const LockGuard guard(core->lock);
          if (core->closed.load(std::memory_order_relaxed)) return false;
          record->waiter = waiter;
          record->value = nullptr;
          record->select = nullptr;
          record->is_send = false;
          record->outcome.store(Outcome::kPending, std::memory_order_relaxed);
          core->receivers.PushBack(record);
          return true;
        },
    .has_come =
        [](const void* space) {
          return static_cast<const WaitRecord*>(space)->outcome.load(std::memory_order_acquire) !=
                 Outcome::kPending;
        },
    .disarm =
        [](void* object, void* space) {
          auto* core = static_cast<ChanCore*>(object);
          auto* record = static_cast<WaitRecord*>(space);
          core->lock.Acquire();
          const bool queued = record->queued;
          if (queued) core->receivers.Remove(record);
          core->lock.Release();
          if (queued) return false;
          // Whoever closes the channel has taken it, and is about to finish.
          while (record->outcome.load(std::memory_order_acquire) == Outcome::kPending) {
            record->waiter->Park(WaitReason::kSemacquire);
          }
          return true;
        },
};
static_assert(sizeof(WaitRecord) <= kInterruptionBytes);

}  // namespace

ForwardingNode::ForwardingNode(const Context& parent) : parent_(ContextAccess::NodeOf(parent)) {
  parent_->Ref();
}
ForwardingNode::~ForwardingNode() { parent_->Unref(); }
std::optional<absl::Time> ForwardingNode::Deadline() const { return parent_->Deadline(); }
RecvChan<std::monostate> ForwardingNode::Done() const { return parent_->Done(); }
absl::Status ForwardingNode::Err() const { return parent_->Err(); }
ValueRef ForwardingNode::Find(const KeyRef& key) const { return parent_->Find(key); }
CancelNode* ForwardingNode::cancel_node() const { return parent_->cancel_node(); }

ValueRef ValueNodeBase::Find(const KeyRef& key) const {
  if (const void* value = Get(key); value != nullptr) return {&ValueType(), value};
  return parent_->Find(key);
}
std::string ValueNodeBase::DebugString() const {
  return absl::StrCat(parent_->DebugString(), ".WithValue(", KeyType().name(), ")");
}

CallRef::CallRef(const CallRef& other) : call_(other.call_) {
  if (call_ != nullptr) call_->refs.fetch_add(1, std::memory_order_relaxed);
}
CallRef::~CallRef() {
  if (call_ != nullptr) Unref(call_);
}

void NilContext() { Panic("context: use of a nil Context"); }

void CheckParent(const Context& parent) {
  if (parent.is_nil()) Panic("cannot create context from nil parent");
}

StopFunc CallAfterDone(const Context& context, Closure&& f) {
  CheckParent(context);
  if (f.empty()) Fatal("go of nil func value");
  auto* call = new CallNode(std::move(f));
  StopFunc stop = ContextAccess::MakeStop(CallRef(call));
  const DoneChan done = context.Done();
  if (done.is_nil()) {
    // Never: nobody is to call.
    Unref(call);
    return stop;
  }
  CancelNode* end = EndOf(context, done);
  if (end == nullptr) {
    // A channel that we know nothing of: by way of a context that follows it.
    end = NewChild(context);
    call->own_context = true;
    const Context keep = ContextAccess::Own(end);
    if (Join(call, end, &call->context)) return stop;
  } else if (Join(call, end, &call->context)) {
    return stop;
  }
  call->next = nullptr;
  StartAll(call);
  return stop;
}

int64_t CountChildren(const Context& context) {
  CancelNode* node = ContextAccess::NodeOf(context)->cancel_node();
  if (node == nullptr) return 0;
  RuntimeSection section;
  const LockGuard guard(node->lock);
  int64_t n = 0;
  for (const Child* child = node->children; child != nullptr; child = child->next) ++n;
  return n;
}

}  // namespace internal

using internal::ContextAccess;

Context Background() {
  static auto* const root = new internal::RootNode("context.Background");
  return ContextAccess::Share(root);
}

Context TODO() {
  static auto* const root = new internal::RootNode("context.TODO");
  return ContextAccess::Share(root);
}

ContextWithCancel WithCancel(const Context& parent) {
  Context context = ContextAccess::Own(internal::NewChild(parent));
  return {context, ContextAccess::MakeCancel(context)};
}

ContextWithCancelCause WithCancelCause(const Context& parent) {
  Context context = ContextAccess::Own(internal::NewChild(parent));
  return {context, ContextAccess::MakeCancelCause(context)};
}

ContextWithCancel WithDeadline(const Context& parent, absl::Time deadline, absl::Status cause) {
  return internal::WithAlarm(parent, deadline, Instant::FromTime(deadline), std::move(cause));
}

ContextWithCancel WithTimeout(const Context& parent, absl::Duration timeout, absl::Status cause) {
  return internal::WithAlarm(parent, absl::Now() + timeout, Instant::Now() + timeout,
                             std::move(cause));
}

Context WithoutCancel(const Context& parent) {
  internal::CheckParent(parent);
  return ContextAccess::Own(new internal::WithoutCancelNode(parent));
}

absl::Status Cause(const Context& context) {
  // First, so that the node of a context that is done is done too. If it is not, the context is one
  // of the user's, with an end of its own.
  absl::Status err = context.Err();
  if (err.ok()) return err;
  internal::CancelNode* node = ContextAccess::NodeOf(context)->cancel_node();
  return node != nullptr && node->IsDone() ? node->cause : err;
}

void CancelFunc::operator()() const { internal::CancelByUser(context_, absl::OkStatus()); }
void CancelCauseFunc::operator()(const absl::Status& cause) const {
  internal::CancelByUser(context_, cause);
}

bool StopFunc::operator()() const {
  internal::CallNode* call = call_.get();
  if (!call->armed.exchange(false, std::memory_order_acq_rel)) return false;
  const bool own_context = call->own_context;
  if (internal::Leave(call)) {
    call->function.Reset();
    internal::Unref(call);  // this has a reference too
  } else {
    call->function.Reset();
  }
  if (own_context) {
    internal::CancelTree(call->in, internal::Canceled(), internal::Canceled());
    internal::Leave(call->in);
  }
  return true;
}

internal::Interruption InterruptionOf(const Context& context) {
  const DoneChan done = context.Done();
  if (done.is_nil()) return {};
  // The context keeps the channel.
  return {&internal::kInterruptionOps, done.core()};
}

internal::ValueRef CustomContext::Find(const internal::KeyRef& key) const {
  return ContextAccess::NodeOf(held_)->Find(key);
}
internal::CancelNode* CustomContext::cancel_node() const {
  return ContextAccess::NodeOf(held_)->cancel_node();
}

}  // namespace weft
