#include "debug/symbolizer.h"

#include <cxxabi.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/debugging/symbolize.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"

namespace weft::debug {
namespace {

// What Bazel has compilers put for the directory of the build.
constexpr absl::string_view kBuildDirectory = "/proc/self/cwd/";

struct Range {
  Dwarf_Addr begin;
  Dwarf_Addr end;
  Dwarf_Die* unit;
};

// Debug information of this process. Libraries that are loaded later are looked for when an address
// is in no known one.
class DebugInfo {
 public:
  static DebugInfo& Get() {
    static auto* info = new DebugInfo;
    return *info;
  }

  SourceLocation Find(uintptr_t pc) {
    absl::MutexLock lock(&mutex_);
    SourceLocation location;
    Dwfl_Module* module = ModuleOf(pc);
    if (module == nullptr) return location;
    GElf_Addr bias = 0;
    const char* path = nullptr;
    // First, as it is what finds the file.
    location.offset = pc - (dwfl_module_getelf(module, &bias) == nullptr ? 0 : bias);
    dwfl_module_info(module, nullptr, nullptr, nullptr, nullptr, nullptr, &path, nullptr);
    if (path != nullptr) location.module = path;
    GElf_Sym symbol;
    GElf_Off offset = 0;
    if (dwfl_module_addrinfo(module, pc, &offset, &symbol, nullptr, nullptr, nullptr) != nullptr) {
      location.offset_in_function = offset;
    }
    FindLine(module, pc, location);
    return location;
  }

 private:
  DebugInfo() : dwfl_(dwfl_begin(&kCallbacks)) { Report(); }

  Dwfl_Module* ModuleOf(uintptr_t pc) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (dwfl_ == nullptr) return nullptr;
    Dwfl_Module* module = dwfl_addrmodule(dwfl_, pc);
    if (module != nullptr) return module;
    Report();
    return dwfl_addrmodule(dwfl_, pc);
  }

  void FindLine(Dwfl_Module* module, uintptr_t pc, SourceLocation& location)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Dwarf_Addr bias = 0;
    if (dwfl_module_getdwarf(module, &bias) == nullptr) return;
    const Dwarf_Addr address = pc - bias;
    std::vector<Range>& ranges = RangesOf(module);
    auto range = std::upper_bound(ranges.begin(), ranges.end(), address,
                                  [](Dwarf_Addr a, const Range& r) { return a < r.begin; });
    if (range == ranges.begin() || address >= (--range)->end) return;
    Dwarf_Line* line = dwarf_getsrc_die(range->unit, address);
    if (line == nullptr) return;
    if (const char* file = dwarf_linesrc(line, nullptr, nullptr); file != nullptr) {
      location.file = std::string(absl::StripPrefix(file, kBuildDirectory));
    }
    dwarf_lineno(line, &location.line);
  }

  // Which unit of the program's text has which addresses. Not by the table that there is for that,
  // .debug_aranges, as clang writes none.
  std::vector<Range>& RangesOf(Dwfl_Module* module) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto [found, is_new] = ranges_.try_emplace(module);
    std::vector<Range>& ranges = found->second;
    if (!is_new) return ranges;
    Dwarf_Addr bias = 0;
    for (Dwarf_Die* unit = nullptr; (unit = dwfl_module_nextcu(module, unit, &bias)) != nullptr;) {
      Dwarf_Addr base = 0;
      Dwarf_Addr begin = 0;
      Dwarf_Addr end = 0;
      for (ptrdiff_t at = 0; (at = dwarf_ranges(unit, at, &base, &begin, &end)) > 0;) {
        ranges.push_back({begin, end, unit});
      }
    }
    std::sort(ranges.begin(), ranges.end(),
              [](const Range& a, const Range& b) { return a.begin < b.begin; });
    return ranges;
  }

  void Report() {
    if (dwfl_ == nullptr) return;
    dwfl_report_begin_add(dwfl_);
    dwfl_linux_proc_report(dwfl_, getpid());
    dwfl_report_end(dwfl_, nullptr, nullptr);
  }

  // Debug information in files of their own is found where distributions put them.
  static constexpr Dwfl_Callbacks kCallbacks = {
      .find_elf = dwfl_linux_proc_find_elf,
      .find_debuginfo = dwfl_standard_find_debuginfo,
      .section_address = nullptr,
      .debuginfo_path = nullptr,
  };

  absl::Mutex mutex_;
  Dwfl* const dwfl_;
  std::map<Dwfl_Module*, std::vector<Range>> ranges_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

SourceLocation Symbolize(uintptr_t pc) {
  SourceLocation location = DebugInfo::Get().Find(pc);
  std::array<char, 1024> name;
  if (absl::Symbolize(reinterpret_cast<const void*>(pc), name.data(), name.size())) {
    location.function = name.data();
    // What its demangler does not know, the C++ runtime's may.
    if (absl::StartsWith(location.function, "_Z")) {
      int status = 0;
      char* demangled = abi::__cxa_demangle(name.data(), nullptr, nullptr, &status);
      if (status == 0) location.function = demangled;
      std::free(demangled);
    }
  }
  return location;
}

}  // namespace weft::debug
