#include "debug/symbolizer.h"

#include <cxxabi.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/debugging/symbolize.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
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

struct Function {
  Dwarf_Addr begin;
  Dwarf_Addr end;
  Dwarf_Die die;
};

// The name as it is where it is no mangled one.
std::string Demangled(const char* name) {
  int status = 0;
  char* demangled = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string text = status == 0 ? internal::WithoutArguments(demangled) : name;
  std::free(demangled);
  return text;
}

// Debug information of this process. Libraries that are loaded later are looked for when an address
// is in no known one.
class DebugInfo {
 public:
  static DebugInfo& Get() {
    static auto* info = new DebugInfo;
    return *info;
  }

  // `function`: in whose code it is.
  std::vector<SourceLocation> Find(uintptr_t pc, const std::string& function) {
    absl::MutexLock lock(&mutex_);
    std::vector<SourceLocation> locations;
    SourceLocation location;
    location.function = function;
    Dwfl_Module* module = ModuleOf(pc);
    if (module == nullptr) return {location};
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
    AddInlined(module, pc, location, locations);
    locations.push_back(location);
    return locations;
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

  // Sets the file and line of `location`, and adds what is inlined there.
  void AddInlined(Dwfl_Module* module, uintptr_t pc, SourceLocation& location,
                  std::vector<SourceLocation>& inlined) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Dwarf_Addr bias = 0;
    if (dwfl_module_getdwarf(module, &bias) == nullptr) return;
    const Dwarf_Addr address = pc - bias;
    Dwarf_Die* unit = UnitOf(module, address);
    if (unit == nullptr) return;
    if (Dwarf_Line* line = dwarf_getsrc_die(unit, address); line != nullptr) {
      location.file = FileName(dwarf_linesrc(line, nullptr, nullptr));
      dwarf_lineno(line, &location.line);
    }
    Function* function = InRange(FunctionsOf(unit), address);
    if (function == nullptr) return;
    std::vector<Dwarf_Die> scopes;
    FindScopes(function->die, address, scopes);
    for (auto scope = scopes.rbegin(); scope != scopes.rend(); ++scope) {
      if (dwarf_tag(&*scope) != DW_TAG_inlined_subroutine) continue;
      SourceLocation& at = inlined.emplace_back(location);
      at.function = NameOf(*scope);
      at.is_inlined = true;
      SetCallSite(unit, *scope, location);
    }
  }

  // What in `function` has that address, the innermost last.
  static void FindScopes(Dwarf_Die& function, Dwarf_Addr address, std::vector<Dwarf_Die>& scopes) {
    Dwarf_Die die;
    for (int more = dwarf_child(&function, &die); more == 0; more = dwarf_siblingof(&die, &die)) {
      switch (dwarf_tag(&die)) {
        case DW_TAG_lexical_block:
        case DW_TAG_inlined_subroutine:
          if (dwarf_haspc(&die, address) <= 0) break;
          scopes.push_back(die);
          FindScopes(die, address, scopes);
          return;
        default:
          break;
      }
    }
  }

  // Adds the functions in `parent` that have code. (dwarf_getscopes() does not look into
  // namespaces, where clang has them, and goes through the unit for each address.)
  static void AddFunctions(Dwarf_Die& parent, std::vector<Function>& functions) {
    Dwarf_Die die;
    for (int more = dwarf_child(&parent, &die); more == 0; more = dwarf_siblingof(&die, &die)) {
      switch (dwarf_tag(&die)) {
        case DW_TAG_namespace:
        case DW_TAG_class_type:
        case DW_TAG_structure_type:
          AddFunctions(die, functions);
          break;
        case DW_TAG_subprogram: {
          Dwarf_Addr base = 0;
          Dwarf_Addr begin = 0;
          Dwarf_Addr end = 0;
          for (ptrdiff_t at = 0; (at = dwarf_ranges(&die, at, &base, &begin, &end)) > 0;) {
            functions.push_back({begin, end, die});
          }
          break;
        }
        default:
          break;
      }
    }
  }

  std::vector<Function>& FunctionsOf(Dwarf_Die* unit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto [found, is_new] = functions_.try_emplace(unit);
    std::vector<Function>& functions = found->second;
    if (!is_new) return functions;
    AddFunctions(*unit, functions);
    SortByBegin(functions);
    return functions;
  }

  template <typename T>
  static void SortByBegin(std::vector<T>& ranges) {
    std::sort(ranges.begin(), ranges.end(),
              [](const T& a, const T& b) { return a.begin < b.begin; });
  }

  // The one that has the address, of such as do not overlap; null: none.
  template <typename T>
  static T* InRange(std::vector<T>& ranges, Dwarf_Addr address) {
    auto range = std::upper_bound(ranges.begin(), ranges.end(), address,
                                  [](Dwarf_Addr a, const T& r) { return a < r.begin; });
    return range == ranges.begin() || address >= (--range)->end ? nullptr : &*range;
  }

  static std::string FileName(const char* name) {
    return name == nullptr ? "" : std::string(absl::StripPrefix(name, kBuildDirectory));
  }

  static std::string NameOf(Dwarf_Die& function) {
    Dwarf_Attribute attribute;
    const char* name =
        dwarf_formstring(dwarf_attr_integrate(&function, DW_AT_linkage_name, &attribute));
    if (name != nullptr) return Demangled(name);
    name = dwarf_diename(&function);
    return name == nullptr ? "" : name;
  }

  static void SetCallSite(Dwarf_Die* unit, Dwarf_Die& call, SourceLocation& location) {
    Dwarf_Attribute attribute;
    Dwarf_Word file = 0;
    Dwarf_Word line = 0;
    Dwarf_Files* files = nullptr;
    dwarf_formudata(dwarf_attr(&call, DW_AT_call_file, &attribute), &file);
    dwarf_formudata(dwarf_attr(&call, DW_AT_call_line, &attribute), &line);
    if (dwarf_getsrcfiles(unit, &files, nullptr) == 0) {
      location.file = FileName(dwarf_filesrc(files, file, nullptr, nullptr));
    }
    location.line = static_cast<int>(line);
  }

  Dwarf_Die* UnitOf(Dwfl_Module* module, Dwarf_Addr address) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Range* range = InRange(RangesOf(module), address);
    return range == nullptr ? nullptr : range->unit;
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
    SortByBegin(ranges);
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
  std::map<Dwarf_Die*, std::vector<Function>> functions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::string internal::WithoutArguments(absl::string_view demangled) {
  constexpr absl::string_view kAnonymous = "(anonymous namespace)";
  constexpr absl::string_view kOperator = "operator";
  std::string name;
  size_t begin = 0;  // of the name, after a result's type
  for (size_t i = 0; i < demangled.size();) {
    const absl::string_view rest = demangled.substr(i);
    if (absl::StartsWith(rest, kAnonymous)) {
      absl::StrAppend(&name, kAnonymous);
      i += kAnonymous.size();
    } else if (absl::StartsWith(rest, kOperator) &&
               (name.empty() || name.back() == ':' || name.back() == ' ')) {
      // Its name may have any of what ends others.
      const size_t end = rest.find('(', kOperator.size() + 1);
      absl::StrAppend(&name, rest.substr(0, end));
      i = end == absl::string_view::npos ? demangled.size() : i + end;
    } else if (absl::StartsWith(rest, "[abi:")) {
      i += std::min(rest.find(']'), rest.size() - 1) + 1;
    } else if (rest[0] == '<' || rest[0] == '{') {
      const char close = rest[0] == '<' ? '>' : '}';
      size_t end = 1;
      for (int depth = 1; end < rest.size() && depth > 0; ++end) {
        if (rest[end] == rest[0]) ++depth;
        if (rest[end] == close && rest[end - 1] != '-') --depth;
      }
      absl::StrAppend(&name, close == '>' ? "<>" : rest.substr(0, end));
      i += end;
    } else if (rest[0] == '(') {
      // Of a function within a function: a lambda, say.
      size_t end = 1;
      for (int depth = 1; end < rest.size() && depth > 0; ++end) {
        if (rest[end] == '(') ++depth;
        if (rest[end] == ')') --depth;
      }
      if (absl::StartsWith(rest.substr(end), " const")) end += 6;
      if (!absl::StartsWith(rest.substr(end), "::")) break;
      absl::StrAppend(&name, "()");
      i += end;
    } else {
      name += rest[0];
      ++i;
      if (rest[0] == ' ') begin = name.size();
    }
  }
  return name.substr(begin);
}

namespace {

std::vector<SourceLocation> Find(uintptr_t pc) {
  std::string function;
  std::array<char, 1024> name;
  if (absl::Symbolize(reinterpret_cast<const void*>(pc), name.data(), name.size())) {
    // What its demangler does not know, the C++ runtime's may.
    function = absl::StartsWith(name.data(), "_Z") ? Demangled(name.data())
                                                   : internal::WithoutArguments(name.data());
  }
  return DebugInfo::Get().Find(pc, function);
}

// What has been found. Programs wait at the same places all the time.
class Known {
 public:
  static Known& Get() {
    static auto* known = new Known;
    return *known;
  }

  std::vector<SourceLocation> Of(uintptr_t pc) {
    {
      absl::ReaderMutexLock lock(&mutex_);
      if (const auto found = locations_.find(pc); found != locations_.end()) return found->second;
    }
    std::vector<SourceLocation> locations = Find(pc);
    // Not where no module is: one may come.
    if (locations.back().module.empty()) return locations;
    absl::MutexLock lock(&mutex_);
    if (locations_.size() == kMost) locations_.clear();
    return locations_.insert_or_assign(pc, std::move(locations)).first->second;
  }

 private:
  static constexpr size_t kMost = 20'000;  // some 10 MB

  absl::Mutex mutex_;
  std::unordered_map<uintptr_t, std::vector<SourceLocation>> locations_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::vector<SourceLocation> Symbolize(uintptr_t pc) { return Known::Get().Of(pc); }

}  // namespace weft::debug
