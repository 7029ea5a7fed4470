#include "tools/http/content_type.h"

#include <gtest/gtest.h>

namespace weft::http {
namespace {

constexpr char kText[] = "text/plain; charset=utf-8";
constexpr char kUnknown[] = "application/octet-stream";

TEST(ContentTypeTest, GoesByTheExtensionInAnyCase) {
  EXPECT_EQ(ContentType("index.html"), "text/html; charset=utf-8");
  EXPECT_EQ(ContentType("a/b.c/PHOTO.JPeG"), "image/jpeg");
  EXPECT_EQ(ContentType("archive.tar.gz"), "application/gzip");
  EXPECT_EQ(ContentType("app.webmanifest"), "application/manifest+json");
  EXPECT_EQ(ContentType("7z.7z"), "application/x-7z-compressed");
  EXPECT_EQ(ContentType("x.zst"), "application/zstd");
}

TEST(ContentTypeTest, ShowsSourceCodeAsText) {
  for (const char* name : {"a.cc", "a.h", "a.go", "a.py", "a.ts", "README.md", "a.bzl", "BUILD",
                           "Makefile", "dir.d/LICENSE", "adoc.adoc", "zsh.zsh"}) {
    EXPECT_EQ(ContentType(name), kText) << name;
  }
}

TEST(ContentTypeTest, SaysWhenItDoesNotKnow) {
  for (const char* name : {"", "x", "makefile", "a.", "a.unknown", "a.averylongextension", "html",
                           "dir.html/x", ".bashrc"}) {
    EXPECT_EQ(ContentType(name), kUnknown) << name;
  }
}

}  // namespace
}  // namespace weft::http
