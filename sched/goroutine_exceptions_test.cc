// Exceptions belong to goroutines: who yields in a handler, or in a destructor during unwinding,
// finds its own state again, whoever else threw on that thread meanwhile.
#include <atomic>
#include <exception>
#include <stdexcept>
#include <string>

#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/testing.h"

namespace weft {
namespace {

using testing::Eventually;
using testing::ForEachMaxProcs;

struct Numbered : std::runtime_error {
  explicit Numbered(int n) : std::runtime_error(std::to_string(n)), number(n) {}
  int number;
};

int CurrentNumber() {
  try {
    std::rethrow_exception(std::current_exception());
  } catch (const Numbered& e) {
    return e.number;
  }
}

// Runs `body(i)` on many goroutines at once, which all yield to each other.
void RunMany(void (*body)(int)) {
  ForEachMaxProcs([body] {
    constexpr int kCount = 50;
    std::atomic<int> left{kCount};
    for (int i = 0; i < kCount; ++i) {
      Go([&left, body, i] {
        body(i);
        left.fetch_sub(1);
      });
    }
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  });
}

TEST(GoroutineExceptionsTest, HandlersKeepTheirExceptionAcrossYields) {
  RunMany([](int i) {
    EXPECT_EQ(std::current_exception(), nullptr);
    try {
      throw Numbered(i);
    } catch (const Numbered& e) {
      for (int n = 0; n < 5; ++n) {
        Yield();
        EXPECT_EQ(e.number, i);
        EXPECT_EQ(CurrentNumber(), i);
        EXPECT_EQ(std::uncaught_exceptions(), 0);
      }
    }
    EXPECT_EQ(std::current_exception(), nullptr);
  });
}

TEST(GoroutineExceptionsTest, RethrowAfterAYieldThrowsTheSame) {
  RunMany([](int i) {
    try {
      try {
        throw Numbered(i);
      } catch (...) {
        Yield();
        throw;
      }
    } catch (const Numbered& e) {
      EXPECT_EQ(e.number, i);
    }
  });
}

TEST(GoroutineExceptionsTest, HandlersNest) {
  RunMany([](int i) {
    try {
      throw Numbered(i);
    } catch (...) {
      Yield();
      try {
        throw Numbered(i + 1'000);
      } catch (const Numbered& inner) {
        Yield();
        EXPECT_EQ(inner.number, i + 1'000);
        EXPECT_EQ(CurrentNumber(), i + 1'000);
      }
      Yield();
      EXPECT_EQ(CurrentNumber(), i);
    }
  });
}

struct YieldsWhenDestroyed {
  ~YieldsWhenDestroyed() {
    const int before = std::uncaught_exceptions();
    EXPECT_EQ(before, expected);
    for (int n = 0; n < 3; ++n) {
      Yield();
      EXPECT_EQ(std::uncaught_exceptions(), before);
    }
    // Throwing and catching inside is allowed, and must not disturb the outer one.
    try {
      throw Numbered(-1);
    } catch (const Numbered& e) {
      Yield();
      EXPECT_EQ(e.number, -1);
      EXPECT_EQ(std::uncaught_exceptions(), before);
    }
  }
  int expected;
};

TEST(GoroutineExceptionsTest, DestructorsMayYieldDuringUnwinding) {
  RunMany([](int i) {
    {
      YieldsWhenDestroyed calm{0};
    }
    try {
      YieldsWhenDestroyed outer{1};
      YieldsWhenDestroyed inner{1};
      throw Numbered(i);
    } catch (const Numbered& e) {
      EXPECT_EQ(e.number, i);
      EXPECT_EQ(std::uncaught_exceptions(), 0);
    }
  });
}

TEST(GoroutineExceptionsTest, ExceptionPointersTravelBetweenGoroutines) {
  ForEachMaxProcs([] {
    std::exception_ptr shared;
    std::atomic<int> state{0};
    Go([&] {
      try {
        throw Numbered(42);
      } catch (...) {
        shared = std::current_exception();
        state.store(1);
      }
    });
    ASSERT_TRUE(Eventually([&] { return state.load() == 1; }));
    std::atomic<int> seen{0};
    for (int i = 0; i < 10; ++i) {
      Go([&] {
        try {
          Yield();
          std::rethrow_exception(shared);
        } catch (const Numbered& e) {
          Yield();
          seen.fetch_add(e.number);
        }
      });
    }
    EXPECT_TRUE(Eventually([&] { return seen.load() == 420; }));
    EXPECT_TRUE(Eventually([&] { return NumGoroutine() == 0; }));
  });
}

TEST(GoroutineExceptionsTest, ANewGoroutineStartsWithNone) {
  ForEachMaxProcs([] {
    std::atomic<int> clean{0};
    Go([&] {
      try {
        throw Numbered(1);
      } catch (...) {
        // Runs on this thread while the handler waits.
        Go([&] {
          if (std::current_exception() == nullptr && std::uncaught_exceptions() == 0) {
            clean.fetch_add(1);
          }
        });
        while (clean.load() == 0) Yield();
      }
    });
    EXPECT_TRUE(Eventually([&] { return clean.load() == 1; }));
    EXPECT_TRUE(Eventually([&] { return NumGoroutine() == 0; }));
  });
}

}  // namespace
}  // namespace weft
