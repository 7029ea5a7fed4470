#include "netpoll/tls.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/buffered.h"
#include "netpoll/owned_fd.h"
#include "netpoll/tls_testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::ClientConfig;
using testing::ConnPair;
using testing::Eventually;
using testing::ForEachSetting;
using testing::In;
using testing::MakePair;
using testing::MakeTlsPair;
using testing::MustMakeTlsPair;
using testing::Rounds;
using testing::ServerConfig;
using testing::ShakeHands;
using testing::TaskGroup;
using testing::TaskKind;
using testing::TestCertificates;
using testing::TlsPair;

// Bytes of no short period.
std::string Noise(size_t size, uint64_t seed) {
  std::string text(size, '\0');
  uint64_t state = seed * 2654435761u + 1;
  for (char& c : text) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    c = static_cast<char>(state >> 56);
  }
  return text;
}

absl::Status ReadToEnd(const TlsConn& conn, std::string* text) {
  std::string buffer(20'000, '\0');
  for (;;) {
    const absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(buffer.data(), buffer.size()));
    if (!n.ok()) return n.status();
    if (*n == 0) return absl::OkStatus();
    text->append(buffer, 0, *n);
  }
}

TEST(TlsTest, BytesGoBothWays) {
  const TlsConfig client = ClientConfig(), server = ServerConfig();
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MustMakeTlsPair(kind, client, server);
    for (const auto& [from, to] :
         {std::pair(pair.client, pair.server), {pair.server, pair.client}}) {
      size_t written = 0;
      ASSERT_TRUE(from.Write("hello", &written).ok());
      EXPECT_EQ(written, 5u);
      ASSERT_TRUE(from.Writev({", ", "", "world"}, &written).ok());
      EXPECT_EQ(written, 7u);
      ASSERT_TRUE(to.WaitReadable().ok());
      std::string got(12, '\0');
      ASSERT_TRUE(to.ReadFull(absl::MakeSpan(got.data(), got.size())).ok());
      EXPECT_EQ(got, "hello, world");
    }
    // What one end says last the other one reads, then the end; and the other way it goes on.
    ASSERT_TRUE(pair.client.Write("last").ok());
    ASSERT_TRUE(pair.client.CloseWrite().ok());
    std::string got;
    EXPECT_TRUE(ReadToEnd(pair.server, &got).ok());
    EXPECT_EQ(got, "last");
    char byte;
    EXPECT_EQ(pair.server.Read(absl::MakeSpan(&byte, 1)).value_or(7), 0u);
    EXPECT_EQ(pair.server.ReadFull(absl::MakeSpan(&byte, 1)).code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ(pair.client.Write("more").code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(pair.server.Write("answer").ok());
    EXPECT_TRUE(pair.server.Close().ok());
    got.clear();
    EXPECT_TRUE(ReadToEnd(pair.client, &got).ok());
    EXPECT_EQ(got, "answer");
    EXPECT_TRUE(pair.client.Close().ok());
    EXPECT_TRUE(IsClosed(pair.client.Close()));
    EXPECT_TRUE(IsClosed(pair.client.Write("x")));
    EXPECT_TRUE(IsClosed(pair.client.Read(absl::MakeSpan(&byte, 1)).status()));
  });
}

TEST(TlsTest, BothSidesKnowWhatWasAgreed) {
  const TlsConfig server = ServerConfig("server", {.alpn = {"two", "one"}});
  for (const TlsVersion version : {TlsVersion::kTls12, TlsVersion::kTls13}) {
    const TlsConfig client =
        ClientConfig({.alpn = {"one", "two", "three"}, .max_version = version});
    ForEachSetting([&](TaskKind kind) {
      const TlsPair pair = MakeTlsPair(client, server);
      EXPECT_EQ(pair.client.State().version, "");
      const testing::Handshakes result = ShakeHands(kind, pair);
      ASSERT_TRUE(result.client.ok() && result.server.ok()) << result.client << result.server;
      for (const TlsConn& conn : {pair.client, pair.server}) {
        const TlsState state = conn.State();
        EXPECT_EQ(state.version, version == TlsVersion::kTls12 ? "TLSv1.2" : "TLSv1.3");
        EXPECT_NE(state.cipher, "");
        EXPECT_EQ(state.alpn, "two");
        EXPECT_EQ(state.server_name, "server.test");
      }
      EXPECT_EQ(pair.client.State().peer_certificates.size(), 1u);
      EXPECT_TRUE(absl::StrContains(pair.client.State().peer_certificates[0], "*.wild.test"));
      EXPECT_TRUE(pair.server.State().peer_certificates.empty());
      EXPECT_EQ(pair.client.local_address(), pair.server.remote_address());
      EXPECT_EQ(pair.client.network(), "tcp");
    });
  }
}

TEST(TlsTest, ASecondConnectionContinuesTheSession) {
  const TlsConfig server = ServerConfig();
  for (const TlsVersion version : {TlsVersion::kTls12, TlsVersion::kTls13}) {
    ForEachSetting([&](TaskKind kind) {
      for (const bool keeps : {true, false}) {
        const TlsConfig client =
            ClientConfig({.max_version = version, .session_cache_size = keeps ? 1u : 0u});
        for (const bool again : {false, true}) {
          const TlsPair pair = MustMakeTlsPair(kind, client, server);
          EXPECT_EQ(pair.client.State().resumed, keeps && again);
          EXPECT_EQ(pair.server.State().resumed, keeps && again);
          // In TLS 1.3 the session comes behind the handshake, when somebody reads.
          ASSERT_TRUE(pair.server.Write("x").ok());
          char byte;
          ASSERT_TRUE(pair.client.ReadFull(absl::MakeSpan(&byte, 1)).ok());
          EXPECT_TRUE(pair.client.Close().ok());
        }
      }
    });
  }
}

TEST(TlsTest, LargeTransfersBothWaysAtOnce) {
  const TlsConfig client = ClientConfig(), server = ServerConfig();
  const size_t size = static_cast<size_t>(Rounds(20'000'000, 2'000'000));
  const std::string there = Noise(size, 1), back = Noise(size, 2);
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MakeTlsPair(client, server);
    TaskGroup group(kind);
    std::string got_there, got_back;
    // The first of them on each side does the handshake.
    const auto send = [](const TlsConn& conn, absl::string_view text) {
      for (size_t n = 1; !text.empty(); n = n * 7 + 1) {
        const absl::string_view piece = text.substr(0, n % 300'000);
        ASSERT_TRUE(conn.Write(piece).ok());
        text.remove_prefix(piece.size());
      }
      ASSERT_TRUE(conn.CloseWrite().ok());
    };
    group.Go([&] { send(pair.client, there); });
    group.Go([&] { send(pair.server, back); });
    group.Go([&] { EXPECT_TRUE(ReadToEnd(pair.server, &got_there).ok()); });
    group.Go([&] { EXPECT_TRUE(ReadToEnd(pair.client, &got_back).ok()); });
    group.Wait();
    EXPECT_TRUE(got_there == there);
    EXPECT_TRUE(got_back == back);
  });
}

TEST(TlsTest, SeveralWritersTakeTurns) {
  const TlsConfig client = ClientConfig(), server = ServerConfig();
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MustMakeTlsPair(kind, client, server);
    constexpr size_t kSize = 40'000;
    constexpr int kWriters = 4;
    const int rounds = Rounds(10, 2);
    TaskGroup group(kind);
    for (int i = 0; i < kWriters; ++i) {
      group.Go([&, i] {
        const std::string block(kSize, static_cast<char>('a' + i));
        for (int k = 0; k < rounds; ++k) {
          const absl::string_view text = block;
          if (k % 2 == 0) {
            ASSERT_TRUE(pair.client.Write(text).ok());
          } else {
            ASSERT_TRUE(
                pair.client.Writev({text.substr(0, 1), text.substr(1, 20'000), text.substr(20'001)})
                    .ok());
          }
        }
      });
    }
    std::atomic<int> blocks{0};
    for (int i = 0; i < 2; ++i) {
      group.Go([&] {
        std::string block(kSize, '\0');
        while (blocks.fetch_add(1) < rounds * kWriters) {
          ASSERT_TRUE(pair.server.ReadFull(absl::MakeSpan(block.data(), kSize)).ok());
          EXPECT_EQ(block, std::string(kSize, block[0]));
        }
      });
    }
    group.Wait();
  });
}

TEST(TlsTest, FilesAreSent) {
  const TlsConfig client = ClientConfig(), server = ServerConfig();
  const std::string text = Noise(300'000, 3);
  const std::string path = absl::StrCat(::testing::TempDir(), "/tls_test.", getpid());
  {
    const OwnedFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    ASSERT_EQ(write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  const OwnedFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(unlink(path.c_str()), 0);
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MustMakeTlsPair(kind, client, server);
    TaskGroup group(kind);
    group.Go([&] {
      EXPECT_EQ(pair.server.SendFile(file.get(), 10, 200'000, "head").value_or(0), 200'000u);
      // It ends before.
      EXPECT_EQ(pair.server.SendFile(file.get(), 299'990, 1000).value_or(0), 10u);
      EXPECT_EQ(pair.server.SendFile(file.get(), 0, 0, "tail").value_or(1), 0u);
      EXPECT_EQ(ErrnoOf(pair.server.SendFile(-1, 0, 1).status()), EBADF);
      EXPECT_TRUE(pair.server.Close().ok());
    });
    std::string got;
    EXPECT_TRUE(ReadToEnd(pair.client, &got).ok());
    EXPECT_TRUE(got ==
                absl::StrCat("head", text.substr(10, 200'000), text.substr(299'990), "tail"));
  });
}

TEST(TlsTest, DeadlinesEndReadsAndTheConnectionGoesOn) {
  const TlsConfig client = ClientConfig(), server = ServerConfig();
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MustMakeTlsPair(kind, client, server);
    char buffer[16];
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(pair.client.SetReadDeadline(In(absl::Milliseconds(i))).ok());
      EXPECT_TRUE(IsTimeout(pair.client.Read(absl::MakeSpan(buffer)).status()));
      EXPECT_TRUE(IsTimeout(pair.client.WaitReadable()));
    }
    ASSERT_TRUE(pair.client.SetDeadline(absl::InfiniteFuture()).ok());
    TaskGroup group(kind);
    group.Go([&] { EXPECT_EQ(pair.client.Read(absl::MakeSpan(buffer)).value_or(0), 4u); });
    EXPECT_TRUE(pair.server.Write("here").ok());
    group.Wait();
    EXPECT_EQ(absl::string_view(buffer, 4), "here");
  });
}

// Nobody reads, so the write has to give up in the middle of a record; what it says that it has
// taken must be what comes in the end.
TEST(TlsTest, AWriteThatTimedOutGoesOnWithoutALoss) {
  const TlsConfig client = ClientConfig(), server = ServerConfig();
  const std::string text = Noise(8'000'000, 4);
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MustMakeTlsPair(kind, client, server);
    size_t done = 0;
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(pair.client.SetWriteDeadline(In(absl::Milliseconds(5))).ok());
      size_t written = 0;
      absl::Status status;
      while (status.ok() && done < text.size()) {
        status = pair.client.Write(absl::string_view(text).substr(done), &written);
        done += written;
      }
      ASSERT_TRUE(IsTimeout(status)) << status;
    }
    ASSERT_TRUE(pair.client.SetWriteDeadline(absl::InfiniteFuture()).ok());
    TaskGroup group(kind);
    group.Go([&] {
      EXPECT_TRUE(pair.client.Write(absl::string_view(text).substr(done)).ok());
      EXPECT_TRUE(pair.client.CloseWrite().ok());
    });
    std::string got;
    EXPECT_TRUE(ReadToEnd(pair.server, &got).ok());
    EXPECT_TRUE(got == text);
  });
}

TEST(TlsTest, CloseEndsAReadThatWaits) {
  const TlsConfig client = ClientConfig(), server = ServerConfig();
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MustMakeTlsPair(kind, client, server);
    ASSERT_TRUE(pair.client.transport().SetWriteBuffer(64 << 10).ok());
    ASSERT_TRUE(pair.server.transport().SetReadBuffer(64 << 10).ok());
    TaskGroup group(kind);
    std::atomic<int> reading{0};
    for (int i = 0; i < 2; ++i) {
      group.Go([&] {
        char buffer[16];
        reading.fetch_add(1);
        const absl::Status status = pair.client.Read(absl::MakeSpan(buffer)).status();
        EXPECT_TRUE(IsClosed(status)) << status;
      });
    }
    group.Go([&] {
      // More than there is room for.
      const absl::Status status = pair.client.Write(std::string(16 << 20, 'x'));
      EXPECT_TRUE(IsClosed(status)) << status;
    });
    char byte;
    ASSERT_TRUE(pair.server.ReadFull(absl::MakeSpan(&byte, 1)).ok());
    ASSERT_TRUE(Eventually([&] { return reading.load() == 2; }));
    Sleep(absl::Milliseconds(5));
    EXPECT_TRUE(pair.client.Close().ok());
    group.Wait();
    // A write was cut off, and nobody says that this was all.
    std::string got;
    EXPECT_FALSE(ReadToEnd(pair.server, &got).ok());
  });
}

TEST(TlsTest, AStreamThatIsCutOffIsNoEnd) {
  const TlsConfig client = ClientConfig(), server = ServerConfig();
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MustMakeTlsPair(kind, client, server);
    ASSERT_TRUE(pair.server.Write("part").ok());
    ASSERT_TRUE(pair.server.transport().CloseWrite().ok());
    std::string got;
    for (int i = 0; i < 2; ++i) {
      const absl::Status status = ReadToEnd(pair.client, &got);
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
      EXPECT_TRUE(absl::EndsWith(status.message(), ": unexpected EOF")) << status;
    }
    EXPECT_EQ(got, "part");
    EXPECT_TRUE(pair.client.WaitReadable().ok());
    // The other direction is as it was.
    ASSERT_TRUE(pair.client.Write("answer").ok());
    char answer[6];
    EXPECT_TRUE(pair.server.ReadFull(absl::MakeSpan(answer)).ok());
  });
}

TEST(TlsTest, BytesThatWereChangedAreNoticed) {
  const TlsConfig client = ClientConfig(), server = ServerConfig();
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MustMakeTlsPair(kind, client, server);
    // A record of application data, by somebody without the key.
    const std::string record = absl::StrCat(std::string("\x17\x03\x03\x00\x30", 5), Noise(48, 5));
    ASSERT_TRUE(pair.server.transport().Write(record).ok());
    char buffer[64];
    const absl::Status status = pair.client.Read(absl::MakeSpan(buffer)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
    EXPECT_EQ(pair.client.Write("x").code(), absl::StatusCode::kAborted);
    // And the other end is told.
    const absl::Status told = pair.server.Read(absl::MakeSpan(buffer)).status();
    EXPECT_EQ(told.code(), absl::StatusCode::kAborted);
    EXPECT_TRUE(absl::StrContains(told.message(), "the peer refuses: bad record mac")) << told;
  });
}

TEST(TlsTest, BufferedReadersWorkOverIt) {
  const TlsConfig client = ClientConfig(), server = ServerConfig();
  ForEachSetting([&](TaskKind kind) {
    const TlsPair pair = MakeTlsPair(client, server);
    TaskGroup group(kind);
    group.Go([&] {
      BufferedReader reader(pair.server);
      BufferedWriter writer(pair.server);
      for (auto line = reader.ReadLine(); line.ok(); line = reader.ReadLine()) {
        ASSERT_TRUE(writer.Write(absl::StrCat("you said ", *line, "\n")).ok());
        if (reader.buffered() == 0) ASSERT_TRUE(writer.Flush().ok());
      }
      EXPECT_TRUE(pair.server.Close().ok());
    });
    BufferedReader reader(pair.client);
    ASSERT_TRUE(pair.client.Write("this\nthat\n").ok());
    EXPECT_EQ(*reader.ReadLine(), "you said this");
    EXPECT_EQ(*reader.ReadLine(), "you said that");
    EXPECT_TRUE(pair.client.CloseWrite().ok());
    EXPECT_EQ(reader.ReadLine().status().message(), "EOF");
  });
}

// Echoes over one connection and another, with deadlines that keep moving and a reader and a writer
// each.
TEST(TlsTest, ManyConnectionsAtOnce) {
  const TlsConfig client = ClientConfig(), server = ServerConfig();
  ForEachSetting([&](TaskKind kind) {
    const Listener listener = testing::MustListen();
    TaskGroup group(kind);
    group.Go([&] {
      for (auto conn = listener.Accept(); conn.ok(); conn = listener.Accept()) {
        group.Go([tls = TlsServer(*conn, server)] {
          std::string text;
          EXPECT_TRUE(ReadToEnd(tls, &text).ok());
          EXPECT_TRUE(tls.Write(text).ok());
          EXPECT_TRUE(tls.Close().ok());
        });
      }
    });
    TaskGroup clients(kind);
    for (int i = 0; i < 4; ++i) {
      clients.Go([&, i] {
        for (int k = 0; k < Rounds(8, 2); ++k) {
          const auto conn =
              TlsDial("tcp", absl::StrCat("localhost:", listener.addr().port()), client);
          ASSERT_TRUE(conn.ok()) << conn.status();
          const std::string text = Noise(static_cast<size_t>(k) * 20'000, static_cast<uint64_t>(i));
          ASSERT_TRUE(conn->SetDeadline(In(absl::Seconds(60))).ok());
          ASSERT_TRUE(conn->Write(text).ok());
          ASSERT_TRUE(conn->CloseWrite().ok());
          std::string got;
          ASSERT_TRUE(ReadToEnd(*conn, &got).ok());
          EXPECT_TRUE(got == text);
        }
      });
    }
    clients.Wait();
    EXPECT_TRUE(listener.Close().ok());
  });
}

}  // namespace
}  // namespace weft
