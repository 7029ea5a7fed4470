#include "debug/internal/mappings.h"

#include <elf.h>
#include <link.h>
#include <unistd.h>

#include <climits>
#include <cstddef>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"

namespace weft::debug::internal {
namespace {

constexpr uintptr_t kPage = 4096;

size_t Aligned(size_t size) { return (size + 3) & ~size_t{3}; }

// Of the notes in [at, end).
std::string BuildIdIn(const char* at, const char* end) {
  while (static_cast<size_t>(end - at) >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, at, sizeof(note));
    const char* const name = at + sizeof(note);
    const char* const description = name + Aligned(note.n_namesz);
    at = description + Aligned(note.n_descsz);
    if (at > end) break;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof("GNU") &&
        std::memcmp(name, "GNU", sizeof("GNU")) == 0) {
      return absl::BytesToHexString(absl::string_view(description, note.n_descsz));
    }
  }
  return "";
}

std::string Executable() {
  char path[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof(path));
  return size <= 0 ? "" : std::string(path, static_cast<size_t>(size));
}

int AddMappings(dl_phdr_info* object, size_t, void* mappings) {
  auto& all = *static_cast<std::vector<Mapping>*>(mappings);
  // The program comes first, and has no name here.
  const std::string file = all.empty() ? Executable() : object->dlpi_name;
  std::string build_id;
  for (int i = 0; i < object->dlpi_phnum && build_id.empty(); ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const char* const notes = reinterpret_cast<const char*>(object->dlpi_addr + segment.p_vaddr);
    build_id = BuildIdIn(notes, notes + segment.p_memsz);
  }
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0) continue;
    const uintptr_t begin = object->dlpi_addr + segment.p_vaddr;
    const uintptr_t before = begin % kPage;
    all.push_back({begin - before, (begin + segment.p_memsz + kPage - 1) / kPage * kPage,
                   segment.p_offset - before, file, build_id});
  }
  return 0;
}

}  // namespace

std::vector<Mapping> GetMappings() {
  std::vector<Mapping> mappings;
  dl_iterate_phdr(AddMappings, &mappings);
  return mappings;
}

}  // namespace weft::debug::internal
