#include "tools/http/access_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace weft::http {
namespace {

namespace fs = std::filesystem;

std::string ReadFile(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

fs::path TempFile() {
  const char* base = getenv("TEST_TMPDIR");
  std::string name = absl::StrCat(base != nullptr ? base : "/tmp", "/log_XXXXXX");
  close(mkstemp(name.data()));
  return name;
}

// Polls for `condition` with a generous deadline.
template <typename Condition>
bool Eventually(Condition condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

TEST(AccessLogTest, FormatsAsTheCommonLogFormat) {
  const std::string line = FormatLine({.client = "127.0.0.1",
                                       .method = "GET",
                                       .target = "/a.png",
                                       .version = "HTTP/1.0",
                                       .status = 200,
                                       .body_size = 2326,
                                       .time = absl::FromUnixSeconds(971211336)});
  const std::regex form(
      "127\\.0\\.0\\.1 - - \\[1[01]/Oct/2000:\\d\\d:\\d\\d:36 [+-]\\d{4}\\] "
      "\"GET /a\\.png HTTP/1\\.0\" 200 2326\n");
  EXPECT_TRUE(std::regex_match(line, form)) << line;
}

TEST(AccessLogTest, EscapesWhatTheClientSent) {
  const std::string line =
      FormatLine({.method = "GET", .target = "/\"\\\n\x1B[2J\xFF", .version = "x"});
  EXPECT_NE(line.find("\"GET /\\x22\\x5c\\x0a\\x1b[2J\\xff x\""), std::string::npos) << line;
  EXPECT_NE(FormatLine({.status = 400}).find("\"-\" 400 0"), std::string::npos);
}

TEST(AccessLogTest, LinesAppearSoonAndAllOfThemAtClose) {
  const fs::path path = TempFile();
  absl::StatusOr<std::unique_ptr<AccessLog>> log = AccessLog::Open(path.string());
  ASSERT_TRUE(log.ok()) << log.status();
  (*log)->Add({.method = "GET", .target = "/first", .version = "HTTP/1.1"});
  EXPECT_TRUE(Eventually([&] { return ReadFile(path).find("/first") != std::string::npos; }));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&log] {
      for (int i = 0; i < 1000; ++i) {
        (*log)->Add({.method = "GET", .target = "/x", .version = "HTTP/1.1", .status = 200});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  (*log)->Close();
  const std::string text = ReadFile(path);
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  EXPECT_EQ(lines.size(), 4001u);
  for (size_t i = 1; i < lines.size(); ++i) {
    ASSERT_NE(lines[i].find("\"GET /x HTTP/1.1\" 200 0"), std::string::npos) << lines[i];
  }
  fs::remove(path);
}

TEST(AccessLogTest, AppendsToWhatIsThere) {
  const fs::path path = TempFile();
  std::ofstream(path) << "old\n";
  absl::StatusOr<std::unique_ptr<AccessLog>> log = AccessLog::Open(path.string());
  ASSERT_TRUE(log.ok());
  (*log)->Add({.status = 404});
  (*log)->Close();
  EXPECT_EQ(ReadFile(path).substr(0, 4), "old\n");
  EXPECT_NE(ReadFile(path).find("404"), std::string::npos);
  fs::remove(path);
}

// Nobody reads the pipe: lines are dropped beyond the backlog, nothing blocks, and the log says so
// when somebody does read.
TEST(AccessLogTest, DropsLinesRatherThanWaitForAReader) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  Fd reader(ends[0]);
  AccessLog log{Fd(ends[1])};
  const std::string target(4000, 'a');
  const int lines = 2 * AccessLog::kMaxBacklog / 4000;
  for (int i = 0; i < lines; ++i) log.Add({.method = "GET", .target = target, .version = "v"});
  std::string read;
  std::string buffer(1 << 16, '\0');
  ASSERT_TRUE(Eventually([&] {
    while (true) {
      fcntl(reader.get(), F_SETFL, O_NONBLOCK);
      const ssize_t n = ::read(reader.get(), buffer.data(), buffer.size());
      if (n <= 0) return false;
      read.append(buffer, 0, n);
      if (read.find("lines dropped") != std::string::npos) return true;
    }
  }));
  EXPECT_LE(read.size(), 2 * AccessLog::kMaxBacklog);
}

TEST(AccessLogTest, CloseDoesNotWaitLongForAReader) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  Fd reader(ends[0]);
  const absl::Time start = absl::Now();
  {
    AccessLog log{Fd(ends[1])};
    const std::string target(4000, 'a');
    for (int i = 0; i < 100; ++i) log.Add({.method = "GET", .target = target, .version = "v"});
  }
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
}

TEST(AccessLogTest, NamesTheFileThatCannotBeOpened) {
  absl::StatusOr<std::unique_ptr<AccessLog>> log = AccessLog::Open("/does/not/exist/log");
  ASSERT_FALSE(log.ok());
  EXPECT_NE(log.status().message().find("/does/not/exist/log: No such file"),
            absl::string_view::npos);
}

}  // namespace
}  // namespace weft::http
