#include "sched/internal/run_queue.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/rounds.h"

namespace weft::internal {
namespace {

using ::weft::testing::AllInTurn;
using ::weft::testing::Rounds;

struct Item {
  int number = 0;
  std::atomic<int> taken{0};
};
using Queue = RunQueue<Item>;
constexpr QueueSharing kShared = QueueSharing::kShared;
constexpr QueueSharing kAlone = QueueSharing::kAlone;

std::vector<Item> Items(int count) {
  std::vector<Item> items(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) items[static_cast<size_t>(i)].number = i;
  return items;
}

Item* Take(Queue& queue, QueueSharing sharing = kShared) {
  bool inherits;
  return queue.Take(&inherits, sharing);
}

class RunQueueTest : public ::testing::TestWithParam<QueueSharing> {};

TEST_P(RunQueueTest, TakesInTheOrderOfPutting) {
  Queue queue;
  std::vector<Item> items = Items(1000);
  size_t next = 0;
  // Round and round the ring.
  for (size_t put = 0; put < items.size();) {
    for (int i = 0; i < 7 && put < items.size(); ++i) {
      ASSERT_TRUE(queue.PutTail(&items[put++], GetParam()));
    }
    for (int i = 0; i < 5; ++i) ASSERT_EQ(Take(queue, GetParam()), &items[next++]);
    if (queue.Size() > 200) {
      while (next < put) ASSERT_EQ(Take(queue, GetParam()), &items[next++]);
    }
  }
  while (next < items.size()) ASSERT_EQ(Take(queue, GetParam()), &items[next++]);
  EXPECT_EQ(Take(queue, GetParam()), nullptr);
  EXPECT_TRUE(queue.Empty());
}

TEST_P(RunQueueTest, NextComesFirstAndInheritsTheSlice) {
  Queue queue;
  std::vector<Item> items = Items(3);
  ASSERT_TRUE(queue.PutTail(&items[0], GetParam()));
  EXPECT_FALSE(queue.HasNext());
  EXPECT_EQ(queue.ExchangeNext(&items[1], GetParam()), nullptr);
  EXPECT_TRUE(queue.HasNext());
  EXPECT_EQ(queue.ExchangeNext(&items[2], GetParam()), &items[1]);
  EXPECT_EQ(queue.Size(), 1u) << "runnext is not counted";
  bool inherits = false;
  EXPECT_EQ(queue.Take(&inherits, GetParam()), &items[2]);
  EXPECT_TRUE(inherits);
  EXPECT_EQ(queue.Take(&inherits, GetParam()), &items[0]);
  EXPECT_FALSE(inherits);
}

TEST_P(RunQueueTest, TakeHeadLeavesNextAlone) {
  Queue queue;
  std::vector<Item> items = Items(2);
  queue.ExchangeNext(&items[0], GetParam());
  EXPECT_EQ(queue.TakeHead(GetParam()), nullptr);
  ASSERT_TRUE(queue.PutTail(&items[1], GetParam()));
  EXPECT_EQ(queue.TakeHead(GetParam()), &items[1]);
  EXPECT_FALSE(queue.Empty());
}

TEST_P(RunQueueTest, FullRingRefusesAndGivesHalf) {
  Queue queue;
  std::vector<Item> items = Items(Queue::kCapacity + 1);
  Item* half[Queue::kCapacity / 2];
  for (uint32_t i = 0; i < Queue::kCapacity; ++i) {
    EXPECT_EQ(queue.TakeHalfIfFull(half), 0u);
    ASSERT_TRUE(queue.PutTail(&items[i], GetParam()));
  }
  EXPECT_EQ(queue.Size(), Queue::kCapacity);
  EXPECT_FALSE(queue.PutTail(&items[Queue::kCapacity], GetParam()));
  ASSERT_EQ(queue.TakeHalfIfFull(half), Queue::kCapacity / 2);
  for (uint32_t i = 0; i < Queue::kCapacity / 2; ++i) EXPECT_EQ(half[i], &items[i]);
  EXPECT_EQ(Take(queue, GetParam()), &items[Queue::kCapacity / 2]);
}

INSTANTIATE_TEST_SUITE_P(Sharing, RunQueueTest, ::testing::Values(kAlone, kShared));

// SC-17: a thief takes half, and every item ends up in exactly one place, exactly once.
TEST(RunQueueStealTest, TakesHalf) {
  const uint32_t step = ::weft::testing::Repeated() ? 16 : 1;
  for (uint32_t count = 0; count <= Queue::kCapacity; count += step) {
    // At different places of the ring.
    for (const uint32_t at : {0u, 1u, 100u, 255u}) {
      Queue victim;
      Queue thief;
      std::vector<Item> items = Items(static_cast<int>(count));
      Item filler;
      for (uint32_t i = 0; i < at; ++i) {
        ASSERT_TRUE(victim.PutTail(&filler, kShared));
        ASSERT_EQ(Take(victim), &filler);
      }
      for (Item& item : items) ASSERT_TRUE(victim.PutTail(&item, kShared));
      Item* stolen = thief.StealHalf(victim);
      const uint32_t taken = thief.Size() + (stolen == nullptr ? 0 : 1);
      EXPECT_TRUE(taken == count / 2 || taken == count / 2 + 1) << taken << " of " << count;
      EXPECT_EQ(stolen == nullptr, count == 0);
      if (stolen != nullptr) ++stolen->taken;
      while (Item* item = Take(thief)) ++item->taken;
      while (Item* item = Take(victim)) ++item->taken;
      for (const Item& item : items) ASSERT_EQ(item.taken.load(), 1) << item.number;
    }
  }
}

TEST(RunQueueStealTest, LeavesNextToItsOwner) {
  Queue victim;
  Queue thief;
  std::vector<Item> items = Items(1);
  victim.ExchangeNext(&items[0], kShared);
  EXPECT_EQ(thief.StealHalf(victim), nullptr);
  EXPECT_EQ(Queue::StealNext(victim), &items[0]);
  EXPECT_EQ(Queue::StealNext(victim), nullptr);
  EXPECT_TRUE(victim.Empty());
}

// Both sides arrive before either goes on.
class Meeting {
 public:
  explicit Meeting(int parties) : parties_(parties) {}

  void Arrive(int round) {
    arrived_.fetch_add(1, std::memory_order_acq_rel);
    for (int i = 0; arrived_.load(std::memory_order_acquire) < parties_ * (round + 1); ++i) {
      if (i % 1'000 == 999) std::this_thread::yield();
    }
  }

 private:
  const int parties_;
  std::atomic<int> arrived_{0};
};

// SC-18: there is always at least one item, so nobody may be told that there is none.
TEST(RunQueueRaceTest, NeverLooksEmptyWhileItIsNot) {
  const int rounds = Rounds(100'000, 200);
  Queue queue;
  std::vector<Item> items = Items(2);
  Meeting start(2);
  Meeting end(2);
  std::atomic<int> empty{0};
  std::thread asker([&] {
    for (int round = 0; round < rounds; ++round) {
      start.Arrive(round);
      if (queue.Empty()) empty.fetch_add(1, std::memory_order_relaxed);
      end.Arrive(round);
    }
  });
  auto put = [&](Item* item, bool next) {
    if (next) item = queue.ExchangeNext(item, kShared);
    if (item != nullptr) ASSERT_TRUE(queue.PutTail(item, kShared));
  };
  for (int round = 0; round < rounds; ++round) {
    put(&items[0], round % 2 == 0);
    start.Arrive(round);
    put(&items[1], round % 4 < 2);
    EXPECT_NE(Take(queue), nullptr);
    end.Arrive(round);
    EXPECT_NE(Take(queue), nullptr);
  }
  asker.join();
  EXPECT_EQ(empty.load(), 0);
}

// One owner puts and takes, thieves steal with queues of their own: nothing is lost or doubled.
TEST(RunQueueRaceTest, EveryItemIsTakenOnce) {
  for (const bool delays : AllInTurn({false, true})) {
    if (delays) EnableRandomDelays(7);
    const int count = delays ? Rounds(20'000, 2'000) : Rounds(200'000, 2'000);
    std::vector<Item> items = Items(count);
    Queue queue;
    std::atomic<int> taken{0};
    auto take = [&](Item* item) {
      ASSERT_EQ(item->taken.fetch_add(1), 0) << item->number;
      taken.fetch_add(1);
    };
    std::vector<std::thread> thieves;
    for (int t = 0; t < 3; ++t) {
      thieves.emplace_back([&, t] {
        Queue own;
        while (taken.load() < count) {
          if (Item* item = own.StealHalf(queue)) take(item);
          while (Item* item = Take(own)) take(item);
          if (t == 0) {
            if (Item* item = Queue::StealNext(queue)) take(item);
          }
        }
      });
    }
    for (Item& item : items) {
      Item* put = &item;
      if (item.number % 3 == 0) put = queue.ExchangeNext(put, kShared);
      while (put != nullptr && !queue.PutTail(put, kShared)) {
        Item* half[Queue::kCapacity / 2];
        const uint32_t n = queue.TakeHalfIfFull(half);
        for (uint32_t i = 0; i < n; ++i) take(half[i]);
      }
      if (item.number % 5 == 0) {
        if (Item* own = Take(queue)) take(own);
      }
    }
    while (Item* item = Take(queue)) take(item);
    for (std::thread& thief : thieves) thief.join();
    SetDelayHook(nullptr);
    EXPECT_EQ(taken.load(), count);
    for (const Item& item : items) ASSERT_EQ(item.taken.load(), 1) << item.number;
    EXPECT_TRUE(queue.Empty());
  }
}

}  // namespace
}  // namespace weft::internal
