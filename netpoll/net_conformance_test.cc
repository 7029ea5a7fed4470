// What Go's own tests of its net package assert, as far as TCP goes. NE-nn are the numbers of the
// list of behaviours; the name behind is that of Go's test.
#include <errno.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/fd.h"
#include "netpoll/net.h"
#include "netpoll/test_util.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::ConnPair;
using testing::Eventually;
using testing::ForEachSetting;
using testing::In;
using testing::MakePair;
using testing::MustAccept;
using testing::MustDial;
using testing::MustListen;
using testing::ReadAll;
using testing::Rounds;
using testing::Shortened;
using testing::TaskGroup;
using testing::TaskKind;

void ExpectTimeout(const absl::Status& status) {
  EXPECT_TRUE(IsTimeout(status)) << status;
  EXPECT_TRUE(absl::EndsWith(status.message(), ": i/o timeout")) << status;
}

// NE-01 TestReadTimeout: a deadline in the past fails Read though there is data, again and again;
// one shortly ahead fails it once its time has come.
TEST(NetConformance, NE01_ReadTimeout) {
  ForEachSetting([](TaskKind) {
    const ConnPair pair = MakePair();
    ASSERT_TRUE(pair.server.Write("READ TIMEOUT TEST").ok());
    char buffer[1];
    ASSERT_TRUE(pair.client.SetReadDeadline(In(-absl::Seconds(5))).ok());
    for (int i = 0; i < 2; ++i) {
      ExpectTimeout(pair.client.Read(absl::MakeSpan(buffer)).status());
    }
    ASSERT_TRUE(pair.client.SetReadDeadline(In(absl::Milliseconds(10))).ok());
    absl::Status status;
    while (status.ok()) status = pair.client.Read(absl::MakeSpan(buffer)).status();
    ExpectTimeout(status);
    ExpectTimeout(pair.client.Read(absl::MakeSpan(buffer)).status());
  });
}

TEST(NetConformance, NE02_WriteTimeout) {
  ForEachSetting([](TaskKind) {
    const ConnPair pair = MakePair();
    ASSERT_TRUE(pair.client.SetWriteDeadline(In(-absl::Seconds(5))).ok());
    for (int i = 0; i < 2; ++i) {
      size_t n = 7;
      ExpectTimeout(pair.client.Write("WRITE TIMEOUT TEST", &n));
      EXPECT_EQ(n, 0u);
      n = 7;
      ExpectTimeout(pair.client.Writev({"WRITE TIMEOUT TEST"}, &n));
      EXPECT_EQ(n, 0u);
    }
    const absl::Time deadline = In(absl::Milliseconds(10));
    ASSERT_TRUE(pair.client.SetWriteDeadline(deadline).ok());
    const std::string text(64 << 10, 'x');  // nobody reads it
    absl::Status status;
    while (status.ok()) {
      status = pair.client.Write(text);
      ASSERT_LT(absl::Now(), deadline + absl::Seconds(10));
    }
    ExpectTimeout(status);
  });
}

TEST(NetConformance, NE05_AcceptTimeout) {
  ForEachSetting([](TaskKind) {
    const Listener listener = MustListen();
    const Conn pending = MustDial(listener.addr());
    ASSERT_TRUE(listener.SetDeadline(In(-absl::Seconds(5))).ok());
    for (int i = 0; i < 2; ++i) ExpectTimeout(listener.Accept().status());
    // What comes in time is accepted; then the time is over. (This machine may be slow to begin.)
    int accepted = 0;
    for (absl::Duration time = Shortened(absl::Milliseconds(50)); accepted == 0; time *= 4) {
      ASSERT_LT(time, absl::Seconds(60));
      ASSERT_TRUE(listener.SetDeadline(In(time)).ok());
      absl::StatusOr<Conn> conn = listener.Accept();
      for (; conn.ok(); conn = listener.Accept()) ++accepted;
      ExpectTimeout(conn.status());
      ExpectTimeout(listener.Accept().status());
    }
    EXPECT_EQ(accepted, 1);
    ASSERT_TRUE(listener.SetDeadline(absl::InfiniteFuture()).ok());
    const Conn more = MustDial(listener.addr());
    EXPECT_TRUE(MustAccept(listener));
  });
}

TEST(NetConformance, NE06_AcceptTimeoutMustReturn) {
  ForEachSetting([](TaskKind kind) {
    const Listener listener = MustListen();
    ASSERT_TRUE(listener.SetDeadline(absl::InfiniteFuture()).ok());
    ASSERT_TRUE(listener.SetDeadline(In(absl::Milliseconds(10))).ok());
    TaskGroup group(kind);
    const absl::Time start = absl::Now();
    group.Go([&] { ExpectTimeout(listener.Accept().status()); });
    group.Wait();
    EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  });
}

TEST(NetConformance, NE06_AcceptTimeoutMustNotReturn) {
  ForEachSetting([](TaskKind kind) {
    const Listener listener = MustListen();
    ASSERT_TRUE(listener.SetDeadline(In(-absl::Seconds(5))).ok());
    ASSERT_TRUE(listener.SetDeadline(absl::InfiniteFuture()).ok());
    std::atomic<bool> returned{false};
    TaskGroup group(kind);
    group.Go([&] {
      EXPECT_TRUE(IsClosed(listener.Accept().status()));
      returned.store(true);
    });
    Sleep(Shortened(absl::Milliseconds(100)));
    EXPECT_FALSE(returned.load());
    EXPECT_TRUE(listener.Close().ok());
  });
}

// NE-07 TestReadTimeoutFluctuation, NE-08 TestWriteTimeoutFluctuation: a loop of short deadlines;
// no call returns before its own, nor much later.
TEST(NetConformance, NE07_ReadTimeoutFluctuation) {
  ForEachSetting([](TaskKind) {
    const ConnPair pair = MakePair();
    char buffer[256];
    for (int i = 0; i < 10; ++i) {
      const absl::Time start = absl::Now();
      const absl::Duration d = absl::Milliseconds(1 + i % 3);
      ASSERT_TRUE(pair.client.SetReadDeadline(start + d).ok());
      ExpectTimeout(pair.client.Read(absl::MakeSpan(buffer)).status());
      EXPECT_GE(absl::Now() - start, d);
      EXPECT_LT(absl::Now() - start, absl::Seconds(10));
    }
  });
}

TEST(NetConformance, NE08_WriteTimeoutFluctuation) {
  ForEachSetting([](TaskKind) {
    const ConnPair pair = MakePair();  // nobody reads
    const std::string text(64 << 10, 'x');
    int timeouts = 0;
    absl::Duration d = absl::Milliseconds(1);
    while (timeouts < Rounds(10, 3)) {
      const absl::Time start = absl::Now();
      ASSERT_TRUE(pair.client.SetWriteDeadline(start + d).ok());
      const absl::Status status = pair.client.Write(text);
      if (status.ok()) {
        // The buffers are still filling.
        d = std::min(d * 2, absl::Milliseconds(100));
        continue;
      }
      EXPECT_GE(absl::Now() - start, d);
      d = absl::Milliseconds(1);
      ExpectTimeout(status);
      ++timeouts;
      EXPECT_LT(absl::Now() - start, absl::Seconds(10));
    }
  });
}

void VariousDeadlines(TaskKind kind) {
  const absl::Duration timeouts[] = {
      absl::Nanoseconds(1),    absl::Nanoseconds(2),    absl::Nanoseconds(5),
      absl::Nanoseconds(50),   absl::Nanoseconds(100),  absl::Nanoseconds(200),
      absl::Nanoseconds(500),  absl::Nanoseconds(750),  absl::Microseconds(1),
      absl::Microseconds(5),   absl::Microseconds(25),  absl::Microseconds(250),
      absl::Microseconds(500), absl::Milliseconds(1),   absl::Milliseconds(5),
      absl::Milliseconds(100), absl::Milliseconds(250), absl::Milliseconds(500),
      absl::Seconds(1)};
  static_assert(std::size(timeouts) == 19);
  TaskGroup group(kind);
  for (const absl::Duration timeout : timeouts) {
    if (timeout > absl::Milliseconds(Rounds(1000, 100))) break;
    group.Go([timeout] {
      for (int run = 0; run < Rounds(3); ++run) {
        const ConnPair pair = MakePair();
        const absl::Time start = absl::Now();
        ASSERT_TRUE(pair.client.SetDeadline(start + timeout).ok());
        std::string nothing;
        ExpectTimeout(ReadAll(pair.client, &nothing));
        EXPECT_EQ(nothing, "");
        const absl::Duration took = absl::Now() - start;
        EXPECT_GE(took, timeout);
        EXPECT_LT(took, timeout + absl::Seconds(10));
      }
    });
  }
}

TEST(NetConformance, NE09_VariousDeadlines) {
  testing::RunOnGoroutine([] { VariousDeadlines(TaskKind::kGoroutine); });
  testing::RunOnThread([] { VariousDeadlines(TaskKind::kThread); });
}

TEST(NetConformance, NE09_VariousDeadlines1Proc) {
  const int procs = SetMaxProcs(1);
  testing::RunOnGoroutine([] { VariousDeadlines(TaskKind::kGoroutine); });
  SetMaxProcs(procs);
}

TEST(NetConformance, NE09_VariousDeadlines4Proc) {
  const int procs = SetMaxProcs(4);
  testing::RunOnGoroutine([] { VariousDeadlines(TaskKind::kGoroutine); });
  SetMaxProcs(procs);
}

TEST(NetConformance, NE11_ReadWriteDeadlineRace) {
  ForEachSetting([](TaskKind kind) {
    const int rounds = Rounds(1000);
    const ConnPair pair = MakePair();
    TaskGroup group(kind);
    group.Go([&] {
      for (int i = 0; i < rounds; ++i) {
        EXPECT_TRUE(pair.client.SetReadDeadline(In(absl::Microseconds(2))).ok());
        EXPECT_TRUE(pair.client.SetWriteDeadline(In(absl::Microseconds(2))).ok());
        Sleep(absl::Microseconds(2));
      }
    });
    group.Go([&] {
      char buffer[1];
      for (int i = 0; i < rounds; ++i) {
        const absl::StatusOr<size_t> n = pair.client.Read(absl::MakeSpan(buffer));
        if (!n.ok()) ExpectTimeout(n.status());
      }
    });
    group.Go([&] {
      for (int i = 0; i < rounds; ++i) {
        const absl::Status status = pair.client.Write("x");
        if (!status.ok()) ExpectTimeout(status);
      }
    });
    group.Go([&] {
      // Something to read, now and then.
      for (int i = 0; i < rounds / 10; ++i) {
        EXPECT_TRUE(pair.server.Write("y").ok());
        Yield();
      }
    });
    group.Wait();
  });
}

TEST(NetConformance, NE12_ConcurrentSetDeadline) {
  ForEachSetting([](TaskKind kind) {
    constexpr int kTasks = 8, kConns = 10;
    const int rounds = Rounds(100, 20);
    std::vector<ConnPair> pairs;
    for (int i = 0; i < kConns; ++i) pairs.push_back(MakePair());
    // Each deadline is earlier than all before it, and none comes due.
    const absl::Time base = In(absl::Hours(10));
    TaskGroup group(kind);
    for (int task = 0; task < kTasks; ++task) {
      group.Go([&] {
        for (int round = 0; round < rounds; ++round) {
          for (int i = 0; i < kConns; ++i) {
            const absl::Time t = base - absl::Milliseconds(round * kConns + i);
            EXPECT_TRUE(pairs[i].client.SetReadDeadline(t).ok());
            EXPECT_TRUE(pairs[i].client.SetWriteDeadline(t - absl::Milliseconds(1)).ok());
          }
        }
      });
    }
    group.Wait();
    // The timers are in order still: each connection's next deadline comes.
    for (const ConnPair& pair : pairs) {
      char buffer[1];
      ASSERT_TRUE(pair.client.SetReadDeadline(In(absl::Milliseconds(1))).ok());
      ExpectTimeout(pair.client.Read(absl::MakeSpan(buffer)).status());
      EXPECT_TRUE(pair.client.Write("x").ok());
    }
  });
}

TEST(NetConformance, NE14_CloseUnblocksRead) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    TaskGroup group(kind);
    group.Go([&] {
      Sleep(absl::Milliseconds(2));
      EXPECT_TRUE(pair.server.Close().ok());
    });
    char buffer[1];
    const absl::StatusOr<size_t> n = pair.client.Read(absl::MakeSpan(buffer));
    ASSERT_TRUE(n.ok()) << n.status();
    EXPECT_EQ(*n, 0u);
  });
}

TEST(NetConformance, NE17_CloseRead) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    char buffer[1];
    {
      // A read that waits already ends as well.
      TaskGroup group(kind);
      group.Go([&] {
        const absl::StatusOr<size_t> n = pair.client.Read(absl::MakeSpan(buffer));
        EXPECT_TRUE(n.ok() && *n == 0) << n.status();
      });
      Sleep(absl::Milliseconds(1));
      EXPECT_TRUE(pair.client.CloseRead().ok());
    }
    const absl::StatusOr<size_t> n = pair.client.Read(absl::MakeSpan(buffer));
    EXPECT_TRUE(n.ok() && *n == 0) << n.status();
    // The other direction works.
    EXPECT_TRUE(pair.client.Write("x").ok());
    EXPECT_TRUE(pair.server.ReadFull(absl::MakeSpan(buffer)).ok());
  });
}

TEST(NetConformance, NE18_CloseWrite) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    TaskGroup group(kind);
    group.Go([&] {
      std::string got;
      EXPECT_TRUE(ReadAll(pair.server, &got).ok());
      EXPECT_EQ(got, "");
      EXPECT_TRUE(pair.server.Write("still open").ok());
      EXPECT_TRUE(pair.server.CloseWrite().ok());
    });
    EXPECT_TRUE(pair.client.CloseWrite().ok());
    std::string got;
    EXPECT_TRUE(ReadAll(pair.client, &got).ok());
    EXPECT_EQ(got, "still open");
    group.Wait();
    for (const Conn& conn : {pair.client, pair.server}) {
      const absl::Status status = conn.Write("x");
      EXPECT_EQ(ErrnoOf(status), EPIPE) << status;
    }
  });
}

TEST(NetConformance, NE20_ListenCloseListen) {
  ForEachSetting([](TaskKind) {
    for (int i = 0; i < 10; ++i) {
      const Listener first = MustListen();
      const std::string address = first.addr().ToString();
      ASSERT_TRUE(first.Close().ok());
      const absl::StatusOr<Listener> second = Listen("tcp", address);
      EXPECT_TRUE(second.ok()) << second.status();
    }
  });
}

TEST(NetConformance, NE20_ClosingListenerWhileAccepting) {
  ForEachSetting([](TaskKind kind) {
    for (int i = 0; i < 10; ++i) {
      const Listener first = MustListen();
      TaskGroup group(kind);
      group.Go([&] { EXPECT_TRUE(IsClosed(first.Accept().status())); });
      if (i % 2 == 0) Sleep(absl::Microseconds(500));
      ASSERT_TRUE(first.Close().ok());
      // The descriptor is gone when Close() returns, whatever the accepting task does.
      const absl::StatusOr<Listener> second = Listen("tcp", first.addr().ToString());
      EXPECT_TRUE(second.ok()) << second.status();
    }
  });
}

std::atomic<int> aborted_accepts{0};

TEST(NetConformance, NE21_AcceptIgnoresAbortedConnections) {
  ForEachSetting([](TaskKind) {
    const Listener listener = MustListen();
    const Conn client = MustDial(listener.addr());
    aborted_accepts.store(0);
    internal::SetAcceptHook([](int fd, sockaddr* address, socklen_t* size) -> int64_t {
      constexpr int kErrors[] = {ECONNABORTED, EPROTO, EINTR, ENETDOWN, EHOSTUNREACH};
      const int i = aborted_accepts.fetch_add(1);
      if (i < static_cast<int>(std::size(kErrors))) return -kErrors[i];
      const int conn = accept4(fd, address, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
      return conn >= 0 ? conn : -errno;
    });
    EXPECT_TRUE(MustAccept(listener));
    internal::SetAcceptHook(nullptr);
    EXPECT_EQ(aborted_accepts.load(), 6);
  });
}

TEST(NetConformance, NE23_NotTemporaryRead) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    TaskGroup group(kind);
    group.Go([&] {
      Sleep(absl::Milliseconds(1));
      EXPECT_TRUE(pair.server.SetLinger(absl::ZeroDuration()).ok());
      EXPECT_TRUE(pair.server.Close().ok());
    });
    char buffer[256];
    const absl::StatusOr<size_t> n = pair.client.Read(absl::MakeSpan(buffer));
    ASSERT_FALSE(n.ok());
    EXPECT_EQ(ErrnoOf(n.status()), ECONNRESET) << n.status();
    EXPECT_TRUE(absl::EndsWith(n.status().message(), ": read: connection reset by peer"))
        << n.status();
    EXPECT_FALSE(IsTimeout(n.status()));
  });
}

TEST(NetConformance, NE24_ConnAndListener) {
  ForEachSetting([](TaskKind kind) {
    const Listener listener = MustListen();
    ASSERT_TRUE(listener.SetDeadline(In(absl::Hours(1))).ok());
    TaskGroup group(kind);
    group.Go([&] {
      const Conn conn = MustAccept(listener);
      ASSERT_TRUE(conn.SetDeadline(In(absl::Hours(1))).ok());
      ASSERT_TRUE(conn.SetReadDeadline(In(absl::Hours(1))).ok());
      ASSERT_TRUE(conn.SetWriteDeadline(In(absl::Hours(1))).ok());
      char buffer[128];
      const absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(buffer));
      ASSERT_TRUE(n.ok());
      EXPECT_TRUE(conn.Write(absl::string_view(buffer, *n)).ok());
      EXPECT_EQ(conn.local_address(), listener.addr());
    });
    const Conn conn = MustDial(listener.addr());
    ASSERT_TRUE(conn.SetDeadline(In(absl::Hours(1))).ok());
    EXPECT_EQ(conn.remote_address(), listener.addr());
    ASSERT_TRUE(conn.Write("CONN AND LISTENER TEST").ok());
    std::string got(22, '\0');
    ASSERT_TRUE(conn.ReadFull(absl::MakeSpan(got.data(), got.size())).ok());
    EXPECT_EQ(got, "CONN AND LISTENER TEST");
  });
}

TEST(NetConformance, NE27_ConcurrentAccept) {
  ForEachSetting([](TaskKind kind) {
    constexpr int kTasks = 10, kDials = 100;
    const Listener listener = MustListen();
    std::atomic<int> accepted{0};
    TaskGroup group(kind);
    for (int i = 0; i < kTasks; ++i) {
      group.Go([&] {
        absl::StatusOr<Conn> conn = listener.Accept();
        for (; conn.ok(); conn = listener.Accept()) accepted.fetch_add(1);
        EXPECT_TRUE(IsClosed(conn.status()));
      });
    }
    int failed = 0;
    for (int i = 0; i < kDials; ++i) {
      failed += !Dial("tcp", listener.addr().ToString(), {.timeout = absl::Seconds(10)}).ok();
    }
    EXPECT_LE(failed, kDials / 9);
    EXPECT_TRUE(Eventually([&] { return accepted.load() >= kDials - failed; }));
    EXPECT_TRUE(listener.Close().ok());
    group.Wait();
  });
}

TEST(NetConformance, NE41_WritevError) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    const auto buffer = std::make_unique<char[]>(1 << 20);
    const std::vector<absl::string_view> pieces(1024, absl::string_view(buffer.get(), 1 << 20));
    TaskGroup group(kind);
    group.Go([&] {
      char byte;
      EXPECT_TRUE(pair.server.ReadFull(absl::MakeSpan(&byte, 1)).ok());
      EXPECT_TRUE(pair.server.Close().ok());
    });
    size_t written = 0;
    EXPECT_FALSE(pair.client.Writev(pieces, &written).ok());
    EXPECT_LT(written, size_t{1} << 30);
  });
}

TEST(NetConformance, NE42_SendFileOnWriteTimeoutExceeded) {
  ForEachSetting([](TaskKind) {
    const ConnPair pair = MakePair();
    ASSERT_TRUE(pair.client.SetWriteDeadline(In(-absl::Hours(1))).ok());
    ExpectTimeout(pair.client.SendFile(0, 0, 1000, "head").status());
    ASSERT_TRUE(pair.client.Close().ok());
    std::string got;
    EXPECT_TRUE(ReadAll(pair.server, &got).ok());
    EXPECT_EQ(got, "");
  });
}

}  // namespace
}  // namespace weft
