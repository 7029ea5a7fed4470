#include "tools/http/request.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "absl/strings/str_cat.h"

namespace weft::http {
namespace {

using State = ParseResult::State;
constexpr size_t kLimit = 8192;

ParseResult Parse(absl::string_view text, Request& request) {
  return ParseRequest(text, kLimit, request);
}

int StatusOf(absl::string_view text) {
  Request request;
  ParseResult result = Parse(text, request);
  if (result.state == State::kBad) {
    EXPECT_FALSE(result.problem.empty());
    return result.status;
  }
  return result.state == State::kComplete ? 200 : 100;
}

TEST(RequestTest, ReadsWhatAFileServerNeeds) {
  const std::string text =
      "GET /a%20b?c HTTP/1.1\r\nHost: h\r\nRange: bytes=1-2\r\nIf-Match: \"m\"\r\n"
      "If-None-Match: \"n\"\r\nIf-Modified-Since: d1\r\nIf-Unmodified-Since: d2\r\n"
      "if-range: \"r\"\r\n\r\n";
  Request request;
  const std::string pipelined = absl::StrCat(text, "GET /next");
  ParseResult result = Parse(pipelined, request);
  ASSERT_EQ(result.state, State::kComplete);
  EXPECT_EQ(result.consumed, text.size());
  EXPECT_EQ(request.method, Method::kGet);
  EXPECT_EQ(request.method_name, "GET");
  EXPECT_EQ(request.version_line, "HTTP/1.1");
  EXPECT_EQ(request.target, "/a%20b?c");
  EXPECT_TRUE(request.keep_alive);
  EXPECT_EQ(request.range, "bytes=1-2");
  EXPECT_EQ(request.if_match, "\"m\"");
  EXPECT_EQ(request.if_none_match, "\"n\"");
  EXPECT_EQ(request.if_modified_since, "d1");
  EXPECT_EQ(request.if_unmodified_since, "d2");
  EXPECT_EQ(request.if_range, "\"r\"");
  EXPECT_TRUE(request.has_if_range);
  EXPECT_EQ(request.body, BodyKind::kNone);
}

TEST(RequestTest, IsIncompleteAtEveryShorterPrefix) {
  const std::string text = "HEAD / HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n";
  for (size_t n = 0; n < text.size(); ++n) {
    Request request;
    EXPECT_EQ(Parse(absl::string_view(text).substr(0, n), request).state, State::kIncomplete) << n;
  }
  EXPECT_EQ(StatusOf(text), 200);
}

TEST(RequestTest, KeepsAliveAsTheVersionAndConnectionSay) {
  struct Case {
    const char* version;
    const char* field;
    bool keep_alive;
  };
  for (const Case& c : {Case{"1.1", "", true}, Case{"1.1", "Connection: close\r\n", false},
                        Case{"1.1", "Connection: x, CLOSE\r\n", false}, Case{"1.0", "", false},
                        Case{"1.0", "Connection: Keep-Alive\r\n", true}}) {
    Request request;
    ASSERT_EQ(
        Parse(absl::StrCat("GET / HTTP/", c.version, "\r\nHost: h\r\n", c.field, "\r\n"), request)
            .state,
        State::kComplete);
    EXPECT_EQ(request.keep_alive, c.keep_alive) << c.version << " " << c.field;
  }
}

TEST(RequestTest, SkipsEmptyLinesBeforeTheRequest) {
  Request request;
  const std::string text = "\r\n\r\nGET / HTTP/1.0\r\n\r\n";
  ParseResult result = Parse(text, request);
  EXPECT_EQ(result.state, State::kComplete);
  EXPECT_EQ(result.consumed, text.size());
  EXPECT_EQ(StatusOf("\r\n\r\n\r"), 100);
  std::string lines;
  for (size_t i = 0; i <= kLimit; i += 2) lines += "\r\n";
  EXPECT_EQ(StatusOf(lines), 400);
}

TEST(RequestTest, NamesMethods) {
  Request request;
  Parse("DELETE / HTTP/1.0\r\n\r\n", request);
  EXPECT_EQ(request.method, Method::kOther);
  Parse("BREW / HTTP/1.0\r\n\r\n", request);
  EXPECT_EQ(request.method, Method::kUnknown);
  EXPECT_EQ(request.method_name, "BREW");
  // Methods are case-sensitive.
  Parse("get / HTTP/1.0\r\n\r\n", request);
  EXPECT_EQ(request.method, Method::kUnknown);
}

TEST(RequestTest, RefusesWhatIsMalformed) {
  for (const char* text : {
           "GET /\r\n\r\n",
           "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
           "GET / HTTP/x.1\r\nHost: h\r\n\r\n",
           "GET / HTTP/1.1\nHost: h\n\n",
           "GET / HTTP/1.1\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
           "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: h\r\nX: a\x01\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
           "GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n",
           "\x16\x03\x01\x02\x00\x01",
           " GET / HTTP/1.1\r\nHost: h\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n",
       }) {
    EXPECT_EQ(StatusOf(text), 400) << text;
  }
}

TEST(RequestTest, RefusesBodiesWhoseLengthIsAmbiguous) {
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\n";
  for (const char* fields : {
           "Content-Length: 4\r\nContent-Length: 5\r\n",
           "Content-Length: 4, 5\r\n",
           "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
           "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
           "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
       }) {
    EXPECT_EQ(StatusOf(absl::StrCat(head, fields, "\r\n")), 400) << fields;
  }
  EXPECT_EQ(StatusOf(absl::StrCat(head, "Transfer-Encoding: gzip\r\n\r\n")), 501);
  EXPECT_EQ(StatusOf(absl::StrCat(head, "Transfer-Encoding: chunked, gzip\r\n\r\n")), 501);
  EXPECT_EQ(StatusOf("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

TEST(RequestTest, SaysHowTheBodyEnds) {
  Request request;
  Parse("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n", request);
  EXPECT_EQ(request.body, BodyKind::kLength);
  EXPECT_EQ(request.content_length, 10u);
  Parse("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n", request);
  EXPECT_EQ(request.body, BodyKind::kChunked);
  Parse("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", request);
  EXPECT_EQ(request.body, BodyKind::kNone);
  EXPECT_EQ(
      Parse("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551615\r\n\r\n", request)
          .state,
      State::kComplete);
}

TEST(RequestTest, RefusesOtherVersionsWith505) {
  EXPECT_EQ(StatusOf("GET / HTTP/2.0\r\n\r\n"), 505);
  EXPECT_EQ(StatusOf("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
  EXPECT_EQ(StatusOf("GET / HTTP/0.9\r\n\r\n"), 505);
}

TEST(RequestTest, LimitsTheHead) {
  const std::string path(kLimit, 'a');
  EXPECT_EQ(StatusOf(absl::StrCat("GET /", path, " HTTP/1.1\r\nHost: h\r\n\r\n")), 414);
  EXPECT_EQ(StatusOf(absl::StrCat("GET /", path)), 414);
  EXPECT_EQ(StatusOf(absl::StrCat("GET / HTTP/1.1\r\nHost: h\r\nX: ", path, "\r\n\r\n")), 431);
  // The limit holds for the whole head, and a head of just that size is good.
  std::string head = "GET /b HTTP/1.1\r\nHost: h\r\nX: ";
  head.append(kLimit - head.size() - 4, 'x');
  head += "\r\n\r\n";
  ASSERT_EQ(head.size(), kLimit);
  EXPECT_EQ(StatusOf(head), 200);
  head.insert(5, "c");
  EXPECT_EQ(StatusOf(head), 431);
}

TEST(RequestTest, DropsFieldsThatMayNotRepeat) {
  Request request;
  ASSERT_EQ(Parse("GET / HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\nRange: bytes=2-3\r\n"
                  "If-Range: a\r\nIf-Range: b\r\nIf-Range: c\r\n\r\n",
                  request)
                .state,
            State::kComplete);
  EXPECT_EQ(request.range, "");
  EXPECT_EQ(request.if_range, "");
  EXPECT_TRUE(request.has_if_range);
}

TEST(RequestTest, ReadsExpectations) {
  Request request;
  Parse("GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n\r\n", request);
  EXPECT_TRUE(request.expects_continue);
  EXPECT_FALSE(request.unknown_expectation);
  Parse("GET / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n", request);
  EXPECT_TRUE(request.unknown_expectation);
  Parse("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", request);
  EXPECT_FALSE(request.expects_continue);
}

// Any bytes give an answer, within the input, and the same one whatever comes after the head.
TEST(RequestTest, SurvivesMutatedRequests) {
  const std::string seed =
      "GET /a HTTP/1.1\r\nHost: h\r\nRange: bytes=0-\r\nContent-Length: 3\r\n"
      "Connection: keep-alive\r\n\r\n";
  std::mt19937 random(1);
  int complete = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text = seed;
    for (int edits = random() % 4; edits >= 0; --edits) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, random() % 8);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 16));
      }
      if (text.empty()) text = "G";
    }
    // An exact copy, so that a sanitizer sees reads past the end.
    std::string exact(text);
    Request request;
    ParseResult result = ParseRequest(exact, 512, request);
    if (result.state != State::kComplete) continue;
    ++complete;
    ASSERT_LE(result.consumed, exact.size());
    ASSERT_GE(request.target.data(), exact.data());
    Request again;
    ASSERT_EQ(ParseRequest(absl::string_view(exact).substr(0, result.consumed), 512, again).state,
              State::kComplete);
  }
  EXPECT_GT(complete, 1000);
}

}  // namespace
}  // namespace weft::http
