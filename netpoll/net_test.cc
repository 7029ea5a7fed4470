#include "netpoll/net.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/test_util.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::ConnPair;
using testing::ForEachSetting;
using testing::In;
using testing::MakePair;
using testing::MustAccept;
using testing::MustDial;
using testing::MustListen;
using testing::ReadAll;
using testing::Rounds;
using testing::TaskGroup;
using testing::TaskKind;

std::string Pattern(size_t size) {
  constexpr size_t kPeriod = 26 * 3 * 4096;
  std::string text(std::min(size, kPeriod), '\0');
  for (size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>('a' + i * 7 % 26 + i / 4096 % 3);
  }
  while (text.size() < size) text.append(text, 0, std::min(kPeriod, size - text.size()));
  return text;
}

int Option(const Conn& conn, int level, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  EXPECT_EQ(getsockopt(conn.fd(), level, option, &value, &size), 0);
  return value;
}

// A file with this text, gone when it is closed.
class TempFile {
 public:
  explicit TempFile(absl::string_view text) {
    std::string name = absl::StrCat(::testing::TempDir(), "/net_test_XXXXXX");
    fd_ = mkstemp(name.data());
    EXPECT_GE(fd_, 0);
    unlink(name.c_str());
    EXPECT_EQ(write(fd_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  ~TempFile() { close(fd_); }
  TempFile(const TempFile&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

TEST(NetTest, BytesGoBothWays) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    TaskGroup group(kind);
    group.Go([&] {
      std::string text;
      EXPECT_TRUE(ReadAll(pair.server, &text).ok());
      EXPECT_TRUE(pair.server.Write(absl::StrCat("<", text, ">")).ok());
      EXPECT_TRUE(pair.server.Close().ok());
    });
    EXPECT_TRUE(pair.client.Write("hello ").ok());
    EXPECT_TRUE(pair.client.Write("world").ok());
    EXPECT_TRUE(pair.client.CloseWrite().ok());
    std::string answer;
    EXPECT_TRUE(ReadAll(pair.client, &answer).ok());
    EXPECT_EQ(answer, "<hello world>");
  });
}

TEST(NetTest, WriteHandsOverAllOfALargeBuffer) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    const std::string text = Pattern(static_cast<size_t>(Rounds(3 << 20, 1 << 20)));
    TaskGroup group(kind);
    group.Go([&] {
      size_t written = 0;
      EXPECT_TRUE(pair.client.Write(text, &written).ok());
      EXPECT_EQ(written, text.size());
      EXPECT_TRUE(pair.client.Close().ok());
    });
    std::string got;
    EXPECT_TRUE(ReadAll(pair.server, &got).ok());
    EXPECT_TRUE(got == text);
  });
}

TEST(NetTest, WritevJoinsItsPiecesInOrder) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    const std::string text = Pattern(static_cast<size_t>(Rounds(2 << 20, 1 << 20)));
    std::vector<absl::string_view> pieces;
    // More than one system call takes, empty ones among them, of all sizes.
    size_t at = 0;
    for (size_t i = 0; at < text.size(); ++i) {
      const size_t size = i % 5 == 0 ? 0 : std::min(text.size() - at, i * i * 3);
      pieces.push_back(absl::string_view(text).substr(at, size));
      at += size;
    }
    pieces.push_back("");
    TaskGroup group(kind);
    group.Go([&] {
      size_t written = 0;
      EXPECT_TRUE(pair.client.Writev(pieces, &written).ok());
      EXPECT_EQ(written, text.size());
      EXPECT_TRUE(pair.client.Writev({}).ok());
      EXPECT_TRUE(pair.client.Close().ok());
    });
    std::string got;
    EXPECT_TRUE(ReadAll(pair.server, &got).ok());
    EXPECT_TRUE(got == text);
  });
}

TEST(NetTest, ReadFullReadsAllOrTellsTheEnd) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    TaskGroup group(kind);
    group.Go([&] {
      for (const char* part : {"ab", "cd", "ef", "g"}) {
        EXPECT_TRUE(pair.client.Write(part).ok());
        Yield();
      }
      EXPECT_TRUE(pair.client.Close().ok());
    });
    char buffer[3];
    for (const char* expected : {"abc", "def"}) {
      EXPECT_TRUE(pair.server.ReadFull(absl::MakeSpan(buffer)).ok());
      EXPECT_EQ(std::string(buffer, 3), expected);
    }
    absl::Status end = pair.server.ReadFull(absl::MakeSpan(buffer));
    EXPECT_TRUE(absl::IsOutOfRange(end));
    EXPECT_TRUE(absl::EndsWith(end.message(), ": unexpected EOF")) << end;
    end = pair.server.ReadFull(absl::MakeSpan(buffer));
    EXPECT_TRUE(absl::EndsWith(end.message(), ": EOF")) << end;
    EXPECT_TRUE(pair.server.ReadFull({}).ok());
  });
}

TEST(NetTest, ReadingIntoNothingReturnsAtOnce) {
  const ConnPair pair = MakePair();
  const absl::StatusOr<size_t> n = pair.server.Read({});
  ASSERT_TRUE(n.ok());
  EXPECT_EQ(*n, 0u);
}

// The second read would wait for an edge that was used up before the first one, if the end of the
// stream were not remembered.
TEST(NetTest, TheEndBehindAShortReadIsFound) {
  ForEachSetting([](TaskKind) {
    for (int round = 0; round < Rounds(30, 6); ++round) {
      const ConnPair pair = MakePair();
      char buffer[16];
      // The reader is registered with the poller and has seen a quiet moment.
      EXPECT_TRUE(pair.client.Write("1").ok());
      EXPECT_TRUE(pair.server.Read(absl::MakeSpan(buffer)).ok());
      if (round % 3 != 0) {
        EXPECT_TRUE(pair.server.SetReadDeadline(In(absl::Microseconds(50))).ok());
        EXPECT_TRUE(IsTimeout(pair.server.Read(absl::MakeSpan(buffer)).status()));
        EXPECT_TRUE(pair.server.SetReadDeadline(absl::InfiniteFuture()).ok());
      }
      EXPECT_TRUE(pair.client.Write("last").ok());
      EXPECT_TRUE(pair.client.Close().ok());
      if (round % 2 == 0) Sleep(absl::Microseconds(300));
      std::string rest;
      EXPECT_TRUE(ReadAll(pair.server, &rest).ok());
      EXPECT_EQ(rest, "last");
    }
  });
}

TEST(NetTest, DataBehindUrgentDataIsFound) {
  ForEachSetting([](TaskKind) {
    for (int round = 0; round < Rounds(20, 4); ++round) {
      const ConnPair pair = MakePair();
      char buffer[64];
      EXPECT_TRUE(pair.client.Write("a").ok());
      EXPECT_TRUE(pair.server.Read(absl::MakeSpan(buffer)).ok());
      EXPECT_TRUE(pair.client.Write("before").ok());
      EXPECT_EQ(send(pair.client.fd(), "!", 1, MSG_OOB), 1);
      EXPECT_TRUE(pair.client.Write("after").ok());
      if (round % 2 == 0) Sleep(absl::Microseconds(300));
      // The urgent byte itself is not part of the stream.
      std::string got;
      while (got.size() < 11) {
        const absl::StatusOr<size_t> n = pair.server.Read(absl::MakeSpan(buffer));
        ASSERT_TRUE(n.ok());
        got.append(buffer, *n);
      }
      EXPECT_EQ(got, "beforeafter");
    }
  });
}

TEST(NetTest, SendFileSendsHeadAndPartOfAFile) {
  const std::string text = Pattern(static_cast<size_t>(Rounds(9 << 20, 2 << 20)));
  const TempFile file(text);
  ForEachSetting([&](TaskKind kind) {
    struct Case {
      off_t offset;
      size_t n;
      absl::string_view head;
      size_t sent;
    };
    for (const Case& c : {Case{0, text.size(), "head:", text.size()}, Case{0, 0, "only", 0},
                          Case{4097, 12345, "", 12345},
                          Case{static_cast<off_t>(text.size()) - 10, 100, "short ", 10}}) {
      const ConnPair pair = MakePair();
      TaskGroup group(kind);
      group.Go([&] {
        const absl::StatusOr<size_t> sent = pair.client.SendFile(file.fd(), c.offset, c.n, c.head);
        ASSERT_TRUE(sent.ok()) << sent.status();
        EXPECT_EQ(*sent, c.sent);
        EXPECT_TRUE(pair.client.Close().ok());
      });
      std::string got;
      EXPECT_TRUE(ReadAll(pair.server, &got).ok());
      EXPECT_TRUE(got == absl::StrCat(c.head, text.substr(c.offset, c.sent)));
    }
    EXPECT_EQ(lseek(file.fd(), 0, SEEK_CUR), static_cast<off_t>(text.size()));
  });
}

TEST(NetTest, SendFileCopiesWhatTheKernelCannotSend) {
  const int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(file, 0);
  const ConnPair pair = MakePair();
  const absl::StatusOr<size_t> sent = pair.client.SendFile(file, 0, 1 << 20);
  close(file);
  ASSERT_TRUE(sent.ok()) << sent.status();
  EXPECT_TRUE(pair.client.Close().ok());
  std::string got;
  EXPECT_TRUE(ReadAll(pair.server, &got).ok());
  EXPECT_EQ(got.size(), *sent);
  EXPECT_TRUE(absl::StartsWith(got, "Name:")) << got;
}

TEST(NetTest, CloseEndsEveryCallThatWaits) {
  const std::string text(16 << 20, 'x');
  ForEachSetting([&](TaskKind kind) {
    const ConnPair pair = MakePair();
    std::atomic<int> ended{0};
    TaskGroup group(kind);
    for (int i = 0; i < 3; ++i) {
      group.Go([&] {
        char buffer[16];
        EXPECT_TRUE(IsClosed(pair.server.Read(absl::MakeSpan(buffer)).status()));
        ended.fetch_add(1);
      });
      group.Go([&] {
        EXPECT_TRUE(IsClosed(pair.server.Write(text)));
        ended.fetch_add(1);
      });
    }
    Sleep(absl::Milliseconds(5));
    EXPECT_EQ(ended.load(), 0);
    EXPECT_TRUE(pair.server.Close().ok());
    group.Wait();
    EXPECT_EQ(pair.server.fd(), -1);
    const absl::Status again = pair.server.Close();
    EXPECT_TRUE(IsClosed(again));
    EXPECT_TRUE(absl::IsCancelled(again));
    EXPECT_TRUE(absl::EndsWith(again.message(), ": use of closed network connection")) << again;
    for (const absl::Status& status :
         {pair.server.Write("x"), pair.server.SetDeadline(absl::InfiniteFuture()),
          pair.server.CloseWrite(), pair.server.SetNoDelay(true)}) {
      EXPECT_TRUE(IsClosed(status)) << status;
    }
  });
}

TEST(NetTest, CloseOfAListenerEndsAccept) {
  ForEachSetting([](TaskKind kind) {
    const Listener listener = MustListen();
    TaskGroup group(kind);
    for (int i = 0; i < 3; ++i) {
      group.Go([&] {
        const absl::Status status = listener.Accept().status();
        EXPECT_TRUE(IsClosed(status));
        EXPECT_EQ(status.message(), absl::StrCat("accept tcp ", listener.addr().ToString(),
                                                 ": use of closed network connection"));
      });
    }
    Sleep(absl::Milliseconds(2));
    EXPECT_TRUE(listener.Close().ok());
    group.Wait();
    EXPECT_TRUE(IsClosed(listener.Close()));
  });
}

TEST(NetTest, TheLastHandleCloses) {
  const Listener listener = MustListen();
  Conn client = MustDial(listener.addr());
  const Conn server = MustAccept(listener);
  {
    const Conn copy = client;
    client = Conn();
    EXPECT_TRUE(copy.Write("x").ok());
  }
  std::string got;
  EXPECT_TRUE(ReadAll(server, &got).ok());
  EXPECT_EQ(got, "x");
}

TEST(NetTest, OperationsOnNothingSayClosed) {
  const Conn conn;
  const Listener listener;
  char buffer[1];
  EXPECT_FALSE(conn);
  EXPECT_FALSE(listener);
  EXPECT_TRUE(IsClosed(conn.Read(absl::MakeSpan(buffer)).status()));
  EXPECT_TRUE(IsClosed(conn.ReadFull(absl::MakeSpan(buffer))));
  EXPECT_TRUE(IsClosed(conn.Write("x")));
  EXPECT_TRUE(IsClosed(conn.Writev({})));
  EXPECT_TRUE(IsClosed(conn.SendFile(0, 0, 1).status()));
  EXPECT_TRUE(IsClosed(conn.SetDeadline(absl::InfiniteFuture())));
  EXPECT_TRUE(IsClosed(conn.SetLinger(absl::ZeroDuration())));
  EXPECT_TRUE(IsClosed(conn.CloseRead()));
  EXPECT_TRUE(IsClosed(conn.Close()));
  EXPECT_TRUE(IsClosed(listener.Accept().status()));
  EXPECT_TRUE(IsClosed(listener.Close()));
  EXPECT_EQ(conn.fd(), -1);
  EXPECT_TRUE(conn.local_address().empty());
  EXPECT_TRUE(listener.addr().empty());
}

// Descriptors are reused as fast as the system can, while others still call on the old ones. Every
// connection carries one letter; seeing another one would mean that a call hit a wrong descriptor.
TEST(NetTest, ACallNeverHitsAReusedDescriptor) {
  ForEachSetting([](TaskKind kind) {
    const Listener listener = MustListen();
    TaskGroup group(kind);
    for (int task = 0; task < 4; ++task) {
      group.Go([&, task, letter = static_cast<char>('a' + task)] {
        for (int round = 0; round < Rounds(8, 2); ++round) {
          const Conn client = MustDial(listener.addr());
          TaskGroup users(kind);
          users.Go([&] {
            const std::string text(100, letter);
            // Yields, so that one P is enough for all.
            while (client.Write(text).ok()) Yield();
          });
          users.Go([&] {
            char buffer[256];
            for (;;) {
              const absl::StatusOr<size_t> n = client.Read(absl::MakeSpan(buffer));
              if (!n.ok() || *n == 0) return;
              for (size_t i = 0; i < *n; ++i) ASSERT_EQ(buffer[i], letter);
            }
          });
          Sleep(absl::Microseconds((2 * task + round) % 8 * 60));
          EXPECT_TRUE(client.Close().ok());
          users.Wait();
        }
      });
    }
    TaskGroup servers(kind);
    servers.Go([&] {
      for (absl::StatusOr<Conn> c = listener.Accept(); c.ok(); c = listener.Accept()) {
        servers.Go([conn = *std::move(c)] {
          char buffer[300];
          for (;;) {
            const absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(buffer));
            if (!n.ok() || *n == 0) return;
            for (size_t i = 1; i < *n; ++i) ASSERT_EQ(buffer[i], buffer[0]);
            if (!conn.Write(absl::string_view(buffer, *n)).ok()) return;
          }
        });
      }
    });
    group.Wait();
    EXPECT_TRUE(listener.Close().ok());
  });
}

TEST(NetTest, ConcurrentWritesStayWhole) {
  ForEachSetting([](TaskKind kind) {
    constexpr size_t kSize = 100'000;
    constexpr int kWriters = 4;
    const ConnPair pair = MakePair();
    TaskGroup group(kind);
    for (int i = 0; i < kWriters; ++i) {
      group.Go([&, i] {
        EXPECT_TRUE(pair.client.Write(std::string(kSize, static_cast<char>('a' + i))).ok());
      });
    }
    std::string got(kSize * kWriters, '\0');
    EXPECT_TRUE(pair.server.ReadFull(absl::MakeSpan(got.data(), got.size())).ok());
    for (int i = 0; i < kWriters; ++i) {
      EXPECT_EQ(got.substr(i * kSize, kSize), std::string(kSize, got[i * kSize]));
    }
  });
}

TEST(NetTest, ManyConnectionsAtOnce) {
  ForEachSetting([](TaskKind kind) {
    const int conns = kind == TaskKind::kGoroutine ? Rounds(300, 20) : Rounds(30, 10);
    const Listener listener = MustListen();
    TaskGroup group(kind);
    for (int i = 0; i < conns; ++i) {
      group.Go([&, i] {
        const Conn conn = MustDial(listener.addr());
        const std::string mine = absl::StrCat("connection ", i);
        for (int round = 0; round < 5; ++round) {
          ASSERT_TRUE(conn.Write(mine).ok());
          std::string back(mine.size(), '\0');
          ASSERT_TRUE(conn.ReadFull(absl::MakeSpan(back.data(), back.size())).ok());
          EXPECT_EQ(back, mine);
        }
      });
      group.Go([&] {
        const Conn conn = MustAccept(listener);
        char buffer[64];
        for (;;) {
          const absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(buffer));
          ASSERT_TRUE(n.ok());
          if (*n == 0) return;
          ASSERT_TRUE(conn.Write(absl::string_view(buffer, *n)).ok());
        }
      });
    }
  });
}

TEST(NetTest, OptionsReachTheSocket) {
  const ConnPair pair = MakePair();
  for (const Conn& conn : {pair.client, pair.server}) {
    EXPECT_EQ(Option(conn, IPPROTO_TCP, TCP_NODELAY), 1);
    EXPECT_EQ(Option(conn, SOL_SOCKET, SO_KEEPALIVE), 1);
    EXPECT_EQ(Option(conn, IPPROTO_TCP, TCP_KEEPIDLE), 15);
    EXPECT_EQ(Option(conn, IPPROTO_TCP, TCP_KEEPINTVL), 15);
    EXPECT_NE(fcntl(conn.fd(), F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(fcntl(conn.fd(), F_GETFD) & FD_CLOEXEC, 0);
  }
  EXPECT_TRUE(pair.client.SetNoDelay(false).ok());
  EXPECT_EQ(Option(pair.client, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_TRUE(pair.client.SetKeepAlive({.idle = absl::Milliseconds(1500), .count = 4}).ok());
  EXPECT_EQ(Option(pair.client, IPPROTO_TCP, TCP_KEEPIDLE), 2);
  EXPECT_EQ(Option(pair.client, IPPROTO_TCP, TCP_KEEPCNT), 4);
  EXPECT_TRUE(pair.client.SetKeepAlive({.enabled = false}).ok());
  EXPECT_EQ(Option(pair.client, SOL_SOCKET, SO_KEEPALIVE), 0);

  linger value;
  socklen_t size = sizeof(value);
  for (const auto& [duration, on, seconds] :
       {std::tuple(absl::ZeroDuration(), 1, 0), std::tuple(absl::Milliseconds(1200), 1, 2),
        std::tuple(absl::InfiniteDuration(), 0, 0)}) {
    EXPECT_TRUE(pair.client.SetLinger(duration).ok());
    ASSERT_EQ(getsockopt(pair.client.fd(), SOL_SOCKET, SO_LINGER, &value, &size), 0);
    EXPECT_EQ(value.l_onoff, on);
    if (on == 1) {
      EXPECT_EQ(value.l_linger, seconds);
    }
  }
}

TEST(NetTest, ALingeringCloseDelivers) {
  testing::RunOnGoroutine([] {
    const ConnPair pair = MakePair();
    EXPECT_TRUE(pair.client.SetLinger(absl::Seconds(5)).ok());
    EXPECT_TRUE(pair.client.Write("bye").ok());
    EXPECT_TRUE(pair.client.Close().ok());
    std::string got;
    EXPECT_TRUE(ReadAll(pair.server, &got).ok());
    EXPECT_EQ(got, "bye");
  });
}

TEST(NetTest, TimeoutsTellBothEnds) {
  const ConnPair pair = MakePair();
  EXPECT_TRUE(pair.client.SetDeadline(absl::InfinitePast()).ok());
  char buffer[1];
  const absl::Status status = pair.client.Read(absl::MakeSpan(buffer)).status();
  EXPECT_TRUE(IsTimeout(status));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_EQ(status.message(),
            absl::StrCat("read tcp ", pair.client.local_address().ToString(), "->",
                         pair.client.remote_address().ToString(), ": i/o timeout"));
}

TEST(NetTest, WritingToAClosedPeerGivesAnErrorNotASignal) {
  ForEachSetting([](TaskKind) {
    const ConnPair pair = MakePair();
    EXPECT_TRUE(pair.server.SetLinger(absl::ZeroDuration()).ok());
    EXPECT_TRUE(pair.server.Close().ok());
    absl::Status status;
    while (status.ok()) status = pair.client.Write("x");
    // The first failing call tells of the reset, or finds the pipe broken already.
    const int error = ErrnoOf(status);
    EXPECT_TRUE(error == ECONNRESET || error == EPIPE) << status;
    status = pair.client.Write("x");
    EXPECT_EQ(ErrnoOf(status), EPIPE) << status;
    EXPECT_TRUE(absl::EndsWith(status.message(), ": write: broken pipe")) << status;
  });
}

}  // namespace
}  // namespace weft
