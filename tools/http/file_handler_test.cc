#include "tools/http/file_handler.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace weft::http {
namespace {

namespace fs = std::filesystem;

// What a client would see of a reply.
struct Seen {
  int status = 0;
  std::string head;
  std::string body;

  std::string Field(absl::string_view name) const {
    for (absl::string_view line : absl::StrSplit(head, "\r\n")) {
      const std::pair<absl::string_view, absl::string_view> parts =
          absl::StrSplit(line, absl::MaxSplits(':', 1));
      if (absl::EqualsIgnoreCase(parts.first, name)) {
        return std::string(absl::StripAsciiWhitespace(parts.second));
      }
    }
    return "";
  }
};

class FileHandlerTest : public testing::Test {
 protected:
  FileHandlerTest() {
    const char* base = getenv("TEST_TMPDIR");
    std::string name = absl::StrCat(base != nullptr ? base : "/tmp", "/files_XXXXXX");
    dir_ = mkdtemp(name.data());
    fs::create_directories(dir_ / "sub dir");
    fs::create_directories(dir_ / "with_index");
    Write("hello.txt", "Hello, world");
    Write("empty.css", "");
    Write("with_index/index.html", "<p>index</p>");
    std::string big;
    while (big.size() < 100000) absl::StrAppend(&big, big.size(), ",");
    big_ = big;
    Write("big.bin", big);
    fs::create_symlink("/etc/passwd", dir_ / "escape");
    mkfifo((dir_ / "fifo").c_str(), 0600);
    handler_ = std::make_unique<FileHandler>(*Root::Open(dir_.string()));
  }
  ~FileHandlerTest() override { fs::remove_all(dir_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name) << text;
  }

  // Sends `fields`, each line ended by CR LF, and checks what holds for every reply.
  Seen Send(absl::string_view method, absl::string_view target, absl::string_view fields = "") {
    const std::string text =
        absl::StrCat(method, " ", target, " HTTP/1.1\r\nHost: h\r\n", fields, "\r\n");
    Request request;
    EXPECT_EQ(ParseRequest(text, 8192, request).state, ParseResult::State::kComplete) << text;
    Reply reply;
    reply.Reset(request, request.keep_alive);
    handler_->Handle(request, reply);
    Seen seen;
    seen.status = reply.status;
    const size_t end = reply.bytes.find("\r\n\r\n") + 4;
    seen.head = reply.bytes.substr(0, end);
    seen.body = reply.bytes.substr(end);
    for (const Reply::Part& part : reply.parts) {
      std::string bytes(part.length, '\0');
      if (part.length > 0) {
        EXPECT_EQ(pread(reply.file.get(), bytes.data(), part.length, part.offset),
                  static_cast<ssize_t>(part.length));
      }
      absl::StrAppend(&seen.body, part.text, bytes);
    }
    EXPECT_TRUE(absl::StartsWith(seen.head, absl::StrCat("HTTP/1.1 ", seen.status, " ")));
    EXPECT_EQ(seen.Field("Date").size(), 29u);
    EXPECT_EQ(seen.body.size(), reply.body_size);
    uint64_t length = 0;
    if (seen.status == 304) {
      EXPECT_EQ(seen.Field("Content-Length"), "");
      EXPECT_EQ(seen.body, "");
    } else {
      EXPECT_TRUE(absl::SimpleAtoi(seen.Field("Content-Length"), &length)) << seen.head;
      EXPECT_EQ(seen.body.size(), method == "HEAD" ? 0 : length);
    }
    return seen;
  }

  Seen Get(absl::string_view target, absl::string_view fields = "") {
    return Send("GET", target, fields);
  }

  fs::path dir_;
  std::string big_;
  std::unique_ptr<FileHandler> handler_;
};

TEST_F(FileHandlerTest, ServesFilesSmallAndLarge) {
  Seen seen = Get("/hello.txt");
  EXPECT_EQ(seen.status, 200);
  EXPECT_EQ(seen.body, "Hello, world");
  EXPECT_EQ(seen.Field("Content-Type"), "text/plain; charset=utf-8");
  EXPECT_EQ(seen.Field("Accept-Ranges"), "bytes");
  EXPECT_EQ(Get("/big.bin").body, big_);
  EXPECT_EQ(Get("/empty.css").status, 200);
  EXPECT_EQ(Get("/hello.txt?query").body, "Hello, world");
}

TEST_F(FileHandlerTest, HeadIsGetWithoutTheBody) {
  for (const char* target :
       {"/hello.txt", "/big.bin", "/empty.css", "/", "/missing", "/with_index", "/with_index/"}) {
    EXPECT_EQ(Send("HEAD", target).head, Get(target).head) << target;
  }
}

TEST_F(FileHandlerTest, ServesOneRange) {
  Seen seen = Get("/hello.txt", "Range: bytes=7-\r\n");
  EXPECT_EQ(seen.status, 206);
  EXPECT_EQ(seen.body, "world");
  EXPECT_EQ(seen.Field("Content-Range"), "bytes 7-11/12");
  seen = Get("/big.bin", "Range: bytes=100-50099\r\n");
  EXPECT_EQ(seen.status, 206);
  EXPECT_EQ(seen.body, big_.substr(100, 50000));
  EXPECT_EQ(Send("HEAD", "/big.bin", "Range: bytes=0-1\r\n").status, 200);
}

TEST_F(FileHandlerTest, ServesSeveralRangesAsMultipart) {
  Seen seen = Get("/hello.txt", "Range: bytes=0-4,-5\r\n");
  EXPECT_EQ(seen.status, 206);
  const std::string type = seen.Field("Content-Type");
  ASSERT_TRUE(absl::StartsWith(type, "multipart/byteranges; boundary=")) << type;
  const std::string boundary = type.substr(type.find('=') + 1);
  EXPECT_GE(boundary.size(), 32u);
  const std::string part_type = "\r\nContent-Type: text/plain; charset=utf-8\r\n";
  EXPECT_EQ(seen.body,
            absl::StrCat("\r\n--", boundary, part_type, "Content-Range: bytes 0-4/12\r\n\r\nHello",
                         "\r\n--", boundary, part_type, "Content-Range: bytes 7-11/12\r\n\r\nworld",
                         "\r\n--", boundary, "--\r\n"));
}

TEST_F(FileHandlerTest, TellsTheSizeWhereARangeIsOutside) {
  Seen seen = Get("/hello.txt", "Range: bytes=12-\r\n");
  EXPECT_EQ(seen.status, 416);
  EXPECT_EQ(seen.Field("Content-Range"), "bytes */12");
}

TEST_F(FileHandlerTest, HonoursValidators) {
  Seen first = Get("/hello.txt");
  const std::string etag = first.Field("ETag");
  const std::string date = first.Field("Last-Modified");
  Seen seen = Get("/hello.txt", absl::StrCat("If-None-Match: ", etag, "\r\n"));
  EXPECT_EQ(seen.status, 304);
  EXPECT_EQ(seen.Field("ETag"), etag);
  EXPECT_EQ(Get("/hello.txt", absl::StrCat("If-Modified-Since: ", date, "\r\n")).status, 304);
  EXPECT_EQ(Get("/hello.txt", "If-Match: \"x\"\r\n").status, 412);
  EXPECT_EQ(Get("/hello.txt", absl::StrCat("Range: bytes=0-0\r\nIf-Range: ", etag, "\r\n")).status,
            206);
  EXPECT_EQ(Get("/hello.txt", "Range: bytes=0-0\r\nIf-Range: \"x\"\r\n").status, 200);
  // Same size, new time: another state.
  Write("hello.txt", "HELLO, WORLD");
  fs::last_write_time(dir_ / "hello.txt",
                      fs::last_write_time(dir_ / "hello.txt") + std::chrono::milliseconds(1));
  seen = Get("/hello.txt", absl::StrCat("If-None-Match: ", etag, "\r\n"));
  EXPECT_EQ(seen.status, 200);
  EXPECT_EQ(seen.body, "HELLO, WORLD");
}

TEST_F(FileHandlerTest, ServesIndexOrListing) {
  EXPECT_EQ(Get("/with_index/").body, "<p>index</p>");
  EXPECT_EQ(Get("/with_index/").Field("Content-Type"), "text/html; charset=utf-8");
  Seen seen = Get("/");
  EXPECT_EQ(seen.status, 200);
  EXPECT_NE(seen.body.find("<a href=\"sub%20dir/\">sub dir/</a>"), std::string::npos);
  EXPECT_NE(seen.Field("Content-Security-Policy"), "");
}

TEST_F(FileHandlerTest, RedirectsDirectoriesToTheirSlash) {
  EXPECT_EQ(Get("/sub%20dir").status, 301);
  EXPECT_EQ(Get("/sub%20dir").Field("Location"), "/sub%20dir/");
  EXPECT_EQ(Get("/with_index?a=b").Field("Location"), "/with_index/?a=b");
  // Never to another host.
  EXPECT_EQ(Get("//with_index").Field("Location"), "/with_index/");
}

TEST_F(FileHandlerTest, RefusesWhatIsNotToBeServed) {
  for (const char* target :
       {"/missing", "/hello.txt/", "/hello.txt/x", "/escape", "/fifo", "/sub%20dir/index.html"}) {
    EXPECT_EQ(Get(target).status, 404) << target;
  }
  for (const char* target : {"/../etc/passwd", "/%2e%2e/etc/passwd", "/a%00b", "/a%2Fb", "/%zz"}) {
    EXPECT_EQ(Get(target).status, 400) << target;
  }
  EXPECT_NE(Get("/<b>missing").body.find("There is nothing at /%3Cb%3Emissing."),
            std::string::npos);
}

TEST_F(FileHandlerTest, RefusesUnreadableFilesWith403) {
  Write("secret", "x");
  fs::permissions(dir_ / "secret", fs::perms::none);
  if (geteuid() == 0) GTEST_SKIP() << "root may read everything";
  EXPECT_EQ(Get("/secret").status, 403);
}

TEST_F(FileHandlerTest, RefusesOtherMethods) {
  EXPECT_EQ(Send("POST", "/hello.txt").status, 405);
  EXPECT_EQ(Send("DELETE", "/hello.txt").Field("Allow"), "GET, HEAD");
  EXPECT_EQ(Send("OPTIONS", "*").status, 405);
  EXPECT_EQ(Send("BREW", "/hello.txt").status, 501);
}

TEST_F(FileHandlerTest, SaysWhatBecomesOfTheConnection) {
  EXPECT_EQ(Get("/hello.txt").Field("Connection"), "");
  EXPECT_EQ(Get("/hello.txt", "Connection: close\r\n").Field("Connection"), "close");
  Request request;
  const std::string text = "GET /hello.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
  ASSERT_EQ(ParseRequest(text, 8192, request).state, ParseResult::State::kComplete);
  Reply reply;
  reply.Reset(request, request.keep_alive);
  handler_->Handle(request, reply);
  EXPECT_NE(reply.bytes.find("\r\nConnection: keep-alive\r\n"), std::string::npos);
}

TEST_F(FileHandlerTest, ClosesFilesThatNeedNotBeSent) {
  const auto open_now = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  const auto before = open_now();
  Reply reply;
  for (const char* target : {"/hello.txt", "/", "/with_index/", "/missing", "/sub%20dir"}) {
    const std::string text = absl::StrCat("GET ", target, " HTTP/1.0\r\n\r\n");
    Request request;
    ParseRequest(text, 8192, request);
    reply.Reset(request, false);
    handler_->Handle(request, reply);
    EXPECT_EQ(open_now(), before) << target;
  }
}

}  // namespace
}  // namespace weft::http
