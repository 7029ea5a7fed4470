// Where the figures come from, and what that costs while nobody wants them:
//
//   blocking     the table of functions by which goroutines park has a second version, which is put
//                in the first one's place: nothing
//   contention   contention_observer is looked at on locks' slow ways, where there are waiters
//   latency      where one of kStampEvery waits for a turn is counted in any case (metrics.cc)
//   threads      noted as each is made
#include "sched/profiles.h"

#include <algorithm>
#include <atomic>

#include "sched/internal/contention.h"
#include "sched/internal/runtime.h"
#include "sched/internal/stack_counts.h"
#include "stack/traceback.h"

namespace weft::internal {
namespace {

constinit StackCounts blocking;
constinit StackCounts contention;
constinit StackCounts latencies;
constinit StackCounts threads;

std::atomic<int64_t> block_rate{0};  // in nanoseconds
std::atomic<int> mutex_fraction{0};
std::atomic<int> latency_fraction{0};

// SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", 2014)
// of a count.
uint64_t Random() {
  static std::atomic<uint64_t> count{0};
  uint64_t x = count.fetch_add(0x9e3779b97f4a7c15u, std::memory_order_relaxed);
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

absl::Span<const uintptr_t> FramesOf(const stack::Trace& trace) {
  return {trace.pcs.data(), std::min(trace.count, StackCounts::kMostFrames)};
}

// Not inlined: what it has on the stack is not to be there while its caller waits.
__attribute__((noinline)) void CountHere(StackCounts& counts, double count, double nanos) {
  stack::Trace trace;
  stack::GetCurrentTrace(trace);
  const RuntimeSection section;
  counts.Add(FramesOf(trace), count, nanos);
}

// --- blocking ---

bool IsBlocking(WaitReason reason) {
  return reason != WaitReason::kNone && reason != WaitReason::kSleep &&
         reason != WaitReason::kIoWait;
}

// An event that is shorter than the rate is looked at with the probability of its share in that,
// and counts for as many as that would miss: the sum of times is right on average, and so is the
// number. So Go has it.
__attribute__((noinline)) void CountBlocking(Instant since) noexcept {
  const int64_t rate = block_rate.load(std::memory_order_relaxed);
  const int64_t nanos = std::max<int64_t>((Instant::Now() - since) / absl::Nanoseconds(1), 1);
  if (rate <= 0) return;
  if (nanos >= rate) {
    CountHere(blocking, 1, static_cast<double>(nanos));
  } else if (static_cast<int64_t>(Random() % static_cast<uint64_t>(rate)) < nanos) {
    CountHere(blocking, static_cast<double>(rate) / static_cast<double>(nanos),
              static_cast<double>(rate));
  }
}

void ProfiledPark(Waiter* self, WaitReason reason) noexcept {
  const Instant since = Instant::Now();
  kGoroutineWaitOps.park(self, reason);
  if (IsBlocking(reason)) CountBlocking(since);
}

bool ProfiledParkUntil(Waiter* self, Instant deadline, WaitReason reason) noexcept {
  const Instant since = Instant::Now();
  const bool in_time = kGoroutineWaitOps.park_until(self, deadline, reason);
  if (IsBlocking(reason)) CountBlocking(since);
  return in_time;
}

void ProfiledReady(Waiter* waiter) noexcept { kGoroutineWaitOps.ready(waiter); }
bool ProfiledMaySpin() noexcept { return kGoroutineWaitOps.may_spin(); }

// Constant, as goroutines that wait find it by a pointer that nothing else comes with.
constexpr GoroutineWaitOps kProfiledWaitOps = {ProfiledPark, ProfiledParkUntil, ProfiledReady,
                                               ProfiledMaySpin};

// --- contention ---

void ObserveContention(int64_t nanos, int events) noexcept {
  const int n = mutex_fraction.load(std::memory_order_relaxed);
  if (n <= 0 || Random() % static_cast<uint64_t>(n) != 0) return;
  CountHere(contention, static_cast<double>(n) * events,
            static_cast<double>(n) * static_cast<double>(std::max<int64_t>(nanos, 0)));
}

std::vector<StackCount> Read(StackCounts& counts) {
  const RuntimeSection section;
  std::vector<StackCount> stacks;
  for (StackCounts::Entry& entry : counts.Get()) {
    stacks.push_back({std::move(entry.frames), static_cast<int64_t>(entry.count + 0.5),
                      absl::Nanoseconds(entry.nanos)});
  }
  return stacks;
}

}  // namespace

// --- latency ---

void ProfileLatency(const G* g, int64_t nanos) noexcept {
  const int n = latency_fraction.load(std::memory_order_relaxed);
  if (n <= 0) return;
  stack::Trace trace;
  if (g->stack.home != nullptr) {
    stack::GetTrace(g->stack.context, g->stack.block, trace);
  } else if (const auto site =
                 reinterpret_cast<uintptr_t>(g->creation_site.load(std::memory_order_relaxed))) {
    trace.pcs[0] = site - 1;
    trace.count = 1;
  }
  latencies.Add(FramesOf(trace), n, static_cast<double>(n) * static_cast<double>(nanos));
}

void ProfileNewThread() noexcept { CountHere(threads, 1, 0); }

}  // namespace weft::internal

namespace weft {

void SetBlockProfileRate(absl::Duration rate) {
  internal::EnsureStarted();
  // A rate that is longer than any wait looks at few.
  const int64_t nanos =
      rate <= absl::ZeroDuration() ? 0 : std::max<int64_t>(absl::ToInt64Nanoseconds(rate), 1);
  internal::block_rate.store(nanos, std::memory_order_relaxed);
  if (internal::sched.forked.load(std::memory_order_relaxed)) return;
  internal::goroutine_wait_ops.store(
      nanos == 0 ? &internal::kGoroutineWaitOps : &internal::kProfiledWaitOps,
      std::memory_order_relaxed);
}

std::vector<StackCount> GetBlockProfile() { return internal::Read(internal::blocking); }

int SetMutexProfileFraction(int n) {
  if (n < 0) return internal::mutex_fraction.load(std::memory_order_relaxed);
  const int old = internal::mutex_fraction.exchange(n, std::memory_order_relaxed);
  internal::contention_observer.store(n == 0 ? nullptr : internal::ObserveContention,
                                      std::memory_order_relaxed);
  return old;
}

std::vector<StackCount> GetMutexProfile() { return internal::Read(internal::contention); }

int SetSchedLatencyProfileFraction(int n) {
  if (n < 0) return internal::latency_fraction.load(std::memory_order_relaxed);
  internal::stamp_every.store(n == 0 ? internal::kStampEvery : static_cast<uint32_t>(n),
                              std::memory_order_relaxed);
  return internal::latency_fraction.exchange(n, std::memory_order_relaxed);
}

std::vector<StackCount> GetSchedLatencyProfile() { return internal::Read(internal::latencies); }

std::vector<StackCount> GetThreadCreateProfile() { return internal::Read(internal::threads); }

}  // namespace weft
