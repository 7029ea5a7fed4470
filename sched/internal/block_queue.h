// A queue of pointers, as long as need be, that does not look at what they point to.
//
// The queues that all Ps share hold goroutines that have not been touched for long. A list through
// the goroutines themselves would meet a cache miss for each that is taken, one after the other and
// under the lock; here a hundred pointers are one copy. Not thread-safe: its user has a lock.
//
// There is no destructor, as goroutines run on while the program's statics are destroyed: one that
// does have an end is to be freed.
#ifndef WEFT_SCHED_INTERNAL_BLOCK_QUEUE_H_
#define WEFT_SCHED_INTERNAL_BLOCK_QUEUE_H_

#include <algorithm>
#include <cstdint>

namespace weft::internal {

template <typename T>
class BlockQueue {
 public:
  constexpr BlockQueue() = default;
  BlockQueue(const BlockQueue&) = delete;
  BlockQueue& operator=(const BlockQueue&) = delete;

  int size() const { return size_; }
  bool empty() const { return size_ == 0; }

  // Allocates once in kBlockItems calls, while the queue grows.
  void PushBack(T* item) { PushBack(&item, 1); }
  void PushBack(T* const* items, uint32_t count) {
    size_ += static_cast<int>(count);
    while (count > 0) {
      if (last_ == nullptr || end_ == kBlockItems) AddLast();
      const uint32_t part = std::min(count, kBlockItems - end_);
      std::copy_n(items, part, last_->items + end_);
      end_ += part;
      items += part;
      count -= part;
    }
  }

  // The oldest, or null.
  T* PopFront() {
    T* item = nullptr;
    PopFront(&item, 1);
    return item;
  }
  // Takes the oldest, at most `most`; returns how many.
  uint32_t PopFront(T** out, uint32_t most) {
    const uint32_t count = std::min(most, static_cast<uint32_t>(size_));
    for (uint32_t left = count; left > 0;) {
      const uint32_t part = std::min(left, (first_ == last_ ? end_ : kBlockItems) - begin_);
      out = std::copy_n(first_->items + begin_, part, out);
      begin_ += part;
      left -= part;
      size_ -= static_cast<int>(part);
      if (begin_ == kBlockItems || size_ == 0) DropFirst();
    }
    return count;
  }

  // Takes the newest, at most `most`, in the order of their age; returns how many.
  uint32_t PopBack(T** out, uint32_t most) {
    const uint32_t count = std::min(most, static_cast<uint32_t>(size_));
    for (uint32_t left = count; left > 0;) {
      const uint32_t part = std::min(left, end_ - (first_ == last_ ? begin_ : 0));
      end_ -= part;
      left -= part;
      std::copy_n(last_->items + end_, part, out + left);
      size_ -= static_cast<int>(part);
      if (end_ == 0 || size_ == 0) DropLast();
    }
    return count;
  }

  // Gives back all memory; then it is empty.
  void Free() {
    size_ = 0;
    while (first_ != nullptr) DropFirst();
    delete spare_;
    spare_ = nullptr;
  }

 private:
  static constexpr uint32_t kBlockItems = 254;
  struct Block {
    Block* next = nullptr;
    Block* previous = nullptr;
    T* items[kBlockItems];
  };

  void AddLast() {
    Block* block = spare_ != nullptr ? spare_ : new Block;
    spare_ = nullptr;
    block->next = nullptr;
    block->previous = last_;
    (last_ != nullptr ? last_->next : first_) = block;
    if (last_ == nullptr) begin_ = 0;
    last_ = block;
    end_ = 0;
  }

  void DropFirst() {
    Block* block = first_;
    first_ = block->next;
    (first_ != nullptr ? first_->previous : last_) = nullptr;
    begin_ = 0;
    Keep(block);
  }

  void DropLast() {
    Block* block = last_;
    last_ = block->previous;
    (last_ != nullptr ? last_->next : first_) = nullptr;
    end_ = kBlockItems;
    Keep(block);
  }

  // One is kept, so that a queue that is short most of the time does not allocate.
  void Keep(Block* block) {
    if (spare_ == nullptr) {
      spare_ = block;
    } else {
      delete block;
    }
  }

  // The items are those from begin_ in the first block to end_ in the last one.
  Block* first_ = nullptr;
  Block* last_ = nullptr;
  Block* spare_ = nullptr;
  uint32_t begin_ = 0;
  uint32_t end_ = 0;
  int size_ = 0;
};

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_BLOCK_QUEUE_H_
