#include "sched/fatal.h"

#include <cxxabi.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "sched/internal/fatal_report.h"
#include "sched/internal/thread.h"
#include "sched/internal/throw_site.h"
#include "sched/waiter.h"
#include "stack/traceback.h"

namespace weft {
namespace internal {

namespace {

std::atomic<bool> claimed{false};
// Who is about to report its exception, and asks it for its text.
std::atomic<uintptr_t> asking{0};

// In the order in which they were set.
std::atomic<void (*)()> report_preambles[4];
std::atomic<void (*)()> deadlock_report{nullptr};

}  // namespace

bool ClaimFatalReport() { return !claimed.exchange(true, std::memory_order_acq_rel); }

bool FatalReportUnderWay() {
  return asking.load(std::memory_order_relaxed) != 0 || claimed.load(std::memory_order_relaxed);
}

void HangForReport() {
  // A goroutine gives its P away meanwhile: what the first exception has to say may need one. Not
  // where the runtime itself has failed, nor a thread that runs no goroutine: these just stop.
  Thread* thread = ThisThread();
  if (thread != nullptr && thread->in_runtime.load(std::memory_order_relaxed) == 0) {
    for (Waiter* self = thread->waiter; self != nullptr;) self->Park(WaitReason::kNone);
  }
  for (;;) pause();
}

void SetReportPreamble(void (*print)()) {
  for (auto& preamble : report_preambles) {
    void (*old)() = nullptr;
    if (preamble.compare_exchange_strong(old, print, std::memory_order_relaxed) || old == print) {
      return;
    }
  }
}

void PrintReportPreamble() {
  for (const auto& preamble : report_preambles) {
    if (const auto print = preamble.load(std::memory_order_relaxed)) print();
  }
}

void SetDeadlockReport(void (*print)()) { deadlock_report.store(print, std::memory_order_relaxed); }

void PrintDeadlockReport() {
  if (const auto print = deadlock_report.load(std::memory_order_relaxed)) print();
}

void WriteReport(absl::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(STDERR_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
}

void EndProcess() { _exit(2); }

namespace {

[[noreturn]] void Report(absl::string_view kind, absl::string_view text) {
  if (!ClaimFatalReport()) HangForReport();
  PrintReportPreamble();
  WriteReport(absl::StrCat(kind, text, "\n\n"));
  stack::PrintCurrentTrace(STDERR_FILENO);
  EndProcess();
}

// The same in a terminate handler.
[[noreturn]] void ReportThrow(absl::string_view kind, absl::string_view text) {
  const std::optional<stack::MachineState> site = FindThrowSite();
  if (!site.has_value()) Report(kind, text);
  if (!ClaimFatalReport()) HangForReport();
  PrintReportPreamble();
  WriteReport(absl::StrCat(kind, text, "\n\n"));
  stack::PrintInterruptedTrace(STDERR_FILENO, *site);
  EndProcess();
}

std::string CurrentExceptionType() {
  const std::type_info* type = abi::__cxa_current_exception_type();
  if (type == nullptr) return "an exception of another language";
  int status = 0;
  char* name = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
  std::string text = absl::StrCat("(", status == 0 ? name : type->name(), ")");
  std::free(name);
  return text;
}

// What the exception that is being handled has to say. `ask`: by its what(), code of the user's.
std::string CurrentExceptionText(bool ask) {
  try {
    throw;
  } catch (const std::exception& e) {
    return ask ? e.what() : CurrentExceptionType();
  } catch (const char* text) {
    return text;
  } catch (const std::string& text) {
    return text;
  } catch (...) {
    return CurrentExceptionType();
  }
}

// Who calls, whatever thread it is on.
uintptr_t Self() {
  const Thread* thread = ThisThread();
  if (thread != nullptr && thread->waiter != nullptr) {
    return reinterpret_cast<uintptr_t>(thread->waiter);
  }
  return static_cast<uintptr_t>(pthread_self());
}

// Runs where the exception was thrown, with nothing unwound yet, so that the trace shows the throw.
[[noreturn]] void Terminate() {
  uintptr_t nobody = 0;
  const uintptr_t self = Self();
  if (!asking.compare_exchange_strong(nobody, self, std::memory_order_relaxed)) {
    // Somebody else's exception was first, or this one comes from the what() of our own.
    if (nobody != self) HangForReport();
    Report("panic: ",
           absl::StrCat("panic while printing panic value: ", CurrentExceptionText(/*ask=*/false)));
  }
  if (std::current_exception() == nullptr)
    ReportThrow("fatal error: ", "std::terminate was called");
  ReportThrow("panic: ", CurrentExceptionText(/*ask=*/true));
}

}  // namespace

void InstallFatalHandlers() { std::set_terminate(Terminate); }

}  // namespace internal

void Fatal(absl::string_view text) { internal::Report("fatal error: ", text); }
void Panic(absl::string_view text) { internal::Report("panic: ", text); }

}  // namespace weft
