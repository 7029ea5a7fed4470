// Equally sized pieces of address space with an inaccessible gap below each: what slots are made
// of.
#ifndef WEFT_STACK_INTERNAL_ARENA_H_
#define WEFT_STACK_INTERNAL_ARENA_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace weft::stack {

struct Slot;

namespace internal {

// How the gap below a piece is made inaccessible.
enum class GuardMethod {
  // madvise(MADV_GUARD_INSTALL), Linux 6.13: marks in the page table, about 36 ns a page. The whole
  // chunk stays one mapping.
  kMarkers,
  // The chunk is PROT_NONE and each piece is made accessible by mprotect: 2 us, however wide the
  // gap,
  // and two mappings a piece, of which a process may have 65,530 (vm.max_map_count).
  kMprotect,
};

// One kind of piece. A unit of `pitch` bytes holds, from its low end, the gap and the piece;
// `spare` is what lies above the piece in it.
//
// Pieces are reached by their top pages only, nearly always, so that their spacing decides which
// sets of the processor's TLBs and how many page-table pages they need. Dense arenas have pitches
// of an odd number of pages. Where the pitch is a power of two, `stagger` is set: the piece is
// shifted down by up to 255 pages, another number for each.
struct Shape {
  size_t size;
  size_t pitch;
  size_t spare;
  size_t stagger;
  uint32_t limit;      // pieces at most
  GuardMethod wanted;  // kMprotect may be asked for; kMarkers is had where the kernel knows it
};

struct Piece {
  char* lo = nullptr;
  char* hi = nullptr;
};

// Pieces are made one by one and never given back. Chunks of them are reserved together, ever
// larger ones. All but the constructor and FindOwner() under one lock, which is the caller's.
class Arena {
 public:
  constexpr explicit Arena(const Shape& shape) : shape_(shape) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Makes the next piece, accessible and untouched, and has FindOwner() answer `owner` for it and
  // its gap. False where none can be had; WhyNot() says the reason.
  bool Make(Slot* owner, Piece& piece);

  const Shape& shape() const { return shape_; }
  size_t made() const { return made_; }

 private:
  bool Reserve();

  const Shape shape_;
  size_t made_ = 0;
  size_t next_chunk_units_ = 0;
  struct Chunk* chunk_ = nullptr;
  size_t chunk_used_ = 0;
};

// The owner of the piece or gap that holds `address`, of whatever arena, or null. For signal
// handlers too: takes no lock.
Slot* FindOwner(const void* address);

// Over all arenas.
struct ArenaTotals {
  size_t bytes_reserved = 0;  // address space
  size_t mappings = 0;        // of vm.max_map_count
  bool guard_markers = false;
};
ArenaTotals GetArenaTotals();

// Closes a chunk at its high end: the least gap above a piece.
inline constexpr size_t kEndGap = 64 * 1024;

// Whether addresses or the memory that they promise are limited, so that a reservation should be
// small.
bool AddressesAreLimited();

// Why the latest Make() failed, in words for the program's user; "" if none has.
const char* WhyNot();

}  // namespace internal
}  // namespace weft::stack

#endif  // WEFT_STACK_INTERNAL_ARENA_H_
