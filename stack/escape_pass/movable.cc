#include "stack/escape_pass/movable.h"

#include <cctype>
#include <cstdint>
#include <string>

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/IR/Attributes.h"
#include "llvm/IR/CallingConv.h"
#include "llvm/IR/DerivedTypes.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/Support/Casting.h"
#include "stack/escape_pass/kept_addresses.h"

namespace weft::escape_pass {
namespace {

using llvm::dyn_cast;
using llvm::isa;
using llvm::StringRef;

// A moved stack keeps its place within the page, and no more.
constexpr uint64_t kMostAlignment = 4096;

// Whether `text` speaks of one of x86's stack or frame registers, in any width.
bool NamesFrameRegister(StringRef text) {
  const std::string lower = text.lower();
  auto in_word = [&](size_t i) { return i < lower.size() && std::isalnum(lower[i]) != 0; };
  for (const char* name : {"rsp", "esp", "rbp", "ebp"}) {
    for (size_t at = lower.find(name); at != std::string::npos; at = lower.find(name, at + 1)) {
      if ((at == 0 || !in_word(at - 1)) && !in_word(at + 3)) return true;
    }
  }
  return false;
}

// Whether a value of `type` is returned in registers. If not, the caller passes an address of its
// frame to say where, without a word in the IR.
bool IsReturnedInRegisters(const llvm::Type& type) {
  // Rather too few than too many: C's and C++'s calling convention never returns more.
  constexpr unsigned kMostElements = 2;
  constexpr unsigned kMostBits = 128;
  constexpr unsigned kMostVectorBits = 512;
  if (const auto* structure = dyn_cast<llvm::StructType>(&type)) {
    return structure->getNumElements() <= kMostElements &&
           llvm::all_of(structure->elements(), [](const llvm::Type* element) {
             return element->isSingleValueType() && IsReturnedInRegisters(*element);
           });
  }
  if (type.isArrayTy()) return false;
  if (type.isVectorTy()) return type.getPrimitiveSizeInBits().getKnownMinValue() <= kMostVectorBits;
  const auto* integer = dyn_cast<llvm::IntegerType>(&type);
  return integer == nullptr || integer->getBitWidth() <= kMostBits;
}

bool HasVariableSizedLocal(const llvm::Function& function) {
  return llvm::any_of(llvm::instructions(function), [](const llvm::Instruction& instruction) {
    const auto* local = dyn_cast<llvm::AllocaInst>(&instruction);
    return local != nullptr && !local->isStaticAlloca();
  });
}

// Why the function may have the address of its frame, not of a local in it; null: it has not.
const char* WhyFrameIsKnown(const llvm::IntrinsicInst& call) {
  switch (call.getIntrinsicID()) {
    case llvm::Intrinsic::frameaddress:
    case llvm::Intrinsic::addressofreturnaddress:
    case llvm::Intrinsic::sponentry:
    case llvm::Intrinsic::localaddress:
    case llvm::Intrinsic::eh_dwarf_cfa:
      return call.use_empty() ? nullptr : "it takes the address of its frame";
    case llvm::Intrinsic::read_register:
    case llvm::Intrinsic::read_volatile_register:
    case llvm::Intrinsic::write_register:
      return "it names a register";
    default:
      return nullptr;
  }
}

// The same of any instruction.
const char* WhyFrameIsKnown(const llvm::Instruction& instruction) {
  if (const auto* call = dyn_cast<llvm::IntrinsicInst>(&instruction)) return WhyFrameIsKnown(*call);
  const auto* call = dyn_cast<llvm::CallBase>(&instruction);
  if (call == nullptr) return nullptr;
  const auto* assembly = dyn_cast<llvm::InlineAsm>(call->getCalledOperand());
  if (assembly == nullptr) return nullptr;
  return NamesFrameRegister(assembly->getAsmString()) ||
                 NamesFrameRegister(assembly->getConstraintString())
             ? "inline assembly names the stack or frame pointer"
             : nullptr;
}

const char* WhyForeign(const llvm::IntrinsicInst& call) {
  switch (call.getIntrinsicID()) {
    case llvm::Intrinsic::vastart:
      return "va_start leaves pointers into the frame in the va_list";
    case llvm::Intrinsic::localescape:
    case llvm::Intrinsic::localrecover:
    case llvm::Intrinsic::gcroot:
    case llvm::Intrinsic::experimental_stackmap:
    case llvm::Intrinsic::experimental_patchpoint_void:
    case llvm::Intrinsic::experimental_patchpoint:
    case llvm::Intrinsic::experimental_gc_statepoint:
      return "others find its locals by their place in the frame";
    case llvm::Intrinsic::eh_sjlj_setjmp:
    case llvm::Intrinsic::eh_sjlj_longjmp:
    case llvm::Intrinsic::eh_sjlj_setup_dispatch:
    case llvm::Intrinsic::eh_sjlj_functioncontext:
    case llvm::Intrinsic::eh_return_i32:
    case llvm::Intrinsic::eh_return_i64:
    case llvm::Intrinsic::eh_unwind_init:
      return "it saves or replaces the stack pointer";
    case llvm::Intrinsic::stacksave:
      // Where there are locals of variable size, it is the pinned stack's pointer that it saves.
      return HasVariableSizedLocal(*call.getFunction()) ? nullptr : "it keeps the stack pointer";
    default:
      return nullptr;
  }
}

const char* WhyForeign(const llvm::Instruction& instruction) {
  if (const auto* local = dyn_cast<llvm::AllocaInst>(&instruction)) {
    return local->getAlign().value() > kMostAlignment ? "a local is aligned to more than a page"
                                                      : nullptr;
  }
  if (const char* why = WhyFrameIsKnown(instruction)) return why;
  if (const auto* call = dyn_cast<llvm::IntrinsicInst>(&instruction)) return WhyForeign(*call);
  const auto* call = dyn_cast<llvm::CallBase>(&instruction);
  if (call == nullptr) return nullptr;
  if (call->hasFnAttr(llvm::Attribute::ReturnsTwice)) {
    return "it calls setjmp or the like, which keeps the stack pointer";
  }
  if (!IsReturnedInRegisters(*call->getType())) return "a callee returns to its frame";
  const auto* assembly = dyn_cast<llvm::InlineAsm>(call->getCalledOperand());
  return assembly != nullptr && assembly->isAlignStack()
             ? "inline assembly has the stack pointer aligned"
             : nullptr;
}

}  // namespace

const char* WhyForeign(const llvm::Function& function) {
  if (!function.hasFnAttribute(llvm::Attribute::SafeStack)) return "it is not SafeStack code";
  if (!SplitStackCanKeepArguments(function)) return "its calling convention is not C's";
  if (function.isVarArg()) return "it is variadic";
  if (!function.hasFnAttribute("split-stack")) return "it does not check its stack's limit";
  if (function.getFnAttribute("frame-pointer").getValueAsString() != "all") {
    return "it may have no frame pointer";
  }
  if (function.hasFnAttribute(llvm::Attribute::Naked)) return "it makes its own frame";
  if (!IsReturnedInRegisters(*function.getReturnType())) return "it returns to its caller's frame";
  for (const llvm::Instruction& instruction : llvm::instructions(function)) {
    if (const char* why = WhyForeign(instruction)) return why;
  }
  if (MayKeepAddressOfLocal(function)) return "it may keep the address of a local in its frame";
  return nullptr;
}

void StayInKnownFrame(llvm::Function& function) {
  const auto is_known = [](const llvm::Instruction& instruction) {
    return WhyFrameIsKnown(instruction) != nullptr;
  };
  if (llvm::none_of(llvm::instructions(function), is_known)) return;
  for (llvm::Instruction& instruction : llvm::instructions(function)) {
    auto* call = dyn_cast<llvm::CallInst>(&instruction);
    if (call != nullptr && !call->isMustTailCall())
      call->setTailCallKind(llvm::CallInst::TCK_NoTail);
  }
}

bool SplitStackCanKeepArguments(const llvm::Function& function) {
  switch (function.getCallingConv()) {
    case llvm::CallingConv::C:
    case llvm::CallingConv::Fast:  // the same registers, for functions that the compiler knows all
    case llvm::CallingConv::Cold:  // callers of
    case llvm::CallingConv::X86_64_SysV:
      return true;
    default:
      return false;
  }
}

bool MayChooseSection(const llvm::Function& function) {
  if (function.hasFnAttribute("implicit-section-name")) return false;  // #pragma clang section
  const StringRef section = function.getSection();
  // Ours, from before link-time optimization changed the function. Without SafeStack it was never
  // ours: then its author promises that its frames may move.
  if (section == kMovableSection) return function.hasFnAttribute(llvm::Attribute::SafeStack);
  // Clang's own choice for initializers of global variables.
  return section.empty() || section.starts_with(".text.startup");
}

}  // namespace weft::escape_pass
