// Names, looked up at a name server of the test's own, which answers as the names tell it to.
#include "netpoll/resolver.h"

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "chan/context.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/packet_conn.h"
#include "netpoll/test_util.h"

namespace weft {
namespace {

using testing::CountDescriptors;
using testing::Eventually;
using testing::ForEachSetting;
using testing::MustListen;
using testing::TaskGroup;
using testing::TaskKind;

std::string Number(uint32_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

// DNS over UDP and TCP, on one port of this machine.
class NameServer {
 public:
  explicit NameServer(TaskKind kind) : tasks_(kind) {
    tcp_ = MustListen();
    const absl::StatusOr<PacketConn> udp = ListenPacket("udp", tcp_.addr().ToString());
    EXPECT_TRUE(udp.ok()) << udp.status();
    udp_ = *udp;
    tasks_.Go([this] { ServeUdp(); });
    tasks_.Go([this] {
      for (absl::StatusOr<Conn> c = tcp_.Accept(); c.ok(); c = tcp_.Accept()) {
        tasks_.Go([this, conn = *std::move(c)] { ServeTcp(conn); });
      }
    });
  }
  ~NameServer() {
    UseSystemResolver();
    EXPECT_TRUE(udp_.Close().ok());
    EXPECT_TRUE(tcp_.Close().ok());
  }

  // Names are looked up here from now on.
  void Use(ResolverOptions options = {}) {
    options.servers = {tcp_.addr()};
    EXPECT_TRUE(UseResolver(options).ok());
  }

  int udp_queries() const { return udp_queries_.load(); }
  int tcp_queries() const { return tcp_queries_.load(); }

 private:
  enum class Way { kUdp, kTcp };

  void ServeUdp() {
    char buffer[1500];
    SocketAddress from;
    for (;;) {
      const absl::StatusOr<size_t> n = udp_.ReadFrom(absl::MakeSpan(buffer), &from);
      if (IsClosed(n.status())) return;
      if (!n.ok()) continue;
      udp_queries_.fetch_add(1);
      const std::optional<std::string> answer = Answer(std::string(buffer, *n), Way::kUdp);
      if (answer.has_value()) udp_.WriteTo(*answer, from).IgnoreError();
    }
  }

  void ServeTcp(const Conn& conn) {
    unsigned char size[2];
    while (conn.ReadFull(absl::MakeSpan(reinterpret_cast<char*>(size), 2)).ok()) {
      std::string query(static_cast<size_t>(size[0] << 8 | size[1]), '\0');
      if (!conn.ReadFull(absl::MakeSpan(query.data(), query.size())).ok()) return;
      tcp_queries_.fetch_add(1);
      const std::optional<std::string> answer = Answer(query, Way::kTcp);
      if (!answer.has_value()) return;
      const std::string length = Number(static_cast<uint32_t>(answer->size()), 2);
      if (!conn.Writev({length, *answer}).ok()) return;
    }
  }

  std::optional<std::string> Answer(const std::string& query, Way way) {
    // The question: labels, each behind its length, then type and class.
    std::string name;
    size_t at = 12;
    while (at < query.size() && query[at] != 0) {
      const size_t size = static_cast<size_t>(query[at]);
      absl::StrAppend(&name, query.substr(at + 1, size), ".");
      at += size + 1;
    }
    if (query.size() < at + 5) return std::nullopt;
    const std::string question = query.substr(12, at + 5 - 12);
    const bool asks_ipv4 = query[at + 2] == 1;

    std::vector<std::string> addresses;
    uint32_t flags = 0x8180;
    if (name == "silent.test.") return std::nullopt;
    if (name == "flaky.test." && flaky_.fetch_add(1) % 2 == 0) return std::nullopt;
    if (name == "slow.test.") Sleep(absl::Milliseconds(20));
    if (name == "missing.test." || name == "short.") flags |= 3;
    if (name == "broken.test.") flags |= 2;
    if (name == "truncated.test." && way == Way::kUdp) {
      flags |= 0x0200;
    } else if (asks_ipv4 && (flags & 15) == 0 && name != "six.test.") {
      addresses = {std::string("\x7f\0\0\1", 4), std::string("\x7f\0\0\2", 4)};
    } else if (!asks_ipv4 && name == "six.test.") {
      addresses = {std::string(15, '\0') + "\1"};
    }
    std::string answer =
        absl::StrCat(query.substr(0, 2), Number(flags, 2), Number(1, 2),
                     Number(static_cast<uint32_t>(addresses.size()), 2), Number(0, 4), question);
    for (const std::string& address : addresses) {
      // The name is the question's; a minute to live.
      absl::StrAppend(&answer, Number(0xc00c, 2), Number(asks_ipv4 ? 1 : 28, 2), Number(1, 2),
                      Number(60, 4), Number(static_cast<uint32_t>(address.size()), 2), address);
    }
    return answer;
  }

  Listener tcp_;
  PacketConn udp_;
  std::atomic<int> udp_queries_{0}, tcp_queries_{0}, flaky_{0};
  TaskGroup tasks_;
};

// To `name`, at the port of a listener on this machine.
absl::StatusOr<Conn> DialName(absl::string_view name, const DialOptions& options = {}) {
  const Listener listener = MustListen();
  return Dial("tcp4", absl::StrCat(name, ":", listener.addr().port()), options);
}

TEST(ResolverTest, NamesAreFound) {
  ForEachSetting([](TaskKind kind) {
    NameServer server(kind);
    server.Use();
    for (const absl::string_view name : {"two.test", "slow.test", "TWO.test."}) {
      // With a limit, and without.
      EXPECT_TRUE(DialName(name).ok()) << DialName(name).status();
      EXPECT_TRUE(DialName(name, {.timeout = absl::Minutes(1)}).ok());
    }
    EXPECT_GE(server.udp_queries(), 6);
    EXPECT_EQ(server.tcp_queries(), 0);
  });
}

TEST(ResolverTest, IPv6AddressesAreFound) {
  NameServer server(TaskKind::kGoroutine);
  server.Use();
  const absl::StatusOr<Listener> listener = Listen("tcp6", "[::1]:0");
  if (!listener.ok()) return;  // a machine without IPv6
  const std::string port = absl::StrCat(":", listener->addr().port());
  const absl::StatusOr<Conn> conn = Dial("tcp6", "six.test" + port);
  ASSERT_TRUE(conn.ok()) << conn.status();
  EXPECT_EQ(conn->remote_address(), listener->addr());
  EXPECT_TRUE(absl::IsNotFound(Dial("tcp4", "six.test" + port).status()));
}

TEST(ResolverTest, TruncatedAnswersAreAskedForByTcp) {
  ForEachSetting([](TaskKind kind) {
    NameServer server(kind);
    server.Use();
    const absl::StatusOr<Conn> conn = DialName("truncated.test");
    EXPECT_TRUE(conn.ok()) << conn.status();
    EXPECT_GE(server.tcp_queries(), 1);
  });
}

TEST(ResolverTest, LostQueriesAreRepeated) {
  ForEachSetting([](TaskKind kind) {
    NameServer server(kind);
    server.Use({.timeout = absl::Milliseconds(10), .tries = 10});
    const absl::StatusOr<Conn> conn = DialName("flaky.test");
    EXPECT_TRUE(conn.ok()) << conn.status();
    EXPECT_GE(server.udp_queries(), 2);
  });
}

TEST(ResolverTest, SilenceIsATimeout) {
  ForEachSetting([](TaskKind kind) {
    NameServer server(kind);
    const int before = CountDescriptors();
    server.Use({.timeout = absl::Milliseconds(5), .tries = 2});
    absl::Status status = DialName("silent.test").status();
    EXPECT_TRUE(IsTimeout(status)) << status;
    EXPECT_EQ(status.message(), "dial tcp4: lookup silent.test: i/o timeout");
    EXPECT_TRUE(Eventually([&] { return server.udp_queries() == 2; }));
    // The dial's own limit ends it too.
    server.Use({.timeout = absl::Hours(1)});
    status = DialName("silent.test", {.timeout = absl::Milliseconds(5)}).status();
    EXPECT_TRUE(IsTimeout(status)) << status;
    EXPECT_TRUE(Eventually([&] { return CountDescriptors() == before; }));
  });
}

TEST(ResolverTest, AContextEndsALookup) {
  ForEachSetting([](TaskKind kind) {
    NameServer server(kind);
    server.Use({.timeout = absl::Hours(1)});
    const int before = CountDescriptors();
    auto [context, cancel] = WithCancel(Background());
    TaskGroup group(kind);
    group.Go([&, cancel = cancel] {
      EXPECT_TRUE(Eventually([&] { return server.udp_queries() > 0; }));
      cancel();
    });
    const absl::Status status = Dial(context, "tcp4", "silent.test:1").status();
    EXPECT_EQ(status.message(), "dial tcp4: operation was canceled");
    // Nothing of it goes on.
    EXPECT_TRUE(Eventually([&] { return CountDescriptors() == before; }));
  });
}

TEST(ResolverTest, AnswersThatAreErrorsAreTold) {
  ForEachSetting([](TaskKind kind) {
    NameServer server(kind);
    server.Use({.timeout = absl::Seconds(30), .tries = 1});
    absl::Status status = DialName("missing.test").status();
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
    EXPECT_EQ(status.message(), "dial tcp4: lookup missing.test: no such host");
    status = DialName("broken.test").status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_TRUE(absl::StartsWith(status.message(), "dial tcp4: lookup broken.test: ")) << status;
    status = Dial("tcp4", "two.test:no-such-service").status();
    EXPECT_EQ(status.message(), "dial tcp4: lookup tcp/no-such-service: unknown port");
  });
}

TEST(ResolverTest, TheSearchListAndTheHostsFileAreUsed) {
  ForEachSetting([](TaskKind kind) {
    NameServer server(kind);
    server.Use({.search = {"example.test"}});
    EXPECT_TRUE(DialName("short").ok()) << DialName("short").status();
    const int queries = server.udp_queries();
    EXPECT_GT(queries, 0);
    EXPECT_TRUE(DialName("localhost").ok());
    EXPECT_EQ(server.udp_queries(), queries);
  });
}

TEST(ResolverTest, ManyLookupsAtOnce) {
  ForEachSetting([](TaskKind kind) {
    NameServer server(kind);
    server.Use();
    const Listener listener = MustListen();
    TaskGroup group(kind);
    for (int i = 0; i < 20; ++i) {
      group.Go([&, i] {
        const absl::StatusOr<Conn> conn =
            Dial("tcp4", absl::StrCat("many", i, ".test:", listener.addr().port()),
                 {.timeout = absl::Minutes(1)});
        EXPECT_TRUE(conn.ok()) << conn.status();
      });
    }
  });
}

}  // namespace
}  // namespace weft
