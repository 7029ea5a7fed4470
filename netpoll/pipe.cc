// Each direction has a slot for what its writer offers, under one lock. At most one writer and one
// reader come to a slot at a time: callers of a kind take turns at a mutex before.
//
//   empty      nobody offers anything
//   offered    the writer waits until it is empty again
//
// Whoever changes what another one waits for (an offer, its end, a close, a deadline) unparks it
// under the lock, so that the Waiter that it finds in the slot is one that waits still.
#include "netpoll/pipe.h"

#include <string.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "netpoll/op_error.h"
#include "sched/clock.h"
#include "sched/sync/mutex.h"
#include "sched/waiter.h"

namespace weft {
namespace internal {
namespace {

absl::Status ClosedPipe() { return ClosedError("io: read/write on closed pipe"); }

struct Direction {
  Mutex reads;   // held by who reads
  Mutex writes;  // held by who writes

  // Under the pipe's lock:
  absl::string_view offer;
  bool offered = false;
  Waiter* reader = nullptr;  // null: nobody waits
  Waiter* writer = nullptr;
  Instant read_deadline = Instant::Never();
  Instant write_deadline = Instant::Never();

  void WakeReader() {
    if (reader != nullptr) reader->Unpark();
  }
  void WakeWriter() {
    if (writer != nullptr) writer->Unpark();
  }
};

struct PipeState {
  Mutex mutex;
  // Of the direction that end 0, or 1, reads.
  Direction directions[2];
  bool closed[2] = {false, false};
};

// Waits, without the lock, until it is worth looking again: for another goroutine, not for an
// event.
void ParkWithout(Mutex& mutex, Waiter*& slot, Instant deadline)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
  Waiter* const self = Waiter::Current();
  slot = self;
  mutex.Unlock();
  if (deadline.IsNever()) {
    self->Park(WaitReason::kSelect);
  } else {
    self->ParkUntil(deadline, WaitReason::kSelect);
  }
  mutex.Lock();
  slot = nullptr;
}

bool Passed(Instant deadline) { return !deadline.IsNever() && deadline <= Instant::Now(); }

}  // namespace

class PipeEnd {
 public:
  PipeEnd(std::shared_ptr<PipeState> state, int end) : state_(std::move(state)), end_(end) {}
  ~PipeEnd() { Close(); }

  absl::StatusOr<size_t> Read(absl::Span<char> buffer) {
    Direction& in = state_->directions[end_];
    MutexLock turn(in.reads);
    MutexLock lock(state_->mutex);
    for (;;) {
      if (state_->closed[end_]) return ClosedPipe();
      if (state_->closed[1 - end_]) return size_t{0};
      if (Passed(in.read_deadline)) return TimeoutError("read pipe: ");
      if (in.offered) break;
      ParkWithout(state_->mutex, in.reader, in.read_deadline);
    }
    const size_t n = std::min(buffer.size(), in.offer.size());
    if (n > 0) memcpy(buffer.data(), in.offer.data(), n);
    in.offer.remove_prefix(n);
    if (in.offer.empty()) {
      in.offered = false;
      in.WakeWriter();
    }
    return n;
  }

  absl::Status Write(absl::Span<const absl::string_view> pieces, size_t* written) {
    Direction& out = state_->directions[1 - end_];
    MutexLock turn(out.writes);
    *written = 0;
    for (const absl::string_view piece : pieces) {
      size_t taken = 0;
      absl::Status status = Offer(out, piece, &taken);
      *written += taken;
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status SetDeadline(bool reads, bool writes, absl::Time deadline) {
    const Instant instant =
        deadline == absl::InfinitePast() ? Instant() : Instant::FromTime(deadline);
    MutexLock lock(state_->mutex);
    if (state_->closed[0] || state_->closed[1]) return ClosedPipe();
    if (reads) {
      Direction& in = state_->directions[end_];
      in.read_deadline = instant;
      in.WakeReader();
    }
    if (writes) {
      Direction& out = state_->directions[1 - end_];
      out.write_deadline = instant;
      out.WakeWriter();
    }
    return absl::OkStatus();
  }

  void Close() {
    MutexLock lock(state_->mutex);
    state_->closed[end_] = true;
    for (Direction& direction : state_->directions) {
      direction.WakeReader();
      direction.WakeWriter();
    }
  }

 private:
  absl::Status Offer(Direction& out, absl::string_view data, size_t* taken) {
    MutexLock lock(state_->mutex);
    bool offered = false;
    for (;;) {
      if (offered && !out.offered) {
        *taken = data.size();
        return absl::OkStatus();
      }
      absl::Status status;
      if (state_->closed[0] || state_->closed[1]) {
        status = ClosedPipe();
      } else if (Passed(out.write_deadline)) {
        status = TimeoutError("write pipe: ");
      }
      if (!status.ok()) {
        if (offered) *taken = data.size() - out.offer.size();
        out.offered = false;
        return status;
      }
      if (!offered) {
        out.offer = data;
        out.offered = offered = true;
        out.WakeReader();
      }
      ParkWithout(state_->mutex, out.writer, out.write_deadline);
    }
  }

  const std::shared_ptr<PipeState> state_;
  const int end_;
};

}  // namespace internal

PipePair Pipe() {
  const auto state = std::make_shared<internal::PipeState>();
  return {PipeConn(std::make_shared<internal::PipeEnd>(state, 0)),
          PipeConn(std::make_shared<internal::PipeEnd>(state, 1))};
}

absl::StatusOr<size_t> PipeConn::Read(absl::Span<char> buffer) const {
  if (end_ == nullptr) return internal::ClosedPipe();
  return end_->Read(buffer);
}

absl::Status PipeConn::ReadFull(absl::Span<char> buffer) const {
  const size_t size = buffer.size();
  while (!buffer.empty()) {
    const absl::StatusOr<size_t> n = Read(buffer);
    if (!n.ok()) return n.status();
    if (*n == 0) {
      return absl::OutOfRangeError(buffer.size() == size ? "read pipe: EOF"
                                                         : "read pipe: unexpected EOF");
    }
    buffer.remove_prefix(*n);
  }
  return absl::OkStatus();
}

absl::Status PipeConn::Write(absl::string_view data, size_t* written) const {
  return Writev({data}, written);
}

absl::Status PipeConn::Writev(absl::Span<const absl::string_view> pieces, size_t* written) const {
  size_t unused = 0;
  if (written == nullptr) written = &unused;
  *written = 0;
  if (end_ == nullptr) return internal::ClosedPipe();
  return end_->Write(pieces, written);
}

absl::Status PipeConn::SetDeadline(absl::Time deadline) const {
  if (end_ == nullptr) return internal::ClosedPipe();
  return end_->SetDeadline(true, true, deadline);
}

absl::Status PipeConn::SetReadDeadline(absl::Time deadline) const {
  if (end_ == nullptr) return internal::ClosedPipe();
  return end_->SetDeadline(true, false, deadline);
}

absl::Status PipeConn::SetWriteDeadline(absl::Time deadline) const {
  if (end_ == nullptr) return internal::ClosedPipe();
  return end_->SetDeadline(false, true, deadline);
}

absl::Status PipeConn::Close() const {
  if (end_ == nullptr) return internal::ClosedPipe();
  end_->Close();
  return absl::OkStatus();
}

}  // namespace weft
