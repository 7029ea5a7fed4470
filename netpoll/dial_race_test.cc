// Dialling several addresses, and dialling that a Context ends.
#include "netpoll/dial_race.h"

#include <errno.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "chan/context.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/test_util.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using internal::DialAttempt;
using internal::RaceDials;
using testing::CountDescriptors;
using testing::Eventually;
using testing::ForEachSetting;
using testing::In;
using testing::MustAccept;
using testing::MustListen;
using testing::Rounds;
using testing::StalledListener;
using testing::TaskGroup;
using testing::TaskKind;

SocketAddress Address(absl::string_view text) { return *SocketAddress::Parse(text); }

// An address at which nobody listens.
SocketAddress RefusingAddress() {
  const Listener listener = MustListen();
  const SocketAddress address = listener.addr();
  EXPECT_TRUE(listener.Close().ok());
  return address;
}

// Waits until it is ended or its time is over, as at an address that swallows packets.
absl::StatusOr<Conn> Hang(absl::Time deadline, DialAttempt* attempt) {
  int fds[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  const OwnedFd other(fds[1]);
  auto conn = std::make_shared<internal::NetFd>(fds[0], internal::Fd::Kind::kSocket, "unix",
                                                SocketAddress(), SocketAddress());
  if (!attempt->Publish(conn)) return absl::CancelledError("ended");
  conn->fd.SetDeadline(internal::kBothModes, Instant::FromTime(deadline));
  char byte;
  return conn->Error("dial", conn->fd.Read(&byte, 1).error, "connect");
}

absl::StatusOr<Conn> DialPlainly(const SocketAddress& address, absl::Time deadline, DialAttempt*) {
  return Dial("tcp", address.ToString(), {.deadline = deadline});
}

TEST(DialRaceTest, FamiliesTakeTurns) {
  std::vector<SocketAddress> addresses;
  for (const absl::string_view text :
       {"[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1", "2.2.2.2:1", "[::4]:1"}) {
    addresses.push_back(Address(text));
  }
  std::string order;
  for (const SocketAddress& a : internal::InterleaveFamilies(addresses)) {
    absl::StrAppend(&order, a.host(), " ");
  }
  EXPECT_EQ(order, "::1 1.1.1.1 ::2 2.2.2.2 ::3 ::4 ");
  EXPECT_TRUE(internal::InterleaveFamilies({}).empty());
}

TEST(DialRaceTest, AnAddressThatHangsDelaysTheNextOneOnlyALittle) {
  ForEachSetting([](TaskKind) {
    const Listener listener = MustListen();
    const int before = CountDescriptors();
    {
      bool interrupted = true;
      const absl::StatusOr<Conn> conn = RaceDials(
          {Address("10.0.0.1:1"), Address("10.0.0.2:1"), listener.addr()},
          {.attempt_delay = absl::Milliseconds(2)},
          [&](const SocketAddress& address, absl::Time deadline, DialAttempt* attempt) {
            return address == listener.addr() ? DialPlainly(address, deadline, attempt)
                                              : Hang(deadline, attempt);
          },
          &interrupted);
      ASSERT_TRUE(conn.ok()) << conn.status();
      EXPECT_FALSE(interrupted);
      EXPECT_EQ(conn->remote_address(), listener.addr());
      // The others have been closed, this one has not.
      EXPECT_EQ(CountDescriptors(), before + 1);
      EXPECT_TRUE(conn->Write("x").ok());
    }
    EXPECT_EQ(CountDescriptors(), before);
  });
}

TEST(DialRaceTest, AFailureStartsTheNextOneAtOnce) {
  ForEachSetting([](TaskKind) {
    const Listener listener = MustListen();
    bool interrupted = true;
    for (const absl::Duration delay : {absl::Hours(1), absl::InfiniteDuration()}) {
      const absl::StatusOr<Conn> conn =
          RaceDials({RefusingAddress(), RefusingAddress(), listener.addr()},
                    {.attempt_delay = delay}, DialPlainly, &interrupted);
      ASSERT_TRUE(conn.ok()) << conn.status();
      EXPECT_EQ(conn->remote_address(), listener.addr());
    }
  });
}

TEST(DialRaceTest, TheFirstErrorIsToldWhereNoneAnswers) {
  ForEachSetting([](TaskKind) {
    const SocketAddress first = RefusingAddress();
    bool interrupted = true;
    const absl::StatusOr<Conn> conn = RaceDials(
        {first, RefusingAddress()}, {.attempt_delay = absl::Hours(1)}, DialPlainly, &interrupted);
    EXPECT_EQ(conn.status().message(),
              absl::StrCat("dial tcp ", first.ToString(), ": connect: connection refused"));
    EXPECT_FALSE(interrupted);
  });
}

TEST(DialRaceTest, OneAfterTheOtherEachHasItsShareOfTheTime) {
  std::vector<absl::Duration> shares;
  bool interrupted = true;
  const absl::Time deadline = In(absl::Seconds(12));
  const absl::StatusOr<Conn> conn = RaceDials(
      {Address("10.0.0.1:1"), Address("10.0.0.2:1"), Address("10.0.0.3:1")},
      {.deadline = deadline, .attempt_delay = absl::InfiniteDuration()},
      [&](const SocketAddress&, absl::Time until, DialAttempt*) -> absl::StatusOr<Conn> {
        shares.push_back(until - absl::Now());
        return absl::UnavailableError("not here");
      },
      &interrupted);
  EXPECT_EQ(conn.status().message(), "not here");
  ASSERT_EQ(shares.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const absl::Duration expected = absl::Seconds(12) / static_cast<int>(3 - i);
    EXPECT_LE(shares[i], expected);
    EXPECT_GE(shares[i], expected - absl::Seconds(3));
  }
}

TEST(DialRaceTest, TheDeadlineEndsAllTries) {
  ForEachSetting([](TaskKind) {
    bool interrupted = true;
    const absl::Time start = absl::Now();
    const absl::StatusOr<Conn> conn = RaceDials(
        {Address("10.0.0.1:1"), Address("10.0.0.2:1")},
        {.deadline = start + absl::Milliseconds(10), .attempt_delay = absl::Milliseconds(1)},
        [](const SocketAddress&, absl::Time deadline, DialAttempt* attempt) {
          return Hang(deadline, attempt);
        },
        &interrupted);
    EXPECT_TRUE(IsTimeout(conn.status())) << conn.status();
    EXPECT_GE(absl::Now() - start, absl::Milliseconds(10));
    EXPECT_FALSE(interrupted);
  });
}

// NE-35 of the list of behaviours, TestDialCancel.
TEST(DialRaceTest, NE35_CancellingEndsADialThatHangs) {
  const StalledListener stalled;
  ForEachSetting([&](TaskKind kind) {
    const int before = CountDescriptors();
    auto [context, cancel] = WithCancel(Background());
    std::atomic<bool> cancelled{false};
    TaskGroup group(kind);
    group.Go([&, cancel = cancel] {
      Sleep(absl::Milliseconds(10));
      cancelled.store(true);
      cancel();
    });
    const absl::Status status = Dial(context, "tcp", stalled.address().ToString()).status();
    EXPECT_TRUE(cancelled.load());
    EXPECT_EQ(status.message(), "dial tcp: operation was canceled");
    EXPECT_TRUE(absl::IsCancelled(status));
    EXPECT_FALSE(IsClosed(status));
    EXPECT_EQ(CountDescriptors(), before);
    group.Wait();
    // Done before: nothing is tried.
    EXPECT_EQ(Dial(context, "tcp", stalled.address().ToString()).status(), status);
    EXPECT_TRUE(absl::IsCancelled(Dial(context, "unix", "@").status()));
  });
}

TEST(DialRaceTest, AContextsDeadlineIsATimeout) {
  const StalledListener stalled;
  ForEachSetting([&](TaskKind) {
    const absl::Time start = absl::Now();
    auto [context, cancel] = WithTimeout(Background(), absl::Milliseconds(10));
    const absl::Status status = Dial(context, "tcp", stalled.address().ToString()).status();
    EXPECT_TRUE(IsTimeout(status)) << status;
    EXPECT_TRUE(absl::EndsWith(status.message(), ": i/o timeout")) << status;
    EXPECT_GE(absl::Now() - start, absl::Milliseconds(10));
    cancel();
  });
}

TEST(DialRaceTest, NE36_CancelAfterDial) {
  ForEachSetting([](TaskKind) {
    const Listener listener = MustListen();
    for (int i = 0; i < 10; ++i) {
      auto [context, cancel] = WithCancel(Background());
      const absl::StatusOr<Conn> conn = Dial(context, "tcp", listener.addr().ToString());
      cancel();
      ASSERT_TRUE(conn.ok()) << conn.status();
      const Conn server = MustAccept(listener);
      EXPECT_TRUE(conn->Write("x").ok());
      char byte;
      EXPECT_TRUE(server.ReadFull(absl::MakeSpan(&byte, 1)).ok());
    }
  });
}

// A cancellation that comes at any moment ends the dial or does not; nothing else may come of it.
TEST(DialRaceTest, CancellingAtAnyMomentLeavesNothing) {
  ForEachSetting([](TaskKind kind) {
    const Listener listener = MustListen();
    const int before = CountDescriptors();
    for (int i = 0; i < Rounds(100, 10); ++i) {
      auto [context, cancel] = WithCancel(Background());
      TaskGroup group(kind);
      group.Go([cancel = cancel, i] {
        Sleep(absl::Microseconds(i));
        cancel();
      });
      const absl::StatusOr<Conn> conn = Dial(context, "tcp", listener.addr().ToString());
      if (conn.ok()) {
        EXPECT_TRUE(conn->Write("x").ok());
      } else {
        EXPECT_TRUE(absl::IsCancelled(conn.status())) << conn.status();
      }
    }
    EXPECT_EQ(CountDescriptors(), before);
  });
}

TEST(DialRaceTest, NE39_DialsLeaveNoDescriptors) {
  ForEachSetting([](TaskKind kind) {
    const Listener listener = MustListen();
    const int before = CountDescriptors();
    TaskGroup group(kind);
    for (int i = 0; i < 10; ++i) {
      group.Go([&, i] {
        bool interrupted;
        const absl::StatusOr<Conn> conn =
            RaceDials({listener.addr(), i % 2 == 0 ? listener.addr() : RefusingAddress()},
                      {.attempt_delay = absl::Microseconds(i * 20)}, DialPlainly, &interrupted);
        EXPECT_TRUE(conn.ok()) << conn.status();
      });
    }
    group.Wait();
    EXPECT_EQ(CountDescriptors(), before);
  });
}

// Names are looked up aside where there is a limit to the time.
TEST(DialRaceTest, NamesAreFoundWithALimitToo) {
  ForEachSetting([](TaskKind) {
    const Listener listener = MustListen();
    const std::string address = absl::StrCat("localhost:", listener.addr().port());
    const absl::StatusOr<Conn> conn = Dial("tcp4", address, {.timeout = absl::Minutes(1)});
    ASSERT_TRUE(conn.ok()) << conn.status();
    auto [context, cancel] = WithCancel(Background());
    EXPECT_TRUE(Dial(context, "tcp", address).ok());
    cancel();
    EXPECT_TRUE(absl::IsCancelled(Dial(context, "tcp", address).status()));
  });
}

// NE-32 TestTCPSpuriousConnSetupCompletion: a dial that was successful is connected.
TEST(DialRaceTest, NE32_ASuccessfulDialIsConnected) {
  ForEachSetting([](TaskKind kind) {
    for (int round = 0; round < Rounds(4, 1); ++round) {
      const Listener listener = MustListen();
      TaskGroup group(kind);
      group.Go([&] {
        for (absl::StatusOr<Conn> c = listener.Accept(); c.ok(); c = listener.Accept()) {
        }
      });
      std::atomic<int> left{Rounds(300, 30)};
      TaskGroup dials(kind);
      for (int i = 0; i < 8; ++i) {
        dials.Go([&] {
          while (left.fetch_sub(1) > 0) {
            const absl::StatusOr<Conn> conn =
                Dial("tcp", listener.addr().ToString(), {.timeout = absl::Milliseconds(50)});
            if (!conn.ok()) continue;
            const absl::Status status = conn->Write("\xff");
            EXPECT_NE(ErrnoOf(status), ENOTCONN) << status;
          }
        });
      }
      while (left.load() > Rounds(300, 30) / 2) Yield();
      EXPECT_TRUE(listener.Close().ok());
      dials.Wait();
    }
  });
}

}  // namespace
}  // namespace weft
