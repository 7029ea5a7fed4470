#include "netpoll/packet_conn.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/owned_fd.h"
#include "netpoll/test_util.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::ForEachSetting;
using testing::In;
using testing::Rounds;
using testing::Shortened;
using testing::TaskGroup;
using testing::TaskKind;

PacketConn MustListenPacket(absl::string_view network = "udp",
                            absl::string_view address = "127.0.0.1:0") {
  absl::StatusOr<PacketConn> conn = ListenPacket(network, address);
  EXPECT_TRUE(conn.ok()) << conn.status();
  return conn.ok() ? *conn : PacketConn();
}

PacketConn MustDialPacket(absl::string_view network, const SocketAddress& address,
                          const PacketOptions& options = {}) {
  absl::StatusOr<PacketConn> conn = DialPacket(network, address.ToString(), options);
  EXPECT_TRUE(conn.ok()) << conn.status();
  return conn.ok() ? *conn : PacketConn();
}

void ExpectTimeout(const absl::Status& status) {
  EXPECT_TRUE(IsTimeout(status)) << status;
  EXPECT_TRUE(absl::EndsWith(status.message(), ": i/o timeout")) << status;
}

// A datagram as text, or the error's.
std::string ReadText(const PacketConn& conn, SocketAddress* from = nullptr) {
  std::string buffer(2048, '\0');
  const absl::StatusOr<size_t> n =
      conn.ReadFrom(absl::MakeSpan(buffer.data(), buffer.size()), from);
  EXPECT_TRUE(n.ok()) << n.status();
  return n.ok() ? buffer.substr(0, *n) : std::string(n.status().message());
}

TEST(PacketConnTest, DatagramsGoBothWays) {
  ForEachSetting([](TaskKind kind) {
    const PacketConn server = MustListenPacket();
    EXPECT_EQ(server.network(), "udp");
    TaskGroup group(kind);
    group.Go([&] {
      for (int i = 0; i < 3; ++i) {
        SocketAddress from;
        const std::string text = ReadText(server, &from);
        EXPECT_TRUE(server.WriteTo(absl::StrCat("<", text, ">"), from).ok());
      }
    });
    const PacketConn client = MustDialPacket("udp", server.local_address());
    for (const absl::string_view text : {"one", "", "three"}) {
      EXPECT_TRUE(client.Write(text).ok());
      EXPECT_EQ(ReadText(client), absl::StrCat("<", text, ">"));
    }
    EXPECT_EQ(client.remote_address(), server.local_address());
  });
}

TEST(PacketConnTest, ASocketOfBothVersionsTakesAndGivesIPv4Addresses) {
  const PacketConn server = MustListenPacket("udp", ":0");
  const absl::StatusOr<PacketConn> client =
      DialPacket("udp4", absl::StrCat("127.0.0.1:", server.local_address().port()));
  ASSERT_TRUE(client.ok()) << client.status();
  ASSERT_TRUE(client->Write("ping").ok());
  SocketAddress from;
  EXPECT_EQ(ReadText(server, &from), "ping");
  EXPECT_EQ(from, client->local_address());
  EXPECT_TRUE(server.WriteTo("pong", from).ok());
  EXPECT_EQ(ReadText(*client), "pong");
}

TEST(PacketConnTest, ADatagramThatDoesNotFitLosesItsEnd) {
  const PacketConn server = MustListenPacket();
  const PacketConn client = MustDialPacket("udp", server.local_address());
  ASSERT_TRUE(client.Write("0123456789").ok());
  ASSERT_TRUE(client.Write("abc").ok());
  char buffer[4];
  const absl::StatusOr<size_t> n = server.Read(absl::MakeSpan(buffer));
  ASSERT_TRUE(n.ok());
  EXPECT_EQ(std::string(buffer, *n), "0123");
  EXPECT_EQ(ReadText(server), "abc");
}

TEST(PacketConnTest, BatchesGoAndComeInOrder) {
  ForEachSetting([](TaskKind kind) {
    constexpr size_t kPackets = 100;
    const PacketConn server = MustListenPacket();
    const PacketConn client = MustListenPacket();
    ASSERT_TRUE(server.SetReadBuffer(1 << 20).ok());
    std::vector<std::string> texts;
    std::vector<OutPacket> out;
    for (size_t i = 0; i < kPackets; ++i) texts.push_back(absl::StrCat("datagram ", i));
    for (const std::string& text : texts) out.push_back({text, server.local_address()});

    TaskGroup group(kind);
    group.Go([&] {
      size_t sent = 0;
      EXPECT_TRUE(client.WriteBatch(out, &sent).ok());
      EXPECT_EQ(sent, kPackets);
    });
    std::vector<char> memory(kPackets * 10);
    std::vector<InPacket> in(kPackets);
    size_t got = 0;
    while (got < kPackets) {
      for (size_t i = 0; i < kPackets; ++i) {
        in[i].buffer = absl::MakeSpan(&memory[i * 10], 10);
      }
      const absl::StatusOr<size_t> n = server.ReadBatch(absl::MakeSpan(in));
      ASSERT_TRUE(n.ok()) << n.status();
      ASSERT_GT(*n, 0u);
      for (size_t i = 0; i < *n; ++i, ++got) {
        EXPECT_EQ(std::string(in[i].buffer.data(), in[i].size), texts[got].substr(0, 10));
        EXPECT_EQ(in[i].truncated, texts[got].size() > 10);
        EXPECT_EQ(in[i].from, client.local_address());
      }
    }
    EXPECT_EQ(server.ReadBatch({}).value_or(1), 0u);
    EXPECT_TRUE(client.WriteBatch({}).ok());
  });
}

TEST(PacketConnTest, OperationsOnNothingSayClosed) {
  const PacketConn conn;
  char buffer[1];
  EXPECT_FALSE(conn);
  EXPECT_TRUE(IsClosed(conn.Read(absl::MakeSpan(buffer)).status()));
  EXPECT_TRUE(IsClosed(conn.Write("x")));
  EXPECT_TRUE(IsClosed(conn.WriteTo("x", SocketAddress())));
  EXPECT_TRUE(IsClosed(conn.WriteBatch({})));
  EXPECT_TRUE(IsClosed(conn.SetDeadline(absl::InfiniteFuture())));
  EXPECT_TRUE(IsClosed(conn.Close()));
  EXPECT_TRUE(IsClosed(conn.Release().status()));
  EXPECT_EQ(conn.fd(), -1);
  EXPECT_EQ(conn.network(), "");
}

TEST(PacketConnTest, UnknownNetworksAndAddressesAreRefused) {
  const absl::Status unknown = ListenPacket("tcp", "127.0.0.1:0").status();
  EXPECT_TRUE(absl::IsInvalidArgument(unknown));
  EXPECT_EQ(unknown.message(), "listen tcp: unknown network tcp");
  EXPECT_TRUE(absl::IsInvalidArgument(DialPacket("udp6", "127.0.0.1:1").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(DialPacket("unixgram", "").status()));
  const PacketConn taken = MustListenPacket();
  const absl::Status again = ListenPacket("udp", taken.local_address().ToString()).status();
  EXPECT_EQ(ErrnoOf(again), EADDRINUSE) << again;
}

TEST(PacketConnTest, OptionsReachTheSocket) {
  std::string network;
  const PacketOptions options = {.reuse_port = true,
                                 .control = [&](absl::string_view name, const SocketAddress&, int) {
                                   network = std::string(name);
                                   return absl::OkStatus();
                                 }};
  const absl::StatusOr<PacketConn> a = ListenPacket("udp", "127.0.0.1:0", options);
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(network, "udp4");
  EXPECT_TRUE(ListenPacket("udp", a->local_address().ToString(), options).ok());
  const PacketConn client = MustDialPacket("udp", a->local_address(),
                                           {.local_address = *SocketAddress::Parse("127.0.0.1:0")});
  EXPECT_EQ(client.local_address().host(), "127.0.0.1");
  const absl::Status refused =
      ListenPacket("udp", "127.0.0.1:0",
                   {.control = [](absl::string_view, const SocketAddress&,
                                  int) { return absl::AbortedError("not today"); }})
          .status();
  EXPECT_EQ(refused.message(), "listen udp 127.0.0.1:0: not today");
  EXPECT_TRUE(absl::IsAborted(refused));
}

TEST(PacketConnTest, ReleaseHandsTheSocketOutAndFilePacketConnIn) {
  PacketConn server = MustListenPacket();
  const SocketAddress address = server.local_address();
  const absl::StatusOr<int> fd = server.Release();
  ASSERT_TRUE(fd.ok()) << fd.status();
  EXPECT_TRUE(IsClosed(server.Close()));
  const absl::StatusOr<PacketConn> again = FilePacketConn(*fd);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->local_address(), address);
  EXPECT_EQ(again->network(), "udp");
  ASSERT_TRUE(MustDialPacket("udp", address).Write("x").ok());
  EXPECT_EQ(ReadText(*again), "x");
  EXPECT_TRUE(absl::IsInvalidArgument(FileConn(again->fd()).status()));
  EXPECT_EQ(ErrnoOf(FilePacketConn(-1).status()), EBADF);
}

// What follows are behaviours that Go's tests assert, by their numbers.

TEST(PacketConnTest, NE03_ReadFromAndWriteToTimeouts) {
  ForEachSetting([](TaskKind) {
    const PacketConn server = MustListenPacket();
    const PacketConn client = MustListenPacket();
    char buffer[1];
    SocketAddress from;
    // In the past, though there is a datagram.
    ASSERT_TRUE(client.WriteTo("x", server.local_address()).ok());
    ASSERT_TRUE(server.SetReadDeadline(In(-absl::Seconds(5))).ok());
    for (int i = 0; i < 2; ++i) {
      ExpectTimeout(server.ReadFrom(absl::MakeSpan(buffer), &from).status());
      EXPECT_TRUE(from.empty());
    }
    ASSERT_TRUE(server.SetReadDeadline(In(absl::Milliseconds(10))).ok());
    absl::Status status;
    while (status.ok()) status = server.ReadFrom(absl::MakeSpan(buffer), &from).status();
    ExpectTimeout(status);
    ASSERT_TRUE(client.SetWriteDeadline(In(-absl::Seconds(5))).ok());
    for (int i = 0; i < 2; ++i) ExpectTimeout(client.WriteTo("x", server.local_address()));
    ASSERT_TRUE(client.SetWriteDeadline(In(absl::Milliseconds(10))).ok());
    status = absl::OkStatus();
    while (status.ok() || ErrnoOf(status) == ENOBUFS) {
      status = client.WriteTo("x", server.local_address());
    }
    ExpectTimeout(status);
  });
}

TEST(PacketConnTest, NE15_CloseUnblocksReadUDP) {
  ForEachSetting([](TaskKind kind) {
    const PacketConn conn = MustListenPacket();
    TaskGroup group(kind);
    group.Go([&] {
      Sleep(Shortened(absl::Milliseconds(50)));
      EXPECT_TRUE(conn.Close().ok());
    });
    EXPECT_TRUE(IsClosed(conn.Read({}).status()));
  });
}

TEST(PacketConnTest, NE47_UnixgramZeroByteDatagramsAndBuffers) {
  ForEachSetting([](TaskKind) {
    const PacketConn server = MustListenPacket("unixgram", "@");
    ASSERT_FALSE(server.local_address().empty());
    for (const bool named : {false, true}) {
      const PacketConn client =
          MustDialPacket("unixgram", server.local_address(),
                         {.local_address = named ? *SocketAddress::Unix("@") : SocketAddress()});
      ASSERT_TRUE(client.Write("").ok());
      SocketAddress from;
      EXPECT_EQ(ReadText(server, &from), "");
      // A sender without a name has no address.
      EXPECT_EQ(from.empty(), !named);
      EXPECT_EQ(from, client.local_address());
      ASSERT_TRUE(client.Write("dropped").ok());
      EXPECT_EQ(server.Read({}).value_or(1), 0u);
    }
    ASSERT_TRUE(server.SetReadDeadline(In(absl::Milliseconds(1))).ok());
    ExpectTimeout(server.Read({}).status());
  });
}

TEST(PacketConnTest, NE48_WriteToNeedsAnAddressWhereTheSocketHasNoneAndOnlyThere) {
  for (const absl::string_view network : {"udp", "unixgram"}) {
    const PacketConn server = MustListenPacket(network, network == "udp" ? "127.0.0.1:0" : "@");
    const SocketAddress to = server.local_address();
    const PacketConn client = MustDialPacket(network, to);
    absl::Status status = client.WriteTo("x", to);
    EXPECT_TRUE(absl::EndsWith(status.message(), ": use of WriteTo with pre-connected connection"))
        << status;
    EXPECT_EQ(client.WriteBatch({{"x", to}}), status);
    status = server.WriteTo("x", SocketAddress());
    EXPECT_TRUE(absl::EndsWith(status.message(), ": missing address")) << status;
    EXPECT_EQ(server.WriteBatch({{"x"}}), status);
    EXPECT_FALSE(server.Write("x").ok());
  }
  const absl::Status family = MustListenPacket().WriteTo("x", *SocketAddress::Parse("[::1]:1"));
  EXPECT_TRUE(absl::IsInvalidArgument(family)) << family;
}

TEST(PacketConnTest, NE50_ReadTimeoutFillsNothingIn) {
  ForEachSetting([](TaskKind) {
    const PacketConn conn = MustListenPacket();
    ASSERT_TRUE(conn.SetReadDeadline(absl::Now()).ok());
    InPacket packet;
    packet.size = 7;
    ExpectTimeout(conn.ReadBatch(absl::MakeSpan(&packet, 1)).status());
    EXPECT_EQ(packet.size, 7u);
    EXPECT_TRUE(packet.from.empty());
  });
}

// The receiver's queue is full of others' datagrams, and the poller does not tell a sender that is
// not connected when there is room again.
TEST(PacketConnTest, SendersToAFullUnixQueueGoOnWhenThereIsRoom) {
  ForEachSetting([](TaskKind kind) {
    const PacketConn server = MustListenPacket("unixgram", "@");
    const PacketConn sender = MustListenPacket("unixgram", "@");
    const OwnedFd other(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const SocketAddress to = server.local_address();
    int queued = 0;
    while (sendto(other.get(), "other", 5, 0, to.data(), to.size()) == 5) ++queued;
    ASSERT_EQ(errno, EAGAIN);
    ASSERT_GT(queued, 0);
    // As long as there is no room a sender waits, until its deadline.
    ASSERT_TRUE(sender.SetWriteDeadline(In(absl::Milliseconds(20))).ok());
    ExpectTimeout(sender.WriteTo("late", to));
    ASSERT_TRUE(sender.SetWriteDeadline(absl::InfiniteFuture()).ok());
    std::atomic<bool> sent{false};
    TaskGroup group(kind);
    group.Go([&] {
      EXPECT_TRUE(sender.WriteTo("mine", to).ok());
      sent.store(true);
    });
    Sleep(absl::Milliseconds(2));
    EXPECT_FALSE(sent.load());
    for (int i = 0; i < queued; ++i) EXPECT_EQ(ReadText(server), "other");
    EXPECT_EQ(ReadText(server), "mine");
  });
}

}  // namespace
}  // namespace weft
