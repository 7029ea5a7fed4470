// Text to a file descriptor, for code that may neither allocate nor lock.
#ifndef WEFT_STACK_INTERNAL_WRITER_H_
#define WEFT_STACK_INTERNAL_WRITER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace weft::stack::internal {

// Collects text and writes it out when full and at the end. Usable in signal handlers.
class Writer {
 public:
  explicit Writer(int fd) : fd_(fd) {}
  ~Writer() { Flush(); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  Writer& Text(const char* text) { return Bytes(text, std::strlen(text)); }
  Writer& Bytes(const char* bytes, size_t size);
  Writer& Decimal(uint64_t value);
  Writer& Hex(uint64_t value);  // 0x...
  void Flush();

 private:
  const int fd_;
  size_t used_ = 0;
  std::array<char, 512> buffer_;
};

}  // namespace weft::stack::internal

#endif  // WEFT_STACK_INTERNAL_WRITER_H_
