// HTML and JSON in which nothing that comes from outside is taken for markup.
#ifndef WEFT_DEBUG_HTTP_TEXT_H_
#define WEFT_DEBUG_HTTP_TEXT_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace weft::debug::internal {

// `text` with U+FFFD for each byte that is no part of well-formed UTF-8, and for control characters
// but tabs and newlines.
std::string ToUtf8(absl::string_view text);

// For text and for values of attributes in quotes.
std::string EscapeHtml(absl::string_view text);

// With its quotes.
std::string JsonString(absl::string_view text);

// A constant of the program: what is computed does not convert to it.
class Literal {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): that is what it is for.
  consteval Literal(const char* text) : text_(text) {}
  constexpr absl::string_view text() const { return text_; }

 private:
  absl::string_view text_;
};

// Builds a page: what is in it is either the program's own markup or escaped.
class Html {
 public:
  Html& Markup(Literal markup) {
    text_.append(markup.text().data(), markup.text().size());
    return *this;
  }
  Html& Text(const absl::AlphaNum& text) {
    text_ += EscapeHtml(text.Piece());
    return *this;
  }
  Html& Add(const Html& other) {
    text_ += other.text_;
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// Builds one JSON value. Commas are its own; the order of calls is the caller's.
class Json {
 public:
  Json& BeginObject() { return Begin('{'); }
  Json& EndObject() { return End('}'); }
  Json& BeginArray() { return Begin('['); }
  Json& EndArray() { return End(']'); }
  Json& Key(absl::string_view key);
  Json& String(absl::string_view value) { return Value(JsonString(value)); }
  Json& Int(int64_t value) { return Value(absl::StrCat(value)); }
  // 0 for what is no finite number: JSON has no other.
  Json& Number(double value);
  Json& Bool(bool value) { return Value(value ? "true" : "false"); }
  const std::string& text() const { return text_; }

 private:
  Json& Begin(char bracket);
  Json& End(char bracket);
  Json& Value(absl::string_view value);
  void Separate();

  std::string text_;
  bool needs_comma_ = false;
};

}  // namespace weft::debug::internal

#endif  // WEFT_DEBUG_HTTP_TEXT_H_
