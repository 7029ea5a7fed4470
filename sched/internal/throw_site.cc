#include "sched/internal/throw_site.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <unwind.h>

#include <cstdint>
#include <exception>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace weft::internal {
namespace {

// The x86-64 ABI's number of the frame pointer in unwind tables.
constexpr int kFramePointer = 6;

struct Search {
  bool crossed_runtime = false;
  std::optional<stack::MachineState> found;
};

bool IsCxxRuntime(uintptr_t pc) {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(pc), &info) != 0 && info.dli_fname != nullptr) {
    absl::string_view object = info.dli_fname;
    object.remove_prefix(object.rfind('/') + 1);
    if (absl::StartsWith(object, "libstdc++.") || absl::StartsWith(object, "libgcc_s.")) {
      return true;
    }
  }
  // Linked into the program itself: the functions that are next to the program's own.
  const void* function = _Unwind_FindEnclosingFunction(reinterpret_cast<void*>(pc));
  return function == reinterpret_cast<void*>(&abi::__cxa_throw) ||
         function == reinterpret_cast<void*>(&abi::__cxa_rethrow) ||
         function == reinterpret_cast<void*>(&std::terminate);
}

_Unwind_Reason_Code Visit(_Unwind_Context* context, void* arg) {
  auto* search = static_cast<Search*>(arg);
  // The return address of a call that never returns may belong to the next function.
  const uintptr_t pc = _Unwind_GetIP(context) - 1;
  if (IsCxxRuntime(pc)) {
    search->crossed_runtime = true;
    return _URC_NO_REASON;
  }
  if (!search->crossed_runtime) return _URC_NO_REASON;  // the handler
  const auto fp = static_cast<uintptr_t>(_Unwind_GetGR(context, kFramePointer));
  // The return address of that frame is where a stack pointer would be after its prologue's
  // undoing.
  search->found = stack::MachineState{.pc = pc, .sp = fp + sizeof(uintptr_t), .fp = fp};
  return _URC_END_OF_STACK;
}

}  // namespace

std::optional<stack::MachineState> FindThrowSite() {
  Search search;
  _Unwind_Backtrace(Visit, &search);
  return search.found;
}

}  // namespace weft::internal
