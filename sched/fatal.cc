#include "sched/fatal.h"

#include <cxxabi.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <exception>
#include <string>

#include "absl/strings/str_cat.h"
#include "sched/internal/fatal_report.h"
#include "stack/traceback.h"

namespace weft {
namespace internal {

bool ClaimFatalReport() {
  static std::atomic<bool> claimed{false};
  return !claimed.exchange(true, std::memory_order_acq_rel);
}

void HangForReport() {
  for (;;) pause();
}

void WriteReport(absl::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(STDERR_FILENO, text.data(), text.size());
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
}

void EndProcess() { _exit(2); }

namespace {

[[noreturn]] void Report(absl::string_view kind, absl::string_view text) {
  if (!ClaimFatalReport()) HangForReport();
  WriteReport(absl::StrCat(kind, text, "\n\n"));
  stack::PrintCurrentTrace(STDERR_FILENO);
  EndProcess();
}

// What the exception that is being handled has to say.
std::string CurrentExceptionText() {
  try {
    throw;
  } catch (const std::exception& e) {
    try {
      return e.what();
    } catch (...) {
      return "panic while printing panic value: what() has thrown";
    }
  } catch (const char* text) {
    return text;
  } catch (const std::string& text) {
    return text;
  } catch (...) {
    const std::type_info* type = abi::__cxa_current_exception_type();
    if (type == nullptr) return "an exception of another language";
    int status = 0;
    char* name = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
    std::string text = absl::StrCat("(", status == 0 ? name : type->name(), ")");
    std::free(name);
    return text;
  }
}

// Runs where the exception was thrown, with nothing unwound yet, so that the trace shows the throw.
[[noreturn]] void Terminate() {
  if (std::current_exception() == nullptr) Report("fatal error: ", "std::terminate was called");
  Report("panic: ", CurrentExceptionText());
}

}  // namespace

void InstallFatalHandlers() { std::set_terminate(Terminate); }

}  // namespace internal

void Fatal(absl::string_view text) { internal::Report("fatal error: ", text); }
void Panic(absl::string_view text) { internal::Report("panic: ", text); }

}  // namespace weft
