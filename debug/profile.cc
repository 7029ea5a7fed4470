#include "debug/profile.h"

#include <algorithm>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "debug/goroutines.h"
#include "debug/internal/write_profile.h"
#include "sched/goroutine.h"
#include "sched/profiles.h"
#include "sched/traces.h"

namespace weft::debug {
namespace {

class Sources {
 public:
  static Sources& Get() {
    static auto* sources = new Sources;
    return *sources;
  }

  void Add(const ProfileSource* source) {
    absl::MutexLock lock(&mutex_);
    all_.push_back(source);
  }

  // By name.
  std::vector<const ProfileSource*> All() {
    absl::MutexLock lock(&mutex_);
    std::sort(all_.begin(), all_.end(),
              [](const ProfileSource* a, const ProfileSource* b) { return a->name < b->name; });
    return all_;
  }

  const ProfileSource* Find(absl::string_view name) {
    absl::MutexLock lock(&mutex_);
    const auto found = std::find_if(all_.begin(), all_.end(), [&](const ProfileSource* source) {
      return source->name == name;
    });
    return found == all_.end() ? nullptr : *found;
  }

 private:
  absl::Mutex mutex_;
  std::vector<const ProfileSource*> all_ ABSL_GUARDED_BY(mutex_);
};

absl::Status NoProfile(absl::string_view name) {
  return absl::NotFoundError(absl::StrCat("no profile is called \"", name, "\""));
}

// The profile, of `name` for both values of period and samples.
ProfileData CountsOf(absl::string_view name) {
  const ValueType type = {std::string(name), "count"};
  return {.name = std::string(name), .sample_types = {type}, .period_type = type};
}

constexpr absl::string_view kGoroutine = "goroutine";

std::vector<GoroutineTrace> AllGoroutines() {
  return GetGoroutineTraces({.signal = DefaultTraceSignal()});
}

absl::StatusOr<ProfileData> TakeGoroutines() {
  ProfileData data = CountsOf(kGoroutine);
  for (GoroutineTrace& trace : AllGoroutines()) {
    // One that has not run yet, or whose thread did not answer, counts where it was started.
    if (trace.frames.empty() && trace.created_at != 0) trace.frames = {trace.created_at};
    data.samples.push_back({std::move(trace.frames), {1}, std::move(trace.labels)});
  }
  return data;
}

const ProfileSource goroutine_source = {kGoroutine,
                                        "Where all goroutines are. debug=2 is a dump of them.",
                                        TakeGoroutines, NumGoroutine};

// Of counts by stack, those that have times with both.
absl::StatusOr<ProfileData> DataOf(absl::string_view name, const std::vector<StackCount>& counts,
                                   absl::string_view what) {
  ProfileData data = CountsOf(what);
  data.name = std::string(name);
  data.sample_types.push_back({"delay", "nanoseconds"});
  for (const StackCount& count : counts) {
    data.samples.push_back({count.frames, {count.count, absl::ToInt64Nanoseconds(count.total)}});
  }
  return data;
}

template <auto get>
int64_t StacksOf() {
  return static_cast<int64_t>(get().size());
}

const ProfileSource block_source = {
    "block", "Where goroutines have waited, since SetBlockProfileRate().",
    [] { return DataOf("block", GetBlockProfile(), "contentions"); }, StacksOf<GetBlockProfile>};

const ProfileSource mutex_source = {
    "mutex", "Where locks were unlocked that others waited for, since SetMutexProfileFraction().",
    [] { return DataOf("mutex", GetMutexProfile(), "contentions"); }, StacksOf<GetMutexProfile>};

const ProfileSource schedlatency_source = {
    "schedlatency",
    "Where goroutines had waited that then had to wait for their turn to run, since "
    "SetSchedLatencyProfileFraction().",
    [] { return DataOf("schedlatency", GetSchedLatencyProfile(), "turns"); },
    StacksOf<GetSchedLatencyProfile>};

absl::StatusOr<ProfileData> TakeThreads() {
  ProfileData data = CountsOf("threadcreate");
  // It is the runtime that makes them.
  data.hides_runtime = false;
  for (const StackCount& count : GetThreadCreateProfile()) {
    data.samples.push_back({count.frames, {count.count}});
  }
  return data;
}

const ProfileSource threadcreate_source = {
    "threadcreate", "What made the scheduler make a thread, of all that it has made.", TakeThreads,
    [] {
      int64_t sum = 0;
      for (const StackCount& count : GetThreadCreateProfile()) sum += count.count;
      return sum;
    }};

[[maybe_unused]] const bool registered = [] {
  for (const ProfileSource* source : {&block_source, &goroutine_source, &mutex_source,
                                      &schedlatency_source, &threadcreate_source}) {
    RegisterProfile(source);
  }
  return true;
}();

}  // namespace

void RegisterProfile(const ProfileSource* source) { Sources::Get().Add(source); }

std::vector<ProfileInfo> Profiles() {
  std::vector<ProfileInfo> profiles;
  for (const ProfileSource* source : Sources::Get().All()) {
    profiles.push_back({source->name, source->description, source->count()});
  }
  return profiles;
}

absl::StatusOr<ProfileData> GetProfile(absl::string_view name) {
  const ProfileSource* const source = Sources::Get().Find(name);
  if (source == nullptr) return NoProfile(name);
  absl::StatusOr<ProfileData> data = source->take();
  if (!data.ok()) return data;
  data->time = absl::Now();
  Merge(*data);
  return data;
}

absl::Status WriteProfile(absl::string_view name, ProfileSink sink, ProfileFormat format) {
  if (format == ProfileFormat::kFullText && name == kGoroutine) {
    sink(FormatGoroutines(AllGoroutines()));
    return absl::OkStatus();
  }
  const absl::StatusOr<ProfileData> data = GetProfile(name);
  if (!data.ok()) return data.status();
  WriteData(*data, sink, format);
  return absl::OkStatus();
}

void WriteData(const ProfileData& data, ProfileSink sink, ProfileFormat format) {
  switch (format) {
    case ProfileFormat::kPprof:
      sink(EncodeProfile(data));
      break;
    case ProfileFormat::kText:
    case ProfileFormat::kFullText:
      sink(FormatProfile(data));
      break;
    case ProfileFormat::kGperftools:
      sink(EncodeForGperftools(data));
      break;
  }
}

}  // namespace weft::debug
