#include "debug/http/request.h"

#include <arpa/inet.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace weft::debug::internal {
namespace {

RequestHead Bad(int status, const char* problem) {
  RequestHead head;
  head.state = RequestHead::State::kBad;
  head.status = status;
  head.problem = problem;
  return head;
}

// Of what names of fields and methods are made.
bool IsToken(absl::string_view text) {
  for (const char c : text) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        !absl::StrContains("!#$%&'*+-.^_`|~", absl::string_view(&c, 1))) {
      return false;
    }
  }
  return !text.empty();
}

bool IsPrintable(absl::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return false;
  }
  return !text.empty();
}

// Why the line is refused, or null. The fields that count may come once.
const char* ReadField(absl::string_view line, RequestHead& head, bool* saw_length) {
  const size_t colon = line.find(':');
  if (colon == absl::string_view::npos || !IsToken(line.substr(0, colon))) {
    return "a header field is malformed";
  }
  const absl::string_view name = line.substr(0, colon);
  const absl::string_view value = absl::StripAsciiWhitespace(line.substr(colon + 1));
  for (const char c : value) {
    if ((static_cast<unsigned char>(c) < ' ' && c != '\t') || c == 0x7f) {
      return "a header field is malformed";
    }
  }
  if (absl::EqualsIgnoreCase(name, "Host")) {
    if (!head.host.empty()) return "there is more than one Host field";
    head.host = std::string(value);
  } else if (absl::EqualsIgnoreCase(name, "Content-Length")) {
    const bool digits = value.find_first_not_of("0123456789") == absl::string_view::npos;
    if (*saw_length || !digits || !absl::SimpleAtoi(value, &head.content_length)) {
      return "the Content-Length is malformed";
    }
    *saw_length = true;
  } else if (absl::EqualsIgnoreCase(name, "Expect")) {
    head.expects_continue = absl::EqualsIgnoreCase(value, "100-continue");
  }
  return nullptr;
}

int HexDigit(char c) {
  if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return -1;
  return absl::ascii_isdigit(static_cast<unsigned char>(c)) ? c - '0'
                                                            : absl::ascii_tolower(c) - 'a' + 10;
}

std::optional<std::string> Decode(absl::string_view text, bool plus_is_space) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size() || HexDigit(text[i + 1]) < 0 || HexDigit(text[i + 2]) < 0) {
        return std::nullopt;
      }
      c = static_cast<char>(HexDigit(text[i + 1]) * 16 + HexDigit(text[i + 2]));
      i += 2;
    } else if (c == '+' && plus_is_space) {
      c = ' ';
    }
    result += c;
  }
  return result;
}

}  // namespace

RequestHead ParseHead(absl::string_view input) {
  const size_t end = input.find("\r\n\r\n");
  if (end == absl::string_view::npos) return {};
  RequestHead head;
  head.size = end + 4;
  const std::vector<absl::string_view> lines = absl::StrSplit(input.substr(0, end), "\r\n");
  const std::vector<absl::string_view> words = absl::StrSplit(lines[0], ' ');
  if (words.size() != 3 || !IsToken(words[0]) || !IsPrintable(words[1])) {
    return Bad(400, "the request line is malformed");
  }
  if (words[2] != "HTTP/1.1" && words[2] != "HTTP/1.0") {
    return absl::StartsWith(words[2], "HTTP/")
               ? Bad(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
               : Bad(400, "the request line does not end in a version of HTTP");
  }
  head.method = std::string(words[0]);
  head.target = std::string(words[1]);
  bool saw_length = false;
  for (size_t i = 1; i < lines.size(); ++i) {
    if (absl::StartsWithIgnoreCase(lines[i], "Transfer-Encoding:")) {
      return Bad(411, "a body in chunks is not taken");
    }
    const char* const problem = ReadField(lines[i], head, &saw_length);
    if (problem != nullptr) return Bad(400, problem);
  }
  if (head.host.empty() && words[2] == "HTTP/1.1") return Bad(400, "there is no Host field");
  head.state = RequestHead::State::kComplete;
  return head;
}

std::string Target::Get(const std::string& name) const {
  const auto found = query.find(name);
  return found == query.end() ? "" : found->second;
}

std::optional<Target> ParseTarget(absl::string_view target) {
  if (!absl::StartsWith(target, "/")) return std::nullopt;
  const std::vector<absl::string_view> parts = absl::StrSplit(target, absl::MaxSplits('?', 1));
  const std::optional<std::string> path = Decode(parts[0], /*plus_is_space=*/false);
  if (!path.has_value()) return std::nullopt;
  for (const char c : *path) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) return std::nullopt;
  }
  Target result;
  result.path = *path;
  if (parts.size() == 1) return result;
  for (const absl::string_view parameter : absl::StrSplit(parts[1], '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(parameter, absl::MaxSplits('=', 1));
    const std::optional<std::string> name = Decode(pair.first, /*plus_is_space=*/true);
    const std::optional<std::string> value = Decode(pair.second, /*plus_is_space=*/true);
    if (!name.has_value() || !value.has_value()) return std::nullopt;
    result.query.emplace(*name, *value);
  }
  return result;
}

bool IsLocalHost(absl::string_view host) {
  if (absl::ConsumePrefix(&host, "[")) {
    const std::string address(host.substr(0, host.find(']')));
    in6_addr unused;
    return inet_pton(AF_INET6, address.c_str(), &unused) == 1;
  }
  const std::string name(host.substr(0, host.find(':')));
  in_addr unused;
  return name.empty() || absl::EqualsIgnoreCase(name, "localhost") ||
         absl::EndsWithIgnoreCase(name, ".localhost") ||
         inet_pton(AF_INET, name.c_str(), &unused) == 1;
}

}  // namespace weft::debug::internal
