// Included by force, before everything else, in each file that the macros of //stack:defs.bzl build
// with -fsplit-stack. Nobody includes it by name.
#ifndef WEFT_STACK_MODE_WEFT_PRELUDE_H_
#define WEFT_STACK_MODE_WEFT_PRELUDE_H_

#if !defined(__ASSEMBLER__)

// longjmp() unwinds nothing, so that calls which had gone on to linked segments would never be
// left: where setjmp() returns by it, that is made up for (morestack.h).
//
// Segments lie anywhere, so that a jump may go to where the stack pointer is lower. The longjmp()
// that _FORTIFY_SOURCE puts in the place of glibc's own ends the program then: here it does not.
#include <features.h>
#pragma push_macro("__USE_FORTIFY_LEVEL")
#undef __USE_FORTIFY_LEVEL
#define __USE_FORTIFY_LEVEL 0
#include <setjmp.h>
#pragma pop_macro("__USE_FORTIFY_LEVEL")

#if defined(__cplusplus)
extern "C" {
#endif
int weft_after_setjmp(int result);
#if defined(__cplusplus)
}
#endif
#undef setjmp
#define setjmp(environment) weft_after_setjmp(_setjmp(environment))
#undef sigsetjmp
#define sigsetjmp(environment, mask) weft_after_setjmp(__sigsetjmp((environment), (mask)))

#endif  // no assembly

#if defined(__cplusplus) && !defined(__ASSEMBLER__) && defined(__clang__)

// Clang rejects the definition of a C variadic function under -fsplit-stack. libstdc++ has one in a
// header (std::to_string(double) reaches it), so that header is read here with the attribute that
// exempts its functions. <type_traits> and what else it includes come first, outside the attribute.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <type_traits>

#if __has_include(<ext/string_conversions.h>)
#pragma clang attribute push(__attribute__((no_split_stack)), apply_to = function)
#include <ext/string_conversions.h>
#pragma clang attribute pop
#endif

// std::visit is another, which matters where nothing is inlined. The escape pass takes care of all
// such functions, so this is for builds without it, in which stacks do not move in any case.
#if !defined(WEFT_STACK_MOVES) && __cplusplus >= 201703L && __has_include(<variant>)
#include <compare>
#include <functional>
#include <initializer_list>
#pragma clang attribute push(__attribute__((no_split_stack)), apply_to = function)
#include <variant>
#pragma clang attribute pop
#endif

#endif  // C++ by clang

#endif  // WEFT_STACK_MODE_WEFT_PRELUDE_H_
