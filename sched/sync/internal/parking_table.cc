#include "sched/sync/internal/parking_table.h"

namespace weft::internal {
namespace {

struct alignas(64) PaddedBucket {
  ParkingBucket bucket;
};
constinit PaddedBucket table[size_t{1} << kBucketBits];

}  // namespace

constinit Gate gates[size_t{1} << kBucketBits];

ParkingBucket& BucketOf(const void* address) { return table[BucketIndex(address)].bucket; }

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

bool ParkingBucket::Remove(ParkRecord* record) {
  ParkRecord* first = *Find(record->address);
  if (first == record) {
    PopFront(record->address);
    return true;
  }
  ParkRecord* before = first;
  while (before != nullptr && before->next != record) before = before->next;
  if (before == nullptr) return false;
  before->next = record->next;
  if (first->last == record) first->last = before;
  return true;
}

}  // namespace weft::internal
