#include "sched/sync/err_group.h"

#include "absl/strings/str_cat.h"
#include "sched/fatal.h"

namespace weft {
namespace {

absl::Status StatusOf(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& error) {
    return absl::UnknownError(absl::StrCat("exception: ", error.what()));
  } catch (...) {
    return absl::UnknownError("exception");
  }
}

}  // namespace

ErrGroup::~ErrGroup() {
  Cancel(absl::CancelledError());
  tasks_.Wait();
}

void ErrGroup::SetLimit(int n) {
  if (limit_.has_value() && limit_->available() != limit_size_) {
    Panic(absl::StrCat("errgroup: modify limit while ", limit_size_ - limit_->available(),
                       " goroutines in the group are still active"));
  }
  limit_.reset();
  if (n >= 0) limit_.emplace(n);
  limit_size_ = n;
}

absl::Status ErrGroup::Wait() {
  tasks_.Wait();
  Cancel(absl::OkStatus());
  MutexLock lock(mutex_);
  if (exception_ != nullptr) std::rethrow_exception(exception_);
  return status_;
}

void ErrGroup::Fail(absl::Status status, std::exception_ptr exception) {
  {
    MutexLock lock(mutex_);
    if (failed_) return;
    failed_ = true;
    status_ = status;
    exception_ = std::move(exception);
  }
  Cancel(status);
}

void ErrGroup::FailWith(std::exception_ptr exception) {
  // The goroutine ends all the same: nothing is outside the task.
  if (internal::IsExit(exception)) return;
  absl::Status status = StatusOf(exception);
  Fail(std::move(status), std::move(exception));
}

void ErrGroup::TaskHasEnded() {
  if (limit_.has_value()) limit_->Release();
  tasks_.Done();
}

void ErrGroup::Cancel(const absl::Status& status) {
  absl::AnyInvocable<void(const absl::Status&)> cancel;
  {
    MutexLock lock(mutex_);
    cancel = std::exchange(cancel_, nullptr);
  }
  if (cancel) cancel(status);
}

}  // namespace weft
