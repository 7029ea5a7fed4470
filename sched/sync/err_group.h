// Tasks that belong together: the first that fails ends the others, and tells whoever waits.
//
//   auto [context, cancel] = weft::WithCancelCause(request.context());   // chan/context.h
//   weft::ErrGroup group(cancel);
//   group.SetLimit(8);
//   for (const Url& url : urls) {
//     group.Go([&, context = context] { return Fetch(context, url); });  // absl::Status
//   }
//   absl::Status status = group.Wait();
//
// As golang.org/x/sync/errgroup, and for exceptions too: a goroutine of a group may throw, and
// Wait() throws that on. Without a context nobody is told to end early.
//
// From goroutines and threads. Not to be used for other tasks after Wait().
#ifndef WEFT_SCHED_SYNC_ERR_GROUP_H_
#define WEFT_SCHED_SYNC_ERR_GROUP_H_

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "sched/goroutine.h"
#include "sched/sync/mutex.h"
#include "sched/sync/semaphore.h"
#include "sched/sync/wait_group.h"

namespace weft {

class ErrGroup {
 public:
  ErrGroup() = default;
  // `cancel(status)` is called once: with the first failure as soon as there is one (an exception
  // as absl::UnknownError with its text), by the task that has failed; or with OK by the first
  // Wait().
  explicit ErrGroup(absl::AnyInvocable<void(const absl::Status&)> cancel)
      : cancel_(std::move(cancel)) {}
  ErrGroup(const ErrGroup&) = delete;
  ErrGroup& operator=(const ErrGroup&) = delete;
  // Calls `cancel` with absl::CancelledError() where nobody has waited, and waits for the tasks:
  // they may refer to what is destroyed next. What they have thrown is lost then. May park.
  ~ErrGroup();

  // At most `n` tasks from now on, negative: any number. Only while none runs: "panic: errgroup:
  // modify limit while 3 goroutines in the group are still active".
  void SetLimit(int n);

  // Starts a goroutine that runs `fn()`, which returns an absl::Status or nothing. Where as many as
  // the limit allows run, waits until one of them has ended. It fails by a status that is not OK,
  // or by an exception; to end its goroutine by weft::Exit() is not to fail. `fn` is destroyed
  // before it counts as ended. May park.
  template <typename Fn>
  [[gnu::always_inline]] void Go(Fn&& fn) {
    if (limit_.has_value()) limit_->Acquire();
    Start(std::forward<Fn>(fn));
  }

  // The same if it can be done without waiting. Never parks.
  template <typename Fn>
  [[gnu::always_inline]] bool TryGo(Fn&& fn) {
    if (limit_.has_value() && !limit_->TryAcquire()) return false;
    Start(std::forward<Fn>(fn));
    return true;
  }

  // Waits until all tasks have ended, and returns the first failure, or throws it where it was an
  // exception. May park.
  absl::Status Wait();

 private:
  template <typename Fn>
  struct Task {
    ErrGroup* group;
    std::optional<Fn> fn;

    void operator()() {
      struct End {
        Task& task;
        ~End() {
          task.fn.reset();
          task.group->TaskHasEnded();
        }
      } const end{*this};
      try {
        if constexpr (std::is_void_v<std::invoke_result_t<Fn&>>) {
          (*fn)();
        } else if (absl::Status status = (*fn)(); !status.ok()) {
          group->Fail(std::move(status));
        }
      } catch (...) {
        group->FailWith(std::current_exception());
      }
    }
  };

  template <typename Fn>
  [[gnu::always_inline]] void Start(Fn&& fn) {
    tasks_.Add(1);
    weft::Go(Task<std::decay_t<Fn>>{this, std::forward<Fn>(fn)});
  }

  void Fail(absl::Status status, std::exception_ptr exception = nullptr);
  void FailWith(std::exception_ptr exception);
  void TaskHasEnded();
  void Cancel(const absl::Status& status);

  WaitGroup tasks_;
  std::optional<Semaphore> limit_;
  int limit_size_ = 0;
  Mutex mutex_;
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::exception_ptr exception_ ABSL_GUARDED_BY(mutex_);
  absl::AnyInvocable<void(const absl::Status&)> cancel_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weft

#endif  // WEFT_SCHED_SYNC_ERR_GROUP_H_
