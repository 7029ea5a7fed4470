#include "debug/heap_profile.h"

#include <gperftools/malloc_extension.h>

#include <cmath>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "debug/profile_data.h"

namespace weft::debug {
namespace {

struct Traces {
  int period = 0;  // in bytes; 0: there are none
  // For each sample its count, bytes, depth and return addresses, up to a count of 0.
  std::unique_ptr<void*[]> words;
};

Traces Read() {
  Traces traces;
  traces.words.reset(MallocExtension::instance()->ReadStackTraces(&traces.period));
  return traces;
}

uintptr_t Word(const Traces& traces, size_t i) {
  return reinterpret_cast<uintptr_t>(traces.words[i]);
}

absl::StatusOr<ProfileData> TakeHeap() {
  const Traces traces = Read();
  if (traces.period <= 0) {
    return absl::FailedPreconditionError(
        "no samples of the heap are taken: start the program with "
        "TCMALLOC_SAMPLE_PARAMETER=524288 in its environment");
  }
  ProfileData data = {.name = "heap",
                      .sample_types = {{"inuse_objects", "count"}, {"inuse_space", "bytes"}},
                      .default_sample_type = "inuse_space",
                      .period_type = {"space", "bytes"},
                      .period = traces.period};
  if (traces.words == nullptr) return data;
  for (size_t at = 0; Word(traces, at) != 0;) {
    const auto count = static_cast<double>(Word(traces, at));
    const auto bytes = static_cast<double>(Word(traces, at + 1));
    const size_t depth = Word(traces, at + 2);
    // An allocation of so many bytes is taken for a sample with this probability: the distances
    // between samples are exponentially distributed.
    const double probability = 1 - std::exp(-bytes / count / traces.period);
    ProfileSample sample = {
        .values = {std::llround(count / probability), std::llround(bytes / probability)}};
    for (size_t i = at + 3; i < at + 3 + depth; ++i) sample.frames.push_back(Word(traces, i) - 1);
    data.samples.push_back(std::move(sample));
    at += 3 + depth;
  }
  return data;
}

int64_t CountSamples() {
  const Traces traces = Read();
  int64_t count = 0;
  if (traces.words == nullptr) return count;
  for (size_t at = 0; Word(traces, at) != 0; at += 3 + Word(traces, at + 2)) ++count;
  return count;
}

const ProfileSource heap_source = {
    "heap", "What is in use on the heap, by the calls that have allocated it.", TakeHeap,
    CountSamples};

[[maybe_unused]] const bool registered = [] {
  RegisterProfile(&heap_source);
  return true;
}();

}  // namespace
}  // namespace weft::debug
