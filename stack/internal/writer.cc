#include "stack/internal/writer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace weft::stack::internal {

Writer& Writer::Bytes(const char* bytes, size_t size) {
  while (size > 0) {
    const size_t n = std::min(size, buffer_.size() - used_);
    std::memcpy(buffer_.data() + used_, bytes, n);
    used_ += n;
    bytes += n;
    size -= n;
    if (used_ == buffer_.size()) Flush();
  }
  return *this;
}

Writer& Writer::Decimal(uint64_t value) {
  std::array<char, 20> digits;
  size_t first = digits.size();
  do {
    digits[--first] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  return Bytes(digits.data() + first, digits.size() - first);
}

Writer& Writer::Hex(uint64_t value) {
  std::array<char, 18> digits;
  size_t first = digits.size();
  do {
    digits[--first] = "0123456789abcdef"[value % 16];
    value /= 16;
  } while (value != 0);
  digits[--first] = 'x';
  digits[--first] = '0';
  return Bytes(digits.data() + first, digits.size() - first);
}

void Writer::Flush() {
  size_t written = 0;
  while (written < used_) {
    const ssize_t n = write(fd_, buffer_.data() + written, used_ - written);
    if (n > 0) {
      written += static_cast<size_t>(n);
    } else if (n < 0 && errno != EINTR) {
      break;
    }
  }
  used_ = 0;
}

}  // namespace weft::stack::internal
