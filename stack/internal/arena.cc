#include "stack/internal/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "stack/internal/memcheck.h"

namespace weft::stack::internal {

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

// A stretch of units reserved together, in the table that FindOwner() reads: filled in before
// `chunk_count` is raised, and constant from then on but for the owners.
struct Chunk {
  uintptr_t lo = 0;
  size_t pitch = 0;
  size_t units = 0;
  bool markers = false;
  std::atomic<Slot*>* owners = nullptr;
};

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kMaxChunks = 4096;
constexpr size_t kFirstChunkUnits = 32;
constexpr size_t kMaxChunkUnits = 4096;
constexpr size_t kMaxDenseChunkBytes = size_t{8} << 30;
// Pieces this far apart are sparse: chunks are not doubled, and need unlimited address space.
constexpr size_t kSparsePitch = size_t{1} << 32;
constexpr size_t kSparseChunkUnits = 64;
// Memcheck makes notes on what is reserved, in time and memory by its size.
constexpr size_t kSparseChunkUnitsUnderValgrind = 1;
// Mappings left to the rest of the program: its threads, its malloc, its libraries.
constexpr size_t kMappingsForOthers = 4096;

Chunk chunks[kMaxChunks];
// Raised with release when a chunk's entry is complete; FindOwner() acquires it.
std::atomic<size_t> chunk_count{0};

// Under the caller's lock.
ArenaTotals totals;
const char* why_not = "";

// What the system allows, asked once.
struct System {
  bool markers = false;
  bool strict_commit = false;
  size_t max_mappings = 65530;
};

size_t ReadNumber(const char* path, size_t otherwise) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return otherwise;
  std::array<char, 32> text{};
  const ssize_t length = read(fd, text.data(), text.size() - 1);
  close(fd);
  return length > 0 ? strtoull(text.data(), nullptr, 10) : otherwise;
}

bool KernelHasMarkers() {
  void* page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return false;
  const bool has = madvise(page, kPage, MADV_GUARD_INSTALL) == 0;
  munmap(page, kPage);
  return has;
}

const System& TheSystem() {
  static const System system = {
      .markers = KernelHasMarkers(),
      .strict_commit = ReadNumber("/proc/sys/vm/overcommit_memory", 0) == 2,
      .max_mappings = ReadNumber("/proc/sys/vm/max_map_count", 65530),
  };
  return system;
}

bool Fail(const char* reason) {
  why_not = reason;
  return false;
}

bool Limited(size_t& address_space) {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return false;
  address_space = limit.rlim_cur;
  return true;
}

// Makes [lo, hi) inaccessible, or, where the chunk began so, [hi, hi + size) accessible.
bool SetUp(bool markers, char* gap_lo, char* lo, size_t size) {
  if (markers) {
    if (madvise(gap_lo, lo - gap_lo, MADV_GUARD_INSTALL) == 0) return true;
    // Refused after all, as for locked memory (mlockall).
    if (totals.mappings + 2 + kMappingsForOthers > TheSystem().max_mappings ||
        mprotect(gap_lo, lo - gap_lo, PROT_NONE) != 0) {
      return Fail("no guard could be made below a stack (see vm.max_map_count)");
    }
  } else {
    if (totals.mappings + 2 + kMappingsForOthers > TheSystem().max_mappings) {
      return Fail("the limit on mappings is reached (vm.max_map_count)");
    }
    if (mprotect(lo, size, PROT_READ | PROT_WRITE) != 0) {
      return Fail("the system refused memory for a stack (see vm.overcommit_memory)");
    }
  }
  totals.mappings += 2;
  return true;
}

}  // namespace

bool Arena::Reserve() {
  const size_t count = chunk_count.load(std::memory_order_relaxed);
  if (count == kMaxChunks) return Fail("the table of stack chunks is full");

  const bool sparse = shape_.pitch >= kSparsePitch;
  size_t address_space = 0;
  const bool limited = Limited(address_space);
  // A sparse unit is worth it only where addresses cost nothing.
  if (sparse && (limited || TheSystem().strict_commit)) {
    return Fail("address space is limited (ulimit -v, vm.overcommit_memory)");
  }

  if (next_chunk_units_ == 0) {
    next_chunk_units_ = !sparse          ? kFirstChunkUnits
                        : under_valgrind ? kSparseChunkUnitsUnderValgrind
                                         : kSparseChunkUnits;
  }
  size_t units = std::min<size_t>(next_chunk_units_, shape_.limit - made_);
  if (!sparse) units = std::min(units, std::max<size_t>(kMaxDenseChunkBytes / shape_.pitch, 1));
  // Under a limit, leave the program most of what there is.
  if (limited) units = std::min(units, std::max<size_t>(address_space / 64 / shape_.pitch, 1));

  // Where commit is accounted strictly, memory has to be asked for piece by piece, and so it is
  // where markers would cost page tables that nothing else needs.
  const bool markers =
      shape_.wanted == GuardMethod::kMarkers && TheSystem().markers && !TheSystem().strict_commit;
  void* memory = MAP_FAILED;
  size_t bytes = 0;
  for (; units > 0; units /= 2) {
    bytes = units * shape_.pitch + kEndGap;
    memory = mmap(nullptr, bytes, markers ? PROT_READ | PROT_WRITE : PROT_NONE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED) break;
  }
  if (memory == MAP_FAILED) return Fail("no address space is left (ulimit -v)");
  char* const lo = static_cast<char*>(memory);
  // A huge page would commit 2 MiB for a stack that uses a page.
  madvise(lo, bytes, MADV_NOHUGEPAGE);

  const size_t table_bytes = units * sizeof(std::atomic<Slot*>);
  void* table = mmap(nullptr, table_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (table == MAP_FAILED ||
      (markers && madvise(lo + bytes - kEndGap, kEndGap, MADV_GUARD_INSTALL) != 0 &&
       mprotect(lo + bytes - kEndGap, kEndGap, PROT_NONE) != 0)) {
    munmap(lo, bytes);
    if (table != MAP_FAILED) munmap(table, table_bytes);
    return Fail("no memory is left for stacks");
  }

  // Zeroed memory is what null atomics are.
  chunks[count] = {.lo = reinterpret_cast<uintptr_t>(lo),
                   .pitch = shape_.pitch,
                   .units = units,
                   .markers = markers,
                   .owners = static_cast<std::atomic<Slot*>*>(table)};
  chunk_ = &chunks[count];
  chunk_used_ = 0;
  chunk_count.store(count + 1, std::memory_order_release);
  totals.bytes_reserved += bytes;
  totals.mappings += 2;
  totals.guard_markers |= markers;
  if (!sparse) next_chunk_units_ = std::min(next_chunk_units_ * 2, kMaxChunkUnits);
  return true;
}

bool Arena::Make(Slot* owner, Piece& piece) {
  if (made_ == shape_.limit) return Fail("all stacks of this size are in use");
  if ((chunk_ == nullptr || chunk_used_ == chunk_->units) && !Reserve()) return false;

  char* const unit = reinterpret_cast<char*>(chunk_->lo) + chunk_used_ * shape_.pitch;
  const size_t shift = shape_.stagger == 0 ? 0 : made_ % shape_.stagger * kPage;
  char* const hi = unit + shape_.pitch - shape_.spare - shift;
  char* const lo = hi - shape_.size;
  if (!SetUp(chunk_->markers, unit, lo, shape_.size)) return false;

  // For FindOwner(): who faults in this piece got its address from `piece`, and with it this.
  chunk_->owners[chunk_used_].store(owner, std::memory_order_release);
  ++chunk_used_;
  ++made_;
  piece = {.lo = lo, .hi = hi};
  return true;
}

Slot* FindOwner(const void* address) {
  const auto wanted = reinterpret_cast<uintptr_t>(address);
  const size_t count = chunk_count.load(std::memory_order_acquire);  // released by Reserve()
  for (size_t i = 0; i < count; ++i) {
    const Chunk& chunk = chunks[i];
    if (wanted - chunk.lo >= chunk.units * chunk.pitch) continue;
    return chunk.owners[(wanted - chunk.lo) / chunk.pitch].load(std::memory_order_acquire);
  }
  return nullptr;
}

bool AddressesAreLimited() {
  // Valgrind has 128 GiB of addresses for a program, and makes notes on all that are reserved.
  size_t address_space = 0;
  return Limited(address_space) || TheSystem().strict_commit || under_valgrind;
}

ArenaTotals GetArenaTotals() { return totals; }

const char* WhyNot() { return why_not; }

}  // namespace weft::stack::internal
