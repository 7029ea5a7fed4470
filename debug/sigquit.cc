// SIGQUIT, which a terminal sends for Ctrl-\, ends the program with a dump of all goroutines, as in
// Go. To be linked, no more.
//
// The handler can do none of that itself: it wakes the monitor, which needs no P. A second SIGQUIT
// ends the program at once, with a core file where these are on. Who handles SIGQUIT or ignores it
// before the runtime starts keeps it.
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "debug/goroutines.h"
#include "sched/clock.h"
#include "sched/internal/fatal_report.h"
#include "sched/sysmon.h"

namespace weft::debug {
namespace {

std::atomic<bool> wanted{false};

void Handle(int) {
  const int saved = errno;
  wanted.store(true, std::memory_order_relaxed);
  internal::WakeMonitor();
  errno = saved;
}

void Install() {
  struct sigaction present;
  sigaction(SIGQUIT, nullptr, &present);
  if ((present.sa_flags & SA_SIGINFO) != 0 || present.sa_handler != SIG_DFL) return;
  struct sigaction ours = {};
  ours.sa_handler = Handle;
  ours.sa_flags = SA_ONSTACK | SA_RESTART | static_cast<int>(SA_RESETHAND);
  sigfillset(&ours.sa_mask);
  sigdelset(&ours.sa_mask, SIGSEGV);
  sigdelset(&ours.sa_mask, SIGBUS);
  sigaction(SIGQUIT, &ours, nullptr);
}

bool DumpIfWanted(Instant) {
  static bool is_installed = false;
  if (!is_installed) Install();
  is_installed = true;
  if (!wanted.load(std::memory_order_relaxed)) return false;
  // Somebody else is ending the program already.
  if (!internal::ClaimFatalReport()) return false;
  internal::PrintReportPreamble();
  internal::WriteReport("SIGQUIT: quit\n\n");
  WriteGoroutines(STDERR_FILENO);
  internal::EndProcess();
}

// For the minutes in dumps.
bool LookWhoWaits(Instant) {
  NoteWaits();
  return false;
}

constexpr absl::Duration kLookEvery = absl::Seconds(20);

__attribute__((constructor)) void Register() {
  RegisterMonitorDuty({.name = "sigquit", .period = absl::ZeroDuration(), .run = DumpIfWanted});
  RegisterMonitorDuty({.name = "waits", .period = kLookEvery, .run = LookWhoWaits});
}

}  // namespace
}  // namespace weft::debug
