// Exceptions on stacks that grow, rest and move while they are under way: thrown through many
// frames, caught and thrown again, with destructors that grow the stack and park.
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"
#include "tests/stacks/torture.h"

namespace weft {
namespace {

using testing::Depth;
using testing::OnGoroutines;
using testing::Pause;
using testing::Paused;
using testing::UseStack;

class ExceptionsTest : public testing::OverProcsTest {};
INSTANTIATE_TEST_SUITE_P(, ExceptionsTest, testing::OverProcs(), testing::ProcsName);

struct Numbered : std::runtime_error {
  explicit Numbered(int n) : std::runtime_error(std::to_string(n)), number(n) {}
  int number;
};

// Counts in its destructor, for which it uses stack and parks.
struct Counter {
  explicit Counter(int* count) : count(count) {}
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;
  ~Counter() {
    UseStack(2000);
    Pause();
    ++*count;
  }
  int* count;
};

[[gnu::noinline]] int ThrowBelow(int depth, int* destroyed) {
  if (depth == 0) {
    Pause();
    throw Numbered(42);
  }
  const Counter counter(destroyed);
  const int result = ThrowBelow(depth - 1, destroyed);
  Pause();
  return result;
}

TEST_P(ExceptionsTest, ThroughFramesWhoseDestructorsGrowAndPark) {
  OnGoroutines([](int i) {
    int destroyed = 0;
    const int depth = 5 + i % 25;
    try {
      ThrowBelow(depth, &destroyed);
      ADD_FAILURE();
    } catch (const Numbered& error) {
      EXPECT_EQ(error.number, 42);
      EXPECT_EQ(destroyed, depth);
      Pause();
      EXPECT_STREQ(error.what(), "42");
    }
  });
}

// Grows first, throws from far below, and grows again in the handler.
[[gnu::noinline]] void ThrowFrom(int depth) {
  if (depth == 0) throw Numbered(UseStack(1000));
  ThrowFrom(depth - 1);
  Pause();
}
[[gnu::noinline]] int CatchAndGrow(int depth, int rounds) {
  try {
    ThrowFrom(depth);
  } catch (const Numbered& error) {
    if (rounds == 0) return error.number;
    const int below = CatchAndGrow(depth, rounds - 1);
    Pause();
    return below + error.number;
  }
  return -1;
}

TEST_P(ExceptionsTest, HandlersThatGrowAndThrowThemselves) {
  OnGoroutines([](int i) { EXPECT_EQ(CatchAndGrow(Depth(i * 10), 5), 6 * 11); });
}

[[gnu::noinline]] void RethrowInEachFrame(int depth, int* caught) {
  try {
    if (depth == 0) throw Numbered(Paused(1));
    RethrowInEachFrame(depth - 1, caught);
  } catch (Numbered& error) {
    ++*caught;
    error.number *= 2;
    UseStack(500);
    Pause();
    throw;
  }
}

TEST_P(ExceptionsTest, RethrownInEachFrame) {
  OnGoroutines([](int) {
    int caught = 0;
    try {
      RethrowInEachFrame(20, &caught);
    } catch (const Numbered& error) {
      EXPECT_EQ(error.number, 1 << 21);
    }
    EXPECT_EQ(caught, 21);
  });
}

TEST_P(ExceptionsTest, CatchClausesWithinEachOther) {
  OnGoroutines([](int i) {
    try {
      throw Numbered(i);
    } catch (const Numbered& outer) {
      Pause();
      try {
        throw std::string("inner");
      } catch (const std::string& inner) {
        Pause();
        try {
          throw i + 1;
        } catch (int innermost) {
          Pause();
          EXPECT_EQ(innermost, i + 1);
        }
        EXPECT_EQ(inner, "inner");
        Pause();
      }
      EXPECT_EQ(outer.number, i);
      EXPECT_THROW(std::rethrow_exception(std::current_exception()), Numbered);
    }
    EXPECT_EQ(std::current_exception(), nullptr);
  });
}

// Caught and thrown inside a destructor while another one is under way.
struct CatchesWhenDestroyed {
  ~CatchesWhenDestroyed() {
    const int uncaught = std::uncaught_exceptions();
    try {
      ThrowFrom(3);
    } catch (const Numbered&) {
      Pause();
    }
    EXPECT_EQ(std::uncaught_exceptions(), uncaught);
  }
};

TEST_P(ExceptionsTest, CaughtInADestructorDuringUnwinding) {
  OnGoroutines([](int i) {
    try {
      const CatchesWhenDestroyed first;
      Pause();
      const CatchesWhenDestroyed second;
      throw Numbered(i);
    } catch (const Numbered& error) {
      EXPECT_EQ(error.number, i);
    }
  });
}

// The handler of one is run by another goroutine, on another stack.
TEST_P(ExceptionsTest, CarriedToAnotherGoroutine) {
  OnGoroutines([](int i) {
    std::exception_ptr error;
    try {
      ThrowFrom(5);
    } catch (...) {
      error = std::current_exception();
      Pause();
    }
    Pause();
    try {
      try {
        std::rethrow_exception(error);
      } catch (...) {
        Pause();
        std::throw_with_nested(Numbered(i));
      }
    } catch (const Numbered& outer) {
      Pause();
      EXPECT_EQ(outer.number, i);
      try {
        std::rethrow_if_nested(outer);
        ADD_FAILURE();
      } catch (const Numbered& inner) {
        EXPECT_EQ(inner.number, 11);
      }
    }
  });
}

// A constructor that throws has the members that were made destroyed.
struct Part {
  Part(int* count, bool fails) : count(count) {
    Pause();
    if (fails) throw Numbered(3);
    ++*count;
  }
  ~Part() {
    Pause();
    --*count;
  }
  int* count;
};
struct Whole {
  explicit Whole(int* count) : a(count, false), b(count, false), c(count, true) {}
  Part a, b, c;
};

TEST_P(ExceptionsTest, ThrownByConstructors) {
  OnGoroutines([](int) {
    int parts = 0;
    EXPECT_THROW(Whole whole(&parts), Numbered);
    EXPECT_EQ(parts, 0);
    std::vector<std::unique_ptr<Whole>> wholes;
    EXPECT_THROW(wholes.push_back(std::make_unique<Whole>(&parts)), Numbered);
    EXPECT_EQ(parts, 0);
  });
}

// Ends the goroutine from deep down: all destructors run.
TEST_P(ExceptionsTest, ExitUnwindsStacksThatHaveRested) {
  struct Exits {
    [[gnu::noinline]] static void At(int depth, int* destroyed) {
      const Counter counter(destroyed);
      Pause();
      if (depth < 0) return;  // never: a compiler might call this endless
      if (depth == 0) Exit();
      At(depth - 1, destroyed);
    }
  };
  OnGoroutines([](int) {
    int destroyed = 0;
    WaitGroup ended;
    ended.Add(1);
    Go([&] {
      struct Tells {
        ~Tells() {
          EXPECT_EQ(*destroyed, 11);
          ended->Done();
        }
        int* destroyed;
        WaitGroup* ended;
      };
      const Tells tells{&destroyed, &ended};
      try {
        Exits::At(10, &destroyed);
      } catch (...) {
        Pause();
        throw;
      }
    });
    ended.Wait();
  });
}

}  // namespace
}  // namespace weft
