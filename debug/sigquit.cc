// SIGQUIT, which a terminal sends for Ctrl-\, ends the program with a dump of all goroutines, as in
// Go. To be linked, no more.
//
// The handler can do none of that itself: it wakes the monitor, which needs no P. A second SIGQUIT
// ends the program at once, with a core file where these are on; so does the first while the
// runtime does not run. Who is started with SIGQUIT ignored ignores it, and who sets a handler has
// that.
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "absl/time/time.h"
#include "debug/goroutines.h"
#include "sched/clock.h"
#include "sched/internal/fatal_report.h"
#include "sched/internal/signal_handler.h"
#include "sched/sysmon.h"

namespace weft::debug {
namespace {

// By the compiler's functions, as the handler sets it (signal_handler.h).
bool wanted = false;

// A thread that does not answer in that time has the signal blocked, on however busy a machine.
constexpr absl::Duration kLimit = absl::Seconds(3);

WEFT_SIGNAL_HANDLER void Handle(int signal);

void Handle(int signal) {
  const int saved = errno;
  // Before the monitor is woken, which orders the two.
  __atomic_store_n(&wanted, true, __ATOMIC_RELAXED);
  if (!internal::WakeMonitorInHandler()) {
    // Blocked until this has returned; then what happens is the system's own action.
    syscall(SYS_tgkill, syscall(SYS_getpid), syscall(SYS_gettid), signal);
  }
  errno = saved;
}

void Install() {
  struct sigaction present;
  internal::SetSignalAction(SIGQUIT, nullptr, &present);
  if ((present.sa_flags & SA_SIGINFO) != 0 || present.sa_handler != SIG_DFL) return;
  struct sigaction ours = {};
  ours.sa_handler = Handle;
  ours.sa_flags = SA_ONSTACK | SA_RESTART | static_cast<int>(SA_RESETHAND);
  sigfillset(&ours.sa_mask);
  sigdelset(&ours.sa_mask, SIGSEGV);
  sigdelset(&ours.sa_mask, SIGBUS);
  internal::SetSignalAction(SIGQUIT, &ours, nullptr);
}

bool DumpIfWanted(Instant) {
  if (!__atomic_load_n(&wanted, __ATOMIC_RELAXED)) return false;
  // Somebody else is ending the program already.
  if (!internal::ClaimFatalReport()) return false;
  internal::PrintReportPreamble();
  internal::WriteReport("SIGQUIT: quit\n\n");
  WriteGoroutines(STDERR_FILENO, {.limit = kLimit});
  internal::EndProcess();
}

// For the minutes in dumps.
bool LookWhoWaits(Instant) {
  NoteWaits();
  return false;
}

constexpr absl::Duration kLookEvery = absl::Seconds(20);

__attribute__((constructor)) void Register() {
  Install();
  RegisterMonitorDuty({.name = "sigquit", .period = absl::ZeroDuration(), .run = DumpIfWanted});
  RegisterMonitorDuty({.name = "waits", .period = kLookEvery, .run = LookWhoWaits});
}

}  // namespace
}  // namespace weft::debug
