// Where an instruction is in the program's text: function, file and line.
#ifndef WEFT_DEBUG_SYMBOLIZER_H_
#define WEFT_DEBUG_SYMBOLIZER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace weft::debug {

struct SourceLocation {
  std::string function;  // demangled, without arguments; empty: not known
  std::string file;      // empty: the module has no line table
  int line = 0;
  std::string module;   // the program or library that it is in; empty: in none
  uint64_t offset = 0;  // there, as addr2line takes it
  uint64_t offset_in_function = 0;
  bool is_inlined = false;  // into the function of the next one
};

// Of the instruction at `pc`: where it is, and if that was inlined, where the call was, and so on,
// to the function in whose code it is, which is the last. By the debug information of the program
// and its libraries (elfutils' libdw); the last alone where there is none. The first call reads it,
// which takes milliseconds, and what was found is kept. From any thread or goroutine, one at a time
// inside; not in signal handlers.
std::vector<SourceLocation> Symbolize(uintptr_t pc);

namespace internal {

// "a::B<>::c" of "void a::B<int>::c<long>(int) const".
std::string WithoutArguments(absl::string_view demangled);

}  // namespace internal

}  // namespace weft::debug

#endif  // WEFT_DEBUG_SYMBOLIZER_H_
