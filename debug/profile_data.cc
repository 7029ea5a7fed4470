#include "debug/profile_data.h"

#include <zlib.h>

#include <algorithm>
#include <climits>
#include <cstddef>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "debug/internal/mappings.h"
#include "debug/internal/profile_frames.h"
#include "debug/internal/proto_writer.h"

namespace weft::debug {
namespace {

using internal::GetMappings;
using internal::Mapping;
using internal::ProfileFrame;
using internal::ProfileFrames;
using internal::ProtoWriter;

// How samples look in text, and in gperftools' files.
enum class Kind { kCount, kContention, kHeap };

Kind KindOf(const ProfileData& data) {
  if (data.sample_types.size() != 2) return Kind::kCount;
  if (data.sample_types[1].unit == "bytes") return Kind::kHeap;
  return data.sample_types[1].type == "delay" ? Kind::kContention : Kind::kCount;
}

int64_t Sum(const ProfileData& data, size_t value) {
  int64_t sum = 0;
  for (const ProfileSample& sample : data.samples) sum += sample.values[value];
  return sum;
}

absl::string_view FunctionName(const SourceLocation& at) {
  if (at.function.empty()) return "?";
  return at.function;
}

std::string Gzip(const std::string& text) {
  z_stream stream = {};
  constexpr int kGzip = MAX_WBITS + 16;
  constexpr int kDefaultMemory = 8;
  // For lack of memory alone, which ends the program elsewhere too.
  if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kGzip, kDefaultMemory, Z_DEFAULT_STRATEGY) !=
      Z_OK) {
    return "";
  }
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

// The message Profile. Names of fields are those of profile.proto.
class ProfileEncoder {
 public:
  explicit ProfileEncoder(const ProfileData& data)
      : data_(data), mappings_(GetMappings()), frames_(data.hides_runtime) {
    Index("");
  }

  std::string Encode() {
    for (const ValueType& type : data_.sample_types) AddType(kSampleType, type);
    for (const ProfileSample& sample : data_.samples) AddSample(sample);
    AddMappings();
    profile_.Int(kTimeNanos, absl::ToUnixNanos(data_.time));
    profile_.Int(kDurationNanos, absl::ToInt64Nanoseconds(data_.duration));
    AddType(kPeriodType, data_.period_type);
    profile_.Int(kPeriod, data_.period);
    if (!data_.default_sample_type.empty()) {
      profile_.Int(kDefaultSampleType, Index(data_.default_sample_type));
    }
    // Last, as all else adds to them.
    for (const absl::string_view text : strings_) profile_.Bytes(kStringTable, text);
    return profile_.text();
  }

 private:
  // Numbers of Profile's fields.
  static constexpr int kSampleType = 1;
  static constexpr int kSample = 2;
  static constexpr int kMapping = 3;
  static constexpr int kLocation = 4;
  static constexpr int kFunction = 5;
  static constexpr int kStringTable = 6;
  static constexpr int kTimeNanos = 9;
  static constexpr int kDurationNanos = 10;
  static constexpr int kPeriodType = 11;
  static constexpr int kPeriod = 12;
  static constexpr int kDefaultSampleType = 14;

  int64_t Index(absl::string_view text) {
    const auto [found, is_new] =
        indices_.try_emplace(std::string(text), static_cast<int64_t>(indices_.size()));
    if (is_new) strings_.push_back(found->first);
    return found->second;
  }

  void AddType(int field, const ValueType& type) {
    ProtoWriter message;
    message.Int(1, Index(type.type));
    message.Int(2, Index(type.unit));
    profile_.Message(field, message);
  }

  void AddSample(const ProfileSample& sample) {
    std::vector<uint64_t> locations;
    for (const ProfileFrame* frame : frames_.Of(sample)) locations.push_back(LocationOf(frame));
    ProtoWriter message;
    message.Packed(1, locations);
    message.Packed(2, sample.values);
    for (const auto& [key, value] : sample.labels) {
      ProtoWriter label;
      label.Int(1, Index(key));
      label.Int(2, Index(value));
      message.Message(3, label);
    }
    profile_.Message(kSample, message);
  }

  uint64_t LocationOf(const ProfileFrame* frame) {
    const auto [found, is_new] = locations_.try_emplace(frame, locations_.size() + 1);
    if (!is_new) return found->second;
    ProtoWriter message;
    message.Int(1, static_cast<int64_t>(found->second));
    message.Int(2, MappingOf(frame->pc));
    message.Int(3, static_cast<int64_t>(frame->pc));
    for (const SourceLocation& at : frame->lines) {
      ProtoWriter line;
      line.Int(1, FunctionOf(at));
      line.Int(2, at.line);
      message.Message(4, line);
    }
    profile_.Message(kLocation, message);
    return found->second;
  }

  int64_t FunctionOf(const SourceLocation& at) {
    const auto [found, is_new] = functions_.try_emplace(
        {std::string(FunctionName(at)), at.file}, static_cast<int64_t>(functions_.size()) + 1);
    if (!is_new) return found->second;
    ProtoWriter message;
    message.Int(1, found->second);
    message.Int(2, Index(FunctionName(at)));
    message.Int(3, Index(FunctionName(at)));
    message.Int(4, Index(at.file));
    profile_.Message(kFunction, message);
    return found->second;
  }

  // Its number, from 1; 0: none.
  int64_t MappingOf(uintptr_t pc) const {
    for (size_t i = 0; i < mappings_.size(); ++i) {
      if (mappings_[i].start <= pc && pc < mappings_[i].limit) return static_cast<int64_t>(i) + 1;
    }
    return 0;
  }

  void AddMappings() {
    for (size_t i = 0; i < mappings_.size(); ++i) {
      const Mapping& mapping = mappings_[i];
      ProtoWriter message;
      message.Int(1, static_cast<int64_t>(i) + 1);
      message.Int(2, static_cast<int64_t>(mapping.start));
      message.Int(3, static_cast<int64_t>(mapping.limit));
      message.Int(4, static_cast<int64_t>(mapping.offset));
      message.Int(5, Index(mapping.file));
      message.Int(6, Index(mapping.build_id));
      // Functions, files, lines and inlined calls are all here: readers need look for nothing.
      for (int has = 7; has <= 10; ++has) message.Int(has, 1);
      profile_.Message(kMapping, message);
    }
  }

  const ProfileData& data_;
  const std::vector<Mapping> mappings_;
  ProfileFrames frames_;
  ProtoWriter profile_;
  std::map<std::string, int64_t> indices_;
  std::vector<absl::string_view> strings_;  // keys of indices_
  std::map<const ProfileFrame*, uint64_t> locations_;
  std::map<std::pair<std::string, std::string>, int64_t> functions_;
};

// " 0x1234 0x5678": return addresses, which readers take one from.
std::string Addresses(const ProfileSample& sample) {
  std::string text;
  for (const uintptr_t pc : sample.frames) absl::StrAppend(&text, " 0x", absl::Hex(pc + 1));
  return text;
}

std::string LabelText(const ProfileSample& sample) {
  std::string text;
  for (const auto& [key, value] : sample.labels) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", "\"", absl::CEscape(key), "\":\"",
                    absl::CEscape(value), "\"");
  }
  return text;
}

std::string Header(const ProfileData& data, Kind kind) {
  switch (kind) {
    case Kind::kCount:
      return absl::StrCat(data.name, " profile: total ", Sum(data, 0), "\n");
    case Kind::kContention:
      // Go's "block" profile has this name there.
      return absl::StrCat("--- ", data.name == "block" ? "contention" : data.name,
                          ":\ncycles/second=1000000000\n");
    case Kind::kHeap:
      // As if each byte had been counted: the figures are estimates of all already.
      return absl::StrCat("heap profile: ", Sum(data, 0), ": ", Sum(data, 1), " [", Sum(data, 0),
                          ": ", Sum(data, 1), "] @ heap_v2/1\n");
  }
  return "";
}

std::string Values(const ProfileSample& sample, Kind kind) {
  const std::vector<int64_t>& v = sample.values;
  switch (kind) {
    case Kind::kCount:
      return absl::StrCat(v[0]);
    case Kind::kContention:
      return absl::StrCat(v[1], " ", v[0]);
    case Kind::kHeap:
      return absl::StrCat(v[0], ": ", v[1], " [", v[0], ": ", v[1], "]");
  }
  return "";
}

// A profile of processor time in gperftools' form: words of 64 bits, without the map of the
// process, as the names of functions come with it.
std::string CpuProfileWords(const ProfileData& data) {
  std::vector<uint64_t> words = {0, 3, 0, 1, 0};
  for (const ProfileSample& sample : data.samples) {
    if (sample.values[0] <= 0 || sample.frames.empty()) continue;
    words.push_back(static_cast<uint64_t>(sample.values[0]));
    words.push_back(sample.frames.size());
    words.insert(words.end(), sample.frames.begin(), sample.frames.end());
  }
  words.insert(words.end(), {0, 1, 0});
  return std::string(reinterpret_cast<const char*>(words.data()), words.size() * sizeof(words[0]));
}

}  // namespace

void Merge(ProfileData& data) {
  ProfileFrames frames(data.hides_runtime);
  std::map<std::pair<std::vector<uintptr_t>, std::vector<std::pair<std::string, std::string>>>,
           std::vector<int64_t>>
      sums;
  for (ProfileSample& sample : data.samples) {
    // By those that are shown: inside the runtime there are several ways to wait for one thing.
    std::vector<uintptr_t> shown;
    for (const ProfileFrame* frame : frames.Of(sample)) shown.push_back(frame->pc);
    std::vector<int64_t>& sum = sums[{std::move(shown), std::move(sample.labels)}];
    sum.resize(sample.values.size());
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += sample.values[i];
  }
  data.samples.clear();
  for (auto& [key, values] : sums) data.samples.push_back({key.first, values, key.second});
  std::sort(data.samples.begin(), data.samples.end(),
            [](const ProfileSample& a, const ProfileSample& b) { return a.values > b.values; });
}

ProfileData Difference(const ProfileData& before, ProfileData after) {
  for (ProfileSample sample : before.samples) {
    for (int64_t& value : sample.values) value = -value;
    after.samples.push_back(std::move(sample));
  }
  Merge(after);
  std::erase_if(after.samples, [](const ProfileSample& sample) {
    return std::all_of(sample.values.begin(), sample.values.end(),
                       [](int64_t value) { return value == 0; });
  });
  after.duration = after.time - before.time;
  after.time = before.time;
  return after;
}

std::string EncodeProfile(const ProfileData& data) { return Gzip(ProfileEncoder(data).Encode()); }

std::string FormatProfile(const ProfileData& data) {
  const Kind kind = KindOf(data);
  ProfileFrames frames(data.hides_runtime);
  std::string text = Header(data, kind);
  for (const ProfileSample& sample : data.samples) {
    absl::StrAppend(&text, Values(sample, kind), " @", Addresses(sample), "\n");
    if (!sample.labels.empty()) absl::StrAppend(&text, "# labels: {", LabelText(sample), "}\n");
    for (const ProfileFrame* frame : frames.Of(sample)) {
      for (const SourceLocation& at : frame->lines) {
        absl::StrAppend(&text, "#\t0x", absl::Hex(frame->pc + 1), "\t", FunctionName(at), "+0x",
                        absl::Hex(at.offset_in_function + 1), "\t",
                        at.file.empty() ? at.module : absl::StrCat(at.file, ":", at.line), "\n");
      }
    }
    text += "\n";
  }
  return text;
}

std::string EncodeForGperftools(const ProfileData& data) {
  const Kind kind = KindOf(data);
  ProfileFrames frames(data.hides_runtime);
  ProfileData shown = data;
  std::map<uintptr_t, std::string> names;
  for (ProfileSample& sample : shown.samples) {
    const std::vector<const ProfileFrame*> of_sample = frames.Of(sample);
    sample.frames.clear();
    for (const ProfileFrame* frame : of_sample) {
      sample.frames.push_back(frame->pc);
      std::string& name = names[frame->pc];
      if (!name.empty()) continue;
      for (const SourceLocation& at : frame->lines) {
        // "--" stands between the names of inlined calls.
        absl::StrAppend(&name, name.empty() ? "" : "--",
                        absl::StrReplaceAll(FunctionName(at), {{"--", "- -"}}));
      }
    }
  }
  const std::vector<Mapping> mappings = GetMappings();
  std::string text =
      absl::StrCat("--- symbol\nbinary=", mappings.empty() ? "" : mappings[0].file, "\n");
  for (const auto& [pc, name] : names) absl::StrAppend(&text, "0x", absl::Hex(pc), " ", name, "\n");
  text += "---\n";
  if (kind == Kind::kCount) return absl::StrCat(text, "--- profile\n", CpuProfileWords(shown));
  absl::StrAppend(&text, kind == Kind::kContention ? "--- contention\ncycles/second=1000000000\n"
                                                   : Header(data, kind));
  for (const ProfileSample& sample : shown.samples) {
    absl::StrAppend(&text, Values(sample, kind), " @");
    for (const uintptr_t pc : sample.frames) absl::StrAppend(&text, " 0x", absl::Hex(pc));
    text += "\n";
  }
  return text;
}

}  // namespace weft::debug
