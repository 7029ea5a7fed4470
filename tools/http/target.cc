#include "tools/http/target.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"

namespace weft::http {
namespace {

Target Refuse(absl::string_view problem) {
  Target target;
  target.status = 400;
  target.problem = problem;
  return target;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = absl::ascii_tolower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Appends the decoded form of `segment`. Returns what is wrong with it, or an empty string.
absl::string_view Decode(absl::string_view segment, std::string& out) {
  for (size_t i = 0; i < segment.size(); ++i) {
    char c = segment[i];
    if (c == '%') {
      const int high = i + 2 < segment.size() ? HexDigit(segment[i + 1]) : -1;
      const int low = i + 2 < segment.size() ? HexDigit(segment[i + 2]) : -1;
      if (high < 0 || low < 0) return "it has a malformed percent-encoding";
      c = static_cast<char>(high * 16 + low);
      i += 2;
      if (c == '/') return "it has an encoded slash";
    }
    if (c == '\0') return "it has an encoded NUL";
    out.push_back(c);
  }
  return {};
}

// Takes scheme and host from an absolute form, which servers must take though only proxies are
// meant to get it. Returns whether there were any.
bool ConsumeAuthority(absl::string_view& target) {
  for (absl::string_view scheme : {"http://", "https://"}) {
    if (!absl::StartsWithIgnoreCase(target, scheme)) continue;
    target.remove_prefix(std::min(target.find_first_of("/?", scheme.size()), target.size()));
    return true;
  }
  return false;
}

}  // namespace

Target ParseTarget(absl::string_view text) {
  if (text.find('#') != absl::string_view::npos) return Refuse("it has a fragment");
  Target target;
  const bool absolute = ConsumeAuthority(text);
  if (const size_t query = text.find('?'); query != absl::string_view::npos) {
    target.query = text.substr(query);
    text = text.substr(0, query);
  }
  if (absolute && text.empty()) text = "/";
  if (text.empty() || text[0] != '/') return Refuse("it does not begin with a slash");

  target.path.reserve(text.size());
  size_t begin = 1;
  while (true) {
    const size_t slash = text.find('/', begin);
    const bool last = slash == absl::string_view::npos;
    const size_t mark = target.path.size();
    if (mark != 0) target.path.push_back('/');
    const size_t start = target.path.size();
    absl::string_view problem =
        Decode(text.substr(begin, last ? absl::string_view::npos : slash - begin), target.path);
    if (!problem.empty()) return Refuse(problem);
    const absl::string_view segment = absl::string_view(target.path).substr(start);
    if (segment == "..") return Refuse("it has a \"..\" segment");
    const bool nothing = segment.empty() || segment == ".";
    if (nothing) target.path.resize(mark);
    if (last) {
      target.wants_directory = nothing;
      return target;
    }
    begin = slash + 1;
  }
}

std::string EncodePath(absl::string_view path) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(path.size() + 8);
  for (const char c : path) {
    if (absl::ascii_isalnum(c) || absl::string_view("-._~/").find(c) != absl::string_view::npos) {
      out.push_back(c);
    } else {
      const unsigned char byte = static_cast<unsigned char>(c);
      out.push_back('%');
      out.push_back(kDigits[byte >> 4]);
      out.push_back(kDigits[byte & 15]);
    }
  }
  return out;
}

std::string EscapeHtml(absl::string_view text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

}  // namespace weft::http
