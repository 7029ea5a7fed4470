#include "sched/internal/block_queue.h"

#include <deque>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace weft::internal {
namespace {

TEST(BlockQueueTest, AnEmptyOneGivesNothing) {
  static BlockQueue<int> queue;
  int* out[1];
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.PopFront(), nullptr);
  EXPECT_EQ(queue.PopFront(out, 1), 0);
  EXPECT_EQ(queue.PopBack(out, 1), 0);
}

TEST(BlockQueueTest, FirstInFirstOut) {
  std::vector<int> items(1'000);
  static BlockQueue<int> queue;
  for (int& item : items) queue.PushBack(&item);
  EXPECT_EQ(queue.size(), 1'000);
  for (int& item : items) ASSERT_EQ(queue.PopFront(), &item);
  EXPECT_TRUE(queue.empty());
}

// Under the address sanitizer what is not given back is reported.
TEST(BlockQueueTest, WhatIsFreedCanBeUsedAgain) {
  std::vector<int> items(1'000);
  BlockQueue<int> queue;
  queue.Free();
  for (int round = 0; round < 3; ++round) {
    for (int& item : items) queue.PushBack(&item);
    EXPECT_EQ(queue.PopFront(), &items[0]);
    queue.Free();
    EXPECT_TRUE(queue.empty());
    EXPECT_EQ(queue.PopFront(), nullptr);
  }
}

// Against std::deque, with every operation in every state.
TEST(BlockQueueTest, DoesWhatADequeDoes) {
  std::vector<int> items(5'000);
  std::mt19937 random(1);
  static BlockQueue<int> queue;
  std::deque<int*> model;
  const auto number = [&](int below) { return static_cast<uint32_t>(random() % below); };
  for (int step = 0; step < 20'000; ++step) {
    // Long stretches of growing and of shrinking, down to nothing.
    const bool grows = step / 200 % 2 == 0;
    const uint32_t count = number(400);
    std::vector<int*> some(count);
    if (grows && model.size() + count <= 4'000) {
      for (int*& item : some) item = &items[number(5'000)];
      queue.PushBack(some.data(), count);
      model.insert(model.end(), some.begin(), some.end());
    } else if (number(2) == 0) {
      const uint32_t taken = queue.PopFront(some.data(), count);
      ASSERT_EQ(taken, std::min<size_t>(count, model.size()));
      for (uint32_t i = 0; i < taken; ++i, model.pop_front()) ASSERT_EQ(some[i], model.front());
    } else {
      const uint32_t taken = queue.PopBack(some.data(), count);
      ASSERT_EQ(taken, std::min<size_t>(count, model.size()));
      for (uint32_t i = taken; i-- > 0; model.pop_back()) ASSERT_EQ(some[i], model.back());
    }
    ASSERT_EQ(queue.size(), static_cast<int>(model.size()));
  }
}

}  // namespace
}  // namespace weft::internal
