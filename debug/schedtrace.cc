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
#include "sched/sysmon.h"

namespace weft::debug {
namespace {

// When the first line was taken, in nanoseconds of Instant; 0: none yet.
std::atomic<int64_t> first_trace{0};

absl::Duration SinceFirst(Instant now) {
  int64_t first = 0;
  if (first_trace.compare_exchange_strong(first, now.nanos(), std::memory_order_relaxed)) {
    return absl::ZeroDuration();
  }
  return now - Instant::FromNanos(first);
}

bool TakesMore(int fd) {
  pollfd wanted = {.fd = fd, .events = POLLOUT, .revents = 0};
  return poll(&wanted, 1, 0) == 1 && (wanted.revents & POLLOUT) != 0;
}

bool TraceDuty(Instant) {
  WriteSchedTrace(STDERR_FILENO);
  return false;
}

bool ApplySetting(absl::string_view value) {
  int32_t milliseconds;
  if (!absl::SimpleAtoi(value, &milliseconds) || milliseconds < 0) return false;
  if (milliseconds > 0) {
    RegisterMonitorDuty(
        {.name = "schedtrace", .period = absl::Milliseconds(milliseconds), .run = TraceDuty});
  }
  return true;
}

constexpr internal::DebugSetting kSetting = {
    .name = "schedtrace",
    .accepts = "a number of milliseconds from 1 to 2147483647, or 0 for no trace",
    .apply = ApplySetting,
};

// Before the initializers of the program, as one of these may start the scheduler, which then asks
// for settings that nobody has registered yet.
__attribute__((constructor(101))) void RegisterSetting() {
  internal::RegisterDebugSetting(&kSetting);
}

}  // namespace

std::string FormatSchedTrace(const SchedSnapshot& snapshot, absl::Duration since_first) {
  std::string line = absl::StrCat(
      "SCHED ", absl::ToInt64Milliseconds(since_first), "ms: gomaxprocs=", snapshot.max_procs,
      " idleprocs=", snapshot.idle_procs, " threads=", snapshot.threads,
      " spinningthreads=", snapshot.spinning_threads, " idlethreads=", snapshot.idle_threads,
      " runqueue=", snapshot.global_queue_size);
  const char* separator = " [";
  for (const ProcSnapshot& proc : snapshot.procs) {
    absl::StrAppend(&line, separator, proc.run_queue_size);
    separator = " ";
  }
  absl::StrAppend(&line, "]\n");
  return line;
}

void WriteSchedTrace(int fd) {
  // Taken before the snapshot, which may first have to start the scheduler.
  const absl::Duration since_first = SinceFirst(Instant::Now());
  const std::string line = FormatSchedTrace(GetSchedSnapshot(), since_first);
  absl::string_view rest = line;
  while (!rest.empty() && TakesMore(fd)) {
    const ssize_t written = write(fd, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    rest.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace weft::debug
