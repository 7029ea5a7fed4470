#include "debug/http/request.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace weft::debug::internal {
namespace {

using State = RequestHead::State;

int StatusOf(const std::string& head) {
  const RequestHead parsed = ParseHead(head);
  if (parsed.state == State::kBad) {
    EXPECT_STRNE(parsed.problem, "");
    return parsed.status;
  }
  return parsed.state == State::kComplete ? 200 : 100;
}

TEST(ParseHeadTest, ReadsWhatAServerOfPagesNeeds) {
  const std::string head =
      "POST /debug/x?y HTTP/1.1\r\nhost: h:1\r\nContent-Length: 12\r\nExpect: 100-continue\r\n"
      "X-Other:\r\n\r\n";
  const RequestHead parsed = ParseHead(head + "body");
  EXPECT_EQ(parsed.state, State::kComplete);
  EXPECT_EQ(parsed.size, head.size());
  EXPECT_EQ(parsed.method, "POST");
  EXPECT_EQ(parsed.target, "/debug/x?y");
  EXPECT_EQ(parsed.host, "h:1");
  EXPECT_EQ(parsed.content_length, 12u);
  EXPECT_TRUE(parsed.expects_continue);
}

TEST(ParseHeadTest, IsIncompleteAtEveryShorterPrefix) {
  const std::string head = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  for (size_t n = 0; n < head.size(); ++n) EXPECT_EQ(StatusOf(head.substr(0, n)), 100) << n;
  EXPECT_EQ(StatusOf(head), 200);
}

TEST(ParseHeadTest, RefusesWhatIsMalformed) {
  const auto with = [](const std::string& field) {
    return StatusOf(absl::StrCat("GET / HTTP/1.1\r\nHost: h\r\n", field, "\r\n\r\n"));
  };
  EXPECT_EQ(with("A: b"), 200);
  EXPECT_EQ(with("A : b"), 400);
  EXPECT_EQ(with(" folded"), 400);
  EXPECT_EQ(with("no colon"), 400);
  EXPECT_EQ(with(std::string("A: b\0c", 6)), 400);
  EXPECT_EQ(with("A: b\nC: d"), 400);
  EXPECT_EQ(with("Host: other"), 400);
  EXPECT_EQ(with("Content-Length: -1"), 400);
  EXPECT_EQ(with("Content-Length: +1"), 400);
  EXPECT_EQ(with("Content-Length: 99999999999999999999"), 400);
  EXPECT_EQ(with("Content-Length: 1\r\nContent-Length: 1"), 400);
  EXPECT_EQ(with("Transfer-Encoding: chunked"), 411);
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("GET / HTTP/1.0\r\n\r\n"), 200);
  EXPECT_EQ(StatusOf("GET  / HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("GET / FTP/1.1\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), 505);
  EXPECT_EQ(StatusOf("G(T / HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("\r\n\r\n"), 400);
}

TEST(ParseTargetTest, DecodesPathAndQuery) {
  const std::optional<Target> target = ParseTarget("/debug/a%20b+c?q=x%26y+z&empty=&alone&q=2");
  ASSERT_TRUE(target.has_value());
  EXPECT_EQ(target->path, "/debug/a b+c");
  EXPECT_EQ(target->Get("q"), "x&y z");
  EXPECT_EQ(target->Get("empty"), "");
  EXPECT_EQ(target->query.count("alone"), 1u);
  EXPECT_EQ(target->query.count("other"), 0u);
}

TEST(ParseTargetTest, RefusesWhatIsMalformed) {
  for (const char* text :
       {"", "x", "*", "http://h/", "/%", "/%4", "/%zz", "/%00", "/a%0ab", "/?q=%"}) {
    EXPECT_FALSE(ParseTarget(text).has_value()) << text;
  }
}

TEST(IsLocalHostTest, TellsNamesOfThisMachineFromOthers) {
  for (const char* host : {"", "localhost", "LOCALHOST:80", "a.localhost", "127.0.0.1:6061",
                           "192.168.1.1", "[::1]:80", "[::1]"}) {
    EXPECT_TRUE(IsLocalHost(host)) << host;
  }
  for (const char* host : {"example.org", "example.org:6061", "localhost.example.org", "[x]:80",
                           "127.0.0.1.example.org", "notlocalhost", "1.2.3"}) {
    EXPECT_FALSE(IsLocalHost(host)) << host;
  }
}

}  // namespace
}  // namespace weft::debug::internal
