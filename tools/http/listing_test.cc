#include "tools/http/listing.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace weft::http {
namespace {

namespace fs = std::filesystem;

TEST(ListingTest, EscapesNamesInTextAndLinks) {
  const std::string page =
      RenderListing("a<b", {{"<script>alert(1)</script>", Entry::Kind::kFile, 7, 0},
                            {"\"onclick=x", Entry::Kind::kFile, 0, 0},
                            {"javascript:x", Entry::Kind::kFile, 0, 0},
                            {"100%?#", Entry::Kind::kFile, 0, 0},
                            {"\n\x01\xFF", Entry::Kind::kFile, 0, 0}});
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find("\"onclick"), std::string::npos);
  EXPECT_EQ(page.find("href=\"javascript:"), std::string::npos);
  EXPECT_NE(page.find("<h1>/a&lt;b/</h1>"), std::string::npos);
  EXPECT_NE(page.find("<a href=\"%3Cscript%3Ealert%281%29%3C/script%3E\">"
                      "&lt;script&gt;alert(1)&lt;/script&gt;</a>"),
            std::string::npos);
  EXPECT_NE(page.find("href=\"100%25%3F%23\""), std::string::npos);
  EXPECT_NE(page.find("href=\"%0A%01%FF\""), std::string::npos);
}

TEST(ListingTest, ShowsSizesTimesAndDirectories) {
  const std::string page = RenderListing("", {{"d", Entry::Kind::kDirectory, 4096, 784111777},
                                              {"f", Entry::Kind::kFile, 1234, 784111777}});
  EXPECT_NE(page.find("<a href=\"d/\">d/</a></td><td></td><td>1994-11-06T08:49Z</td>"),
            std::string::npos)
      << page;
  EXPECT_NE(page.find("<a href=\"f\">f</a></td><td>1234</td><td>1994-11-06T08:49Z</td>"),
            std::string::npos);
  EXPECT_EQ(page.find("../"), std::string::npos);
  EXPECT_NE(RenderListing("sub", {}).find("<a href=\"../\">"), std::string::npos);
}

TEST(ListingTest, SaysWhenThereIsMore) {
  std::vector<Entry> entries(kMaxListed + 1);
  for (size_t i = 0; i < entries.size(); ++i) entries[i].name = absl::StrCat("n", i);
  const std::string page = RenderListing("", entries);
  EXPECT_NE(page.find("There are more; 20000 are shown"), std::string::npos);
  EXPECT_EQ(page.find("\"n20000\""), std::string::npos);
  entries.pop_back();
  EXPECT_EQ(RenderListing("", entries).find("There are more"), std::string::npos);
}

TEST(ListingTest, ReadsADirectoryInOrderWithoutFollowingLinks) {
  const char* base = getenv("TEST_TMPDIR");
  std::string name = absl::StrCat(base != nullptr ? base : "/tmp", "/listing_XXXXXX");
  const fs::path dir = mkdtemp(name.data());
  std::ofstream(dir / "b") << "12345";
  fs::create_directory(dir / "a");
  fs::create_symlink("/etc/passwd", dir / "c");
  mkfifo((dir / ".d").c_str(), 0600);
  absl::StatusOr<std::vector<Entry>> entries =
      ReadDirectory(Fd(open(dir.c_str(), O_RDONLY | O_DIRECTORY)));
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 4u);
  EXPECT_EQ((*entries)[0].name, ".d");
  EXPECT_EQ((*entries)[0].kind, Entry::Kind::kOther);
  EXPECT_EQ((*entries)[1].name, "a");
  EXPECT_EQ((*entries)[1].kind, Entry::Kind::kDirectory);
  EXPECT_EQ((*entries)[2].name, "b");
  EXPECT_EQ((*entries)[2].size, 5u);
  EXPECT_EQ((*entries)[3].kind, Entry::Kind::kLink);
  EXPECT_FALSE(ReadDirectory(Fd(open((dir / "b").c_str(), O_RDONLY))).ok());
  fs::remove_all(dir);
}

}  // namespace
}  // namespace weft::http
