#include <unistd.h>

#include <cmath>
#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "debug/http/text.h"
#include "debug/http/vars.h"
#include "sched/goroutine.h"

namespace weft::debug::internal {
namespace {

using Kind = Variable::Kind;

void AddHistogram(const DurationHistogram& histogram, Json& json) {
  json.BeginObject().Key("count").Int(static_cast<int64_t>(histogram.total()));
  constexpr std::pair<absl::string_view, double> kQuantiles[] = {
      {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
  for (const auto& [name, q] : kQuantiles) {
    json.Key(name).Number(absl::ToDoubleSeconds(histogram.Quantile(q)));
  }
  json.Key("buckets").BeginArray();
  for (size_t i = 0; i < histogram.counts.size(); ++i) {
    if (histogram.counts[i] == 0) continue;
    json.BeginArray();
    // The last one has no end.
    const absl::Duration end = histogram.bounds[i + 1] == absl::InfiniteDuration()
                                   ? histogram.bounds[i]
                                   : histogram.bounds[i + 1];
    json.Number(absl::ToDoubleSeconds(end)).Int(static_cast<int64_t>(histogram.counts[i]));
    json.EndArray();
  }
  json.EndArray().EndObject();
}

void AddNumber(double value, Json& json) {
  // Counters up to 2^53 as the whole numbers that they are.
  if (value == std::floor(value) && std::fabs(value) < 9e15) {
    json.Int(static_cast<int64_t>(value));
  } else {
    json.Number(value);
  }
}

// The name of a family, and what is said of it once.
std::string Family(const Variable& variable) {
  std::string name;
  if (variable.name[0] == '/') {
    name = absl::StrCat("weft", variable.name);
    for (char& c : name) {
      if (!absl::ascii_isalnum(static_cast<unsigned char>(c))) c = '_';
    }
  } else if (variable.section == "process") {
    name = absl::StrCat("process_", variable.name);
  } else {
    name = absl::StrCat("weft_", variable.section, "_", variable.name);
  }
  if (variable.kind == Kind::kCounter) name += "_total";
  return name;
}

std::string LabelValue(absl::string_view value) {
  std::string result;
  for (const char c : ToUtf8(value)) {
    if (c == '\\' || c == '"') result += '\\';
    if (c == '\n') {
      result += "\\n";
    } else {
      result += c;
    }
  }
  return result;
}

std::string Braces(const Variable& variable) {
  if (variable.labels.empty()) return "";
  std::string text = "{";
  const char* separator = "";
  for (const auto& [name, value] : variable.labels) {
    absl::StrAppend(&text, separator, name, "=\"", LabelValue(value), "\"");
    separator = ",";
  }
  return text + "}";
}

std::string FormatNumber(double value) {
  if (value == std::floor(value) && std::fabs(value) < 9e15) {
    return absl::StrCat(static_cast<int64_t>(value));
  }
  return absl::StrFormat("%.9g", value);
}

// Cumulative, as the format has it, at every fourth bound: each is twice the one before.
void AppendHistogram(const std::string& family, const DurationHistogram& histogram,
                     std::string& text) {
  uint64_t count = 0;
  double sum = 0;
  for (size_t i = 0; i < histogram.counts.size(); ++i) {
    const bool is_last = histogram.bounds[i + 1] == absl::InfiniteDuration();
    const double begin = absl::ToDoubleSeconds(histogram.bounds[i]);
    const double end = is_last ? begin : absl::ToDoubleSeconds(histogram.bounds[i + 1]);
    count += histogram.counts[i];
    sum += static_cast<double>(histogram.counts[i]) * (begin + end) / 2;
    if (!is_last && i % 4 == 0) {
      absl::StrAppend(&text, family, "_bucket{le=\"", absl::StrFormat("%.9g", end), "\"} ", count,
                      "\n");
    }
  }
  absl::StrAppend(&text, family, "_bucket{le=\"+Inf\"} ", count, "\n");
  absl::StrAppend(&text, family, "_sum ", absl::StrFormat("%.9g", sum), "\n");
  absl::StrAppend(&text, family, "_count ", count, "\n");
}

}  // namespace

std::string FormatJson(const std::vector<Variable>& variables) {
  Json json;
  json.BeginObject().Key("cmdline").BeginArray();
  {
    const BlockingSection section;
    std::ifstream file("/proc/self/cmdline", std::ios::binary);
    const std::string all{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    for (const absl::string_view word :
         absl::StrSplit(absl::StripSuffix(all, absl::string_view("\0", 1)), '\0')) {
      json.String(word);
    }
  }
  json.EndArray().Key("pid").Int(getpid());
  for (auto at = variables.begin(); at != variables.end();) {
    const std::string section = at->section;
    json.Key(section).BeginObject();
    while (at != variables.end() && at->section == section) {
      json.Key(at->name);
      if (at->labels.empty()) {
        if (at->kind == Kind::kHistogram) {
          AddHistogram(at->histogram, json);
        } else {
          AddNumber(at->value, json);
        }
        ++at;
        continue;
      }
      json.BeginArray();
      for (const std::string name = at->name; at != variables.end() && at->name == name; ++at) {
        json.BeginObject();
        for (const auto& [key, value] : at->labels) json.Key(key).String(value);
        json.Key("value");
        AddNumber(at->value, json);
        json.EndObject();
      }
      json.EndArray();
    }
    json.EndObject();
  }
  return json.EndObject().text() + "\n";
}

std::string FormatPrometheus(const std::vector<Variable>& variables) {
  std::string text;
  std::string last;
  for (const Variable& variable : variables) {
    const std::string family = Family(variable);
    if (family != last) {
      last = family;
      absl::StrAppend(&text, "# HELP ", family, " ", variable.help);
      if (variable.kind == Kind::kHistogram) {
        absl::StrAppend(&text, "; the sum is reckoned from the buckets' middles");
      }
      absl::StrAppend(&text, "\n# TYPE ", family, " ",
                      variable.kind == Kind::kCounter     ? "counter"
                      : variable.kind == Kind::kHistogram ? "histogram"
                                                          : "gauge",
                      "\n");
    }
    if (variable.kind == Kind::kHistogram) {
      AppendHistogram(family, variable.histogram, text);
    } else {
      absl::StrAppend(&text, family, Braces(variable), " ", FormatNumber(variable.value), "\n");
    }
  }
  return text;
}

}  // namespace weft::debug::internal
