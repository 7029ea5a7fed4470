// The examples of README.md, compiled and run.
#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "netpoll/buffered.h"
#include "netpoll/net.h"
#include "netpoll/packet_conn.h"
#include "netpoll/pipe.h"
#include "netpoll/test_util.h"
#include "netpoll/tls.h"
#include "netpoll/tls_testing.h"
#include "netpoll/unix.h"

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

absl::Status AnswerOne(const weft::PacketConn& server) {
  char buffer[1500];
  weft::SocketAddress from;
  absl::StatusOr<size_t> n = server.ReadFrom(absl::MakeSpan(buffer), &from);
  if (!n.ok()) return n.status();
  return server.WriteTo(absl::StrCat("you said ", absl::string_view(buffer, *n)), from);
}

absl::StatusOr<weft::OwnedFd> ReceiveFile(const weft::Conn& conn) {
  char name[256];
  absl::StatusOr<weft::UnixMessage> message = weft::ReceiveDescriptors(conn, absl::MakeSpan(name));
  if (!message.ok()) return message.status();
  if (message->descriptors.empty()) return absl::NotFoundError("no descriptor came");
  return std::move(message->descriptors[0]);
}

template <typename C>  // weft::Conn, weft::PipeConn, ...
void Shout(const C& conn) {
  weft::BufferedReader reader(conn);
  weft::BufferedWriter writer(conn);
  for (auto line = reader.ReadLine(); line.ok(); line = reader.ReadLine()) {
    if (!writer.Write(absl::StrCat(absl::AsciiStrToUpper(*line), "!\n")).ok()) break;
    if (reader.buffered() == 0 && !writer.Flush().ok()) break;
  }
}

std::string AskShouter(absl::string_view line) {
  auto [client, server] = weft::Pipe();
  weft::Go([server = server] { Shout(server); });
  weft::BufferedReader answers(client);
  if (!client.Write(absl::StrCat(line, "\n")).ok()) return "";
  return std::string(answers.ReadLine().value_or(""));
}

absl::StatusOr<weft::TlsConfig> Identity(const std::string& certificate, const std::string& key) {
  absl::StatusOr<weft::TlsCertificate> own = weft::LoadTlsCertificate(certificate, key);
  if (!own.ok()) return own.status();
  return weft::TlsConfig::Server({.certificates = {*own}});
}

void Greet(const weft::Conn& accepted, const weft::TlsConfig& config) {
  const weft::TlsConn conn = weft::TlsServer(accepted, config);
  if (absl::Status s = conn.Write("hello\n"); s.ok()) conn.Close().IgnoreError();
}

absl::StatusOr<std::string> Greeting(absl::string_view server, const weft::TlsConfig& config) {
  absl::StatusOr<weft::TlsConn> conn =
      weft::TlsDial("tcp", server, config, {.timeout = absl::Seconds(30)});
  if (!conn.ok()) return conn.status();  // "... certificate refused: certificate has expired"
  weft::BufferedReader reader(*conn);
  absl::StatusOr<absl::string_view> line = reader.ReadLine();
  if (!line.ok()) return line.status();
  return std::string(*line);
}

TEST(ReadmeTest, GreetingsOverTlsWork) {
  const auto& files = weft::testing::TestCertificates::Get();
  const absl::StatusOr<weft::TlsConfig> config =
      Identity(files.Path("server.pem"), files.Path("server.key"));
  ASSERT_TRUE(config.ok()) << config.status();
  weft::testing::ForEachSetting([&](weft::testing::TaskKind kind) {
    const weft::Listener listener = weft::testing::MustListen();
    weft::testing::TaskGroup group(kind);
    group.Go([&] { Greet(weft::testing::MustAccept(listener), *config); });
    const absl::StatusOr<std::string> greeting =
        Greeting(listener.addr().ToString(), weft::testing::ClientConfig());
    EXPECT_TRUE(greeting.ok()) << greeting.status();
    EXPECT_EQ(greeting.value_or(""), "hello");
  });
}

TEST(ReadmeTest, LinesInMemoryWork) {
  weft::testing::ForEachSetting(
      [](weft::testing::TaskKind) { EXPECT_EQ(AskShouter("hey"), "HEY!"); });
}

TEST(ReadmeTest, DatagramsAndDescriptorsWork) {
  weft::testing::ForEachSetting([](weft::testing::TaskKind kind) {
    const absl::StatusOr<weft::PacketConn> server = weft::ListenPacket("udp", "127.0.0.1:0");
    ASSERT_TRUE(server.ok()) << server.status();
    weft::testing::TaskGroup group(kind);
    group.Go([&] { EXPECT_TRUE(AnswerOne(*server).ok()); });
    const absl::StatusOr<weft::PacketConn> client =
        weft::DialPacket("udp", server->local_address().ToString());
    ASSERT_TRUE(client.ok()) << client.status();
    EXPECT_TRUE(client->Write("this").ok());
    char buffer[64];
    const absl::StatusOr<size_t> n = client->Read(absl::MakeSpan(buffer));
    ASSERT_TRUE(n.ok()) << n.status();
    EXPECT_EQ(absl::string_view(buffer, *n), "you said this");

    const absl::StatusOr<weft::UnixPair> pair = weft::MakeUnixPair();
    ASSERT_TRUE(pair.ok()) << pair.status();
    const weft::OwnedFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
    group.Go([&] { EXPECT_TRUE(weft::SendDescriptors(pair->a, "null", {null.get()}).ok()); });
    const absl::StatusOr<weft::OwnedFd> file = ReceiveFile(pair->b);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(read(file->get(), buffer, sizeof(buffer)), 0);
  });
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
