#include "sched/sync/internal/parking_table.h"

namespace weft::internal {
namespace {

// A bucket is searched through all its addresses, so there should be few in each: 256 serve some
// thousands of mutexes that are waited for at once.
constexpr int kBucketBits = 8;

struct alignas(64) PaddedBucket {
  ParkingBucket bucket;
};
constinit PaddedBucket table[1 << kBucketBits];

}  // namespace

ParkingBucket& BucketOf(const void* address) {
  // Fibonacci hashing (Knuth, TAOCP 6.4): the high bits of a product with 2^64 / golden ratio.
  const uint64_t hash = reinterpret_cast<uintptr_t>(address) * 0x9e3779b97f4a7c15;
  return table[hash >> (64 - kBucketBits)].bucket;
}

ParkRecord* const* ParkingBucket::Find(const void* address) const {
  ParkRecord* const* link = &first_;
  while (*link != nullptr && (*link)->address != address) link = &(*link)->next_address;
  return link;
}

int ParkingBucket::Count(const void* address) const {
  int n = 0;
  for (const ParkRecord* record = *Find(address); record != nullptr; record = record->next) ++n;
  return n;
}

void ParkingBucket::PushBack(ParkRecord* record) {
  record->next = nullptr;
  ParkRecord** link = Find(record->address);
  if (ParkRecord* first = *link; first != nullptr) {
    first->last->next = record;
    first->last = record;
    return;
  }
  record->last = record;
  record->next_address = nullptr;
  *link = record;
}

void ParkingBucket::PushFront(ParkRecord* record) {
  ParkRecord** link = Find(record->address);
  ParkRecord* first = *link;
  if (first == nullptr) return PushBack(record);
  record->next = first;
  record->last = first->last;
  record->next_address = first->next_address;
  *link = record;
}

ParkRecord* ParkingBucket::PopFront(const void* address) {
  ParkRecord** link = Find(address);
  ParkRecord* first = *link;
  if (first == nullptr) return nullptr;
  if (ParkRecord* second = first->next; second != nullptr) {
    second->last = first->last;
    second->next_address = first->next_address;
    *link = second;
  } else {
    *link = first->next_address;
  }
  return first;
}

ParkRecord* ParkingBucket::PopAll(const void* address) {
  ParkRecord** link = Find(address);
  ParkRecord* first = *link;
  if (first != nullptr) *link = first->next_address;
  return first;
}

}  // namespace weft::internal
