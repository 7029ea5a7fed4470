#include "stack/overflow.h"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <mutex>

#include "stack/internal/writer.h"
#include "stack/morestack.h"
#include "stack/slots.h"
#include "stack/traceback.h"

namespace weft::stack {

using internal::Writer;

namespace {

constexpr int kOut = STDERR_FILENO;

// Set before our handlers are installed, constant from then on.
struct sigaction previous_segv;
struct sigaction previous_bus;

// One report a process: who comes second waits for the first to end it.
void ClaimReport() {
  static std::atomic<bool> claimed{false};
  auto* claim = GetTraceHooks().claim_fatal_report;
  const bool first =
      claim != nullptr ? claim() : !claimed.exchange(true, std::memory_order_acq_rel);
  while (!first) pause();
}

// A stack of `bytes` that could get larger if the system gave it memory.
[[noreturn]] void ReportNoGrowth(size_t bytes, const char* reason, const MachineState& at,
                                 uintptr_t caller_pc) {
  ClaimReport();
  Writer(kOut)
      .Text("runtime: goroutine stack of ")
      .Decimal(bytes)
      .Text(" bytes cannot grow: ")
      .Text(reason)
      .Text("\nfatal error: out of memory (stack allocation)\n\n");
  PrintInterruptedTrace(kOut, at, caller_pc);
  _exit(2);
}

[[noreturn]] void ReportOverflow(const char* which, size_t limit, uintptr_t sp, const void* lo,
                                 const void* hi, const MachineState& at, uintptr_t caller_pc) {
  ClaimReport();
  Writer(kOut)
      .Text("runtime: goroutine ")
      .Text(which)
      .Text(" exceeds ")
      .Decimal(limit)
      .Text("-byte limit\nruntime: sp=")
      .Hex(sp)
      .Text(" stack=[")
      .Hex(reinterpret_cast<uintptr_t>(lo))
      .Text(", ")
      .Hex(reinterpret_cast<uintptr_t>(hi))
      .Text("]\nfatal error: stack overflow\n\n");
  PrintInterruptedTrace(kOut, at, caller_pc);
  _exit(2);
}

// A prologue's own check.
void AtLimit(const StackLimitReached& reached) {
  const Context& context = *reached.context;
  // The guard may be a poison, the slot unknown.
  const Slot* slot = FindSlot(context.stack_lo);
  const auto below = static_cast<char*>(context.stack_hi) - static_cast<const char*>(context.guard);
  size_t limit = slot != nullptr ? LimitOf(*slot) : static_cast<size_t>(below);
  // Where stacks grow, by another slot or by segments, it is for a lack of memory if it is not for
  // the limit.
  const bool grows = weft_stack_grow_handler.load(std::memory_order_acquire) != nullptr &&
                     slot != nullptr && slot->size_class != SizeClass::kLarge;
  if (grows) {
    if (weft_stack_limit_reason != nullptr) {
      ReportNoGrowth(limit, weft_stack_limit_reason, reached.at, reached.caller_pc);
    }
    limit = MaxStack();
  }
  ReportOverflow("stack", limit, reached.at.sp, context.stack_lo, context.stack_hi, reached.at,
                 reached.caller_pc);
}

const char* SignalName(int signal) {
  return signal == SIGBUS ? "SIGBUS: bus error" : "SIGSEGV: segmentation violation";
}

[[noreturn]] void ReportFault(int signal, const siginfo_t& info, const MachineState& at) {
  ClaimReport();
  const auto address = reinterpret_cast<uintptr_t>(info.si_addr);
  {
    Writer out(kOut);
    // Sent by a program, a signal has no address.
    if (info.si_code > 0) out.Text("unexpected fault address ").Hex(address).Text("\n");
    out.Text("fatal error: fault\n[signal ")
        .Text(SignalName(signal))
        .Text(" code=")
        .Hex(static_cast<uint32_t>(info.si_code))
        .Text(" addr=")
        .Hex(info.si_code > 0 ? address : 0)
        .Text(" pc=")
        .Hex(at.pc)
        .Text("]\n\n");
  }
  PrintInterruptedTrace(kOut, at);
  _exit(2);
}

bool HasHandler(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 ||
         (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
}

void CallHandler(const struct sigaction& action, int signal, siginfo_t* info, void* context) {
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    action.sa_sigaction(signal, info, context);
  } else {
    action.sa_handler(signal);
  }
}

bool OnGoroutine(const Slot* slot, uintptr_t sp) {
  if (slot != nullptr) return true;
  const Context* context = weft_current_context;
  return context != nullptr && sp >= reinterpret_cast<uintptr_t>(context->stack_lo) &&
         sp < reinterpret_cast<uintptr_t>(context->stack_hi);
}

// That of the context that this thread runs: its pointer was on it, or at its top, when it was last
// switched to.
const Slot* CurrentPinnedStack() {
  const Context* context = weft_current_context;
  if (context == nullptr || context->pinned == nullptr) return nullptr;
  return FindSlot(static_cast<const char*>(context->pinned) - 1);
}

}  // namespace

extern "C" {

void weft_fault_entry(int signal, siginfo_t* info, void* context);

// By weft_fault_entry, on the alternate stack.
void weft_fault_handler(int signal, siginfo_t* info, void* context) {
  const MachineState at = InterruptedState(*static_cast<const ucontext_t*>(context));
  const Slot* slot = FindSlot(reinterpret_cast<const void*>(at.sp));

  // An overflow is a fault in a gap of the very slot on which the thread was running: another one's
  // gap is reached by a stray pointer only.
  if (slot != nullptr && info->si_code > 0 && FindSlot(info->si_addr) == slot) {
    if (PartOf(*slot, info->si_addr) == SlotPart::kGuard) {
      ReportOverflow("stack", LimitOf(*slot), at.sp, slot->lo, slot->hi, at, 0);
    }
  }
  if (const Slot* pinned = CurrentPinnedStack();
      pinned != nullptr && info->si_code > 0 && FindSlot(info->si_addr) == pinned &&
      PartOf(*pinned, info->si_addr) == SlotPart::kGuard) {
    ReportOverflow("pinned stack", static_cast<size_t>(pinned->hi - pinned->lo),
                   reinterpret_cast<uintptr_t>(info->si_addr), pinned->lo, pinned->hi, at, 0);
  }

  const struct sigaction& previous = signal == SIGBUS ? previous_bus : previous_segv;
  constexpr bool kSanitized = WEFT_ASAN || WEFT_TSAN;
  if (HasHandler(previous) && (kSanitized || !OnGoroutine(slot, at.sp))) {
    CallHandler(previous, signal, info, context);
    return;
  }
  ReportFault(signal, *info, at);
}
}

void InstallOverflowHandler() {
  static std::once_flag once;
  std::call_once(once, [] {
    // Release: whoever sees the handler sees what it uses.
    weft_stack_limit_handler.store(AtLimit, std::memory_order_release);
    sigaction(SIGSEGV, nullptr, &previous_segv);
    sigaction(SIGBUS, nullptr, &previous_bus);
    struct sigaction action{};
    action.sa_sigaction = weft_fault_entry;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigfillset(&action.sa_mask);
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
  });
}

// One mapping: a gap, the signal stack, a gap, its pinned stack, a gap.
bool ThreadSignalStack::Install() {
  if (memory_ != nullptr) return true;
  constexpr size_t kGap = 16 * 1024;
  // The kernel's frame, several KiB with wide vector registers, comes on top of what reports need.
  const size_t stack = 64 * 1024 + ((getauxval(AT_MINSIGSTKSZ) + kGap - 1) & ~(kGap - 1));
  constexpr size_t kPinned = 64 * 1024;
  const size_t bytes = kGap + stack + kGap + kPinned + kGap;
  void* memory =
      mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  char* const lo = static_cast<char*>(memory) + kGap;
  char* const pinned = lo + stack + kGap;
  stack_t alternate{};
  alternate.ss_sp = lo;
  alternate.ss_size = stack;
  if (mprotect(lo, stack, PROT_READ | PROT_WRITE) != 0 ||
      mprotect(pinned, kPinned, PROT_READ | PROT_WRITE) != 0 ||
      sigaltstack(&alternate, &previous_) != 0) {
    munmap(memory, bytes);
    return false;
  }
  memory_ = memory;
  bytes_ = bytes;
  weft_signal_stack_top = lo + stack;
  weft_signal_pinned_top = kHasPinnedStack ? pinned + kPinned : nullptr;
  return true;
}

ThreadSignalStack::~ThreadSignalStack() {
  if (memory_ == nullptr) return;
  weft_signal_stack_top = nullptr;
  weft_signal_pinned_top = nullptr;
  // SS_ONSTACK is a report, not a setting.
  previous_.ss_flags &= SS_DISABLE;
  sigaltstack(&previous_, nullptr);
  munmap(memory_, bytes_);
}

}  // namespace weft::stack
