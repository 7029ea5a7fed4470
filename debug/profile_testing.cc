#include "debug/profile_testing.h"

#include <unistd.h>
#include <zlib.h>

#include <climits>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/subprocess.h"

namespace weft::testing {
namespace {

std::string Gunzip(const std::string& packed) {
  z_stream stream = {};
  EXPECT_EQ(inflateInit2(&stream, MAX_WBITS + 16), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string text;
  int result = Z_OK;
  while (result == Z_OK) {
    char piece[4096];
    stream.next_out = reinterpret_cast<Bytef*>(piece);
    stream.avail_out = sizeof(piece);
    result = inflate(&stream, Z_NO_FLUSH);
    text.append(piece, sizeof(piece) - stream.avail_out);
  }
  EXPECT_EQ(result, Z_STREAM_END);
  inflateEnd(&stream);
  return text;
}

// Fields of a message in their order.
struct Field {
  int number = 0;
  uint64_t value = 0;       // of a varint
  absl::string_view bytes;  // of one with a length
  bool has_bytes = false;
};

class Reader {
 public:
  explicit Reader(absl::string_view text) : text_(text) {}

  bool Next(Field& field) {
    if (text_.empty()) return false;
    const uint64_t key = Varint();
    field = {.number = static_cast<int>(key >> 3), .value = 0, .bytes = {}, .has_bytes = false};
    switch (key & 7) {
      case 0:
        field.value = Varint();
        return true;
      case 2: {
        const uint64_t size = Varint();
        EXPECT_LE(size, text_.size());
        field.bytes = text_.substr(0, size);
        field.has_bytes = true;
        text_.remove_prefix(field.bytes.size());
        return true;
      }
      default:
        ADD_FAILURE() << "wire type " << (key & 7);
        return false;
    }
  }

  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      if (text_.empty() || shift > 63) {
        ADD_FAILURE() << "a torn varint";
        return 0;
      }
      const auto byte = static_cast<unsigned char>(text_.front());
      text_.remove_prefix(1);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
  }

  bool done() const { return text_.empty(); }

 private:
  absl::string_view text_;
};

void ForEachField(absl::string_view message, const std::function<void(const Field&)>& visit) {
  Reader reader(message);
  for (Field field; reader.Next(field);) visit(field);
}

// Repeated numbers, packed or not.
void AddNumbers(const Field& field, std::vector<uint64_t>& numbers) {
  if (!field.has_bytes) {
    numbers.push_back(field.value);
    return;
  }
  for (Reader reader(field.bytes); !reader.done();) numbers.push_back(reader.Varint());
}

class Decoder {
 public:
  DecodedProfile Decode(absl::string_view text) {
    std::vector<absl::string_view> fields[15];
    std::map<int, uint64_t> numbers;
    ForEachField(text, [&](const Field& field) {
      ASSERT_GE(field.number, 1);
      ASSERT_LE(field.number, 14);
      if (field.has_bytes) {
        fields[field.number].push_back(field.bytes);
      } else {
        numbers[field.number] = field.value;
      }
    });
    for (const absl::string_view bytes : fields[6]) strings_.emplace_back(bytes);
    EXPECT_FALSE(strings_.empty());
    EXPECT_EQ(String(0), "");
    for (const absl::string_view bytes : fields[1]) profile_.sample_types.push_back(Type(bytes));
    for (const absl::string_view bytes : fields[11]) profile_.period_type = Type(bytes);
    for (const absl::string_view bytes : fields[3]) AddMapping(bytes);
    for (const absl::string_view bytes : fields[5]) AddFunction(bytes);
    for (const absl::string_view bytes : fields[4]) AddLocation(bytes);
    for (const absl::string_view bytes : fields[2]) AddSample(bytes);
    profile_.time_nanos = static_cast<int64_t>(numbers[9]);
    profile_.duration_nanos = static_cast<int64_t>(numbers[10]);
    profile_.period = static_cast<int64_t>(numbers[12]);
    profile_.default_sample_type = String(numbers[14]);
    return std::move(profile_);
  }

 private:
  std::string String(uint64_t index) const {
    if (index < strings_.size()) return strings_[index];
    ADD_FAILURE() << "no string " << index;
    return "";
  }

  static std::map<int, uint64_t> Numbers(absl::string_view message) {
    std::map<int, uint64_t> numbers;
    ForEachField(message, [&](const Field& field) { numbers[field.number] = field.value; });
    return numbers;
  }

  std::string Type(absl::string_view message) const {
    std::map<int, uint64_t> numbers = Numbers(message);
    return absl::StrCat(String(numbers[1]), "/", String(numbers[2]));
  }

  void AddMapping(absl::string_view message) {
    std::map<int, uint64_t> numbers = Numbers(message);
    EXPECT_NE(numbers[1], 0u);
    EXPECT_LT(numbers[2], numbers[3]);
    profile_.mappings[numbers[1]] = {
        .start = numbers[2],
        .limit = numbers[3],
        .offset = numbers[4],
        .file = String(numbers[5]),
        .build_id = String(numbers[6]),
        .has_all = numbers[7] == 1 && numbers[8] == 1 && numbers[9] == 1 && numbers[10] == 1};
  }

  void AddFunction(absl::string_view message) {
    std::map<int, uint64_t> numbers = Numbers(message);
    EXPECT_NE(numbers[1], 0u);
    EXPECT_TRUE(functions_.try_emplace(numbers[1], String(numbers[2]), String(numbers[4])).second);
  }

  void AddLocation(absl::string_view message) {
    DecodedProfile::Location location;
    uint64_t id = 0;
    ForEachField(message, [&](const Field& field) {
      if (field.number == 1) id = field.value;
      if (field.number == 2) location.mapping = field.value;
      if (field.number == 3) location.address = field.value;
      if (field.number != 4) return;
      std::map<int, uint64_t> line = Numbers(field.bytes);
      const auto function = functions_.find(line[1]);
      ASSERT_NE(function, functions_.end());
      location.lines.push_back(
          {function->second.first, function->second.second, static_cast<int64_t>(line[2])});
    });
    EXPECT_NE(id, 0u);
    if (location.mapping != 0) {
      ASSERT_EQ(profile_.mappings.count(location.mapping), 1u);
      EXPECT_GE(location.address, profile_.mappings[location.mapping].start);
      EXPECT_LT(location.address, profile_.mappings[location.mapping].limit);
    }
    EXPECT_TRUE(locations_.try_emplace(id, location).second);
  }

  void AddSample(absl::string_view message) {
    DecodedProfile::Sample sample;
    std::vector<uint64_t> locations;
    std::vector<uint64_t> values;
    ForEachField(message, [&](const Field& field) {
      if (field.number == 1) AddNumbers(field, locations);
      if (field.number == 2) AddNumbers(field, values);
      if (field.number != 3) return;
      std::map<int, uint64_t> label = Numbers(field.bytes);
      sample.labels[String(label[1])] = String(label[2]);
    });
    for (const uint64_t location : locations) {
      ASSERT_EQ(locations_.count(location), 1u);
      sample.stack.push_back(locations_[location]);
    }
    sample.values.assign(values.begin(), values.end());
    EXPECT_EQ(sample.values.size(), profile_.sample_types.size());
    profile_.samples.push_back(std::move(sample));
  }

  DecodedProfile profile_;
  std::vector<std::string> strings_;
  std::map<uint64_t, std::pair<std::string, std::string>> functions_;
  std::map<uint64_t, DecodedProfile::Location> locations_;
};

}  // namespace

std::string DecodedProfile::Sample::Functions() const {
  std::string text;
  for (const Location& location : stack) {
    for (const Line& line : location.lines) {
      absl::StrAppend(&text, text.empty() ? "" : " < ", line.function);
    }
  }
  return text;
}

int64_t DecodedProfile::Sum(absl::string_view function, size_t i) const {
  int64_t sum = 0;
  for (const Sample& sample : samples) {
    if (absl::StrContains(sample.Functions(), function)) sum += sample.values.at(i);
  }
  return sum;
}

const DecodedProfile::Sample* DecodedProfile::Find(absl::string_view function) const {
  for (const Sample& sample : samples) {
    if (absl::StrContains(sample.Functions(), function)) return &sample;
  }
  return nullptr;
}

DecodedProfile DecodeProfile(const std::string& gzipped) {
  return Decoder().Decode(Gunzip(gzipped));
}

std::string Write(absl::string_view name, debug::ProfileFormat format) {
  std::string text;
  const absl::Status status = debug::WriteProfile(
      name, [&](absl::string_view bytes) { absl::StrAppend(&text, bytes); }, format);
  EXPECT_TRUE(status.ok()) << status;
  return text;
}

std::string GooglePprof(const std::string& profile) {
  constexpr char kPprof[] = "/usr/bin/google-pprof";
  if (access(kPprof, X_OK) != 0) return "";
  const std::string path = absl::StrCat(::testing::TempDir(), "/", getpid(), ".prof");
  std::ofstream(path, std::ios::binary) << profile;
  const ProcessResult result = RunProcess({kPprof, "--text", path});
  unlink(path.c_str());
  EXPECT_EQ(result.exit_status, 0) << result.err;
  return result.out;
}

}  // namespace weft::testing
