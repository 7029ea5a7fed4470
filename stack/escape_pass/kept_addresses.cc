#include "stack/escape_pass/kept_addresses.h"

#include <cstdint>
#include <utility>

#include "llvm/ADT/APInt.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallPtrSet.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/IR/DataLayout.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/Operator.h"
#include "llvm/Support/Casting.h"
#include "llvm/Transforms/Utils/Local.h"

namespace weft::escape_pass {
namespace {

using llvm::cast;
using llvm::dyn_cast;
using llvm::isa;

enum class Use : uint8_t {
  kDirect,  // the address is part of an instruction
  kPinned,  // SafeStack pins the local for it
  kKept,    // it does not, or who knows; and the address may be in a register or in memory
};

// Wider atomics are calls, or loops with the address in a register.
constexpr uint64_t kWidestAtomic = 8;

Use UseByAtomic(const llvm::Instruction& access, const llvm::Type& type) {
  const llvm::DataLayout& layout = access.getModule()->getDataLayout();
  const llvm::TypeSize size = layout.getTypeStoreSize(const_cast<llvm::Type*>(&type));
  return size.getFixedValue() <= kWidestAtomic ? Use::kDirect : Use::kKept;
}

Use UseByCall(const llvm::CallBase& call, const llvm::Use& use) {
  if (isa<llvm::IntrinsicInst>(call)) {
    return call.isLifetimeStartOrEnd() || isa<llvm::AssumeInst>(call) ? Use::kDirect : Use::kKept;
  }
  // It looks at the arguments, and not at operand bundles; asm goto it does not know.
  if (!call.isArgOperand(&use) || isa<llvm::CallBrInst>(call)) return Use::kKept;
  const unsigned argument = call.getArgOperandNo(&use);
  const bool stays = call.doesNotCapture(argument) &&
                     (call.doesNotAccessMemory(argument) || call.doesNotAccessMemory());
  return stays ? Use::kKept : Use::kPinned;
}

// `use` is by no computation with a constant offset.
Use UseOf(const llvm::Use& use) {
  const auto& user = *cast<llvm::Instruction>(use.getUser());
  const unsigned operand = use.getOperandNo();
  if (const auto* load = dyn_cast<llvm::LoadInst>(&user)) {
    return load->isAtomic() ? UseByAtomic(user, *load->getType()) : Use::kDirect;
  }
  if (const auto* store = dyn_cast<llvm::StoreInst>(&user)) {
    if (operand != llvm::StoreInst::getPointerOperandIndex()) return Use::kPinned;
    return store->isAtomic() ? UseByAtomic(user, *store->getValueOperand()->getType())
                             : Use::kDirect;
  }
  if (isa<llvm::AtomicRMWInst>(user) && operand == llvm::AtomicRMWInst::getPointerOperandIndex()) {
    return UseByAtomic(user, *user.getType());
  }
  if (const auto* exchange = dyn_cast<llvm::AtomicCmpXchgInst>(&user)) {
    return operand == llvm::AtomicCmpXchgInst::getPointerOperandIndex()
               ? UseByAtomic(user, *exchange->getNewValOperand()->getType())
               : Use::kKept;
  }
  if (const auto* call = dyn_cast<llvm::CallBase>(&user)) return UseByCall(*call, use);
  return Use::kKept;
}

// Whether what SafeStack knows of the address does not go on with the user's result.
bool SafeStackEndsAt(const llvm::Use& use) {
  return isa<llvm::LoadInst, llvm::StoreInst, llvm::CallInst, llvm::InvokeInst, llvm::VAArgInst>(
      use.getUser());
}

struct Uses {
  bool kept = false;
  bool pinned = false;
};

// Follows the address through all that is computed from it, as SafeStack does.
Uses UsesOf(const llvm::Value& local) {
  Uses uses;
  llvm::SmallVector<const llvm::Value*, 8> addresses = {&local};
  llvm::SmallPtrSet<const llvm::Value*, 16> seen;
  while (!addresses.empty()) {
    for (const llvm::Use& use : addresses.pop_back_val()->uses()) {
      const auto* element = dyn_cast<llvm::GetElementPtrInst>(use.getUser());
      const bool at_constant_offset = element != nullptr && element->hasAllConstantIndices() &&
                                      element->getType()->isPointerTy();
      const Use kind = at_constant_offset ? Use::kDirect : UseOf(use);
      uses.kept |= kind == Use::kKept;
      uses.pinned |= kind == Use::kPinned;
      const bool computes = at_constant_offset || (kind == Use::kKept && !SafeStackEndsAt(use));
      if (computes && seen.insert(use.getUser()).second) addresses.push_back(use.getUser());
    }
  }
  return uses;
}

bool IsInFrameAndKept(const llvm::AllocaInst& local) {
  const Uses uses = UsesOf(local);
  return uses.kept && !uses.pinned;
}

// A load or store, or the like, at a constant distance from the beginning of a local.
struct DirectUse {
  llvm::Use* use;
  llvm::AllocaInst* local;
  llvm::APInt offset;
};

void AppendDirectUses(llvm::AllocaInst& local, llvm::SmallVectorImpl<DirectUse>& direct) {
  const llvm::DataLayout& layout = local.getModule()->getDataLayout();
  const unsigned bits = layout.getIndexTypeSizeInBits(local.getType());
  llvm::SmallVector<std::pair<llvm::Value*, llvm::APInt>, 8> addresses;
  addresses.emplace_back(&local, llvm::APInt(bits, 0));
  while (!addresses.empty()) {
    const auto [address, offset] = addresses.pop_back_val();
    for (llvm::Use& use : address->uses()) {
      llvm::APInt total = offset;
      auto* element = dyn_cast<llvm::GEPOperator>(use.getUser());
      if (element != nullptr && element->accumulateConstantOffset(layout, total)) {
        addresses.emplace_back(element, total);
      } else if (address != &local && !isa<llvm::CallBase>(use.getUser()) &&
                 UseOf(use) == Use::kDirect) {
        direct.push_back({&use, &local, offset});
      }
    }
  }
}

}  // namespace

bool IsPinnedBySafeStack(const llvm::Value& local) { return UsesOf(local).pinned; }

bool MayKeepAddressOfLocal(const llvm::Function& function) {
  // A by-value argument's address is made once, and kept for all blocks.
  return llvm::any_of(function.args(),
                      [](const llvm::Argument& argument) {
                        return argument.hasByValAttr() && !argument.use_empty() &&
                               !IsPinnedBySafeStack(argument);
                      }) ||
         llvm::any_of(llvm::instructions(function), [](const llvm::Instruction& instruction) {
           const auto* local = dyn_cast<llvm::AllocaInst>(&instruction);
           return local != nullptr && IsInFrameAndKept(*local);
         });
}

void MakeAddressesWhereUsed(llvm::Function& function) {
  llvm::SmallVector<DirectUse, 16> direct;
  for (llvm::Instruction& instruction : llvm::instructions(function)) {
    if (auto* local = dyn_cast<llvm::AllocaInst>(&instruction); local != nullptr) {
      if (!IsPinnedBySafeStack(*local)) AppendDirectUses(*local, direct);
    }
  }
  for (const auto& [use, local, offset] : direct) {
    llvm::Value* const former = use->get();
    llvm::IRBuilder<> builder(cast<llvm::Instruction>(use->getUser()));
    use->set(builder.CreatePtrAdd(local, builder.getInt(offset)));
    llvm::RecursivelyDeleteTriviallyDeadInstructions(former);
  }
}

}  // namespace weft::escape_pass
