// What a descriptor's operation came to.
#ifndef WEFT_NETPOLL_IO_RESULT_H_
#define WEFT_NETPOLL_IO_RESULT_H_

#include <cstddef>

namespace weft::internal {

// A number of bytes, or a new descriptor; and an error, which may come with part of the bytes. It
// fits two registers, so a goroutine that waits in an operation has nothing of this pinned to its
// stack.
struct IoResult {
  // Positive: an errno. These: what the system does not know.
  static constexpr int kOk = 0;
  static constexpr int kClosing = -1;  // closed on this side
  static constexpr int kTimeout = -2;  // a deadline has passed

  size_t n = 0;
  int error = kOk;

  bool ok() const { return error == kOk; }
};

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_IO_RESULT_H_
