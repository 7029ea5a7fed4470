// The example of README.md, which must stay the same as here, and that it does what it says.
#include "stack/context.h"
#include "stack/slots.h"

// A function that hands out one value each time it is resumed.
struct Numbers {
  weft::stack::Context thread;
  weft::stack::Context own;
  int value = 0;

  int Next() {
    weft::stack::Switch(thread, own);  // goes on with Run() until it switches back
    return value;
  }

  static void Run(void* arg) {
    auto* numbers = static_cast<Numbers*>(arg);
    for (int i = 1; i <= 3; ++i) {
      numbers->value = i * i;
      weft::stack::Switch(numbers->own, numbers->thread);
    }
    numbers->value = -1;
    weft::stack::SwitchFinal(numbers->own, numbers->thread);
  }
};

int SumOfSquares() {
  weft::stack::SlotCache cache;
  weft::stack::Slot* slot = weft::stack::Acquire(cache, weft::stack::DefaultSizeClass());
  if (slot == nullptr) return -1;  // weft::stack::WhyNoSlot() says why

  Numbers numbers;
  weft::stack::Slot* pinned = weft::stack::AcquirePinned(cache);  // null where the mode has none
  weft::stack::MakeContext(numbers.own, *slot, pinned, Numbers::Run, &numbers);
  int sum = 0;
  for (int n = numbers.Next(); n >= 0; n = numbers.Next()) sum += n;

  weft::stack::DestroyContext(numbers.own);
  weft::stack::Release(cache, slot);
  weft::stack::ReleasePinned(cache, pinned);
  return sum;
}
// End of the example.

#include <fstream>
#include <sstream>
#include <string>

#include "gtest/gtest.h"

namespace {

std::string Contents(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(ReadmeTest, TheExampleWorks) { EXPECT_EQ(SumOfSquares(), 1 + 4 + 9); }

TEST(ReadmeTest, TheReadmeHasThisExample) {
  const std::string source = Contents("stack/readme_test.cc");
  const size_t begin = source.find("#include");
  const size_t end = source.find("// End of the example.");
  ASSERT_NE(end, std::string::npos);
  const std::string readme = Contents("stack/README.md");
  EXPECT_NE(readme.find("```c++\n" + source.substr(begin, end - begin) + "```\n"),
            std::string::npos);
}

}  // namespace
