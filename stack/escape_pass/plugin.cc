// The LLVM plugin: README.md says what it does, missed_escapes.h and movable.h how.
//
// Built against the headers of the LLVM that the compiler is made of. It runs last of all
// optimizations, at -O0 too, and before code generation, of which SafeStack is a part.

#include <memory>

#include "llvm/Analysis/OptimizationRemarkEmitter.h"
#include "llvm/IR/Function.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/PassManager.h"
#include "llvm/Passes/OptimizationLevel.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Passes/PassPlugin.h"
#include "stack/escape_pass/kept_addresses.h"
#include "stack/escape_pass/missed_escapes.h"
#include "stack/escape_pass/movable.h"

namespace weft::escape_pass {
namespace {

// For -Rpass-missed=weft: which functions make a stack stay where it is, and why. And for
// -Rpass-analysis=weft: which keep a pinned stack for nothing else than to be unwound into.
constexpr char kRemarks[] = "weft";

enum class Stage {
  kCompile,   // a file by itself; link-time optimization may follow
  kLinkTime,  // code of several files, and code generation next
};

class EscapePass : public llvm::PassInfoMixin<EscapePass> {
 public:
  explicit EscapePass(Stage stage) : stage_(stage) {}

  // For functions that are not to be optimized, too.
  static bool isRequired() { return true; }

  llvm::PreservedAnalyses run(llvm::Module& module, llvm::ModuleAnalysisManager& analyses) {
    auto& functions =
        analyses.getResult<llvm::FunctionAnalysisManagerModuleProxy>(module).getManager();
    for (llvm::Function& function : module) {
      if (function.isDeclaration() || function.hasAvailableExternallyLinkage()) continue;
      if (function.hasFnAttribute(llvm::Attribute::SafeStack)) {
        for (llvm::Value* local : MissedEscapes(function)) MarkEscaping(function, *local);
      }
      // Clang gives up on a C variadic function with a prologue that checks. Libraries have some in
      // their headers.
      if (!SplitStackCanKeepArguments(function) || function.isVarArg()) {
        function.removeFnAttr("split-stack");
      }
      StayInKnownFrame(function);
      PlaceInSection(function, functions);
    }
    return llvm::PreservedAnalyses::none();
  }

 private:
  static void RemarkHeld(llvm::Function& function, llvm::FunctionAnalysisManager& analyses) {
    auto& remarks = analyses.getResult<llvm::OptimizationRemarkEmitterAnalysis>(function);
    remarks.emit([&] {
      return llvm::OptimizationRemarkAnalysis(kRemarks, "Held", function.getSubprogram(),
                                              &function.getEntryBlock())
             << "who waits in a call of this function keeps a pinned stack: exceptions unwind into "
                "it, or it has a local of variable size";
    });
  }

  void PlaceInSection(llvm::Function& function, llvm::FunctionAnalysisManager& functions) {
    if (!MayChooseSection(function)) return;
    const char* why_foreign = WhyForeign(function);
    // What will be inlined at link time is not known yet: the plugin decides there, if it is there.
    if (why_foreign == nullptr && stage_ == Stage::kCompile &&
        HasLinkTimeStage(*function.getParent())) {
      why_foreign = "it is yet to be optimized at link time";
    }
    if (why_foreign == nullptr) {
      function.setSection(kMovableSection);
      MakeAddressesWhereUsed(function);
      if (HoldPinnedStack(function) == PinnedPointer::kHeld) RemarkHeld(function, functions);
      return;
    }
    if (function.getSection() == kMovableSection) function.setSection("");
    auto& remarks = functions.getResult<llvm::OptimizationRemarkEmitterAnalysis>(function);
    remarks.emit([&] {
      return llvm::OptimizationRemarkMissed(kRemarks, "Foreign", function.getSubprogram(),
                                            &function.getEntryBlock())
             << "a stack with a frame of this function does not move: " << why_foreign;
    });
  }

  // Clang marks modules for link-time optimization by these.
  static bool HasLinkTimeStage(const llvm::Module& module) {
    return module.getModuleFlag("EnableSplitLTOUnit") != nullptr ||
           module.getModuleFlag("ThinLTO") != nullptr;
  }

  Stage stage_;
};

void Register(llvm::PassBuilder& builder) {
  // Pipelines at link time go on from where the compiler's stopped, and have no start.
  auto stage = std::make_shared<Stage>(Stage::kLinkTime);
  builder.registerPipelineStartEPCallback(
      [stage](llvm::ModulePassManager&, llvm::OptimizationLevel) { *stage = Stage::kCompile; });
  auto last = [stage](llvm::ModulePassManager& passes, llvm::OptimizationLevel) {
    passes.addPass(EscapePass(*stage));
  };
  builder.registerOptimizerLastEPCallback(last);
  builder.registerFullLinkTimeOptimizationLastEPCallback(last);
}

}  // namespace
}  // namespace weft::escape_pass

// The name by which compilers and linkers find it.
extern "C" __attribute__((visibility("default"))) llvm::PassPluginLibraryInfo
llvmGetPassPluginInfo() {
  return {LLVM_PLUGIN_API_VERSION, "weft-escape-pass", "1", weft::escape_pass::Register};
}
