// What the tests of stacks do in the middle of everything.
#ifndef WEFT_TESTS_STACKS_PAUSE_H_
#define WEFT_TESTS_STACKS_PAUSE_H_

namespace weft::testing {

// Parks the goroutine and has it woken, in one of several ways in turn: yields, waits for a
// channel, sleeps; and now and then uses some of the stack below, so that it has grown and what was
// there is overwritten. On a plain thread, and outside OnGoroutines() (torture.h), it only does the
// last.
void Pause();

// `value`, after a Pause().
template <typename T>
[[gnu::noinline]] T Paused(T value) {
  Pause();
  return value;
}

// Writes to `bytes` of the stack below, in frames of some 100 bytes, and returns how many these
// are: bytes / 100 + 1.
int UseStack(int bytes);

}  // namespace weft::testing

#endif  // WEFT_TESTS_STACKS_PAUSE_H_
