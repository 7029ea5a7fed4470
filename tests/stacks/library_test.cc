// The standard library, and C's, with goroutines that park inside it: in comparators, callbacks,
// stream operators.
// libstdc++'s stable_sort calls what C++17 has deprecated.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <iomanip>
#include <iterator>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <ostream>
#include <set>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "stack/rest.h"
#include "tests/stacks/torture.h"

namespace weft {
namespace {

using testing::OnGoroutines;
using testing::Pause;
using testing::Paused;
using testing::UseStack;

class LibraryTest : public testing::OverProcsTest {};
INSTANTIATE_TEST_SUITE_P(, LibraryTest, testing::OverProcs(), testing::ProcsName);

// So many numbers in no order.
std::vector<int> Shuffled(int count, int seed) {
  std::vector<int> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  uint32_t random = static_cast<uint32_t>(seed) * 2654435761U + 1;
  for (size_t i = values.size() - 1; i > 0; --i) {
    random = random * 1664525U + 1013904223U;
    std::swap(values[i], values[(random >> 8) % (i + 1)]);
  }
  return values;
}

TEST_P(LibraryTest, SortsWithComparatorsThatPark) {
  OnGoroutines([](int i) {
    std::vector<int> values = Shuffled(60, i);
    int64_t calls = 0;
    const auto less = [&](int a, int b) {
      if (++calls % 3 == 0) Pause();
      return a < b;
    };
    std::sort(values.begin(), values.end(), less);
    EXPECT_TRUE(std::is_sorted(values.begin(), values.end()));
    values = Shuffled(60, i + 1);
    std::stable_sort(values.begin(), values.end(), less);
    EXPECT_TRUE(std::is_sorted(values.begin(), values.end()));
    values = Shuffled(40, i + 2);
    std::make_heap(values.begin(), values.end(), less);
    std::sort_heap(values.begin(), values.end(), less);
    EXPECT_TRUE(std::is_sorted(values.begin(), values.end()));
    values = Shuffled(60, i + 3);
    std::nth_element(values.begin(), values.begin() + 30, values.end(), less);
    EXPECT_EQ(values[30], 30);
  });
}

struct ParksWhenCompared {
  int value;
  bool operator<(const ParksWhenCompared& other) const {
    Pause();
    return value < other.value;
  }
  bool operator==(const ParksWhenCompared& other) const { return value == other.value; }
};
struct ParksWhenHashed {
  size_t operator()(const ParksWhenCompared& key) const {
    Pause();
    return static_cast<size_t>(key.value) % 7;
  }
};

TEST_P(LibraryTest, Containers) {
  OnGoroutines([](int i) {
    std::map<ParksWhenCompared, std::string> map;
    std::unordered_map<ParksWhenCompared, int, ParksWhenHashed> hashed;
    std::set<std::string> set;
    std::deque<std::unique_ptr<int>> deque;
    std::list<std::vector<int>> list;
    for (const int n : Shuffled(20, i)) {
      map[{n}] = std::to_string(n);
      hashed[{n}] = n;
      set.insert(std::to_string(Paused(n)));
      if (n % 2 == 0) {
        deque.push_back(std::make_unique<int>(n));
      } else {
        deque.push_front(std::make_unique<int>(n));
      }
      list.emplace_back(static_cast<size_t>(n), n);
    }
    int expected = 0;
    for (const auto& [key, text] : map) {
      Pause();
      EXPECT_EQ(key.value, expected);
      EXPECT_EQ(text, std::to_string(expected));
      EXPECT_EQ(hashed.at(key), expected);
      ++expected;
    }
    EXPECT_EQ(expected, 20);
    EXPECT_EQ(set.size(), 20u);
    int sum = 0;
    for (const auto& element : deque) sum += *element;
    EXPECT_EQ(sum, 190);
    int64_t squares = 0;
    for (const auto& vector : list) {
      squares = std::accumulate(vector.begin(), vector.end(), squares);
    }
    EXPECT_EQ(squares, 19 * 20 * 39 / 6);
  });
}

struct Printed {
  int value;
};
std::ostream& operator<<(std::ostream& out, const Printed& printed) {
  Pause();
  UseStack(1500);
  return out << '<' << printed.value << '>';
}
struct Parsed {
  int value = 0;
};
std::istream& operator>>(std::istream& in, Parsed& parsed) {
  Pause();
  return in >> parsed.value;
}

// The operators are called back by templates of the library, and call its compiled code.
TEST_P(LibraryTest, Streams) {
  OnGoroutines([](int i) {
    std::ostringstream out;
    out << Printed{i} << std::setw(6) << std::hex << 255 << ' ' << std::dec << Printed{i + 1} << ' '
        << std::fixed << std::setprecision(2) << Paused(1.5);
    const std::string expected =
        "<" + std::to_string(i) + ">    ff <" + std::to_string(i + 1) + "> 1.50";
    EXPECT_EQ(out.str(), expected);
    std::istringstream in(std::to_string(i) + " 2 3");
    Parsed a, b, c;
    in >> a >> b >> c;
    EXPECT_EQ(a.value + b.value + c.value, i + 5);
  });
}

TEST_P(LibraryTest, AlgorithmsWithCallbacks) {
  OnGoroutines([](int i) {
    std::vector<int> values = Shuffled(30, i);
    const auto pausing = [](int n) {
      Pause();
      return n * 2;
    };
    std::vector<int> doubled;
    std::transform(values.begin(), values.end(), std::back_inserter(doubled), pausing);
    EXPECT_EQ(std::accumulate(doubled.begin(), doubled.end(), 0,
                              [](int a, int b) {
                                if (b % 8 == 0) Pause();
                                return a + b;
                              }),
              30 * 29);
    const auto middle = std::partition(values.begin(), values.end(), [](int n) {
      Pause();
      return n < 10;
    });
    EXPECT_EQ(middle - values.begin(), 10);
    std::string text(20, 'x');
    std::generate(text.begin(), text.end(), [n = 0]() mutable {
      Pause();
      return static_cast<char>('a' + n++);
    });
    EXPECT_EQ(text, "abcdefghijklmnopqrst");
  });
}

TEST_P(LibraryTest, OwnersAndTheirDeleters) {
  OnGoroutines([](int i) {
    int deleted = 0;
    {
      const auto deleter = [&deleted](int* n) {
        Pause();
        deleted += *n;
        delete n;
      };
      std::unique_ptr<int, decltype(deleter)> owner(new int(i), deleter);
      const std::shared_ptr<int> shared(new int(2 * i), deleter);
      const std::weak_ptr<int> weak = shared;
      std::optional<std::shared_ptr<int>> copy = weak.lock();
      Pause();
      EXPECT_EQ(shared.use_count(), 2);
    }
    EXPECT_EQ(deleted, 3 * i);
  });
}

// qsort was not built for stacks that move: while it has a frame the goroutine stays in its slot.
// Its comparison function grows the stack, below a function that does not look at any limit.
int CompareAndGrow(const void* a, const void* b) {
  UseStack(4000);
  return *static_cast<const int*>(a) - *static_cast<const int*>(b);
}

TEST_P(LibraryTest, QsortWithComparisonsThatGrow) {
  OnGoroutines([](int i) {
    std::vector<int> values = Shuffled(50, i);
    std::qsort(values.data(), values.size(), sizeof(int), CompareAndGrow);
    EXPECT_TRUE(std::is_sorted(values.begin(), values.end()));
    Pause();
  });
}

int CompareAndPark(const void* a, const void* b) {
  const int x = *static_cast<const int*>(a);
  const int y = *static_cast<const int*>(b);
  if ((x + y) % 3 == 0) Pause();
  return x - y;
}

// Meets the others first, inside of qsort, once.
struct Meeting {
  int value;
  bool* met;
};
int CompareAndMeet(const void* a, const void* b) {
  const auto* const x = static_cast<const Meeting*>(a);
  const auto* const y = static_cast<const Meeting*>(b);
  if (!*x->met) {
    *x->met = true;
    testing::Meet();
  }
  if ((x->value + y->value) % 3 == 0) Pause();
  return x->value - y->value;
}

TEST_P(LibraryTest, QsortWithComparisonsThatPark) {
  const uint64_t before = stack::GetRestStats().kept_foreign_frame;
  OnGoroutines([](int i) {
    bool met = false;
    std::vector<Meeting> values;
    for (const int value : Shuffled(50, i)) values.push_back({value, &met});
    std::qsort(values.data(), values.size(), sizeof(Meeting), CompareAndMeet);
    for (int n = 0; n < 50; ++n) EXPECT_EQ(values[static_cast<size_t>(n)].value, n);
  });
  // More than there are slots wait in it at the same time, so some were to leave theirs.
  if (testing::StacksMustRest()) {
    EXPECT_GT(stack::GetRestStats().kept_foreign_frame, before);
  }
}

// One within the other, with a frame of ours between them.
int CompareAndQsort(const void* a, const void* b) {
  std::vector<int> inner = {3, *static_cast<const int*>(a) % 5, 1, 4};
  std::qsort(inner.data(), inner.size(), sizeof(int), CompareAndPark);
  return *static_cast<const int*>(a) - *static_cast<const int*>(b);
}

TEST_P(LibraryTest, QsortWithinQsort) {
  OnGoroutines([](int i) {
    std::vector<int> values = Shuffled(15, i);
    std::qsort(values.data(), values.size(), sizeof(int), CompareAndQsort);
    EXPECT_TRUE(std::is_sorted(values.begin(), values.end()));
  });
}

TEST_P(LibraryTest, BsearchWithComparisonsThatPark) {
  OnGoroutines([](int i) {
    std::vector<int> values(100);
    std::iota(values.begin(), values.end(), 0);
    const int key = i % 100;
    const void* const found =
        std::bsearch(&key, values.data(), values.size(), sizeof(int), CompareAndPark);
    EXPECT_EQ(found, &values[static_cast<size_t>(key)]);
  });
}

}  // namespace
}  // namespace weft
