// Which file is mapped where in this process.
#ifndef WEFT_DEBUG_INTERNAL_MAPPINGS_H_
#define WEFT_DEBUG_INTERNAL_MAPPINGS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace weft::debug::internal {

// A piece of code: [start, limit) has what the file has from `offset` on.
struct Mapping {
  uintptr_t start = 0;
  uintptr_t limit = 0;
  uint64_t offset = 0;
  std::string file;
  std::string build_id;  // in hexadecimal; empty: it has none
};

// The program's first, then the libraries'.
std::vector<Mapping> GetMappings();

}  // namespace weft::debug::internal

#endif  // WEFT_DEBUG_INTERNAL_MAPPINGS_H_
