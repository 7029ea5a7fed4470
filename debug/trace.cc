#include "debug/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "debug/frames.h"
#include "debug/internal/trace_json.h"
#include "debug/internal/trace_recorder.h"
#include "sched/debug_settings.h"
#include "sched/goroutine.h"
#include "sched/internal/events.h"
#include "sched/internal/fatal_report.h"
#include "sched/snapshot.h"
#include "sched/sync/mutex.h"

namespace weft::debug {
namespace {

using weft::internal::Event;

// More goroutines than that are not shown for nothing having happened to them.
constexpr size_t kMostQuiet = 2'000;

// Never destroyed: goroutines run on while statics are.
Mutex& Control() {
  static auto* mutex = new Mutex;
  return *mutex;
}
std::atomic<bool> runs{false};
std::atomic<int64_t> last_nanos{0};

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string DescribeSite(uintptr_t pc) {
  const SourceLocation at = CreationSite(pc - 1);
  if (!at.file.empty()) return absl::StrCat(BaseName(at.file), ":", at.line);
  return at.function;
}

std::vector<internal::AliveGoroutine> Alive(const std::vector<GoroutineSnapshot>& snapshots) {
  std::vector<internal::AliveGoroutine> alive;
  for (const GoroutineSnapshot& g : snapshots) {
    if (alive.size() == kMostQuiet) break;
    const char* state = g.status == 1   ? "runnable"
                        : g.status == 3 ? "blocking section"
                        : g.status == 9 ? "waiting for a P in place"
                                        : "running";
    if (g.status == 4) state = g.wait_reason[0] == '\0' ? "waiting" : g.wait_reason;
    alive.push_back({g.id, std::string(g.name.data(), g.name.size()), state});
  }
  return alive;
}

void Write(const internal::RecordedTrace& trace, const std::vector<GoroutineSnapshot>& snapshots,
           TraceSink sink) {
  internal::WriteTraceJson(trace, {.alive = Alive(snapshots), .describe_site = DescribeSite}, sink);
}

int64_t LastNanos() { return last_nanos.load(std::memory_order_relaxed); }

absl::Status NothingRuns() { return absl::FailedPreconditionError("no trace is being recorded"); }

// --- WEFTDEBUG ---

std::atomic<pid_t> pid{0};

std::string& FileName() {
  static auto* name = new std::string;
  return *name;
}
RecordingOptions& Wanted() {
  static auto* options = new RecordingOptions;
  return *options;
}

class File {
 public:
  explicit File(const std::string& name)
      : fd_(open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool is_open() const { return fd_ >= 0; }
  void Append(absl::string_view text) {
    while (!text.empty()) {
      const ssize_t n = write(fd_, text.data(), text.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        std::fprintf(stderr, "weft: the trace is not whole: %s: %m\n", FileName().c_str());
        return;
      }
      text.remove_prefix(static_cast<size_t>(n));
    }
  }

 private:
  const int fd_;
};

// Not a child of a fork().
bool IsOurProcess() { return getpid() == pid.load(std::memory_order_relaxed); }

void WriteAtExit() {
  if (weft::internal::FatalReportUnderWay() || !IsOurProcess()) return;
  File file(FileName());
  (void)StopTrace([&](absl::string_view text) { file.Append(text); });
}

// Whatever the thread that reports was in the middle of.
void WriteBeforeReport() {
  if (!runs.load(std::memory_order_relaxed) || !IsOurProcess()) return;
  File file(FileName());
  Write(internal::LastRecorded(LastNanos()),
        GetLastSchedSnapshot(SnapshotDetail::kAll).goroutine_list,
        [&](absl::string_view text) { file.Append(text); });
}

bool ApplyFile(absl::string_view value) {
  if (value.empty()) return false;
  FileName() = std::string(value.data(), value.size());
  // Now rather than at the end.
  if (!File(FileName()).is_open()) return false;
  if (!StartTrace(Wanted()).ok()) return false;
  pid.store(getpid(), std::memory_order_relaxed);
  std::atexit(WriteAtExit);
  weft::internal::SetReportPreamble(WriteBeforeReport);
  return true;
}

constexpr weft::internal::DebugSetting kFile = {
    .name = "trace",
    .accepts = "a file that can be written: the execution trace is, when the program ends",
    .apply = ApplyFile,
};

bool ApplyLast(absl::string_view value) {
  double seconds;
  if (!absl::SimpleAtod(value, &seconds) || !(seconds > 0)) return false;
  Wanted().last = absl::Seconds(seconds);
  // The trace may have begun, if that setting came first.
  last_nanos.store(absl::ToInt64Nanoseconds(Wanted().last), std::memory_order_relaxed);
  return true;
}

constexpr weft::internal::DebugSetting kLast = {
    .name = "tracelast",
    .accepts = "a number of seconds: of the execution trace only the last so many are written",
    .apply = ApplyLast,
};

// Before the initializers of the program, as one of these may start the scheduler.
__attribute__((constructor(101))) void RegisterSettings() {
  weft::internal::RegisterDebugSetting(&kFile);
  weft::internal::RegisterDebugSetting(&kLast);
}

bool Recording() {
  return (weft::internal::events_wanted.load(std::memory_order_relaxed) &
          weft::internal::EventPort::kBySink) != 0;
}

uint64_t NextTaskId() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

uint64_t IdOf(const Task* task) { return task == nullptr ? 0 : task->id(); }

}  // namespace

absl::Status StartTrace(const RecordingOptions& options) {
  const MutexLock lock(Control());
  if (runs.load(std::memory_order_relaxed)) {
    return absl::FailedPreconditionError("a trace is being recorded already");
  }
  last_nanos.store(absl::ToInt64Nanoseconds(options.last), std::memory_order_relaxed);
  internal::StartRecorder({.bytes = options.bytes, .events_per_second = options.events_per_second});
  runs.store(true, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status StopTrace(TraceSink sink) {
  const MutexLock lock(Control());
  if (!runs.load(std::memory_order_relaxed)) return NothingRuns();
  const internal::RecordedTrace trace = internal::StopRecorder(LastNanos());
  runs.store(false, std::memory_order_relaxed);
  Write(trace, GetGoroutineSnapshots(), sink);
  return absl::OkStatus();
}

absl::Status WriteTrace(TraceSink sink) {
  const MutexLock lock(Control());
  if (!runs.load(std::memory_order_relaxed)) return NothingRuns();
  const internal::RecordedTrace trace = internal::CollectRecorded(LastNanos());
  Write(trace, GetGoroutineSnapshots(), sink);
  return absl::OkStatus();
}

bool TraceRuns() { return runs.load(std::memory_order_relaxed); }

Task::Task(absl::string_view name) : id_(NextTaskId()) {
  internal::RecordText(Event::kTaskBegin, id_, name);
}

Task::~Task() { internal::RecordText(Event::kTaskEnd, id_, ""); }

Region::Region(absl::string_view name, const Task* task) : recorded_(Recording()) {
  if (recorded_) internal::RecordText(Event::kRegionBegin, IdOf(task), name);
}

Region::~Region() {
  if (recorded_) internal::RecordText(Event::kRegionEnd, 0, "");
}

void Log(absl::string_view category, absl::string_view message, const Task* task) {
  if (!Recording()) return;
  internal::RecordText(Event::kLog, IdOf(task),
                       absl::StrCat(category, absl::string_view("\0", 1), message));
}

}  // namespace weft::debug
