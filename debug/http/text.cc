#include "debug/http/text.h"

#include <cmath>
#include <cstddef>

#include "absl/strings/str_format.h"

namespace weft::debug::internal {
namespace {

constexpr absl::string_view kReplacement = "\xef\xbf\xbd";

bool IsContinuation(unsigned char c) { return (c & 0xc0) == 0x80; }

// How long the well-formed character is that `text` begins with; 0: there is none. By the table of
// Unicode (section 3.9), which leaves out surrogates and what is longer than need be.
size_t CharacterSize(absl::string_view text) {
  const auto at = [&](size_t i) -> unsigned char {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  if (first < 0xe0) return IsContinuation(at(1)) ? 2 : 0;
  const unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (at(1) < low || at(1) > high || !IsContinuation(at(2))) return 0;
  if (first < 0xf0) return 3;
  return IsContinuation(at(3)) ? 4 : 0;
}

bool IsControl(char c) {
  return (static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n') || c == 0x7f;
}

}  // namespace

std::string ToUtf8(absl::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t size = CharacterSize(text);
    if (size == 0 || IsControl(text[0])) {
      absl::StrAppend(&result, kReplacement);
    } else {
      absl::StrAppend(&result, text.substr(0, size));
    }
    text.remove_prefix(size == 0 ? 1 : size);
  }
  return result;
}

std::string EscapeHtml(absl::string_view text) {
  std::string result;
  for (const char c : ToUtf8(text)) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string JsonString(absl::string_view text) {
  std::string result = "\"";
  for (const char c : ToUtf8(text)) {
    switch (c) {
      case '"':
        result += "\\\"";
        break;
      case '\\':
        result += "\\\\";
        break;
      case '\n':
        result += "\\n";
        break;
      case '\t':
        result += "\\t";
        break;
      default:
        result += c;
    }
  }
  result += '"';
  return result;
}

Json& Json::Key(absl::string_view key) {
  Separate();
  absl::StrAppend(&text_, JsonString(key), ":");
  needs_comma_ = false;
  return *this;
}

Json& Json::Number(double value) {
  return Value(std::isfinite(value) ? absl::StrFormat("%.9g", value) : "0");
}

Json& Json::Begin(char bracket) {
  Separate();
  text_ += bracket;
  needs_comma_ = false;
  return *this;
}

Json& Json::End(char bracket) {
  text_ += bracket;
  needs_comma_ = true;
  return *this;
}

Json& Json::Value(absl::string_view value) {
  Separate();
  text_.append(value.data(), value.size());
  needs_comma_ = true;
  return *this;
}

void Json::Separate() {
  if (needs_comma_) text_ += ',';
}

}  // namespace weft::debug::internal
