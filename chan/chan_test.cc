// Channels beyond what Go's tests cover: the element types of C++, exceptions, handles.
#include "chan/chan.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "chan/select.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/internal/thread.h"
#include "sched/sync/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Tasks;

class ChanTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, ChanTest, testing::Worlds(), testing::WorldName);

// How many wait in one of the queues.
template <typename T>
int Waiting(const Chan<T>& c, internal::WaitQueue internal::ChanCore::* queue) {
  internal::RuntimeSection section;
  c.core()->lock.Acquire();
  int n = 0;
  const internal::WaitRecord* first = (c.core()->*queue).front();
  if (const internal::WaitRecord* r = first; r != nullptr) {
    do {
      ++n;
      r = r->next;
    } while (r != first);
  }
  c.core()->lock.Release();
  return n;
}
template <typename T>
void AwaitSenders(const Chan<T>& c, int n) {
  ASSERT_TRUE(testing::Eventually([&] { return Waiting(c, &internal::ChanCore::senders) == n; }));
}
template <typename T>
void AwaitReceivers(const Chan<T>& c, int n) {
  ASSERT_TRUE(testing::Eventually([&] { return Waiting(c, &internal::ChanCore::receivers) == n; }));
}

TEST_P(ChanTest, NilChannelIsNeverReadyAndCannotBeClosed) {
  Run([] {
    Chan<int> nil;
    EXPECT_TRUE(nil.is_nil());
    EXPECT_FALSE(nil.Close());
    EXPECT_EQ(nil.TrySend(1), TryResult::kWouldBlock);
    EXPECT_EQ(nil.TryRecv().result, TryResult::kWouldBlock);
    EXPECT_EQ(nil.len(), 0);
    EXPECT_EQ(nil.cap(), 0);
    EXPECT_EQ(nil, Chan<int>());
    EXPECT_FALSE(nil == Chan<int>(0));
    Chan<std::string> nil_string;
    EXPECT_EQ(nil_string.TrySend("s"), TryResult::kWouldBlock);
    EXPECT_EQ(nil_string.TryRecv().result, TryResult::kWouldBlock);
  });
}

TEST_P(ChanTest, CloseWakesEveryReceiver) {
  Run([] {
    Chan<int> c(0);
    std::atomic<int> woken{0};
    Tasks tasks;
    for (int i = 0; i < 20; ++i) {
      tasks.Go([&, by_select = i % 2 == 0] {
        if (by_select) {
          Chan<int> other(0);
          Select(c.OnRecv([&](std::optional<int> v) { woken += !v.has_value(); }), other.OnRecv());
        } else {
          woken += !c.Recv().has_value();
        }
      });
    }
    AwaitReceivers(c, 20);
    EXPECT_TRUE(c.Close());
    tasks.Wait();
    EXPECT_EQ(woken, 20);
  });
}

TEST_P(ChanTest, CloseWakesEverySenderWithItsValue) {
  Run([] {
    for (const int capacity : {0, 2}) {
      Chan<std::string> c(capacity);
      for (int i = 0; i < capacity; ++i) c.Send("first");
      std::atomic<int> kept{0};
      const std::string text(50, 'v');
      Tasks tasks;
      for (int i = 0; i < 20; ++i) {
        tasks.Go([&, by_select = i % 2 == 0] {
          std::string mine = text;
          bool sent = true;
          if (by_select) {
            Select(Chan<int>(0).OnRecv(), c.OnSend(std::move(mine), [&](bool s) { sent = s; }));
          } else {
            sent = c.Send(std::move(mine));
          }
          kept += !sent && mine == text;
        });
      }
      AwaitSenders(c, 20);
      EXPECT_TRUE(c.Close());
      tasks.Wait();
      EXPECT_EQ(kept, 20);
      for (int i = 0; i < capacity; ++i) EXPECT_EQ(c.Recv(), "first");
      EXPECT_EQ(c.Recv(), std::nullopt);
    }
  });
}

TEST_P(ChanTest, WaitersAreServedInTheOrderOfTheirComing) {
  Run([] {
    Chan<int> c(0);
    Tasks receivers;
    std::array<std::atomic<int>, 5> got{};
    for (int i = 0; i < 5; ++i) {
      receivers.Go([&, i] { got[static_cast<size_t>(i)] = *c.Recv(); });
      AwaitReceivers(c, i + 1);
    }
    for (int i = 0; i < 5; ++i) EXPECT_EQ(c.TrySend(i), TryResult::kDone);
    receivers.Wait();
    for (int i = 0; i < 5; ++i) EXPECT_EQ(got[static_cast<size_t>(i)], i);
  });
}

TEST_P(ChanTest, RangeEndsWhenClosedAndDrained) {
  Run([] {
    Chan<std::unique_ptr<int>> c(3);
    Tasks tasks;
    tasks.Go([c] {
      for (int i = 0; i < 100; ++i) c.Send(std::make_unique<int>(i));
      c.Close();
    });
    int expected = 0;
    for (std::unique_ptr<int> p : c) EXPECT_EQ(*p, expected++);
    EXPECT_EQ(expected, 100);
    for (auto&& p : c) ADD_FAILURE() << *p;
  });
}

// Elements of every transport: words, staged, boxed; each checks that it arrives as it was sent.
struct Small {
  int16_t a;
  int8_t b;
  explicit Small(int i) : a(static_cast<int16_t>(i)), b(static_cast<int8_t>(i)) {}
  bool Is(int i) const { return a == static_cast<int16_t>(i) && b == static_cast<int8_t>(i); }
};
struct Wide {
  std::array<int64_t, 5> words;
  explicit Wide(int i) { words.fill(i); }
  bool Is(int i) const { return words.front() == i && words.back() == i; }
};
struct alignas(64) Aligned {
  int value;
  explicit Aligned(int i) : value(i) {}
  bool Is(int i) const { return value == i && reinterpret_cast<uintptr_t>(this) % 64 == 0; }
};
struct alignas(256) VeryAligned {
  int value;
  explicit VeryAligned(int i) : value(i) {}
  bool Is(int i) const { return value == i && reinterpret_cast<uintptr_t>(this) % 256 == 0; }
};
struct Large {
  std::array<int, 1'000> ints;
  explicit Large(int i) { ints.fill(i); }
  bool Is(int i) const { return ints.front() == i && ints.back() == i; }
};
struct MoveOnly {
  std::unique_ptr<int> value;
  explicit MoveOnly(int i) : value(std::make_unique<int>(i)) {}
  bool Is(int i) const { return *value == i; }
};
struct Text {
  std::string text;
  explicit Text(int i) : text(static_cast<size_t>(i % 100), 'x') {}
  bool Is(int i) const { return text == Text(i).text; }
};
struct NotAssignable {
  const int value;
  explicit NotAssignable(int i) : value(i) {}
  NotAssignable(NotAssignable&& other) noexcept : value(other.value) {}
  bool Is(int i) const { return value == i; }
};

template <typename T>
class ChanElementTest : public ::testing::Test {};
using Elements =
    ::testing::Types<Small, Wide, Aligned, VeryAligned, Large, MoveOnly, Text, NotAssignable>;
TYPED_TEST_SUITE(ChanElementTest, Elements);

template <typename T>
void PassThrough(int capacity) {
  const int count = testing::Rounds(300, 30);
  Chan<T> c(capacity);
  Tasks tasks;
  tasks.Go([c, count] {
    Chan<int> never(0);
    for (int i = 0; i < count; ++i) {
      if (i % 3 == 0) {
        c.Send(T(i));
      } else if (i % 3 == 1) {
        Select(never.OnRecv(), c.OnSend(T(i)));
      } else {
        T value(i);
        while (c.TrySend(std::move(value)) != TryResult::kDone) Yield();
      }
    }
    c.Close();
  });
  for (int i = 0; i < count; ++i) {
    if (i % 2 == 0) {
      std::optional<T> v = c.Recv();
      ASSERT_TRUE(v.has_value() && v->Is(i)) << i;
    } else {
      Select(c.OnRecv([&](std::optional<T> v) { EXPECT_TRUE(v.has_value() && v->Is(i)) << i; }));
    }
  }
  EXPECT_FALSE(c.Recv().has_value());
}

TYPED_TEST(ChanElementTest, ArrivesAsItWasSent) {
  for (const testing::World world : {testing::World{testing::World::TasksAre::kThreads, 1},
                                     testing::World{testing::World::TasksAre::kGoroutines, 1},
                                     testing::World{testing::World::TasksAre::kGoroutines, 4}}) {
    testing::current_world = world;
    for (const int capacity : {0, 1, 7}) {
      if (world.tasks == testing::World::TasksAre::kThreads) {
        PassThrough<TypeParam>(capacity);
      } else {
        SetMaxProcs(world.procs);
        testing::RunOnGoroutine([&] { PassThrough<TypeParam>(capacity); });
      }
    }
  }
}

TYPED_TEST(ChanElementTest, StaysWithTheSenderWhenNotSent) {
  Chan<TypeParam> full(1);
  full.Send(TypeParam(1));
  TypeParam value(2);
  EXPECT_EQ(full.TrySend(std::move(value)), TryResult::kWouldBlock);
  EXPECT_TRUE(value.Is(2));
  EXPECT_EQ(Select(full.OnSend(std::move(value)), Default()), 1);
  EXPECT_TRUE(value.Is(2));
  EXPECT_EQ(Select(full.OnSend(std::move(value)), After(absl::Milliseconds(1))), 1);
  EXPECT_TRUE(value.Is(2));
  full.Close();
  EXPECT_FALSE(full.Send(std::move(value)));
  EXPECT_TRUE(value.Is(2));
  EXPECT_EQ(full.TrySend(std::move(value)), TryResult::kClosed);
  EXPECT_TRUE(value.Is(2));
  EXPECT_EQ(Select(full.OnSend(std::move(value), [](bool sent) { EXPECT_FALSE(sent); })), 0);
  EXPECT_TRUE(value.Is(2));
}

struct Alive {
  static inline std::atomic<int> count{0};
  Alive() { ++count; }
  Alive(const Alive&) { ++count; }
  Alive(Alive&&) noexcept { ++count; }
  ~Alive() { --count; }
};

TEST(ChanLifetimeTest, UndeliveredElementsAreDestroyedWithTheLastHandle) {
  {
    Chan<Alive> c(10);
    for (int i = 0; i < 7; ++i) c.Send(Alive());
    c.Recv();
    RecvChan<Alive> copy = c;
    c = Chan<Alive>();
    EXPECT_EQ(Alive::count, 6);
    EXPECT_EQ(copy.len(), 6);
  }
  EXPECT_EQ(Alive::count, 0);
}

// Not with Clang 14, which wants to know all of Node where `next` is declared.
#if !defined(__clang__) || __clang_major__ > 14
TEST(ChanLifetimeTest, ChannelOfItselfIsPossible) {
  struct Node {
    Chan<Node> next;
  };
  Chan<Node> c(1);
  c.Send(Node{Chan<Node>(1)});
  c.Recv()->next.Send(Node{});
}
#endif

// A type whose move throws: `good` moves succeed, then `bad` ones throw, then all succeed.
struct Bomb {
  static inline std::atomic<int> alive{0};

  explicit Bomb(int v, int good_moves = 0, int bad_moves = 0)
      : value(v), good(good_moves), bad(bad_moves) {
    ++alive;
  }
  Bomb(Bomb&& other) {
    if (other.good > 0) {
      --other.good;
    } else if (other.bad > 0) {
      --other.bad;
      throw std::runtime_error("bomb");
    }
    *this = std::move(other);
    ++alive;
  }
  Bomb& operator=(Bomb&& other) {
    value = std::exchange(other.value, -1);
    good = other.good;
    bad = other.bad;
    return *this;
  }
  ~Bomb() { --alive; }

  int value;
  int good;
  int bad;
};

class ChanThrowingMoveTest : public ::testing::Test {
 protected:
  ChanThrowingMoveTest() { testing::current_world = {testing::World::TasksAre::kThreads, 1}; }
  ~ChanThrowingMoveTest() override { EXPECT_EQ(Bomb::alive, 0); }
};

// The value is moved into the channel, and out of it.
constexpr int kIn = 1;

TEST_F(ChanThrowingMoveTest, FailedSendSendsNothing) {
  Chan<Bomb> c(2);
  Bomb b(1, 0, 3);
  EXPECT_THROW(c.Send(std::move(b)), std::runtime_error);
  EXPECT_THROW(c.TrySend(std::move(b)), std::runtime_error);
  EXPECT_THROW(Select(c.OnSend(std::move(b)), Default()), std::runtime_error);
  EXPECT_EQ(b.value, 1);
  EXPECT_EQ(c.len(), 0);
  EXPECT_TRUE(c.Send(std::move(b)));
  EXPECT_EQ(c.len(), 1);
  EXPECT_EQ(c.Recv()->value, 1);
}

TEST_F(ChanThrowingMoveTest, FailedReceiveLeavesTheValueFirstInTheBuffer) {
  Chan<Bomb> c(3);
  c.Send(Bomb(1, kIn, 3));
  c.Send(Bomb(2));
  EXPECT_THROW(c.Recv(), std::runtime_error);
  EXPECT_EQ(c.len(), 2);
  EXPECT_THROW(Select(c.OnRecv(), Default()), std::runtime_error);
  EXPECT_THROW(c.TryRecv(), std::runtime_error);
  EXPECT_EQ(c.Recv()->value, 1);
  EXPECT_EQ(c.Recv()->value, 2);
}

TEST_F(ChanThrowingMoveTest, FailedReceiveOfAFullOrUnbufferedChannelLosesNothing) {
  for (const int capacity : {0, 1, 2}) {
    for (const bool close : {false, true}) {
      Chan<Bomb> c(capacity);
      for (int i = 0; i < capacity; ++i) c.Send(Bomb(i, kIn, i == 0 ? 1 : 0));
      {
        // One sender waits; the receive that fails lets it go on, and then there is no room for the
        // value that comes back.
        Tasks tasks;
        tasks.Go([&] { EXPECT_TRUE(c.Send(Bomb(capacity, kIn, capacity == 0 ? 1 : 0))); });
        AwaitSenders(c, 1);
        EXPECT_THROW(c.Recv(), std::runtime_error);
      }
      EXPECT_EQ(c.len(), capacity);
      if (close) EXPECT_TRUE(c.Close());
      for (int i = 0; i <= capacity; ++i) EXPECT_EQ(c.Recv()->value, i) << capacity;
      EXPECT_EQ(c.TryRecv().result, close ? TryResult::kClosed : TryResult::kWouldBlock);
    }
  }
}

TEST_F(ChanThrowingMoveTest, ValueThatComesBackGoesToAWaitingReceiver) {
  Chan<Bomb> c(1);
  std::atomic<int> sum{0};
  std::atomic<int> failed{0};
  Tasks tasks;
  for (int i = 0; i < 2; ++i) {
    tasks.Go([&] {
      try {
        sum += c.Recv()->value;
      } catch (const std::runtime_error&) {
        ++failed;
      }
    });
  }
  AwaitReceivers(c, 2);
  // The first receiver fails; the second one, who waits, gets it.
  c.Send(Bomb(7, kIn, 1));
  tasks.Wait();
  EXPECT_EQ(sum, 7);
  EXPECT_EQ(failed, 1);
}

TEST_F(ChanThrowingMoveTest, ValuesThatCameBackAreDestroyedWithTheChannel) {
  Chan<Bomb> c(0);
  Tasks tasks;
  tasks.Go([&] { c.Send(Bomb(1, kIn, 1)); });
  EXPECT_THROW(c.Recv(), std::runtime_error);
}

// No heap allocation once everything is warm, whatever parks.
std::atomic<int64_t> allocations{0};

TEST_P(ChanTest, SteadyStateAllocatesNothing) {
  Run([] {
    const int rounds = testing::Rounds(1'000, 200);
    Chan<int> ints(0);
    Chan<std::unique_ptr<int>> pointers(2);
    Chan<Wide> wide(0);
    const auto produce = [&](int n) {
      for (int i = 0; i < n; ++i) {
        ints.Send(i);
        pointers.Send(nullptr);
        wide.Send(Wide(i));
        Select(ints.OnSend(i), wide.OnSend(Wide(i)), After(absl::Hours(1)));
      }
    };
    const auto consume = [&](int n) {
      for (int i = 0; i < n; ++i) {
        ints.Recv();
        pointers.Recv();
        wide.Recv();
        Select(ints.OnRecv(), wide.OnRecv());
      }
    };
    Chan<int> warm(0);
    Tasks tasks;
    tasks.Go([&] {
      produce(100);
      warm.Recv();
      produce(rounds);
    });
    consume(100);
    warm.Send(0);
    ints.Recv();
    const int64_t before = allocations;
    pointers.Recv();
    wide.Recv();
    Select(ints.OnRecv(), wide.OnRecv());
    consume(rounds - 2);
    // Four operations a round; the scheduler may have started a thread or grown a timer heap
    // meanwhile.
    EXPECT_LT(allocations, before + 10);
    consume(1);
  });
}

}  // namespace
}  // namespace weft

// Counted, for SteadyStateAllocatesNothing.
void* operator new(size_t size) {
  weft::allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* p = malloc(size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { free(p); }
void operator delete(void* p, size_t) noexcept { free(p); }
