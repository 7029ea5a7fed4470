#include "debug/cpu_profile.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "debug/internal/write_profile.h"
#include "sched/internal/sample.h"
#include "sched/internal/signal_handler.h"

// gperftools' profile-handler.h, which its packages do not install: whoever wants to be told of the
// signals for profiles, of whatever thread, one after the other.
struct ProfileHandlerToken;
struct ProfileHandlerState {
  int32_t frequency;
  int32_t callback_count;
  int64_t interrupts;
  bool allowed;
};
using ProfileHandlerCallback = void (*)(int signal, siginfo_t* info, void* ucontext, void* arg);
ProfileHandlerToken* ProfileHandlerRegisterCallback(ProfileHandlerCallback callback, void* arg);
// On return none runs, nor will.
void ProfileHandlerUnregisterCallback(ProfileHandlerToken* token);
void ProfileHandlerGetState(ProfileHandlerState* state);

namespace weft::debug {
namespace {

struct Sample {
  static constexpr size_t kMostFrames = 62;
  uint32_t depth;
  uint32_t labels;
  uintptr_t frames[kMostFrames];
};

constexpr size_t kMostSamples = 1 << 16;

// Touched as it is filled. Written by the handler, of which there is one at a time, from the start
// of a profile to its end, and read after that.
Sample* samples = nullptr;
size_t sample_count = 0;
stack::Trace trace;
// That there is one at a time is by a lock inside gperftools. Said here again, with acquire and
// release, for sanitizers, which do not see that.
std::atomic<bool> handled{false};

WEFT_SIGNAL_HANDLER void TakeSample(int, siginfo_t*, void* context, void*);

void TakeSample(int, siginfo_t*, void* context, void*) {
  handled.load(std::memory_order_acquire);
  if (sample_count == kMostSamples) return;
  Sample& sample = samples[sample_count];
  weft::internal::SampleInterrupted(*static_cast<const ucontext_t*>(context), trace,
                                    &sample.labels);
  sample.depth =
      static_cast<uint32_t>(trace.count < Sample::kMostFrames ? trace.count : Sample::kMostFrames);
  for (uint32_t i = 0; i < sample.depth; ++i) sample.frames[i] = trace.pcs[i];
  ++sample_count;
  handled.store(true, std::memory_order_release);
}

absl::Mutex mutex;
ProfileHandlerToken* token ABSL_GUARDED_BY(mutex) = nullptr;
absl::Time started ABSL_GUARDED_BY(mutex);

// A goroutine's stack may have little room left.
void HandleOnSignalStack() {
  struct sigaction action;
  sigaction(SIGPROF, nullptr, &action);
  if ((action.sa_flags & SA_ONSTACK) != 0) return;
  action.sa_flags |= SA_ONSTACK;
  sigaction(SIGPROF, &action, nullptr);
}

}  // namespace

absl::Status StartCpuProfile() {
  const absl::MutexLock lock(&mutex);
  if (token != nullptr) return absl::FailedPreconditionError("a CPU profile is under way");
  ProfileHandlerState state;
  ProfileHandlerGetState(&state);
  if (!state.allowed) return absl::FailedPreconditionError("SIGPROF has another handler");
  if (samples == nullptr) {
    void* const memory = mmap(nullptr, kMostSamples * sizeof(Sample), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return absl::ResourceExhaustedError("no memory for samples");
    samples = static_cast<Sample*>(memory);
  }
  handled.load(std::memory_order_acquire);
  sample_count = 0;
  started = absl::Now();
  handled.store(false, std::memory_order_release);
  token = ProfileHandlerRegisterCallback(TakeSample, nullptr);
  HandleOnSignalStack();
  return absl::OkStatus();
}

absl::Status StopCpuProfile(ProfileSink sink, ProfileFormat format) {
  ProfileData data = {.name = "cpu",
                      .sample_types = {{"samples", "count"}, {"cpu", "nanoseconds"}},
                      .period_type = {"cpu", "nanoseconds"},
                      .hides_runtime = false};
  {
    const absl::MutexLock lock(&mutex);
    if (token == nullptr) return absl::FailedPreconditionError("no CPU profile is under way");
    ProfileHandlerState state;
    ProfileHandlerGetState(&state);
    ProfileHandlerUnregisterCallback(token);
    token = nullptr;
    handled.load(std::memory_order_acquire);
    data.time = started;
    data.duration = absl::Now() - started;
    data.period = absl::ToInt64Nanoseconds(absl::Seconds(1)) / std::max(state.frequency, 1);
    for (size_t i = 0; i < sample_count; ++i) {
      const Sample& sample = samples[i];
      data.samples.push_back({{sample.frames, sample.frames + sample.depth},
                              {1, data.period},
                              weft::internal::TakeLabels(sample.labels)});
    }
    madvise(samples, kMostSamples * sizeof(Sample), MADV_DONTNEED);
  }
  Merge(data);
  WriteData(data, sink, format);
  return absl::OkStatus();
}

}  // namespace weft::debug
