// The example of README.md, compiled and run.
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/test_util.h"

namespace {

void Echo(const weft::Conn& conn) {
  std::vector<char> buffer(4096);
  for (;;) {
    absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(buffer));
    if (!n.ok() || *n == 0) return;  // an error, or the end of the stream
    if (!conn.Write(absl::string_view(buffer.data(), *n)).ok()) return;
  }
}

absl::Status Serve(const weft::Listener& listener) {
  for (;;) {
    absl::StatusOr<weft::Conn> conn = listener.Accept();
    if (!conn.ok()) return conn.status();
    weft::Go([c = *std::move(conn)] { Echo(c); });
  }
}

absl::StatusOr<std::string> Ask(const weft::SocketAddress& server, absl::string_view question) {
  absl::StatusOr<weft::Conn> conn =
      weft::Dial("tcp", server.ToString(), {.timeout = absl::Seconds(30)});
  if (!conn.ok()) return conn.status();
  if (absl::Status s = conn->SetDeadline(absl::Now() + absl::Seconds(30)); !s.ok()) return s;
  if (absl::Status s = conn->Write(question); !s.ok()) return s;
  std::string answer(question.size(), '\0');
  if (absl::Status s = conn->ReadFull(absl::MakeSpan(answer.data(), answer.size())); !s.ok()) {
    return s;
  }
  return answer;
}

TEST(ReadmeTest, TheExampleWorks) {
  weft::testing::ForEachSetting([](weft::testing::TaskKind kind) {
    const weft::Listener listener = weft::testing::MustListen();
    weft::testing::TaskGroup group(kind);
    group.Go([&] { EXPECT_TRUE(weft::IsClosed(Serve(listener))); });
    const absl::StatusOr<std::string> answer = Ask(listener.addr(), "is anybody there?");
    EXPECT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer.value_or(""), "is anybody there?");
    EXPECT_TRUE(listener.Close().ok());
  });
}

}  // namespace
