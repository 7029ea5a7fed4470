#include "netpoll/io_ring.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <new>

#include "absl/strings/str_cat.h"
#include "netpoll/poll_desc.h"
#include "netpoll/syscall.h"
#include "sched/debug_settings.h"
#include "sched/fatal.h"
#include "sched/goroutine.h"
#include "sched/internal/thread.h"

namespace weft::internal {
namespace {

constexpr int kMaxRings = 8;
// Entries are taken at once; these are for threads that come together.
constexpr unsigned kEntries = 64;
constexpr unsigned kCompletions = 1024;
constexpr uint32_t kWorkers = 4;

// Without these four there are no rings: completions are never dropped, reads and writes may be at
// the file's own position, what the entry points at may change after it was taken.
constexpr uint32_t kNeededFeatures =
    IORING_FEAT_NODROP | IORING_FEAT_RW_CUR_POS | IORING_FEAT_SUBMIT_STABLE;
constexpr uint8_t kNeededOperations[] = {IORING_OP_READV, IORING_OP_READ, IORING_OP_WRITE,
                                         IORING_OP_FSYNC, IORING_OP_ASYNC_CANCEL};

bool announce = false;
bool turned_off = false;
std::atomic<bool> refused_for_test{false};
std::atomic<bool> in_forked_child{false};

bool ApplyNetpoll(absl::string_view value) {
  announce = value == "1";
  return value == "0" || value == "1";
}
bool ApplyFiles(absl::string_view value) {
  turned_off = value == "blocking";
  return value == "auto" || value == "blocking";
}
constexpr DebugSetting kNetpoll = {"netpoll", "1 to say how files are read and written, or 0",
                                   ApplyNetpoll};
constexpr DebugSetting kFiles = {
    "files", "auto (the default: by io_uring where there is one) or blocking", ApplyFiles};
[[maybe_unused]] const bool registered = [] {
  RegisterDebugSetting(&kNetpoll);
  RegisterDebugSetting(&kFiles);
  return true;
}();

std::atomic_ref<uint32_t> Shared(uint32_t* word) { return std::atomic_ref<uint32_t>(*word); }

void* Map(int fd, size_t bytes, uint64_t offset) {
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
                            static_cast<off_t>(offset));
  return memory == MAP_FAILED ? nullptr : memory;
}

template <typename T>
T* At(void* memory, uint32_t offset) {
  return reinterpret_cast<T*>(static_cast<char*>(memory) + offset);
}

}  // namespace

// Lies in the Scratch() of who waits.
struct IoRing::Operation {
  static constexpr int64_t kUnderWay = INT64_MIN;

  Waiter* const waiter;
  std::atomic<int64_t> result{kUnderWay};
};

// What the kernel was asked once.
class IoRing::Rings {
 public:
  static Rings& Get() {
    // Before the initializer: it enters the runtime, where a goroutine may have to wait for a P,
    // which those who have one would not give while they wait for the initializer.
    EpollPoller& poller = EpollPoller::Get();
    MaxProcs();  // somebody else may be starting the runtime, and the settings come with that
    static Rings* const rings = new Rings(poller);
    return *rings;
  }

  IoRing* Pick() {
    if (count_ == 0) [[unlikely]]
      return nullptr;
    const int cpu = sched_getcpu();
    return rings_[cpu < 0 ? 0 : cpu % count_];
  }

  int count() const { return count_; }
  IoRing& ring(int i) { return *rings_[i]; }
  bool Can(uint8_t opcode) const { return can_[opcode]; }
  const std::string& description() const { return description_; }

 private:
  explicit Rings(EpollPoller& poller) {
    if (turned_off) {
      description_ = "blocking threads (WEFTDEBUG=files=blocking)";
    } else {
      Open(poller);
    }
    if (announce) std::fprintf(stderr, "netpoll: files by %s\n", description_.c_str());
    pthread_atfork(nullptr, nullptr,
                   [] { in_forked_child.store(true, std::memory_order_relaxed); });
  }

  void Open(EpollPoller& poller) {
    const int64_t processors = sysconf(_SC_NPROCESSORS_ONLN);
    const int wanted = static_cast<int>(std::clamp<int64_t>(processors, 1, kMaxRings));
    while (count_ < wanted) {
      auto* const ring = new IoRing;
      const char* call = "";
      int error = ring->Open(&call);
      if (error == 0 && count_ == 0) error = Probe(ring->fd_, &call);
      if (error == 0) {
        error = -poller.Register(ring->fd_, *ring);
        call = "epoll_ctl";
      }
      if (error != 0) {
        if (ring->fd_ >= 0) close(ring->fd_);
        delete ring;
        if (count_ == 0)
          description_ =
              absl::StrCat("blocking threads (", call, ": ", strerrordesc_np(-error), ")");
        break;
      }
      rings_[count_++] = ring;
    }
    if (count_ > 0) {
      description_ = absl::StrCat("io_uring (", count_, count_ == 1 ? " ring)" : " rings)");
    }
  }

  int Probe(int fd, const char** call) {
    *call = "io_uring_register";
    alignas(
        io_uring_probe) char memory[sizeof(io_uring_probe) + 256 * sizeof(io_uring_probe_op)] = {};
    auto* const probe = reinterpret_cast<io_uring_probe*>(memory);
    const int64_t result =
        RawSyscall(SYS_io_uring_register, fd, IORING_REGISTER_PROBE, probe, unsigned{256});
    if (result < 0) return static_cast<int>(result);
    for (int i = 0; i < probe->ops_len; ++i) {
      const io_uring_probe_op& op = probe->ops[i];
      can_[op.op] = (op.flags & IO_URING_OP_SUPPORTED) != 0;
    }
    for (const uint8_t opcode : kNeededOperations) {
      if (!can_[opcode]) return -EOPNOTSUPP;
    }
    return 0;
  }

  IoRing* rings_[kMaxRings] = {};
  int count_ = 0;
  bool can_[256] = {};
  std::string description_;
};

IoRing* IoRing::Get() {
  if (refused_for_test.load(std::memory_order_relaxed)) [[unlikely]]
    return nullptr;
  if (in_forked_child.load(std::memory_order_relaxed)) [[unlikely]]
    return nullptr;
  return Rings::Get().Pick();
}

std::string IoRing::Description() { return Rings::Get().description(); }

bool IoRing::Can(uint8_t opcode) { return Rings::Get().Can(opcode); }

void IoRing::SetRefusedForTest(bool refused) {
  refused_for_test.store(refused, std::memory_order_relaxed);
}

int IoRing::Open(const char** call) {
  io_uring_params params = {};
  params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  params.cq_entries = kCompletions;
  *call = "io_uring_setup";
  const int64_t fd = RawSyscall(SYS_io_uring_setup, kEntries, &params);
  if (fd < 0) return static_cast<int>(fd);
  fd_ = static_cast<int>(fd);
  if ((params.features & kNeededFeatures) != kNeededFeatures) return -EOPNOTSUPP;

  *call = "mmap";
  const io_sqring_offsets& sq = params.sq_off;
  const io_cqring_offsets& cq = params.cq_off;
  const size_t sq_bytes = sq.array + params.sq_entries * sizeof(uint32_t);
  const size_t cq_bytes = cq.cqes + params.cq_entries * sizeof(io_uring_cqe);
  const size_t entry_bytes = params.sq_entries * sizeof(io_uring_sqe);
  void* const sq_memory = Map(fd_, sq_bytes, IORING_OFF_SQ_RING);
  void* const cq_memory = Map(fd_, cq_bytes, IORING_OFF_CQ_RING);
  void* const entry_memory = Map(fd_, entry_bytes, IORING_OFF_SQES);
  if (sq_memory == nullptr || cq_memory == nullptr || entry_memory == nullptr) {
    if (sq_memory != nullptr) munmap(sq_memory, sq_bytes);
    if (cq_memory != nullptr) munmap(cq_memory, cq_bytes);
    if (entry_memory != nullptr) munmap(entry_memory, entry_bytes);
    return -ENOMEM;
  }
  sq_head_ = At<uint32_t>(sq_memory, sq.head);
  sq_tail_ = At<uint32_t>(sq_memory, sq.tail);
  sq_flags_ = At<uint32_t>(sq_memory, sq.flags);
  cq_head_ = At<uint32_t>(cq_memory, cq.head);
  cq_tail_ = At<uint32_t>(cq_memory, cq.tail);
  entries_ = static_cast<io_uring_sqe*>(entry_memory);
  completions_ = At<io_uring_cqe>(cq_memory, cq.cqes);
  entry_count_ = params.sq_entries;
  entry_mask_ = *At<uint32_t>(sq_memory, sq.ring_mask);
  completion_mask_ = *At<uint32_t>(cq_memory, cq.ring_mask);
  // Place i of the queue is entry i, for good.
  auto* const array = At<uint32_t>(sq_memory, sq.array);
  for (uint32_t i = 0; i < params.sq_entries; ++i) array[i] = i;

  // Threads of the kernel's for what cannot be done otherwise, for each thread of ours: it would
  // have four for each processor. An older kernel keeps to that.
  uint32_t workers[2] = {kWorkers, 0};
  RawSyscall(SYS_io_uring_register, fd_, IORING_REGISTER_IOWQ_MAX_WORKERS, workers, 2u);

  *call = "io_uring_enter";
  return static_cast<int>(Enter(0, 0));
}

int64_t IoRing::Enter(unsigned submit, unsigned flags) {
  return RawSyscall(SYS_io_uring_enter, fd_, submit, 0u, flags, nullptr, size_t{0});
}

// Writes the entry and enters until the kernel has taken it, which is at once unless it is short of
// memory, or must first get rid of completions.
void IoRing::Submit(const io_uring_sqe& entry) {
  uint32_t place = 0;
  for (bool written = false; !written;) {
    {
      RuntimeSection section;
      LockGuard guard(submission_lock_);
      place = Shared(sq_tail_).load(std::memory_order_relaxed);
      // Acquire: the kernel has read the entry that was here.
      if (place - Shared(sq_head_).load(std::memory_order_acquire) < entry_count_) {
        entries_[place & entry_mask_] = entry;
        // Release: the kernel sees the entry.
        Shared(sq_tail_).store(place + 1, std::memory_order_release);
        written = true;
      }
    }
    if (!written) sched_yield();  // its writers are about to enter
  }
  const auto taken = [&] {
    return static_cast<int32_t>(Shared(sq_head_).load(std::memory_order_acquire) - place) > 0;
  };
  for (int64_t n = Enter(1, 0); !taken(); n = Enter(1, 0)) {
    if (n == -EBUSY || n == -EAGAIN) {
      Reap([](Waiter* waiter) { waiter->Unpark(); });
      sched_yield();
    } else if (n < 0 && n != -EINTR) {
      Fatal(
          absl::StrCat("netpoll: io_uring_enter failed: ", strerrordesc_np(static_cast<int>(-n))));
    }
  }
}

int64_t IoRing::Run(io_uring_sqe entry) {
  Waiter* const self = Waiter::Current();
  auto* const operation = ::new (self->Scratch(sizeof(Operation))) Operation{self};
  entry.user_data = reinterpret_cast<uintptr_t>(operation);
  PollDesc::AddWaiting(1);
  Submit(entry);
  // Acquire: pairs with the release in TakeCompleted(); the buffer is written.
  if (operation->result.load(std::memory_order_acquire) == Operation::kUnderWay) {
    Reap([self](Waiter* waiter) {
      if (waiter != self) waiter->Unpark();
    });
  }
  while (operation->result.load(std::memory_order_acquire) == Operation::kUnderWay) {
    self->Park(WaitReason::kIoWait);
  }
  return operation->result.load(std::memory_order_relaxed);
}

int IoRing::TakeCompleted(Waiter** waiters, int room) {
  int count = 0;
  uint32_t head = Shared(cq_head_).load(std::memory_order_relaxed);
  while (count < room) {
    // Acquire: the kernel has written the completion.
    if (head == Shared(cq_tail_).load(std::memory_order_acquire)) {
      if ((Shared(sq_flags_).load(std::memory_order_relaxed) & IORING_SQ_CQ_OVERFLOW) == 0) break;
      Shared(cq_head_).store(head, std::memory_order_release);
      if (Enter(0, IORING_ENTER_GETEVENTS) < 0) break;
      if (head == Shared(cq_tail_).load(std::memory_order_acquire)) break;
    }
    const io_uring_cqe& completion = completions_[head & completion_mask_];
    // Acquire: pairs with the release in Submit(), so that the record is seen as it was written.
    // (By way of the kernel it is in any case, which a race detector does not know.)
    (void)Shared(sq_tail_).load(std::memory_order_acquire);
    if (completion.user_data != 0) {
      auto* const operation = reinterpret_cast<Operation*>(completion.user_data);
      Waiter* const waiter = operation->waiter;
      // Release: whoever waits sees what the kernel did. The record may be gone afterwards.
      operation->result.store(completion.res, std::memory_order_release);
      waiters[count++] = waiter;
    }
    ++head;
  }
  Shared(cq_head_).store(head, std::memory_order_release);
  if (count != 0) PollDesc::SubtractWaiting(count);
  return count;
}

template <typename Wake>
void IoRing::Reap(Wake wake) {
  constexpr int kAtOnce = 32;
  Waiter* waiters[kAtOnce];
  int count;
  do {
    RuntimeSection section;
    {
      LockGuard guard(completion_lock_);
      count = TakeCompleted(waiters, kAtOnce);
    }
    for (int i = 0; i < count; ++i) wake(waiters[i]);
  } while (count == kAtOnce);
}

void IoRing::OnEvent(WakeBatch& ready) {
  Reap([&](Waiter* waiter) { waiter->UnparkInto(ready); });
}

void IoRing::Cancel(int fd) {
  if (refused_for_test.load(std::memory_order_relaxed) ||
      in_forked_child.load(std::memory_order_relaxed)) {
    return;
  }
  Rings& rings = Rings::Get();
  io_uring_sqe entry = {};
  entry.opcode = IORING_OP_ASYNC_CANCEL;
  entry.fd = fd;
  entry.cancel_flags = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL;
  for (int i = 0; i < rings.count(); ++i) {
    rings.ring(i).Submit(entry);
    rings.ring(i).Reap([](Waiter* waiter) { waiter->Unpark(); });
  }
}

}  // namespace weft::internal
