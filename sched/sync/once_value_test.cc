#include "sched/sync/once_value.h"

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/sync/testing.h"

namespace weft {
namespace {

using testing::Eventually;
using testing::Tasks;

std::atomic<int64_t> allocations{0};

}  // namespace
}  // namespace weft

// Those of this program. Only the plain form is counted: what is looked at makes no other.
void* operator new(size_t bytes) {
  weft::allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace weft {
namespace {

class OnceValueTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, OnceValueTest, testing::Worlds(), testing::WorldName);

TEST_P(OnceValueTest, SY21_RunsOnceForNoneOneOrTwoValues) {
  Run([] {
    std::atomic<int> calls{0};
    OnceValue nothing([&] { ++calls; });
    OnceValue one([&] { return ++calls, std::string("a value too long to be kept inside"); });
    OnceValue two([&] { return ++calls, std::pair(1, std::string("two")); });
    Tasks tasks;
    for (int i = 0; i < 5; ++i) {
      tasks.Go([&] {
        nothing();
        EXPECT_EQ(one(), "a value too long to be kept inside");
        EXPECT_EQ(two(), std::pair(1, std::string("two")));
      });
    }
    tasks.Wait();
    EXPECT_EQ(calls, 3);
    EXPECT_EQ(&one(), &one()) << "the value, not a copy";
  });
}

TEST(OnceValueAllocationTest, SY21_LaterCallsAllocateNothing) {
  OnceValue nothing([] {});
  OnceValue value([] { return std::string("a value too long to be kept inside"); });
  nothing();
  value();
  const int64_t before = allocations.load();
  size_t bytes = 0;
  for (int i = 0; i < 100; ++i) {
    nothing();
    bytes += value().size();
  }
  EXPECT_EQ(allocations.load(), before);
  EXPECT_EQ(bytes, 3400u);
}

TEST_P(OnceValueTest, SY22_EveryCallThrowsWhatTheFunctionHasThrown) {
  Run([] {
    int calls = 0;
    OnceValue value([&]() -> int {
      ++calls;
      throw std::runtime_error("no value");
    });
    for (int i = 0; i < 3; ++i) {
      try {
        value();
        ADD_FAILURE() << "it has returned";
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "no value");
      }
    }
    EXPECT_EQ(calls, 1);
  });
}

TEST_P(OnceValueTest, SY23_TheFunctionIsReleasedAfterTheFirstCall) {
  Run([] {
    auto captured = std::make_shared<int>(5);
    OnceValue value([captured] { return *captured; });
    OnceValue thrower([captured] { throw *captured; });
    EXPECT_EQ(captured.use_count(), 3);
    EXPECT_EQ(value(), 5);
    EXPECT_EQ(captured.use_count(), 2);
    EXPECT_THROW(thrower(), int);
    EXPECT_EQ(captured.use_count(), 1);
    EXPECT_EQ(value(), 5);
  });
}

TEST(OnceValueGoroutineTest, SY23_EndingTheGoroutineCountsAsRun) {
  auto captured = std::make_shared<int>(5);
  std::atomic<bool> ended{false};
  struct SetAtEnd {
    std::atomic<bool>& flag;
    ~SetAtEnd() { flag = true; }
  };
  OnceValue nothing([captured] { Exit(); });
  Go([&] {
    const SetAtEnd at_end{ended};
    nothing();
    ADD_FAILURE() << "Exit returned";
  });
  ASSERT_TRUE(Eventually([&] { return ended.load(); }));
  EXPECT_EQ(captured.use_count(), 1);
}

TEST(OnceValueDeathTest, SY23_ThereIsNoValueWhereTheGoroutineHasEnded) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        OnceValue value([]() -> int { Exit(); });
        std::atomic<bool> ended{false};
        Go([&] {
          struct SetAtEnd {
            std::atomic<bool>& flag;
            ~SetAtEnd() { flag = true; }
          } const at_end{ended};
          value();
        });
        Eventually([&] { return ended.load(); });
        value();
      },
      ::testing::ExitedWithCode(2), "panic: sync: the function of a OnceValue has not returned");
}

}  // namespace
}  // namespace weft
