// TLS with somebody else's idea of it: the openssl command at the other end.
#include <openssl/x509_vfy.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "netpoll/buffered.h"
#include "netpoll/tls.h"
#include "netpoll/tls_testing.h"
#include "spawn/command.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::ClientConfig;
using testing::ForEachSetting;
using testing::ServerConfig;
using testing::TaskGroup;
using testing::TaskKind;
using testing::TestCertificates;

// `openssl s_server`, which sends on what it reads, reversed line by line (-rev).
class OpenSslServer {
 public:
  explicit OpenSslServer(absl::string_view certificate, std::vector<std::string> more = {})
      : command_("openssl", Arguments(certificate, std::move(more)),
                 {.in = Input::Pipe(), .out = Output::Pipe()}) {
    const absl::Status started = command_.Start();
    EXPECT_TRUE(started.ok()) << started;
    BufferedReader lines(command_.out());
    for (auto line = lines.ReadLine(); line.ok(); line = lines.ReadLine()) {
      if (!absl::ConsumePrefix(&*line, "ACCEPT 127.0.0.1:")) continue;
      EXPECT_TRUE(absl::SimpleAtoi(*line, &port_));
      return;
    }
    ADD_FAILURE() << "it does not listen";
  }
  ~OpenSslServer() {
    command_.Kill().IgnoreError();
    command_.Wait().IgnoreError();
  }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  static std::vector<std::string> Arguments(absl::string_view certificate,
                                            std::vector<std::string> more) {
    const TestCertificates& files = TestCertificates::Get();
    std::vector<std::string> arguments = {"s_server",
                                          "-accept",
                                          "127.0.0.1:0",
                                          "-cert",
                                          files.Path(absl::StrCat(certificate, ".pem")),
                                          "-key",
                                          files.Path(absl::StrCat(certificate, ".key"))};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  Command command_;
  int port_ = 0;
};

TEST(TlsPeerTest, ClientsSpeakToAnOpenSslServer) {
  for (const char* version : AllInTurn({"-tls1_2", "-tls1_3"})) {
    ForEachSetting([&](TaskKind) {
      const OpenSslServer server("server", {"-rev", "-alpn", "one", version});
      const TlsConfig config = ClientConfig({.alpn = {"two", "one"}});
      for (const bool again : {false, true}) {
        const auto conn = TlsDial("tcp", server.address(), config, {.timeout = absl::Seconds(30)});
        ASSERT_TRUE(conn.ok()) << conn.status();
        BufferedReader lines(*conn);
        ASSERT_TRUE(conn->Write("hello\n").ok());
        EXPECT_EQ(lines.ReadLine().value_or(""), "olleh");
        const TlsState state = conn->State();
        EXPECT_EQ(state.alpn, "one");
        EXPECT_EQ(state.version, absl::EndsWith(version, "2") ? "TLSv1.2" : "TLSv1.3");
        EXPECT_EQ(state.resumed, again);
        // At this it closes.
        ASSERT_TRUE(conn->Write("CLOSE\n").ok());
        EXPECT_EQ(lines.ReadLine().status().message(), "EOF");
        EXPECT_TRUE(conn->Close().ok());
      }
    });
  }
}

TEST(TlsPeerTest, ClientsRefuseItsCertificate) {
  ForEachSetting([&](TaskKind) {
    struct Case {
      const char* certificate;
      int error;
    };
    for (const Case& c : {Case{"other", X509_V_ERR_IP_ADDRESS_MISMATCH},
                          Case{"expired", X509_V_ERR_CERT_HAS_EXPIRED},
                          Case{"stranger", X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY}}) {
      const OpenSslServer server(c.certificate);
      const absl::Status status =
          TlsDial("tcp", server.address(), ClientConfig(), {.timeout = absl::Seconds(30)}).status();
      EXPECT_EQ(CertificateErrorOf(status), c.error) << status;
    }
  });
}

TEST(TlsPeerTest, ItAsksForOurCertificate) {
  ForEachSetting([&](TaskKind) {
    const OpenSslServer server("server", {"-rev", "-Verify", "2", "-verify_return_error", "-CAfile",
                                          TestCertificates::Get().Path("ca.pem")});
    for (const bool shown : {true, false}) {
      TlsClientOptions options;
      if (shown) options.certificates = {TestCertificates::Get().Certificate("client")};
      const auto conn =
          TlsDial("tcp", server.address(), ClientConfig(options), {.timeout = absl::Seconds(30)});
      ASSERT_TRUE(conn.ok()) << conn.status();
      BufferedReader lines(*conn);
      ASSERT_TRUE(conn->Write("hello\n").ok());
      const auto answer = lines.ReadLine();
      if (shown) {
        EXPECT_EQ(answer.value_or(""), "olleh");
      } else {
        EXPECT_TRUE(absl::StrContains(answer.status().message(), "the peer refuses"))
            << answer.status();
      }
    }
  });
}

// s_client: what it writes we read, with its keys changed in between by its commands (k, and K,
// which asks us to change ours too), and the other way round.
TEST(TlsPeerTest, ServersSpeakToAnOpenSslClient) {
  for (const char* version : AllInTurn({"-tls1_2", "-tls1_3"})) {
    const bool changes_keys = absl::EndsWith(version, "3");
    ForEachSetting([&](TaskKind kind) {
      const Listener listener = testing::MustListen();
      TaskGroup group(kind);
      std::string heard;
      group.Go([&] {
        const TlsConn conn = TlsServer(testing::MustAccept(listener), ServerConfig());
        BufferedReader lines(conn);
        for (auto line = lines.ReadLine(); line.ok(); line = lines.ReadLine()) {
          absl::StrAppend(&heard, *line, ";");
          ASSERT_TRUE(conn.Write(absl::StrCat("you said ", *line, "\n")).ok());
          if (*line == "last") break;
        }
        EXPECT_EQ(conn.State().server_name, "server.test");
        EXPECT_TRUE(conn.Close().ok());
      });
      Command client("openssl",
                     {"s_client", "-connect", listener.addr().ToString(), "-servername",
                      "server.test", "-verify_hostname", "server.test", "-verify_return_error",
                      "-CAfile", TestCertificates::Get().Path("ca.pem"), version},
                     {.in = Input::Pipe(), .out = Output::Pipe(), .err = Output::Pipe()});
      ASSERT_TRUE(client.Start().ok());
      BufferedReader answers(client.out()), messages(client.err());
      // It takes a command only at the beginning of what it reads, and drops what comes with it.
      const auto command = [&](absl::string_view letter) {
        ASSERT_TRUE(client.in().Write(absl::StrCat(letter, "\n")).ok());
        auto line = messages.ReadLine();
        while (line.ok() && *line != "KEYUPDATE") line = messages.ReadLine();
        EXPECT_TRUE(line.ok()) << letter << ": " << line.status();
      };
      const auto ask = [&](absl::string_view question) {
        ASSERT_TRUE(client.in().Write(absl::StrCat(question, "\n")).ok());
        const std::string wanted = absl::StrCat("you said ", question);
        auto line = answers.ReadLine();
        while (line.ok() && *line != wanted) line = answers.ReadLine();
        EXPECT_TRUE(line.ok()) << question << ": " << line.status();
      };
      ask("this");
      if (changes_keys) {
        command("k");
        ask("that");
        command("K");
        ask("more");
      }
      ask("last");
      EXPECT_TRUE(client.in().Close().ok());
      EXPECT_TRUE(client.Wait().ok());
      group.Wait();
      EXPECT_EQ(heard, changes_keys ? "this;that;more;last;" : "this;last;");
    });
  }
}

}  // namespace
}  // namespace weft
