#include "debug/http/formats.h"

#include <cctype>
#include <cstddef>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace weft::debug::testing {
namespace {

class JsonParser {
 public:
  explicit JsonParser(absl::string_view text) : rest_(text) {}

  bool Parse() {
    Space();
    if (!Value("")) return false;
    Space();
    return rest_.empty();
  }
  std::map<std::string, std::string> values;

 private:
  void Space() {
    while (!rest_.empty() && absl::StrContains(" \t\r\n", rest_.substr(0, 1))) Drop(1);
  }
  void Drop(size_t n) { rest_.remove_prefix(n); }
  bool Take(char c) {
    if (rest_.empty() || rest_[0] != c) return false;
    Drop(1);
    return true;
  }
  static std::string Join(const std::string& path, absl::string_view name) {
    return path.empty() ? std::string(name) : absl::StrCat(path, ".", name);
  }

  bool Value(const std::string& path) {
    if (rest_.empty()) return false;
    if (rest_[0] == '{') return Object(path);
    if (rest_[0] == '[') return Array(path);
    if (rest_[0] == '"') return String(&values[path]);
    for (const absl::string_view word : {"true", "false", "null"}) {
      if (absl::ConsumePrefix(&rest_, word)) {
        values[path] = std::string(word);
        return true;
      }
    }
    return Number(&values[path]);
  }

  bool Object(const std::string& path) {
    Drop(1);
    Space();
    if (Take('}')) return true;
    std::set<std::string> names;
    do {
      Space();
      std::string name;
      if (!String(&name) || !names.insert(name).second) return false;
      Space();
      if (!Take(':')) return false;
      Space();
      if (!Value(Join(path, name))) return false;
      Space();
    } while (Take(','));
    return Take('}');
  }

  bool Array(const std::string& path) {
    Drop(1);
    Space();
    if (Take(']')) return true;
    int index = 0;
    do {
      Space();
      if (!Value(Join(path, absl::StrCat(index++)))) return false;
      Space();
    } while (Take(','));
    return Take(']');
  }

  bool String(std::string* value) {
    if (!Take('"')) return false;
    while (!rest_.empty() && rest_[0] != '"') {
      if (static_cast<unsigned char>(rest_[0]) < 0x20) return false;
      if (!Take('\\')) {
        *value += rest_[0];
        Drop(1);
        continue;
      }
      const absl::string_view plain = "\"\\/bfnrt";
      const absl::string_view meant = "\"\\/\b\f\n\r\t";
      const size_t at = rest_.empty() ? plain.npos : plain.find(rest_[0]);
      if (at == plain.npos) return false;  // \u is not what we write
      *value += meant[at];
      Drop(1);
    }
    return Take('"');
  }

  size_t Digits() {
    size_t n = 0;
    while (!rest_.empty() && std::isdigit(static_cast<unsigned char>(rest_[0]))) {
      Drop(1);
      ++n;
    }
    return n;
  }

  bool Number(std::string* value) {
    const absl::string_view start = rest_;
    Take('-');
    const bool zero = !rest_.empty() && rest_[0] == '0';
    const size_t digits = Digits();
    if (digits == 0 || (zero && digits > 1)) return false;
    if (Take('.') && Digits() == 0) return false;
    if (Take('e') || Take('E')) {
      if (!Take('+')) Take('-');
      if (Digits() == 0) return false;
    }
    *value = std::string(start.substr(0, start.size() - rest_.size()));
    return true;
  }

  absl::string_view rest_;
};

bool IsName(absl::string_view text, absl::string_view others) {
  if (text.empty() || std::isdigit(static_cast<unsigned char>(text[0]))) return false;
  for (const char c : text) {
    if (!std::isalnum(static_cast<unsigned char>(c)) &&
        !absl::StrContains(others, absl::string_view(&c, 1))) {
      return false;
    }
  }
  return true;
}

// The labels between braces, which `text` begins behind; takes them and the brace off. `*le` is the
// value of "le", if it is there.
bool TakeLabels(absl::string_view& text, std::string* le) {
  do {
    const size_t equals = text.find('=');
    if (equals == text.npos || !IsName(text.substr(0, equals), "_")) return false;
    const bool is_le = text.substr(0, equals) == "le";
    text.remove_prefix(equals + 1);
    if (!absl::ConsumePrefix(&text, "\"")) return false;
    std::string value;
    while (!text.empty() && text[0] != '"') {
      if (text[0] == '\\') {
        text.remove_prefix(1);
        if (text.empty() || !absl::StrContains("\\\"n", text.substr(0, 1))) return false;
      }
      value += text[0];
      text.remove_prefix(1);
    }
    if (!absl::ConsumePrefix(&text, "\"")) return false;
    if (is_le) *le = value;
  } while (absl::ConsumePrefix(&text, ","));
  return absl::ConsumePrefix(&text, "}");
}

bool ParseValue(absl::string_view text, double* value) {
  if (text == "+Inf") {
    *value = std::numeric_limits<double>::infinity();
    return true;
  }
  return absl::SimpleAtod(text, value);
}

class PrometheusParser {
 public:
  std::map<std::string, PrometheusFamily> families;

  // What is wrong with the line, or "".
  std::string Line(absl::string_view line) {
    if (absl::ConsumePrefix(&line, "# ")) return Comment(line);
    return Sample(line);
  }

  // What is wrong with the family that ends.
  std::string End() {
    if (name_.empty()) return "";
    const PrometheusFamily& family = families[name_];
    if (family.type.empty() || family.samples.empty()) return "a family without type or samples";
    if (family.type != "histogram") return "";
    if (!saw_inf_ || !saw_sum_ || bucket_ != count_) return "a histogram without its end";
    return "";
  }

 private:
  std::string Comment(absl::string_view line) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    if (words.size() != 3 || !IsName(words[1], "_:")) return "a malformed comment";
    const std::string name(words[1]);
    if (words[0] == "HELP") {
      std::string problem = End();
      if (!problem.empty()) return problem;
      if (families.count(name) != 0) return "a family that comes twice";
      name_ = name;
      saw_inf_ = saw_sum_ = false;
      bucket_ = last_le_ = -1;
      families[name_].help = std::string(words[2]);
      return "";
    }
    if (words[0] != "TYPE" || name != name_ || !families[name_].type.empty()) {
      return "a TYPE out of place";
    }
    const std::set<absl::string_view> types = {"counter", "gauge", "histogram"};
    if (types.count(words[2]) == 0) return "an unknown type";
    families[name_].type = std::string(words[2]);
    return "";
  }

  std::string Sample(absl::string_view line) {
    const size_t end = line.find_first_of("{ ");
    if (end == line.npos || !IsName(line.substr(0, end), "_:")) return "a malformed name";
    const absl::string_view name = line.substr(0, end);
    absl::string_view rest = line.substr(end);
    std::string le;
    if (absl::ConsumePrefix(&rest, "{") && !TakeLabels(rest, &le)) return "malformed labels";
    double value = 0;
    if (!absl::ConsumePrefix(&rest, " ") || !ParseValue(rest, &value)) return "a malformed value";
    PrometheusFamily& family = families[name_];
    absl::string_view suffix = name;
    if (name_.empty() || !absl::ConsumePrefix(&suffix, name_)) return "a sample of no family";
    const std::string key(line.substr(0, line.size() - rest.size() - 1));
    if (!seen_.insert(key).second) return "a sample that comes twice";
    family.samples.emplace_back(key, value);
    if (family.type != "histogram") return suffix.empty() ? "" : "a sample of another family";
    return HistogramSample(suffix, le, value);
  }

  std::string HistogramSample(absl::string_view suffix, const std::string& le, double value) {
    if (suffix == "_bucket") {
      double bound = 0;
      if (!ParseValue(le, &bound) || bound <= last_le_ || value < bucket_) return "a bad bucket";
      last_le_ = bound;
      bucket_ = value;
      saw_inf_ = le == "+Inf";
      return "";
    }
    if (suffix == "_sum") {
      saw_sum_ = true;
      return "";
    }
    if (suffix != "_count") return "a sample that is no part of a histogram";
    count_ = value;
    return "";
  }

  std::string name_;
  std::set<std::string> seen_;
  bool saw_inf_ = false;
  bool saw_sum_ = false;
  double bucket_ = -1;
  double last_le_ = -1;
  double count_ = 0;
};

}  // namespace

std::optional<std::map<std::string, std::string>> ParseJson(absl::string_view text) {
  JsonParser parser(text);
  if (!parser.Parse()) return std::nullopt;
  return std::move(parser.values);
}

std::map<std::string, PrometheusFamily> ParsePrometheus(absl::string_view text,
                                                        std::string* problem) {
  PrometheusParser parser;
  *problem = absl::ConsumeSuffix(&text, "\n") ? "" : "the last line does not end";
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!problem->empty()) break;
    *problem = parser.Line(line);
    if (!problem->empty()) absl::StrAppend(problem, ": ", line);
  }
  if (problem->empty()) *problem = parser.End();
  return std::move(parser.families);
}

}  // namespace weft::debug::testing
