// Boost.Beast's HTTP parser, read in a way that every build mode takes.
//
// Clang rejects the definition of a C variadic function under -fsplit-stack, and Boost.System has
// one in a header. It is read first, with the attribute that exempts it; nothing that waits is
// called from it.
#ifndef WEFT_TOOLS_HTTP_BEAST_H_
#define WEFT_TOOLS_HTTP_BEAST_H_

#if defined(__clang__) && __has_include(<boost/system/detail/snprintf.hpp>)
#include <boost/config.hpp>
#include <cstdarg>
#include <cstdio>
#pragma clang attribute push(__attribute__((no_split_stack)), apply_to = function)
#include <boost/system/detail/snprintf.hpp>
#pragma clang attribute pop
#endif

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/field.hpp>
#include <boost/beast/http/verb.hpp>

#endif  // WEFT_TOOLS_HTTP_BEAST_H_
