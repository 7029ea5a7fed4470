#include "stack/escape_pass/missed_escapes.h"

#include "llvm/ADT/SmallPtrSet.h"
#include "llvm/IR/CFG.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/Casting.h"
#include "stack/escape_pass/kept_addresses.h"

namespace weft::escape_pass {
namespace {

using llvm::cast;
using llvm::dyn_cast;
using llvm::isa;

using Values = llvm::SmallVector<llvm::Value*, 8>;

// The result of such an instruction is its operands' bits, moved about or computed with.
bool PassesAddressOn(const llvm::Instruction& instruction) {
  return isa<llvm::CastInst, llvm::GetElementPtrInst, llvm::PHINode, llvm::SelectInst,
             llvm::BinaryOperator, llvm::UnaryOperator, llvm::FreezeInst, llvm::InsertValueInst,
             llvm::ExtractValueInst, llvm::InsertElementInst, llvm::ExtractElementInst,
             llvm::ShuffleVectorInst>(instruction);
}

// SafeStack looks at these itself, or they do nothing with an address that outlives the function.
bool SafeStackKnows(const llvm::Instruction& instruction) {
  return isa<llvm::LoadInst, llvm::StoreInst, llvm::ReturnInst, llvm::VAArgInst, llvm::AllocaInst,
             llvm::CmpInst, llvm::BranchInst, llvm::SwitchInst, llvm::FenceInst>(instruction);
}

void AppendPublished(llvm::Instruction& instruction, Values& published) {
  if (PassesAddressOn(instruction) || SafeStackKnows(instruction)) return;
  if (auto* rmw = dyn_cast<llvm::AtomicRMWInst>(&instruction)) {
    published.push_back(rmw->getValOperand());
    return;
  }
  if (auto* exchange = dyn_cast<llvm::AtomicCmpXchgInst>(&instruction)) {
    published.push_back(exchange->getCompareOperand());
    published.push_back(exchange->getNewValOperand());
    return;
  }
  if (isa<llvm::CallInst, llvm::InvokeInst>(instruction)) {
    // It looks at their arguments, not at operand bundles. What is assumed of a pointer tells
    // nobody.
    if (isa<llvm::AssumeInst>(instruction)) return;
    auto& call = cast<llvm::CallBase>(instruction);
    for (unsigned i = 0; i < call.getNumOperandBundles(); ++i) {
      for (const llvm::Use& input : call.getOperandBundleAt(i).Inputs) {
        published.push_back(input.get());
      }
    }
    return;
  }
  // asm goto, and whatever a later LLVM invents.
  for (llvm::Use& operand : instruction.operands()) published.push_back(operand.get());
}

bool IsVariableSized(const llvm::Instruction& instruction) {
  const auto* local = dyn_cast<llvm::AllocaInst>(&instruction);
  return local != nullptr && !local->isStaticAlloca();
}

// Whether code below `function` goes on after an exception: in it, or where it resumes unwinding.
// Not in one that is `noexcept`: whatever its landing pads do, the program ends there.
bool IsUnwoundInto(const llvm::Function& function) {
  llvm::SmallVector<const llvm::BasicBlock*, 8> work;
  for (const llvm::BasicBlock& block : function) {
    if (block.isLandingPad()) work.push_back(&block);
  }
  llvm::SmallPtrSet<const llvm::BasicBlock*, 16> seen(work.begin(), work.end());
  while (!work.empty()) {
    const llvm::BasicBlock* block = work.pop_back_val();
    if (isa<llvm::ReturnInst, llvm::ResumeInst>(block->getTerminator())) return true;
    for (const llvm::BasicBlock* next : llvm::successors(block)) {
      if (seen.insert(next).second) work.push_back(next);
    }
  }
  return false;
}

bool TakesRoom(const llvm::AllocaInst& local) {
  const auto size = local.getAllocationSize(local.getModule()->getDataLayout());
  return size.has_value() && !size->isZero();
}

bool IsLocal(const llvm::Value& value) {
  if (isa<llvm::AllocaInst>(value)) return true;
  const auto* argument = dyn_cast<llvm::Argument>(&value);
  return argument != nullptr && argument->hasByValAttr();
}

}  // namespace

llvm::SmallVector<llvm::Value*, 8> MissedEscapes(llvm::Function& function) {
  Values work;
  for (llvm::Instruction& instruction : llvm::instructions(function)) {
    AppendPublished(instruction, work);
    if (IsVariableSized(instruction) && !IsPinnedBySafeStack(instruction)) {
      work.push_back(&instruction);
    }
  }
  // From what is published back to where it comes from. It ends at loads and calls: an address that
  // went through memory or a callee has been seen by SafeStack on its way there.
  Values found;
  llvm::SmallPtrSet<llvm::Value*, 16> seen;
  while (!work.empty()) {
    llvm::Value* value = work.pop_back_val();
    if (!seen.insert(value).second) continue;
    if (IsLocal(*value)) {
      found.push_back(value);
      continue;
    }
    auto* instruction = dyn_cast<llvm::Instruction>(value);
    if (instruction == nullptr || !PassesAddressOn(*instruction)) continue;
    for (llvm::Use& operand : instruction->operands()) work.push_back(operand.get());
  }
  return found;
}

void MarkEscaping(llvm::Function& function, llvm::Value& local) {
  auto* instruction = dyn_cast<llvm::Instruction>(&local);
  llvm::IRBuilder<> builder(function.getContext());
  if (instruction != nullptr) {
    builder.SetInsertPoint(instruction->getNextNode());
  } else {
    builder.SetInsertPoint(&*function.getEntryBlock().getFirstInsertionPt());
  }
  auto* type = llvm::FunctionType::get(builder.getVoidTy(), {local.getType()}, false);
  auto* escape = llvm::InlineAsm::get(type, /*AsmString=*/"", /*Constraints=*/"r",
                                      /*hasSideEffects=*/true);
  builder.CreateCall(escape, {&local})->setDoesNotThrow();
}

PinnedPointer HoldPinnedStack(llvm::Function& function) {
  bool has_landing_pad = false;
  bool has_variable_size = false;
  for (llvm::Instruction& instruction : llvm::instructions(function)) {
    has_landing_pad |= isa<llvm::LandingPadInst>(instruction);
    if (IsVariableSized(instruction)) {
      has_variable_size = true;
    } else if (const auto* local = dyn_cast<llvm::AllocaInst>(&instruction)) {
      if (TakesRoom(*local) && IsPinnedBySafeStack(*local)) return PinnedPointer::kNotKept;
    }
  }
  for (const llvm::Argument& argument : function.args()) {
    if (argument.hasByValAttr() && IsPinnedBySafeStack(argument)) return PinnedPointer::kNotKept;
  }
  if (!has_landing_pad && !has_variable_size) return PinnedPointer::kNotKept;
  if (!has_variable_size && !IsUnwoundInto(function)) {
    function.removeFnAttr(llvm::Attribute::SafeStack);
    return PinnedPointer::kNoSafeStack;
  }
  llvm::IRBuilder<> builder(&*function.getEntryBlock().getFirstInsertionPt());
  MarkEscaping(function, *builder.CreateAlloca(builder.getInt64Ty()));
  return PinnedPointer::kHeld;
}

}  // namespace weft::escape_pass
