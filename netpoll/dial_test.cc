// Addresses: listening on them, and connecting to them.
#include <errno.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/resolve.h"
#include "netpoll/test_util.h"

namespace weft {
namespace {

using testing::ConnPair;
using testing::ForEachSetting;
using testing::In;
using testing::MakePair;
using testing::MustAccept;
using testing::MustDial;
using testing::MustListen;
using testing::TaskKind;

TEST(DialTest, AddressesOfTheTwoEndsMatch) {
  const ConnPair pair = MakePair();
  EXPECT_EQ(pair.client.local_address(), pair.server.remote_address());
  EXPECT_EQ(pair.client.remote_address(), pair.server.local_address());
  EXPECT_EQ(pair.server.local_address().host(), "127.0.0.1");
  EXPECT_NE(pair.server.local_address().port(), 0);
}

TEST(DialTest, AnEmptyHostListensOnAllInterfacesOfBothVersions) {
  const Listener listener = MustListen(":0");
  const int port = listener.addr().port();
  for (const absl::string_view host : {"127.0.0.1", "[::1]"}) {
    const absl::StatusOr<Conn> client = Dial("tcp", absl::StrCat(host, ":", port));
    if (!client.ok() && ErrnoOf(client.status()) == EADDRNOTAVAIL)
      continue;  // a machine without IPv6
    ASSERT_TRUE(client.ok()) << client.status();
    const Conn server = MustAccept(listener);
    EXPECT_EQ(server.local_address().ToString(), absl::StrCat(host, ":", port));
    EXPECT_EQ(server.remote_address().port(), client->local_address().port());
  }
}

TEST(DialTest, NetworksRestrictTheVersion) {
  const absl::StatusOr<Listener> v4 = Listen("tcp4", ":0");
  ASSERT_TRUE(v4.ok()) << v4.status();
  EXPECT_EQ(v4->addr().family(), AF_INET);
  EXPECT_TRUE(absl::IsInvalidArgument(Listen("tcp4", "[::1]:0").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Dial("tcp6", "127.0.0.1:1").status()));
  const absl::Status unknown = Dial("udp", "127.0.0.1:1").status();
  EXPECT_TRUE(absl::IsInvalidArgument(unknown));
  EXPECT_EQ(unknown.message(), "dial udp: unknown network udp");
}

TEST(DialTest, MalformedAddressesAreRefused) {
  for (const absl::string_view address :
       {"", "127.0.0.1", "::1:80", "[::1]", "[::1", "127.0.0.1:70000", "127.0.0.1:80]"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Listen("tcp", address).status())) << address;
    EXPECT_TRUE(absl::IsInvalidArgument(Dial("tcp", address).status())) << address;
  }
}

TEST(DialTest, ReusePortSharesAPort) {
  const absl::StatusOr<Listener> a = Listen("tcp", "127.0.0.1:0", {.reuse_port = true});
  ASSERT_TRUE(a.ok());
  const std::string address = a->addr().ToString();
  EXPECT_TRUE(Listen("tcp", address, {.backlog = 5, .reuse_port = true}).ok());
  const absl::Status taken = Listen("tcp", address).status();
  EXPECT_EQ(ErrnoOf(taken), EADDRINUSE);
  EXPECT_EQ(taken.message(),
            absl::StrCat("listen tcp ", address, ": bind: address already in use"));
}

TEST(DialTest, DialByNameFindsThisMachine) {
  ForEachSetting([](TaskKind) {
    const Listener listener = MustListen();
    const absl::StatusOr<Conn> conn =
        Dial("tcp4", absl::StrCat("localhost:", listener.addr().port()));
    ASSERT_TRUE(conn.ok()) << conn.status();
    EXPECT_TRUE(MustAccept(listener));
    EXPECT_TRUE(Dial("tcp", absl::StrCat(":", listener.addr().port())).ok());
  });
}

TEST(DialTest, UnknownNamesAreNotFound) {
  const absl::Status service = Dial("tcp", "127.0.0.1:no-such-service").status();
  EXPECT_TRUE(absl::IsNotFound(service)) << service;
  // A label of 64 letters is no name, so that nobody's name server is asked.
  const absl::Status host = Dial("tcp", std::string(64, 'x') + ".invalid:80").status();
  EXPECT_FALSE(host.ok());
  EXPECT_TRUE(absl::StartsWith(host.message(), "dial tcp: lookup xxxx")) << host;
}

TEST(DialTest, RefusedConnectionsTellTheAddressAndTheErrno) {
  ForEachSetting([](TaskKind) {
    const Listener listener = MustListen();
    const std::string address = listener.addr().ToString();
    EXPECT_TRUE(listener.Close().ok());
    const absl::Status status = Dial("tcp", address).status();
    EXPECT_EQ(status.message(),
              absl::StrCat("dial tcp ", address, ": connect: connection refused"));
    EXPECT_EQ(ErrnoOf(status), ECONNREFUSED);
    EXPECT_TRUE(absl::IsUnavailable(status));
    EXPECT_FALSE(IsTimeout(status));
    EXPECT_FALSE(IsClosed(status));
  });
}

// NE-33 of the list of behaviours, TestDialTimeout.
TEST(DialTest, NE33_DialTimesOut) {
  const testing::StalledListener listener;
  const std::string address = listener.address().ToString();
  for (int i = 0; i < 2; ++i) {
    const absl::Time start = absl::Now();
    const absl::Status status = Dial("tcp", address, {.timeout = absl::Milliseconds(50)}).status();
    EXPECT_LT(absl::Now() - start, absl::Seconds(10));
    EXPECT_GE(absl::Now() - start, absl::Milliseconds(50));
    EXPECT_TRUE(IsTimeout(status)) << status;
    EXPECT_EQ(status.message(), absl::StrCat("dial tcp ", address, ": i/o timeout"));
  }
  // The earlier of the two limits holds; one in the past fails at once.
  EXPECT_TRUE(IsTimeout(
      Dial("tcp", address, {.timeout = absl::Hours(1), .deadline = In(absl::Milliseconds(20))})
          .status()));
  EXPECT_TRUE(IsTimeout(
      Dial("tcp", address, {.timeout = absl::Milliseconds(20), .deadline = In(absl::Hours(1))})
          .status()));
  for (const absl::Time past : {absl::InfinitePast(), absl::UnixEpoch(), In(-absl::Seconds(1))}) {
    EXPECT_TRUE(IsTimeout(Dial("tcp", address, {.deadline = past}).status()));
  }
  EXPECT_TRUE(IsTimeout(Dial("tcp", address, {.timeout = -absl::Seconds(1)}).status()));
}

TEST(DialTest, ASuccessfulDialLeavesNoDeadlineBehind) {
  ForEachSetting([](TaskKind) {
    const Listener listener = MustListen();
    const absl::StatusOr<Conn> conn =
        Dial("tcp", listener.addr().ToString(), {.timeout = absl::Milliseconds(20)});
    if (!conn.ok()) return;  // a slow moment
    const Conn server = MustAccept(listener);
    Sleep(absl::Milliseconds(25));
    EXPECT_TRUE(conn->Write("still here").ok());
  });
}

// NE-38, TestDialerPartialDeadline.
TEST(DialTest, NE38_TheTimeIsSharedAmongAddresses) {
  const absl::Time now = absl::UnixEpoch() + absl::Hours(1000);
  struct Case {
    absl::Duration limit;
    int addresses;
    absl::Duration share;
  };
  for (const Case& c :
       {Case{absl::Seconds(12), 1, absl::Seconds(12)}, Case{absl::Seconds(12), 2, absl::Seconds(6)},
        Case{absl::Seconds(12), 3, absl::Seconds(4)},
        Case{absl::Seconds(12), 1000, absl::Seconds(2)},
        Case{absl::Milliseconds(1900), 3, absl::Milliseconds(1900)},
        Case{-absl::Seconds(1), 1, -absl::Seconds(1)}}) {
    EXPECT_EQ(internal::PartialDeadline(now, now + c.limit, c.addresses), now + c.share);
  }
  EXPECT_EQ(internal::PartialDeadline(now, absl::InfiniteFuture(), 3), absl::InfiniteFuture());
}

TEST(DialTest, RunningOutOfDescriptorsIsReportedAndPasses) {
  const Listener listener = MustListen();
  const Conn client = MustDial(listener.addr());
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  // As many as are open: the lowest free number is the limit.
  const int next = dup(client.fd());
  ASSERT_GE(next, 0);
  close(next);
  const rlimit low = {static_cast<rlim_t>(next), limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  const absl::Status status = listener.Accept().status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(ErrnoOf(status), EMFILE) << status;
  EXPECT_TRUE(MustAccept(listener)) << "the connection has waited";
}

}  // namespace
}  // namespace weft
