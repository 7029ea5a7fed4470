// What the round trips of BM_Echo cost without a runtime: one thread that has all the connections
// and does nothing else, no goroutines, deadlines or buffers of callers. Asked of the kernel in
// three ways:
//   BM_BareEpoll                by epoll, recv and send, as netpoll does it
//   BM_BareIoUring              by io_uring: a send and a receive are entered for each message, and
//                               many at once
//   BM_BareIoUringMultishot     the same, with one receive for all messages of a connection
//
// The argument is the number of connections, which share the round trips and are made within the
// time, as in BM_Echo. What BM_Echo has above the first is the runtime's; what the others have
// below it is the most that sockets on io_uring could gain.
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "benchmark/benchmark.h"
#include "netpoll/owned_fd.h"

namespace weft {
namespace {

constexpr size_t kMessage = 64;
constexpr size_t kBuffer = 4096;
constexpr int64_t kRoundTrips = 100'000;

enum class Mode { kBlocking, kNonBlocking };

// One end of a connection.
struct End {
  OwnedFd socket;
  bool asks;
  int64_t answers_left;  // of one that asks
  std::array<char, kBuffer> buffer;

  void Send() const {
    if (send(socket.get(), buffer.data(), kMessage, MSG_NOSIGNAL) != kMessage) std::abort();
  }
  // What came was taken; whether this end is to send now.
  bool GoesOn() { return !asks || --answers_left > 0; }
};

std::vector<End> Connect(int64_t conns, Mode mode) {
  const int type = SOCK_STREAM | SOCK_CLOEXEC | (mode == Mode::kNonBlocking ? SOCK_NONBLOCK : 0);
  const OwnedFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener.get(), any, size) != 0 || listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), any, &size) != 0) {
    std::abort();
  }
  std::vector<End> ends;
  ends.reserve(2 * conns);
  for (int64_t i = 0; i < conns; ++i) {
    OwnedFd client(socket(AF_INET, type, 0));
    if (connect(client.get(), any, size) != 0 && errno != EINPROGRESS) std::abort();
    OwnedFd server(accept4(listener.get(), nullptr, nullptr, type & ~SOCK_STREAM));
    for (const OwnedFd* fd : {&client, &server}) {
      const int on = 1;
      setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    ends.push_back({std::move(client), true, kRoundTrips / conns, {}});
    ends.push_back({std::move(server), false, 0, {}});
  }
  return ends;
}

void ByEpoll(std::vector<End> ends) {
  const OwnedFd epoll(epoll_create1(EPOLL_CLOEXEC));
  for (End& end : ends) {
    epoll_event event = {};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
    event.data.ptr = &end;
    if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, end.socket.get(), &event) != 0) std::abort();
  }
  size_t talking = ends.size() / 2;
  for (const End& end : ends) {
    if (end.asks) end.Send();
  }
  while (talking > 0) {
    std::array<epoll_event, 128> events;
    const int count = epoll_wait(epoll.get(), events.data(), events.size(), -1);
    for (int i = 0; i < count; ++i) {
      End& end = *static_cast<End*>(events[i].data.ptr);
      if ((events[i].events & EPOLLIN) == 0) continue;
      if (recv(end.socket.get(), end.buffer.data(), kBuffer, 0) <= 0) continue;
      if (end.GoesOn()) {
        end.Send();
      } else {
        --talking;
      }
    }
  }
}

// A ring that its thread alone enters, and that completes only what it is asked for. Aborts where
// something cannot be had; see Error().
class Ring {
 public:
  Ring() {
    io_uring_params params = {};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    fd_ = OwnedFd(static_cast<int>(syscall(SYS_io_uring_setup, 4096, &params)));
    if (fd_.get() < 0) {
      error_ = errno;
      return;
    }
    const io_sqring_offsets& sq = params.sq_off;
    const io_cqring_offsets& cq = params.cq_off;
    // Both queues are in one mapping since Linux 5.4, which is older than the flags above.
    queues_ = Map(std::max(cq.cqes + params.cq_entries * sizeof(io_uring_cqe),
                           sq.array + params.sq_entries * sizeof(uint32_t)),
                  IORING_OFF_SQ_RING);
    entries_ = Map(params.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES);
    sq_tail_ = At<uint32_t>(sq.tail);
    sq_mask_ = *At<uint32_t>(sq.ring_mask);
    cq_head_ = At<uint32_t>(cq.head);
    cq_tail_ = At<uint32_t>(cq.tail);
    cq_mask_ = *At<uint32_t>(cq.ring_mask);
    completions_ = At<io_uring_cqe>(cq.cqes);
    auto* const array = At<uint32_t>(sq.array);
    for (uint32_t i = 0; i < params.sq_entries; ++i) array[i] = i;
  }

  ~Ring() {
    for (const absl::Span<char> memory : {queues_, entries_}) {
      if (!memory.empty()) munmap(memory.data(), memory.size());
    }
  }

  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Why there is none; 0: there is.
  int error() const { return error_; }
  int fd() const { return fd_.get(); }

  // An entry of the next Enter().
  void Add(const io_uring_sqe& entry) {
    if (tail_ - entered_ > sq_mask_) Enter(0);
    reinterpret_cast<io_uring_sqe*>(entries_.data())[tail_++ & sq_mask_] = entry;
  }

  void Enter(unsigned wait_for) {
    std::atomic_ref<uint32_t>(*sq_tail_).store(tail_, std::memory_order_release);
    while (tail_ != entered_ || wait_for > 0) {
      const auto taken = syscall(SYS_io_uring_enter, fd(), tail_ - entered_, wait_for,
                                 IORING_ENTER_GETEVENTS, nullptr, size_t{0});
      if (taken < 0 && errno != EINTR) std::abort();
      if (taken < 0) continue;
      entered_ += static_cast<uint32_t>(taken);
      wait_for = 0;
    }
  }

  template <typename Handle>
  void ForEachCompletion(Handle handle) {
    uint32_t head = *cq_head_;
    const uint32_t tail = std::atomic_ref<uint32_t>(*cq_tail_).load(std::memory_order_acquire);
    for (; head != tail; ++head) handle(completions_[head & cq_mask_]);
    std::atomic_ref<uint32_t>(*cq_head_).store(head, std::memory_order_release);
  }

 private:
  absl::Span<char> Map(size_t bytes, off_t offset) const {
    void* const memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd(), offset);
    if (memory == MAP_FAILED) std::abort();
    return {static_cast<char*>(memory), bytes};
  }
  template <typename T>
  T* At(uint32_t offset) const {
    return reinterpret_cast<T*>(queues_.data() + offset);
  }

  OwnedFd fd_;
  int error_ = 0;
  absl::Span<char> queues_;
  absl::Span<char> entries_;
  uint32_t* sq_tail_ = nullptr;
  uint32_t* cq_head_ = nullptr;
  uint32_t* cq_tail_ = nullptr;
  io_uring_cqe* completions_ = nullptr;
  uint32_t sq_mask_ = 0;
  uint32_t cq_mask_ = 0;
  uint32_t tail_ = 0;     // of what was added
  uint32_t entered_ = 0;  // up to here
};

// The buffers from which the kernel takes one for each message that it receives.
class SharedBuffers {
 public:
  static constexpr uint16_t kGroup = 1;

  explicit SharedBuffers(const Ring& ring) : memory_(new char[kCount * kBuffer]) {
    void* const places = mmap(nullptr, kCount * sizeof(io_uring_buf), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (places == MAP_FAILED) std::abort();
    places_ = static_cast<io_uring_buf*>(places);
    io_uring_buf_reg registration = {};
    registration.ring_addr = reinterpret_cast<uintptr_t>(places);
    registration.ring_entries = kCount;
    registration.bgid = kGroup;
    if (syscall(SYS_io_uring_register, ring.fd(), IORING_REGISTER_PBUF_RING, &registration, 1) !=
        0) {
      error_ = errno;
      return;
    }
    for (uint16_t i = 0; i < kCount; ++i) GiveBack(i);
  }

  ~SharedBuffers() { munmap(places_, kCount * sizeof(io_uring_buf)); }

  SharedBuffers(const SharedBuffers&) = delete;
  SharedBuffers& operator=(const SharedBuffers&) = delete;

  int error() const { return error_; }
  const char* operator[](uint16_t id) const { return memory_.get() + id * kBuffer; }

  void GiveBack(uint16_t id) {
    io_uring_buf& place = places_[tail_ % kCount];
    place.addr = reinterpret_cast<uintptr_t>((*this)[id]);
    place.len = kBuffer;
    place.bid = id;
    // The ring's tail lies in what would be the first place's last field.
    std::atomic_ref<uint16_t>(places_[0].resv).store(++tail_, std::memory_order_release);
  }

 private:
  static constexpr uint16_t kCount = 4096;

  const std::unique_ptr<char[]> memory_;
  io_uring_buf* places_;
  int error_ = 0;
  uint16_t tail_ = 0;
};

enum class Receive { kOnce, kMultishot };

// 0, or why this kernel cannot do it.
int ByIoUring(std::vector<End> ends, Receive receive) {
  constexpr uint64_t kSent = ~uint64_t{0};
  Ring ring;
  if (ring.error() != 0) return ring.error();
  SharedBuffers buffers(ring);
  if (buffers.error() != 0) return buffers.error();

  const auto add_receive = [&](uint64_t i) {
    io_uring_sqe entry = {};
    entry.opcode = IORING_OP_RECV;
    entry.fd = ends[i].socket.get();
    entry.user_data = i;
    if (receive == Receive::kMultishot) {
      entry.ioprio = IORING_RECV_MULTISHOT;
      entry.flags = IOSQE_BUFFER_SELECT;
      entry.buf_group = SharedBuffers::kGroup;
    } else {
      entry.addr = reinterpret_cast<uintptr_t>(ends[i].buffer.data());
      entry.len = kBuffer;
    }
    ring.Add(entry);
  };
  const auto add_send = [&](uint64_t i) {
    io_uring_sqe entry = {};
    entry.opcode = IORING_OP_SEND;
    entry.fd = ends[i].socket.get();
    entry.addr = reinterpret_cast<uintptr_t>(ends[i].buffer.data());
    entry.len = kMessage;
    entry.msg_flags = MSG_NOSIGNAL;
    entry.flags = IOSQE_CQE_SKIP_SUCCESS;
    entry.user_data = kSent;
    ring.Add(entry);
  };

  size_t talking = ends.size() / 2;
  for (uint64_t i = 0; i < ends.size(); ++i) add_receive(i);
  for (uint64_t i = 0; i < ends.size(); ++i) {
    if (ends[i].asks) add_send(i);
  }
  while (talking > 0) {
    ring.Enter(1);
    ring.ForEachCompletion([&](const io_uring_cqe& completion) {
      if (completion.user_data == kSent || completion.res <= 0) std::abort();
      const uint64_t i = completion.user_data;
      End& end = ends[i];
      if (receive == Receive::kMultishot) {
        const auto id = static_cast<uint16_t>(completion.flags >> IORING_CQE_BUFFER_SHIFT);
        std::memcpy(end.buffer.data(), buffers[id], static_cast<size_t>(completion.res));
        buffers.GiveBack(id);
      }
      if (!end.GoesOn()) {
        --talking;
        return;
      }
      add_send(i);
      if ((completion.flags & IORING_CQE_F_MORE) == 0) add_receive(i);
    });
  }
  return 0;
}

void BM_BareEpoll(benchmark::State& state) {
  const int64_t conns = state.range(0);
  while (state.KeepRunningBatch(kRoundTrips / conns * conns)) {
    ByEpoll(Connect(conns, Mode::kNonBlocking));
  }
}

void RunIoUring(benchmark::State& state, Receive receive) {
  const int64_t conns = state.range(0);
  int error = 0;
  while (error == 0 && state.KeepRunningBatch(kRoundTrips / conns * conns)) {
    error = ByIoUring(Connect(conns, Mode::kBlocking), receive);
  }
  if (error != 0) {
    state.SkipWithError(absl::StrCat("no such io_uring: ", strerrordesc_np(error)).c_str());
  }
}
void BM_BareIoUring(benchmark::State& state) { RunIoUring(state, Receive::kOnce); }
void BM_BareIoUringMultishot(benchmark::State& state) { RunIoUring(state, Receive::kMultishot); }

void Arguments(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgName("conns")->Arg(1)->Arg(64)->Arg(1000)->MeasureProcessCPUTime()->UseRealTime();
}
BENCHMARK(BM_BareEpoll)->Apply(Arguments);
BENCHMARK(BM_BareIoUring)->Apply(Arguments);
BENCHMARK(BM_BareIoUringMultishot)->Apply(Arguments);

}  // namespace
}  // namespace weft
