// Writes a message of Protocol Buffers field by field
// (https://protobuf.dev/programming-guides/encoding).
#ifndef WEFT_DEBUG_INTERNAL_PROTO_WRITER_H_
#define WEFT_DEBUG_INTERNAL_PROTO_WRITER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace weft::debug::internal {

class ProtoWriter {
 public:
  // A field of zero is not written: that is what a reader takes it for.
  void Int(int field, int64_t value) {
    if (value != 0) AlwaysInt(field, value);
  }
  void Bytes(int field, absl::string_view bytes) {
    Varint(static_cast<uint64_t>(field) << 3 | kLengthDelimited);
    Varint(bytes.size());
    text_.append(bytes.data(), bytes.size());
  }
  void Message(int field, const ProtoWriter& message) { Bytes(field, message.text_); }
  // Repeated numbers in one field.
  template <typename Number>
  void Packed(int field, const std::vector<Number>& values) {
    ProtoWriter packed;
    for (const Number value : values) packed.Varint(static_cast<uint64_t>(value));
    Bytes(field, packed.text_);
  }

  const std::string& text() const { return text_; }

 private:
  static constexpr uint64_t kVarint = 0;
  static constexpr uint64_t kLengthDelimited = 2;

  void AlwaysInt(int field, int64_t value) {
    Varint(static_cast<uint64_t>(field) << 3 | kVarint);
    Varint(static_cast<uint64_t>(value));
  }
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) text_.push_back(static_cast<char>(value | 0x80));
    text_.push_back(static_cast<char>(value));
  }

  std::string text_;
};

}  // namespace weft::debug::internal

#endif  // WEFT_DEBUG_INTERNAL_PROTO_WRITER_H_
