#include "stack/traceback.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "absl/debugging/symbolize.h"
#include "stack/internal/memcheck.h"
#include "stack/internal/writer.h"
#include "stack/slots.h"

namespace weft::stack {

#if WEFT_HAS_GUARD_WORD
// In __morestack, where a function that was called on a segment returns to.
extern "C" __attribute__((visibility("hidden"))) const char weft_segment_return[];
#endif

using internal::Writer;

namespace {

constinit std::atomic<void (*)(int)> header_hook{nullptr};
constinit std::atomic<void (*)(int)> trailer_hook{nullptr};
constinit std::atomic<bool (*)()> claim_hook{nullptr};

// The memory in which a chain of frames may lie.
struct Bounds {
  uintptr_t lo;
  uintptr_t hi;
  bool readable;  // all of it; else each read has to be tried
  // From an address to where its bytes are: not 0 for a stack that rests.
  uintptr_t shift = 0;
};

// A thread's own stack, whose end is not known: reads are tried.
constexpr uintptr_t kThreadStack = uintptr_t{1} << 30;

Bounds BoundsOf(uintptr_t sp) {
  const Context* context = weft_current_context;
  if (context != nullptr) {
    const auto lo = reinterpret_cast<uintptr_t>(context->stack_lo);
    const auto hi = reinterpret_cast<uintptr_t>(context->stack_hi);
    if (sp >= lo && sp < hi) return {lo, hi, true};
  }
  const void* address = reinterpret_cast<const void*>(sp);
  // An overflowed stack's pointer is in the gap below it.
  if (const Slot* slot = FindSlot(address); slot != nullptr && !IsPinnedClass(slot->size_class)) {
    return {reinterpret_cast<uintptr_t>(slot->lo), reinterpret_cast<uintptr_t>(slot->hi), true};
  }
  return {sp, sp + kThreadStack, false};
}

// Copies memory that may not be there.
bool TryRead(uintptr_t address, void* to, size_t size) {
  iovec local = {to, size};
  iovec remote = {reinterpret_cast<void*>(address), size};
  return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

struct Frame {
  uintptr_t caller_fp;
  uintptr_t return_address;
};

// The sanitizers would object to reading what others wrote.
__attribute__((no_sanitize("address", "thread"))) bool ReadFrame(uintptr_t fp, const Bounds& bounds,
                                                                 Frame& frame) {
  if (fp % sizeof(void*) != 0 || fp < bounds.lo || fp > bounds.hi - sizeof(Frame)) return false;
  if (!bounds.readable) return TryRead(fp, &frame, sizeof frame);
  const auto* words = reinterpret_cast<const volatile uintptr_t*>(fp + bounds.shift);
  // It may be no frame.
  frame.caller_fp = internal::Guess(words[0]);
  frame.return_address = internal::Guess(words[1]);
  return true;
}

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 35)
bool IsInModule(uintptr_t pc) {
  dl_find_object object;
  return _dl_find_object(reinterpret_cast<void*>(pc), &object) == 0;
}

// Something that tells modules apart; null for none.
const void* ModuleOf(uintptr_t pc) {
  dl_find_object object;
  return _dl_find_object(reinterpret_cast<void*>(pc), &object) == 0 ? object.dlfo_link_map
                                                                    : nullptr;
}

// Module and offset. _dl_find_object, unlike dladdr, takes no lock.
void PrintModule(Writer& out, uintptr_t pc) {
  dl_find_object object;
  if (_dl_find_object(reinterpret_cast<void*>(pc), &object) != 0) {
    out.Text("\t? ").Hex(pc).Text("\n");
    return;
  }
  const link_map* module = object.dlfo_link_map;
  out.Text("\t");
  if (module->l_name != nullptr && module->l_name[0] != '\0') {
    out.Text(module->l_name);
  } else {
    std::array<char, 512> path;
    const ssize_t length = readlink("/proc/self/exe", path.data(), path.size());
    out.Bytes(path.data(), length > 0 ? static_cast<size_t>(length) : 0);
  }
  out.Text(" +").Hex(pc - module->l_addr).Text("\n");
}
#else
bool IsInModule(uintptr_t pc) { return pc != 0; }

const void* ModuleOf(uintptr_t) { return nullptr; }

void PrintModule(Writer& out, uintptr_t pc) { out.Text("\tpc=").Hex(pc).Text("\n"); }
#endif

// Collects the frames of a walk, however deep, for a Trace: what Go prints.
class Frames {
 public:
  void Add(uintptr_t pc) {
    (count_ < Trace::kEnd ? inner_[count_] : outer_[count_ % Trace::kEnd]) = pc;
    ++count_;
  }

  // `first_returns`: the first one is a return address too. That may be the first byte of the next
  // function already.
  void CopyTo(Trace& trace, bool first_returns) const {
    trace.count = 0;
    trace.elided = count_ > 2 * kEnd ? count_ - 2 * kEnd : 0;
    for (size_t i = 0; i < count_ && i < kEnd; ++i) {
      trace.pcs[trace.count++] = i > 0 || first_returns ? inner_[i] - 1 : inner_[i];
    }
    for (size_t i = kEnd + trace.elided; i < count_; ++i) {
      trace.pcs[trace.count++] = outer_[i % kEnd] - 1;
    }
  }

 private:
  static constexpr size_t kEnd = Trace::kEnd;
  size_t count_ = 0;
  std::array<uintptr_t, kEnd> inner_;
  std::array<uintptr_t, kEnd> outer_;
};

// A frame from which the chain goes on in another stack: the function was called on a segment.
bool IsSegmentBoundary(uintptr_t return_address) {
#if WEFT_HAS_GUARD_WORD
  return return_address == reinterpret_cast<uintptr_t>(weft_segment_return);
#else
  static_cast<void>(return_address);
  return false;
#endif
}

// `add(return address)` says whether to go on.
template <typename Add>
void WalkWhile(const MachineState& from, Bounds bounds, Add add) {
  uintptr_t fp = from.fp;
  Frame frame;
  while (ReadFrame(fp, bounds, frame) && IsInModule(frame.return_address)) {
    // The base of a made context: where it begins is no function of anybody's.
    if (frame.caller_fp == 0 && bounds.readable) break;
    if (IsSegmentBoundary(frame.return_address)) {
      const Slot* outer = FindSlot(reinterpret_cast<const void*>(frame.caller_fp));
      if (outer == nullptr) break;
      bounds = {reinterpret_cast<uintptr_t>(outer->lo), reinterpret_cast<uintptr_t>(outer->hi),
                true};
      fp = frame.caller_fp;
      continue;
    }
    // Frames lie ever higher; anything else is no frame pointer.
    if (!add(frame.return_address) || frame.caller_fp <= fp) break;
    fp = frame.caller_fp;
  }
}

void Walk(const MachineState& from, uintptr_t caller_pc, const Bounds& bounds, Frames& frames) {
  frames.Add(from.pc);
  if (caller_pc != 0) frames.Add(caller_pc);
  WalkWhile(from, bounds, [&frames](uintptr_t return_address) {
    frames.Add(return_address);
    return true;
  });
}

// "name(...)" without a newline, or the address.
void PrintFunction(Writer& out, uintptr_t pc, const char* arguments) {
  std::array<char, 1024> name;
  if (!absl::Symbolize(reinterpret_cast<const void*>(pc), name.data(), name.size())) {
    out.Hex(pc).Text(arguments);
    return;
  }
  size_t length = std::strlen(name.data());
  // A demangled function ends in "()".
  if (length > 2 && std::strcmp(name.data() + length - 2, "()") == 0) length -= 2;
  out.Bytes(name.data(), length).Text(arguments);
}

void PrintFrames(Writer& out, const Trace& trace) {
  for (size_t i = 0; i < trace.count; ++i) {
    if (i == Trace::kEnd && trace.elided > 0) {
      out.Text("...").Decimal(trace.elided).Text(" frames elided...\n");
    }
    PrintFunction(out, trace.pcs[i], "(...)\n");
    PrintModule(out, trace.pcs[i]);
  }
}

// Whether `word` is an address in some module, right after a call.
bool IsReturnAddress(uintptr_t word) {
  std::array<unsigned char, kLongestCall> before;
  return IsInModule(word) && TryRead(word - before.size(), before.data(), before.size()) &&
         EndsInCall(before.data() + before.size());
}

// A function that calls no other may have made no frame when it faulted: its return address is on
// top of the stack then, and is not that of the innermost frame. (A leftover in an uninitialized
// local may look the same; a frame too many in such a trace does less harm than a missing caller.)
uintptr_t CallerOfLeaf(const MachineState& state, const Bounds& bounds) {
  uintptr_t word = 0;
  Frame frame{};
  if (!TryRead(state.sp, &word, sizeof word) || !IsReturnAddress(word)) return 0;
  return ReadFrame(state.fp, bounds, frame) && frame.return_address == word ? 0 : word;
}

// The frame pointer to begin with. Code that keeps none, as most of libc, may have something else
// in that register: then the frame of the nearest function that keeps one is looked for, which is
// two words that would make a frame. What lies between is lost.
uintptr_t FirstFrame(const MachineState& state, const Bounds& bounds) {
  Frame frame{};
  if (ReadFrame(state.fp, bounds, frame) && IsReturnAddress(frame.return_address)) return state.fp;
  constexpr uintptr_t kFar = 16 * 1024;
  const uintptr_t begin = (std::max(state.sp, bounds.lo) + 7) & ~uintptr_t{7};
  for (uintptr_t at = begin; at < begin + kFar && ReadFrame(at, bounds, frame); at += 8) {
    Frame next{};
    if (frame.caller_fp > at && IsReturnAddress(frame.return_address) &&
        ReadFrame(frame.caller_fp, bounds, next) && IsReturnAddress(next.return_address)) {
      return at;
    }
  }
  return state.fp;
}

void GetTraceOf(const MachineState& state, uintptr_t caller_pc, Trace& trace) {
  const Bounds bounds = BoundsOf(state.sp);
  MachineState from = state;
  if (caller_pc == 0) {
    from.fp = FirstFrame(state, bounds);
    caller_pc = CallerOfLeaf(from, bounds);
  }
  Frames frames;
  Walk(from, caller_pc, bounds, frames);
  frames.CopyTo(trace, /*first_returns=*/false);
}

// From the caller of the function whose frame that is.
void GetTraceFrom(const void* frame, Trace& trace) {
  trace.count = 0;
  trace.elided = 0;
  const auto fp = reinterpret_cast<uintptr_t>(frame);
  const Bounds bounds = BoundsOf(fp);
  Frame own;
  if (!ReadFrame(fp, bounds, own)) return;
  Frames frames;
  Walk({.pc = own.return_address, .sp = fp, .fp = own.caller_fp}, 0, bounds, frames);
  frames.CopyTo(trace, /*first_returns=*/true);
}

// From where code was interrupted, maybe before it has made its frame, to the first caller in this
// module, which is known to keep frame pointers. If there is none, to the first one in another
// module than that code's.
struct WayOut {
  uintptr_t interrupted_at;
  const void* module;  // of that
  bool reached = false;
  bool found = false;
  MachineState caller = {};
  size_t count = 0;  // of those before the caller
  size_t seen = 0;
  std::array<uintptr_t, 32> pcs = {};
};

// The x86-64 ABI's number of the frame pointer in unwind tables.
constexpr int kFramePointer = 6;

_Unwind_Reason_Code FindWayOut(_Unwind_Context* context, void* arg) {
  auto* out = static_cast<WayOut*>(arg);
  const uintptr_t pc = _Unwind_GetIP(context);
  if (pc == out->interrupted_at) out->reached = true;
  if (!out->reached) return _URC_NO_REASON;  // the handler
  const void* module = ModuleOf(pc);
  const bool is_ours = module == ModuleOf(reinterpret_cast<uintptr_t>(&FindWayOut));
  if (out->seen > 0 && (is_ours || (module != out->module && !out->found))) {
    const auto fp = static_cast<uintptr_t>(_Unwind_GetGR(context, kFramePointer));
    out->caller = {.pc = pc, .sp = fp, .fp = fp};
    out->count = out->seen;
    out->found = true;
  }
  if ((out->seen > 0 && is_ours) || out->seen == out->pcs.size()) return _URC_END_OF_STACK;
  out->pcs[out->seen++] = pc;
  return _URC_NO_REASON;
}

void PrintHeader(int fd) {
  // Acquire: with SetTraceHooks().
  if (auto* header = header_hook.load(std::memory_order_acquire); header != nullptr) {
    header(fd);
  } else {
    Writer(fd)
        .Text("thread ")
        .Decimal(static_cast<uint64_t>(syscall(SYS_gettid)))
        .Text(" [running]:\n");
  }
}

void PrintTrailer(int fd) {
  if (auto* trailer = trailer_hook.load(std::memory_order_acquire); trailer != nullptr) {
    trailer(fd);
  }
}

}  // namespace

void SetTraceHooks(const TraceHooks& hooks) {
  // Release: what the hooks use is set up before.
  header_hook.store(hooks.header, std::memory_order_release);
  trailer_hook.store(hooks.trailer, std::memory_order_release);
  claim_hook.store(hooks.claim_fatal_report, std::memory_order_release);
}

TraceHooks GetTraceHooks() {
  return {.header = header_hook.load(std::memory_order_acquire),
          .trailer = trailer_hook.load(std::memory_order_acquire),
          .claim_fatal_report = claim_hook.load(std::memory_order_acquire)};
}

void GetTrace(const Context& context, const void* block, Trace& trace) {
  trace.count = 0;
  trace.elided = 0;
  if (context.sp == nullptr) return;
  Bounds bounds = {reinterpret_cast<uintptr_t>(context.stack_lo),
                   reinterpret_cast<uintptr_t>(context.stack_hi), true};
  const MachineState state = SavedState(block == nullptr ? context.sp : block);
  if (block != nullptr) {
    const auto sp = reinterpret_cast<uintptr_t>(context.sp);
    bounds.lo = sp;
    bounds.shift = reinterpret_cast<uintptr_t>(block) - sp;
  }
  if (context.stack_hi == nullptr) {
    bounds = {state.sp, state.sp + kThreadStack, false};
  } else if (block == nullptr && (state.sp < bounds.lo || state.sp > bounds.hi)) {
    // It is about to go on on a segment, or on what that is left for, and has not been there yet.
    bounds = BoundsOf(state.sp);
  }
  Frames frames;
  Walk(state, 0, bounds, frames);
  frames.CopyTo(trace, /*first_returns=*/true);
}

bool HasSignalFrame(const Context& context) {
  const Bounds bounds = {reinterpret_cast<uintptr_t>(context.stack_lo),
                         reinterpret_cast<uintptr_t>(context.stack_hi), true};
  size_t left = Trace::kEnd;
  bool found = false;
  WalkWhile(SavedState(context.sp), bounds, [&](uintptr_t return_address) {
    std::array<unsigned char, kSignalReturn> code;
    found = TryRead(return_address, code.data(), code.size()) && ReturnsFromSignal(code.data());
    return !found && --left > 0;
  });
  return found;
}

void GetInterruptedTrace(const MachineState& state, Trace& trace) {
  GetTraceOf(state, /*caller_pc=*/0, trace);
}

void GetSampledTrace(const MachineState& state, const Context& context, Trace& trace) {
  // A goroutine that has left its stack is on the thread's. While it is leaving, nothing is current
  // either, but where it has left may not be known yet.
  if (weft_current_context == nullptr && FindSlot(reinterpret_cast<void*>(state.sp)) == nullptr) {
    GetTrace(context, /*block=*/nullptr, trace);
    return;
  }
  WayOut out = {.interrupted_at = state.pc, .module = ModuleOf(state.pc)};
  _Unwind_Backtrace(FindWayOut, &out);
  if (!out.found) {
    GetTraceOf(state, /*caller_pc=*/0, trace);
    return;
  }
  Frames frames;
  for (size_t i = 0; i < out.count; ++i) frames.Add(out.pcs[i]);
  Walk(out.caller, 0, BoundsOf(out.caller.fp), frames);
  frames.CopyTo(trace, /*first_returns=*/false);
}

void PrintTrace(int fd, const Context& context, const void* block) {
  Trace trace;
  GetTrace(context, block, trace);
  Writer out(fd);
  PrintFrames(out, trace);
}

__attribute__((noinline)) void GetCurrentTrace(Trace& trace) {
  GetTraceFrom(__builtin_frame_address(0), trace);
  asm volatile("");  // not a call that comes last, for which there would be no frame
}

__attribute__((noinline)) void PrintCurrentTrace(int fd) {
  Trace trace;
  GetTraceFrom(__builtin_frame_address(0), trace);
  if (trace.count == 0) return;
  PrintHeader(fd);
  {
    Writer out(fd);
    PrintFrames(out, trace);
  }
  PrintTrailer(fd);
}

void PrintInterruptedTrace(int fd, const MachineState& state, uintptr_t caller_pc) {
  PrintHeader(fd);
  {
    Trace trace;
    GetTraceOf(state, caller_pc, trace);
    Writer out(fd);
    PrintFrames(out, trace);
  }
  PrintTrailer(fd);
}

void PrintCreationSite(int fd, const void* pc, uint64_t creator) {
  const uintptr_t site = reinterpret_cast<uintptr_t>(pc) - 1;
  Writer out(fd);
  out.Text("created by ");
  PrintFunction(out, site, "");
  if (creator != 0) out.Text(" in goroutine ").Decimal(creator);
  out.Text("\n");
  PrintModule(out, site);
}

}  // namespace weft::stack
