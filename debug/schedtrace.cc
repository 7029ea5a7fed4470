#include "debug/schedtrace.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "sched/clock.h"
#include "sched/debug_settings.h"
#include "sched/internal/fatal_report.h"
#include "sched/sysmon.h"

namespace weft::debug {
namespace {

// When the first line was taken, in nanoseconds of Instant; 0: none yet.
std::atomic<int64_t> first_trace{0};

bool TakesMore(int fd) {
  pollfd wanted = {.fd = fd, .events = POLLOUT, .revents = 0};
  return poll(&wanted, 1, 0) == 1 && (wanted.revents & POLLOUT) != 0;
}

// What WEFTDEBUG asks for.
int32_t period_ms = 0;
SnapshotDetail detail_of_lines = SnapshotDetail::kCounters;

void WriteWhatIsTaken(int fd, absl::string_view text) {
  while (!text.empty() && TakesMore(fd)) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

std::string Format(const SchedSnapshot& snapshot, absl::Duration since_first,
                   SnapshotDetail detail) {
  return detail == SnapshotDetail::kAll ? FormatSchedDetail(snapshot, since_first)
                                        : FormatSchedTrace(snapshot, since_first);
}

bool TraceDuty(Instant) {
  if (internal::FatalReportUnderWay()) return false;  // which has a trace of its own
  WriteSchedTrace(STDERR_FILENO, detail_of_lines);
  return false;
}

void TraceBeforeReport() {
  const absl::Duration since_first = SchedTraceTime();
  WriteWhatIsTaken(STDERR_FILENO,
                   FormatSchedDetail(GetLastSchedSnapshot(SnapshotDetail::kAll), since_first));
}

bool ApplyPeriod(absl::string_view value) {
  if (!absl::SimpleAtoi(value, &period_ms) || period_ms < 0) return false;
  if (period_ms > 0) {
    RegisterMonitorDuty(
        {.name = "schedtrace", .period = absl::Milliseconds(period_ms), .run = TraceDuty});
    internal::SetReportPreamble(TraceBeforeReport);
  }
  return true;
}

bool ApplyDetail(absl::string_view value) {
  if (value != "0" && value != "1") return false;
  if (value == "1") {
    detail_of_lines = SnapshotDetail::kAll;
    internal::SetReportPreamble(TraceBeforeReport);
  }
  return true;
}

constexpr internal::DebugSetting kPeriod = {
    .name = "schedtrace",
    .accepts = "a number of milliseconds from 1 to 2147483647, or 0 for no trace",
    .apply = ApplyPeriod,
};

constexpr internal::DebugSetting kDetail = {
    .name = "scheddetail",
    .accepts = "1, for traces with a line for each P, M and G, or 0",
    .apply = ApplyDetail,
};

// Before the initializers of the program, as one of these may start the scheduler, which then asks
// for settings that nobody has registered yet.
__attribute__((constructor(101))) void RegisterSettings() {
  internal::RegisterDebugSetting(&kPeriod);
  internal::RegisterDebugSetting(&kDetail);
}

// What both forms begin with.
std::string FormatCounters(const SchedSnapshot& snapshot, absl::Duration since_first) {
  return absl::StrCat("SCHED ", absl::ToInt64Milliseconds(since_first),
                      "ms: gomaxprocs=", snapshot.max_procs, " idleprocs=", snapshot.idle_procs,
                      " threads=", snapshot.threads, " spinningthreads=", snapshot.spinning_threads,
                      " idlethreads=", snapshot.idle_threads,
                      " runqueue=", snapshot.global_queue_size);
}

const char* Bool(bool value) { return value ? "true" : "false"; }

}  // namespace

absl::Duration SchedTraceTime() {
  const Instant now = Instant::Now();
  int64_t first = 0;
  if (first_trace.compare_exchange_strong(first, now.nanos(), std::memory_order_relaxed)) {
    return absl::ZeroDuration();
  }
  return now - Instant::FromNanos(first);
}

std::string FormatSchedTrace(const SchedSnapshot& snapshot, absl::Duration since_first) {
  std::string line = FormatCounters(snapshot, since_first);
  const char* separator = " [";
  for (const ProcSnapshot& proc : snapshot.procs) {
    absl::StrAppend(&line, separator, proc.run_queue_size);
    separator = " ";
  }
  absl::StrAppend(&line, "]\n");
  return line;
}

std::string FormatSchedDetail(const SchedSnapshot& snapshot, absl::Duration since_first) {
  std::string text = FormatCounters(snapshot, since_first);
  absl::StrAppend(&text, " gcwaiting=", snapshot.stopping ? 1 : 0,
                  " nmidlelocked=", snapshot.locked_threads, " stopwait=", snapshot.stop_wait,
                  " sysmonwait=", snapshot.monitor_waiting ? 1 : 0, "\n");
  for (const ProcSnapshot& p : snapshot.procs) {
    absl::StrAppend(&text, "  P", p.id, ": status=", p.status, " schedtick=", p.schedtick);
    absl::StrAppend(&text, " syscalltick=", p.syscalltick, " m=", p.m,
                    " runqsize=", p.run_queue_size, " gfreecnt=", p.free_goroutines, "\n");
  }
  for (const ThreadSnapshot& m : snapshot.thread_list) {
    absl::StrAppend(&text, "  M", m.id, ": p=", m.p, " curg=", m.goroutine);
    absl::StrAppend(&text, " mallocing=0 throwing=0 preemptoff= locks=", m.runtime_sections);
    absl::StrAppend(&text, " dying=0 helpgc=0 spinning=", Bool(m.spinning),
                    " blocked=", Bool(m.idle), " lockedg=", m.locked_goroutine, "\n");
  }
  for (const GoroutineSnapshot& g : snapshot.goroutine_list) {
    absl::StrAppend(&text, "  G", g.id, ": status=", g.status, "(", g.wait_reason);
    absl::StrAppend(&text, ") m=", g.m, " lockedm=", g.locked_m, "\n");
  }
  return text;
}

void WriteSchedTrace(int fd, SnapshotDetail detail) {
  // Taken before the snapshot, which may first have to start the scheduler.
  const absl::Duration since_first = SchedTraceTime();
  WriteWhatIsTaken(fd, Format(GetSchedSnapshot(detail), since_first, detail));
}

}  // namespace weft::debug
