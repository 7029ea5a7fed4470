// How this program is built, as macros and constants: its stack mode (//stack/mode) and sanitizer.
// For the code of stack/ and sched/ that differs by them; users have no need to ask.
#ifndef WEFT_STACK_MODE_H_
#define WEFT_STACK_MODE_H_

#if defined(WEFT_STACK_COPYING) + defined(WEFT_STACK_SEGMENTED) + defined(WEFT_STACK_FIXED) != 1
#error "define one of WEFT_STACK_COPYING, _SEGMENTED, _FIXED: depend on //stack/mode:runtime_flags"
#endif

// A goroutine has a second stack for locals whose address escapes (SafeStack's "unsafe" stack; we
// call it pinned, as it can never move).
#if defined(WEFT_STACK_COPYING)
#define WEFT_HAS_PINNED_STACK 1
#else
#define WEFT_HAS_PINNED_STACK 0
#endif

// Function prologues compare the stack pointer with a guard word and call __morestack.
#if defined(WEFT_STACK_COPYING) || defined(WEFT_STACK_SEGMENTED)
#define WEFT_HAS_GUARD_WORD 1
#else
#define WEFT_HAS_GUARD_WORD 0
#endif

// The escape pass has told which functions' frames may be copied elsewhere (text_range.h). Without
// it no stack rests or moves.
#if !defined(WEFT_STACK_MOVES)
#define WEFT_STACK_MOVES 0
#endif

// For the function at the base of a stack that may move, if it catches exceptions. With SafeStack
// it would keep the pinned stack's pointer, as all who catch do, and so nobody's pinned stack would
// ever count as empty. It has no local whose address it uses, and calls ResetPinnedStack()
// (context.h) where it catches.
#if WEFT_STACK_MOVES
#define WEFT_STACK_BASE __attribute__((section("weft_text"), no_sanitize("safe-stack")))
#else
#define WEFT_STACK_BASE
#endif

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_ASAN 1
#endif
#endif
#ifndef WEFT_ASAN
#define WEFT_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__)
#define WEFT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT_TSAN 1
#endif
#endif
#ifndef WEFT_TSAN
#define WEFT_TSAN 0
#endif

#ifndef __ASSEMBLER__
namespace weft::stack {

inline constexpr bool kHasPinnedStack = WEFT_HAS_PINNED_STACK;
inline constexpr bool kHasGuardWord = WEFT_HAS_GUARD_WORD;
inline constexpr bool kMayMove = WEFT_STACK_MOVES;

}  // namespace weft::stack
#endif

#endif  // WEFT_STACK_MODE_H_
