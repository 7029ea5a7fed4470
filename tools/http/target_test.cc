#include "tools/http/target.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace weft::http {
namespace {

TEST(TargetTest, DecodesAndNormalizes) {
  struct Case {
    const char* target;
    const char* path;
    bool wants_directory;
    const char* query;
  };
  for (const Case& c : {
           Case{"/", "", true, ""},
           Case{"/a", "a", false, ""},
           Case{"/a/", "a", true, ""},
           Case{"/a/b%20c", "a/b c", false, ""},
           Case{"//a///b", "a/b", false, ""},
           Case{"/./a/./b/.", "a/b", true, ""},
           Case{"/%2e/a", "a", false, ""},
           Case{"/a%25b", "a%b", false, ""},
           Case{"/a+b", "a+b", false, ""},
           Case{"/%E2%82%AC", "\xE2\x82\xAC", false, ""},
           Case{"/a?b?c", "a", false, "?b?c"},
           Case{"/a?../..", "a", false, "?../.."},
           Case{"/...", "...", false, ""},
           Case{"/..a/b..", "..a/b..", false, ""},
           Case{"/.hidden", ".hidden", false, ""},
           Case{"/\\..\\x", "\\..\\x", false, ""},
           Case{"http://host:80/a?q", "a", false, "?q"},
           Case{"HTTP://host", "", true, ""},
           Case{"http://host?q", "", true, "?q"},
           Case{"https://host/", "", true, ""},
       }) {
    Target target = ParseTarget(c.target);
    EXPECT_EQ(target.status, 0) << c.target << ": " << target.problem;
    EXPECT_EQ(target.path, c.path) << c.target;
    EXPECT_EQ(target.wants_directory, c.wants_directory) << c.target;
    EXPECT_EQ(target.query, c.query) << c.target;
  }
}

TEST(TargetTest, RefusesWhatCouldLeaveTheRootOrIsMalformed) {
  for (const char* text : {
           "/..",     "/../",  "/a/../b",   "/a/..",         "/%2e%2e",
           "/%2E./x", "/.%2e", "/a%2fb",    "/..%2fetc",     "/%2Fetc",
           "/a%00b",  "/%00",  "/a%",       "/a%4",          "/a%zz",
           "/a%-1",   "*",     "a",         "host:80",       "",
           "?a",      "/a#b",  "ftp://h/a", "http://h/../x", "http://h#/a",
       }) {
    Target target = ParseTarget(text);
    EXPECT_EQ(target.status, 400) << text << " -> " << target.path;
    EXPECT_FALSE(target.problem.empty());
  }
}

TEST(TargetTest, DecodesOnce) { EXPECT_EQ(ParseTarget("/%252e%252e/x").path, "%2e%2e/x"); }

TEST(TargetTest, EncodingIsUndoneByParsing) {
  std::string all;
  for (int c = 1; c < 256; ++c) {
    if (c != '/') all.push_back(static_cast<char>(c));
  }
  const std::string encoded = EncodePath(absl::StrCat("/x/", all));
  EXPECT_EQ(encoded.find_first_of("&<>\"' \r\n:?#\\"), std::string::npos);
  EXPECT_EQ(ParseTarget(encoded).path, absl::StrCat("x/", all));
}

TEST(TargetTest, EscapesHtml) {
  EXPECT_EQ(EscapeHtml("<a b=\"c\" d='e'>&amp;"),
            "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;amp;");
}

// Whatever the pieces are put together to, an accepted path stays below the root.
TEST(TargetTest, NoCombinationOfPiecesEscapes) {
  const std::vector<std::string> pieces = {"/",  "..",     ".", "%2e",       "%2E", "%2f",    "%5c",
                                           "\\", "%00",    "a", "%",         "2e",  "%252e",  "?",
                                           "#",  "%c0%ae", "~", "http://h/", ";",   "%2e%2e", "//"};
  std::mt19937 random(7);
  int accepted = 0;
  for (int round = 0; round < 200000; ++round) {
    std::string text = "/";
    for (int n = random() % 8; n >= 0; --n) text += pieces[random() % pieces.size()];
    const Target target = ParseTarget(text);
    if (target.status != 0) continue;
    ++accepted;
    ASSERT_EQ(target.path.find('\0'), std::string::npos) << text;
    if (target.path.empty()) continue;
    for (absl::string_view segment : absl::StrSplit(target.path, '/')) {
      ASSERT_FALSE(segment.empty() || segment == "." || segment == "..") << text;
    }
  }
  EXPECT_GT(accepted, 10000);
}

}  // namespace
}  // namespace weft::http
