// The parts that every fatal report is made of.
#ifndef WEFT_SCHED_INTERNAL_FATAL_REPORT_H_
#define WEFT_SCHED_INTERNAL_FATAL_REPORT_H_

#include "absl/strings/string_view.h"

namespace weft::internal {

// The first caller may report and must then end the process; false for all others, who had better
// wait: HangForReport().
bool ClaimFatalReport();
[[noreturn]] void HangForReport();

// What is printed before each report, but for those that are made in signal handlers. Called on the
// thread that reports, which may hold any lock of the runtime's. At most four, one after the other.
void SetReportPreamble(void (*print)());
// For who has claimed the report.
void PrintReportPreamble();

// What is printed after "all goroutines are asleep - deadlock!", before the goroutines. Called on
// the monitor's thread. At most one; before threads start.
void SetDeadlockReport(void (*print)());
void PrintDeadlockReport();

// Whether somebody is about to report why the program ends: it should not end otherwise meanwhile.
bool FatalReportUnderWay();

// Writes to stderr, unbuffered. Safe in signal handlers.
void WriteReport(absl::string_view text);

// Exit status 2, at once: no destructors, no exit handlers.
[[noreturn]] void EndProcess();

// "panic: <what the exception says>" for uncaught exceptions from now on, with the trace of where
// they were thrown.
void InstallFatalHandlers();

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_FATAL_REPORT_H_
