// Labels of goroutines: keys and values that say what they are at work on, for profiles.
// debug/labels.h is how programs set them.
#ifndef WEFT_SCHED_LABELS_H_
#define WEFT_SCHED_LABELS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace weft {

// Key and value. Where a goroutine has them they are in the order of the keys, each of which is
// there once.
using LabelList = std::vector<std::pair<std::string, std::string>>;

// Those of the calling goroutine; none on a plain thread.
LabelList CurrentLabels();

namespace internal {

// Adds `labels` to those of the calling goroutine, in place of those with the same keys, until it
// is destroyed, on that goroutine. On a plain thread it does nothing.
class LabelScope {
 public:
  explicit LabelScope(const LabelList& labels);
  ~LabelScope();
  LabelScope(const LabelScope&) = delete;
  LabelScope& operator=(const LabelScope&) = delete;

 private:
  bool is_active_ = false;
  uint32_t before_ = 0;
};

}  // namespace internal
}  // namespace weft

#endif  // WEFT_SCHED_LABELS_H_
