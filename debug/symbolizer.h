// Where an instruction is in the program's text: function, file and line.
#ifndef WEFT_DEBUG_SYMBOLIZER_H_
#define WEFT_DEBUG_SYMBOLIZER_H_

#include <cstdint>
#include <string>

namespace weft::debug {

struct SourceLocation {
  std::string function;  // demangled; empty: not known
  std::string file;      // empty: the module has no line table
  int line = 0;
  std::string module;   // the program or library that it is in; empty: in none
  uint64_t offset = 0;  // there, as addr2line takes it
  uint64_t offset_in_function = 0;
};

// Of the instruction at `pc`, by the debug information of the program and its libraries (elfutils'
// libdw; functions alone where there is none). The first call reads it, which takes milliseconds.
// From any thread or goroutine, one at a time inside; not in signal handlers.
SourceLocation Symbolize(uintptr_t pc);

}  // namespace weft::debug

#endif  // WEFT_DEBUG_SYMBOLIZER_H_
