// Functions that publish the address of a local and wait, for pinning_test: each in another way.
// They are compiled several times, at each level of optimization.
#ifndef WEFT_STACK_ESCAPE_PASS_PINNING_CASES_H_
#define WEFT_STACK_ESCAPE_PASS_PINNING_CASES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace weft::escape_pass {

struct Node {
  Node* next = nullptr;
  std::atomic<int> done{0};
  int value = 0;
};

// Where they publish it. The word's low bits are tags.
struct Published {
  std::atomic<Node*> slot{nullptr};
  std::atomic<uintptr_t> word{0};
  Node* plain = nullptr;
  Node* volatile always = nullptr;
  unsigned __int128 wide = 0;  // the address in the upper half
  uintptr_t shifted = 0;       // the address times 65536
};
extern Published published;

// Waits for the node to be done: sees where it lies, and makes it so. Opaque to the compiler.
void Park();

// Publishes it, in another file, from where it may be inlined at link time.
void PublishElsewhere(Node* node);

struct PinningCase {
  const char* name;
  void (*run)();
  // SafeStack alone overlooks it at -O2. (Some of the others it pins by accident only.)
  bool missed_at_o2;
};
// Whether the pass was there when they were compiled.
extern const bool kWithEscapePass;
extern const PinningCase kPinningCases[];
extern const size_t kPinningCaseCount;

const char* PinnedPointer();

// How many bytes a function pins that works on a local of its own atomically, and publishes
// nothing.
ptrdiff_t PinnedByLocalCounter();

// How many bytes functions pin that keep the pinned pointer themselves, and nothing else.
ptrdiff_t PinnedByFunctionThatMayBeUnwoundInto();
ptrdiff_t PinnedByFunctionWithVariableSize();

// Calls it from a `noexcept` function with something to be destroyed after that.
void CallWithoutUnwinding(void (*function)());

// Without optimization the results of that go through memory, and SafeStack itself pins the local.
extern const bool kOptimized;

}  // namespace weft::escape_pass

#endif  // WEFT_STACK_ESCAPE_PASS_PINNING_CASES_H_
