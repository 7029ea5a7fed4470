// Labels for profiles: what a goroutine is at work on.
//
//   weft::debug::DoWithLabels({{"route", "/search"}}, [&] { Search(request); });
//
//   $ go tool pprof -tagfocus=route=/search cpu.pb.gz
//
// As Go's pprof.Do. The profiles of processor time and of goroutines have them.
#ifndef WEFT_DEBUG_LABELS_H_
#define WEFT_DEBUG_LABELS_H_

#include <utility>

#include "sched/labels.h"

namespace weft::debug {

// Keys and values.
using Labels = LabelList;

// Runs `fn()` with these labels in addition to those that the goroutine has, in place of those with
// the same keys, and returns what it returns. Goroutines that are started meanwhile have them too,
// as long as they live. On a plain thread there are no labels: it only runs `fn`. Takes about a
// microsecond.
template <typename Fn>
decltype(auto) DoWithLabels(const Labels& labels, Fn&& fn) {
  const weft::internal::LabelScope scope(labels);
  return std::forward<Fn>(fn)();
}

}  // namespace weft::debug

#endif  // WEFT_DEBUG_LABELS_H_
