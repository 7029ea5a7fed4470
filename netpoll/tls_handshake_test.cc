// How a handshake fails, and what is said about it.
#include <errno.h>
#include <openssl/x509_vfy.h>

#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "chan/context.h"
#include "gtest/gtest.h"
#include "netpoll/tls.h"
#include "netpoll/tls_testing.h"

namespace weft {
namespace {

using testing::ClientConfig;
using testing::ConnPair;
using testing::ForEachSetting;
using testing::Handshakes;
using testing::In;
using testing::MakePair;
using testing::MakeTlsPair;
using testing::MustMakeTlsPair;
using testing::ServerConfig;
using testing::ShakeHands;
using testing::TaskGroup;
using testing::TaskKind;
using testing::TestCertificates;
using testing::TlsPair;

TEST(TlsHandshakeTest, CertificatesAreRefusedByName) {
  struct Case {
    const char* certificate;
    const char* name;
    int error;
    const char* text;
    const char* told;
  };
  const Case cases[] = {
      {"other", "server.test", X509_V_ERR_HOSTNAME_MISMATCH,
       "certificate refused: hostname mismatch, it is not for server.test (subject /CN=other)",
       "bad certificate"},
      {"server", "a.b.wild.test", X509_V_ERR_HOSTNAME_MISMATCH, "hostname mismatch",
       "bad certificate"},
      // The subject's name is no name of the server's.
      {"server", "server", X509_V_ERR_HOSTNAME_MISMATCH, "hostname mismatch", "bad certificate"},
      {"server", "127.0.0.2", X509_V_ERR_IP_ADDRESS_MISMATCH, "IP address mismatch",
       "bad certificate"},
      {"expired", "server.test", X509_V_ERR_CERT_HAS_EXPIRED,
       "certificate refused: certificate has expired (subject /CN=expired)", "certificate expired"},
      {"stranger", "server.test", X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
       "certificate refused: unable to get local issuer certificate (subject /CN=stranger)",
       "unknown CA"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(absl::StrCat(c.certificate, " for ", c.name));
    const TlsConfig client = ClientConfig(), server = ServerConfig(c.certificate);
    ForEachSetting([&](TaskKind kind) {
      const TlsPair pair = MakeTlsPair(client, server, c.name);
      Handshakes result;
      TaskGroup group(kind);
      group.Go([&] {
        result.server = pair.server.Handshake();
        // With TLS 1.3 a server has done its part before it hears of the client's.
        char byte;
        if (result.server.ok()) result.server = pair.server.Read(absl::MakeSpan(&byte, 1)).status();
      });
      result.client = pair.client.Handshake();
      group.Wait();
      EXPECT_EQ(result.client.code(), absl::StatusCode::kUnauthenticated);
      EXPECT_EQ(CertificateErrorOf(result.client), c.error);
      EXPECT_TRUE(absl::StrContains(result.client.message(), c.text)) << result.client;
      EXPECT_TRUE(absl::StartsWith(result.client.message(), "handshake tls 127.0.0.1:"))
          << result.client;
      EXPECT_EQ(result.server.code(), absl::StatusCode::kAborted);
      EXPECT_EQ(CertificateErrorOf(result.server), 0);
      EXPECT_TRUE(
          absl::StrContains(result.server.message(), absl::StrCat("the peer refuses: ", c.told)))
          << result.server;
      // It stays so.
      EXPECT_EQ(pair.client.Write("x"), result.client);
    });
  }
}

TEST(TlsHandshakeTest, NamesAndAddressesOfTheCertificateAreGood) {
  const TlsConfig client = ClientConfig(), server = ServerConfig();
  testing::RunOnGoroutine([&] {
    for (const char* name : {"server.test", "SERVER.test", "server.test.", "any.wild.test",
                             "localhost", "127.0.0.1"}) {
      const TlsPair pair = MakeTlsPair(client, server, name);
      const Handshakes result = ShakeHands(TaskKind::kGoroutine, pair);
      EXPECT_TRUE(result.client.ok()) << name << ": " << result.client;
    }
  });
}

TEST(TlsHandshakeTest, TheSystemsAuthoritiesKnowNothingOfOurs) {
  const absl::StatusOr<TlsConfig> config = TlsConfig::Client();
  if (absl::IsNotFound(config.status())) GTEST_SKIP() << config.status();
  ASSERT_TRUE(config.ok()) << config.status();
  testing::RunOnGoroutine([&] {
    const TlsPair pair = MakeTlsPair(*config, ServerConfig());
    const Handshakes result = ShakeHands(TaskKind::kGoroutine, pair);
    EXPECT_NE(CertificateErrorOf(result.client), 0) << result.client;
  });
}

TEST(TlsHandshakeTest, TheEnvironmentNamesTheAuthorities) {
  setenv("SSL_CERT_FILE", TestCertificates::Get().Path("ca.pem").c_str(), 1);
  const absl::StatusOr<TlsConfig> config = TlsConfig::Client();
  setenv("SSL_CERT_FILE", "/does/not/exist", 1);
  EXPECT_TRUE(absl::IsNotFound(TlsConfig::Client().status()));
  unsetenv("SSL_CERT_FILE");
  ASSERT_TRUE(config.ok()) << config.status();
  testing::RunOnGoroutine([&] { MustMakeTlsPair(TaskKind::kGoroutine, *config, ServerConfig()); });
}

TEST(TlsHandshakeTest, ChecksCanBeLeftOut) {
  const TlsConfig client = ClientConfig({.insecure_skip_verify = true});
  testing::RunOnGoroutine([&] {
    MustMakeTlsPair(TaskKind::kGoroutine, client, ServerConfig("stranger"));
    // But never for want of a name.
    const TlsPair pair = MakeTlsPair(ClientConfig(), ServerConfig(), "");
    EXPECT_EQ(pair.client.Handshake().code(), absl::StatusCode::kInvalidArgument);
    const TlsPair bad = MakeTlsPair(TlsConfig(), client);
    EXPECT_EQ(bad.client.Handshake().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(bad.server.Handshake().code(), absl::StatusCode::kInvalidArgument);
  });
}

TEST(TlsHandshakeTest, ServersAskForClientCertificates) {
  const std::string authority = TestCertificates::Get().Authority();
  const TlsConfig required = ServerConfig(
      "server", {.client_auth = TlsClientAuth::kRequired, .client_authorities_pem = authority});
  const TlsConfig if_given = ServerConfig(
      "server", {.client_auth = TlsClientAuth::kIfGiven, .client_authorities_pem = authority});
  const TlsConfig nothing = ClientConfig();
  const TlsConfig good =
      ClientConfig({.certificates = {TestCertificates::Get().Certificate("client")}});
  const TlsConfig bad =
      ClientConfig({.certificates = {TestCertificates::Get().Certificate("stranger")}});
  ForEachSetting([&](TaskKind kind) {
    // The server's error, after both have tried to read; and what the client hears.
    size_t shown = 0;
    const auto meet = [kind, &shown](const TlsConfig& client, const TlsConfig& server) {
      const TlsPair pair = MakeTlsPair(client, server);
      Handshakes result;
      TaskGroup group(kind);
      group.Go([&] {
        result.server = pair.server.Handshake();
        if (result.server.ok()) {
          EXPECT_TRUE(pair.server.Write("x").ok());
          shown = pair.server.State().peer_certificates.size();
        }
      });
      char byte;
      result.client = pair.client.ReadFull(absl::MakeSpan(&byte, 1));
      group.Wait();
      return result;
    };
    EXPECT_TRUE(meet(good, required).server.ok());
    EXPECT_EQ(shown, 1u);
    EXPECT_TRUE(meet(good, if_given).server.ok());
    EXPECT_EQ(shown, 1u);
    EXPECT_TRUE(meet(nothing, if_given).server.ok());
    EXPECT_EQ(shown, 0u);
    const Handshakes none = meet(nothing, required);
    EXPECT_TRUE(absl::StrContains(none.server.message(), "peer did not return a certificate"))
        << none.server;
    EXPECT_EQ(none.server.code(), absl::StatusCode::kUnauthenticated);
    EXPECT_TRUE(absl::StrContains(none.client.message(), "the peer refuses: certificate required"))
        << none.client;
    for (const TlsConfig& server : {required, if_given}) {
      const Handshakes stranger = meet(bad, server);
      EXPECT_EQ(CertificateErrorOf(stranger.server), X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY)
          << stranger.server;
      EXPECT_TRUE(absl::StrContains(stranger.client.message(), "the peer refuses: unknown CA"))
          << stranger.client;
    }
  });
}

TEST(TlsHandshakeTest, ServersShowTheCertificateThatIsAskedFor) {
  const TlsConfig server =
      ServerConfig("other", {.certificates = {TestCertificates::Get().Certificate("server")}});
  ForEachSetting([&](TaskKind kind) {
    for (const char* name : {"server.test", "other.test", "localhost"}) {
      const TlsPair pair = MakeTlsPair(ClientConfig(), server, name);
      const Handshakes result = ShakeHands(kind, pair);
      EXPECT_TRUE(result.client.ok()) << name << ": " << result.client;
    }
  });
}

TEST(TlsHandshakeTest, WithoutACommonProtocolThereIsNone) {
  const TlsConfig old = ServerConfig("server", {.max_version = TlsVersion::kTls12});
  const TlsConfig alpn = ServerConfig("server", {.alpn = {"this"}});
  ForEachSetting([&](TaskKind kind) {
    Handshakes result =
        ShakeHands(kind, MakeTlsPair(ClientConfig({.min_version = TlsVersion::kTls13}), old));
    EXPECT_TRUE(absl::StrContains(result.server.message(), "unsupported protocol"))
        << result.server;
    EXPECT_TRUE(absl::StrContains(result.client.message(), "the peer refuses: protocol version"))
        << result.client;
    result = ShakeHands(kind, MakeTlsPair(ClientConfig({.alpn = {"that"}}), alpn));
    EXPECT_TRUE(
        absl::StrContains(result.client.message(), "the peer refuses: no application protocol"))
        << result.client;
  });
}

TEST(TlsHandshakeTest, WhatIsNoTlsIsRefused) {
  const TlsConfig server = ServerConfig(), client = ClientConfig();
  ForEachSetting([&](TaskKind) {
    ConnPair pair = MakePair();
    ASSERT_TRUE(pair.client.Write("GET / HTTP/1.1\r\n\r\n").ok());
    absl::Status status = TlsServer(pair.server, server).Handshake();
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
    EXPECT_TRUE(absl::EndsWith(status.message(), ": http request")) << status;
    pair = MakePair();
    ASSERT_TRUE(pair.server.Write("220 mail.example ESMTP\r\n").ok());
    status = TlsClient(pair.client, client, "server.test").Handshake();
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
    EXPECT_TRUE(absl::EndsWith(status.message(), ": wrong version number")) << status;
  });
}

TEST(TlsHandshakeTest, APeerThatClosesInTheMiddleIsAnUnexpectedEnd) {
  const TlsConfig server = ServerConfig(), client = ClientConfig();
  ForEachSetting([&](TaskKind kind) {
    for (const absl::string_view begin : {"", "\x16\x03\x01\x02", "\x16\x03\x01\x02\x10\x01"}) {
      const ConnPair pair = MakePair();
      TaskGroup group(kind);
      group.Go([&] {
        ASSERT_TRUE(pair.client.Write(begin).ok());
        ASSERT_TRUE(pair.client.CloseWrite().ok());
      });
      const TlsConn conn = TlsServer(pair.server, server);
      const absl::Status status = conn.Handshake();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
      EXPECT_TRUE(absl::StartsWith(status.message(), "handshake tls ")) << status;
      EXPECT_TRUE(absl::EndsWith(status.message(), ": unexpected EOF")) << status;
      EXPECT_TRUE(conn.Close().ok());
    }
    const ConnPair pair = MakePair();
    TaskGroup group(kind);
    group.Go([&] {
      char hello[64];
      ASSERT_TRUE(pair.server.ReadFull(absl::MakeSpan(hello)).ok());
      ASSERT_TRUE(pair.server.SetLinger(absl::ZeroDuration()).ok());
      ASSERT_TRUE(pair.server.Close().ok());
    });
    const absl::Status status = TlsClient(pair.client, client, "server.test").Handshake();
    EXPECT_EQ(ErrnoOf(status), ECONNRESET);
    EXPECT_TRUE(absl::StartsWith(status.message(), "tls handshake: read tcp ")) << status;
  });
}

TEST(TlsHandshakeTest, DeadlinesHoldForTheHandshake) {
  const TlsConfig server = ServerConfig(), client = ClientConfig();
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MakeTlsPair(client, server);
    ASSERT_TRUE(pair.client.SetDeadline(In(absl::Milliseconds(10))).ok());
    absl::Status status = pair.client.Handshake();
    EXPECT_TRUE(IsTimeout(status)) << status;
    // Where the machine is busy the time may be up before anything is sent.
    EXPECT_TRUE(absl::StartsWith(status.message(), "tls handshake: read tcp ") ||
                absl::StartsWith(status.message(), "tls handshake: write tcp "))
        << status;
    // It is not lost.
    ASSERT_TRUE(pair.client.SetDeadline(absl::InfiniteFuture()).ok());
    EXPECT_TRUE(ShakeHands(kind, pair).client.ok());

    // A server that accepts and says nothing.
    const Listener listener = testing::MustListen();
    const absl::Time begin = absl::Now();
    status = TlsDial("tcp", listener.addr().ToString(), client, {.timeout = absl::Milliseconds(50)})
                 .status();
    EXPECT_TRUE(IsTimeout(status)) << status;
    EXPECT_GE(absl::Now() - begin, absl::Milliseconds(50));
  });
}

TEST(TlsHandshakeTest, WhatThereWasNoTimeToSendIsSentWhenItGoesOn) {
  const TlsConfig server = ServerConfig(), client = ClientConfig();
  const auto run_out_of_time = [](const TlsConn& conn) {
    ASSERT_TRUE(conn.SetWriteDeadline(In(-absl::Seconds(1))).ok());
    const absl::Status status = conn.Handshake();
    EXPECT_TRUE(IsTimeout(status)) << status;
    EXPECT_TRUE(absl::StartsWith(status.message(), "tls handshake: write tcp ")) << status;
    ASSERT_TRUE(conn.SetWriteDeadline(absl::InfiniteFuture()).ok());
  };
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MakeTlsPair(client, server);
    run_out_of_time(pair.client);
    absl::Status status;
    TaskGroup group(kind);
    group.Go([&] { status = pair.client.Handshake(); });
    run_out_of_time(pair.server);
    EXPECT_TRUE(pair.server.Handshake().ok());
    group.Wait();
    EXPECT_TRUE(status.ok()) << status;
  });
}

TEST(TlsHandshakeTest, AContextEndsIt) {
  const TlsConfig client = ClientConfig();
  ForEachSetting([&](TaskKind kind) {
    const Listener listener = testing::MustListen();
    {
      const auto [context, cancel] = WithCancel(Background());
      TaskGroup group(kind);
      group.Go([&listener, cancel = cancel] {
        const Conn conn = testing::MustAccept(listener);
        char hello[64];
        EXPECT_TRUE(conn.ReadFull(absl::MakeSpan(hello)).ok());
        cancel();
        // The client closes.
        std::string rest;
        testing::ReadAll(conn, &rest).IgnoreError();
      });
      const absl::Status status =
          TlsDial(context, "tcp", listener.addr().ToString(), client).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
      EXPECT_EQ(status.message(), "tls handshake: operation was canceled");
      EXPECT_FALSE(IsClosed(status));
    }
    const auto [context, cancel] = WithTimeout(Background(), absl::Milliseconds(20));
    const absl::Status status =
        TlsDial(context, "tcp", listener.addr().ToString(), client).status();
    EXPECT_TRUE(IsTimeout(status)) << status;
    cancel();
  });
}

TEST(TlsHandshakeTest, AContextThatEndsLaterDoesNotTouchTheConnection) {
  const TlsConfig server = ServerConfig(), client = ClientConfig();
  ForEachSetting([&](TaskKind kind) {
    const Listener listener = testing::MustListen();
    TaskGroup group(kind);
    group.Go([&] {
      const TlsConn conn = TlsServer(testing::MustAccept(listener), server);
      char byte;
      EXPECT_TRUE(conn.ReadFull(absl::MakeSpan(&byte, 1)).ok());
      EXPECT_TRUE(conn.Write("y").ok());
    });
    const auto [context, cancel] = WithCancel(Background());
    const absl::StatusOr<TlsConn> conn =
        TlsDial(context, "tcp", listener.addr().ToString(), client);
    cancel();
    ASSERT_TRUE(conn.ok()) << conn.status();
    EXPECT_TRUE(conn->Write("x").ok());
    char byte;
    EXPECT_TRUE(conn->ReadFull(absl::MakeSpan(&byte, 1)).ok());
  });
}

TEST(TlsHandshakeTest, CloseEndsAHandshakeThatWaits) {
  const TlsConfig client = ClientConfig();
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MakeTlsPair(client, TlsConfig());
    TaskGroup group(kind);
    for (int i = 0; i < 2; ++i) {
      group.Go([&] {
        const absl::Status status = pair.client.Handshake();
        EXPECT_TRUE(IsClosed(status)) << status;
      });
    }
    char hello[64];
    ASSERT_TRUE(pair.server.transport().ReadFull(absl::MakeSpan(hello)).ok());
    EXPECT_TRUE(pair.client.Close().ok());
  });
}

TEST(TlsHandshakeTest, ConfigsSayWhatIsWrongWithThem) {
  const TlsCertificate good = TestCertificates::Get().Certificate("server");
  const TlsCertificate other = TestCertificates::Get().Certificate("other");
  const auto error = [](const absl::StatusOr<TlsConfig>& config) {
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(config.status().message());
  };
  EXPECT_EQ(error(TlsConfig::Server({})), "tls: a server needs a certificate");
  EXPECT_TRUE(absl::StartsWith(error(TlsConfig::Server({.certificates = {{"junk", "junk"}}})),
                               "tls: no certificates in the certificate's chain"));
  EXPECT_TRUE(
      absl::StartsWith(error(TlsConfig::Server({.certificates = {{good.chain_pem, "junk"}}})),
                       "tls: no unencrypted private key"));
  EXPECT_TRUE(absl::StartsWith(
      error(TlsConfig::Server({.certificates = {{good.chain_pem, other.key_pem}}})),
      "tls: the private key does not belong to the certificate"));
  EXPECT_TRUE(absl::StartsWith(
      error(TlsConfig::Server(
          {.certificates = {{good.chain_pem + good.chain_pem.substr(0, 100), good.key_pem}}})),
      "tls: no certificates in the certificate's chain"));
  EXPECT_EQ(
      error(TlsConfig::Server({.certificates = {good}, .client_auth = TlsClientAuth::kRequired})),
      "tls: client certificates are asked for, of no authority");
  EXPECT_EQ(error(TlsConfig::Client({.authorities_pem = good.chain_pem, .alpn = {""}})),
            "tls: an ALPN name has 1 to 255 bytes");
  EXPECT_EQ(error(TlsConfig::Client({.authorities_pem = good.chain_pem,
                                     .min_version = TlsVersion::kTls13,
                                     .max_version = TlsVersion::kTls12})),
            "tls: min_version is above max_version");
  EXPECT_TRUE(absl::StartsWith(error(TlsConfig::Client({.authorities_pem = "junk"})),
                               "tls: no certificates in the authorities' text"));
  EXPECT_TRUE(absl::IsNotFound(LoadTlsCertificate("/does/not/exist", "/neither").status()));
  const absl::StatusOr<TlsCertificate> loaded = LoadTlsCertificate(
      TestCertificates::Get().Path("server.pem"), TestCertificates::Get().Path("server.key"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(TlsConfig::Server({.certificates = {*loaded}}).ok());
}

}  // namespace
}  // namespace weft
