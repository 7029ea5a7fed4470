// Whether a P that has run out of work looks at the poller before it goes on looking elsewhere.
//
// With many connections most looks find something. In a lone conversation, whose answers take
// longer than a look, each finds nothing, then nothing is there to steal, and the M waits in the
// poller: two system calls for each message where one would do. So each P remembers how its last
// looks went. After kTrust in a row that were in vain it leaves them out, until there was something
// to steal (it was not about to wait after all), and but for one now and then, which may find that
// there is more to do. That one is the rarer the longer the conversation goes on: there are twice
// as many left out after it, up to kMostLeftOut.
#ifndef WEFT_SCHED_INTERNAL_POLL_HISTORY_H_
#define WEFT_SCHED_INTERNAL_POLL_HISTORY_H_

#include <algorithm>
#include <cstdint>

namespace weft::internal {

// For the holder of the P alone.
class PollHistory {
 public:
  // Whether to look now.
  bool Look() {
    if (in_vain_ == kTrust && left_out_ < leaves_out_) {
      ++left_out_;
      return false;
    }
    return true;
  }

  // A look has found nothing.
  void InVain() {
    if (in_vain_ < kTrust) {
      ++in_vain_;
      return;
    }
    left_out_ = 0;
    leaves_out_ = std::min(2 * leaves_out_, kMostLeftOut);
  }

  // There was work: the look has found it, or after one in vain, or left out, it was elsewhere.
  void Busy() { *this = PollHistory(); }

  static constexpr uint32_t kTrust = 4;
  static constexpr uint32_t kLeastLeftOut = 64;
  static constexpr uint32_t kMostLeftOut = 4096;

 private:
  uint32_t in_vain_ = 0;
  uint32_t left_out_ = 0;
  uint32_t leaves_out_ = kLeastLeftOut;
};

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_POLL_HISTORY_H_
