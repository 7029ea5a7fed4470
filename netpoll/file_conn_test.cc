// Descriptors handed in and out, and reached while a connection is in use.
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/owned_fd.h"
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
using testing::OpenFileId;
using testing::ReadAll;
using testing::Rounds;
using testing::TaskGroup;
using testing::TaskKind;

TEST(FileConnTest, ReleaseEndsTheHandleAndLeavesTheConnection) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    const std::string pattern = absl::StrCat(pair.client.local_address().ToString());
    TaskGroup group(kind);
    group.Go([&] {
      char buffer[1];
      EXPECT_TRUE(IsClosed(pair.client.Read(absl::MakeSpan(buffer)).status()));
    });
    Sleep(absl::Milliseconds(1));
    const absl::StatusOr<int> fd = pair.client.Release();
    ASSERT_TRUE(fd.ok()) << fd.status();
    group.Wait();
    EXPECT_TRUE(IsClosed(pair.client.Write("x")));
    EXPECT_TRUE(IsClosed(pair.client.Release().status()));
    // The wait above has registered it with the poller: in another handle it must work as well.
    const absl::StatusOr<Conn> again = FileConn(*fd);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->local_address().ToString(), pattern);
    EXPECT_EQ(again->remote_address(), pair.server.local_address());
    EXPECT_EQ(again->network(), "tcp");
    group.Go([&] {
      Sleep(absl::Milliseconds(1));
      EXPECT_TRUE(pair.server.Write("hello").ok());
      EXPECT_TRUE(pair.server.CloseWrite().ok());
    });
    std::string got;
    EXPECT_TRUE(ReadAll(*again, &got).ok());
    EXPECT_EQ(got, "hello");
    EXPECT_TRUE(again->Write("back").ok());
    char back[4];
    EXPECT_TRUE(pair.server.ReadFull(absl::MakeSpan(back)).ok());
  });
}

// A blocking descriptor becomes non-blocking, so that deadlines work.
TEST(FileConnTest, FileConnTakesBlockingSocketsOver) {
  ForEachSetting([](TaskKind) {
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    const OwnedFd other(fds[1]);
    const absl::StatusOr<Conn> conn = FileConn(fds[0]);
    ASSERT_TRUE(conn.ok()) << conn.status();
    EXPECT_EQ(conn->network(), "unix");
    EXPECT_NE(fcntl(conn->fd(), F_GETFD) & FD_CLOEXEC, 0);
    char buffer[1];
    ASSERT_TRUE(conn->SetReadDeadline(In(absl::Milliseconds(2))).ok());
    EXPECT_TRUE(IsTimeout(conn->Read(absl::MakeSpan(buffer)).status()));
  });
}

TEST(FileConnTest, FileListenerAccepts) {
  Listener listener = MustListen();
  const SocketAddress address = listener.addr();
  const absl::StatusOr<int> fd = listener.Release();
  ASSERT_TRUE(fd.ok());
  const absl::StatusOr<Listener> again = FileListener(*fd);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->addr(), address);
  const Conn client = MustDial(address);
  EXPECT_EQ(MustAccept(*again).remote_address(), client.local_address());
}

TEST(FileConnTest, WhatIsNoConnectionIsRefusedAndStaysTheCallers) {
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  const OwnedFd ends[2] = {OwnedFd(pipe_fds[0]), OwnedFd(pipe_fds[1])};
  const OpenFileId id(pipe_fds[0]);
  EXPECT_EQ(ErrnoOf(FileConn(pipe_fds[0]).status()), ENOTSOCK);
  EXPECT_EQ(ErrnoOf(FileListener(-1).status()), EBADF);
  EXPECT_TRUE(id.IsAt(pipe_fds[0])) << "still open";
  const ConnPair pair = MakePair();
  EXPECT_TRUE(absl::IsInvalidArgument(FileListener(pair.client.fd()).status()));
  EXPECT_TRUE(pair.client.Write("x").ok());
}

TEST(FileConnTest, ADuplicateKeepsTheConnection) {
  const ConnPair pair = MakePair();
  const absl::StatusOr<int> copy = pair.client.Dup();
  ASSERT_TRUE(copy.ok());
  EXPECT_NE(*copy, pair.client.fd());
  EXPECT_NE(fcntl(*copy, F_GETFD) & FD_CLOEXEC, 0);
  ASSERT_TRUE(pair.client.Close().ok());
  const absl::StatusOr<Conn> again = FileConn(*copy);
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->Write("x").ok());
  char byte;
  EXPECT_TRUE(pair.server.ReadFull(absl::MakeSpan(&byte, 1)).ok());
  EXPECT_TRUE(IsClosed(pair.client.Dup().status()));
  EXPECT_TRUE(IsClosed(Conn().Dup().status()));
}

TEST(FileConnTest, NE44_FileCloseRace) {
  ForEachSetting([](TaskKind kind) {
    for (int i = 0; i < Rounds(100, 10); ++i) {
      const ConnPair pair = MakePair();
      TaskGroup group(kind);
      group.Go([&] {
        const absl::StatusOr<int> copy = pair.client.Dup();
        if (copy.ok()) {
          EXPECT_EQ(close(*copy), 0);
        } else {
          EXPECT_TRUE(IsClosed(copy.status())) << copy.status();
        }
      });
      group.Go([&] { EXPECT_TRUE(pair.client.Close().ok()); });
      group.Wait();
      // Nobody holds it any more.
      char byte;
      EXPECT_EQ(pair.server.Read(absl::MakeSpan(&byte, 1)).value_or(1), 0u);
    }
  });
}

TEST(FileConnTest, FP15_FdRace) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    std::atomic<int> calls{0};
    TaskGroup group(kind);
    for (int i = 0; i < Rounds(100, 10); ++i) {
      group.Go([&] {
        EXPECT_TRUE(pair.client
                        .Control([&](int fd) {
                          EXPECT_EQ(fd, pair.client.fd());
                          calls.fetch_add(1);
                        })
                        .ok());
      });
    }
    group.Wait();
    EXPECT_EQ(calls.load(), Rounds(100, 10));
  });
}

TEST(FileConnTest, FP15_FdReadRace) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    ASSERT_TRUE(pair.client.SetReadDeadline(In(absl::Minutes(10))).ok());
    TaskGroup group(kind);
    group.Go([&] {
      char buffer[1];
      EXPECT_TRUE(IsClosed(pair.client.Read(absl::MakeSpan(buffer)).status()));
    });
    Sleep(absl::Milliseconds(1));
    // Were it to wait for the read, it would do so until the test's end.
    int option = -1;
    EXPECT_TRUE(pair.client
                    .Control([&](int fd) {
                      socklen_t size = sizeof(option);
                      getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &option, &size);
                    })
                    .ok());
    EXPECT_EQ(option, 1);
    EXPECT_TRUE(pair.client.Close().ok());
    EXPECT_TRUE(IsClosed(pair.client.Control([](int) { ADD_FAILURE(); })));
  });
}

TEST(FileConnTest, NE26_ControlRunsBeforeBindAndConnect) {
  std::vector<std::string> calls;
  const SocketControl control = [&](absl::string_view network, const SocketAddress& address,
                                    int fd) {
    sockaddr_storage local;
    socklen_t size = sizeof(local);
    auto* any = reinterpret_cast<sockaddr*>(&local);
    EXPECT_EQ(getsockname(fd, any, &size), 0);
    EXPECT_EQ(SocketAddress::FromSockaddr(any, size).port(), 0) << "bound already";
    calls.push_back(absl::StrCat(network, " ", address.host()));
    return absl::OkStatus();
  };
  const absl::StatusOr<Listener> listener = Listen("tcp", "127.0.0.1:0", {.control = control});
  ASSERT_TRUE(listener.ok()) << listener.status();
  const absl::StatusOr<Conn> conn =
      Dial("tcp", listener->addr().ToString(),
           {.local_address = *SocketAddress::Parse("127.0.0.1:0"), .control = control});
  ASSERT_TRUE(conn.ok()) << conn.status();
  EXPECT_TRUE(Listen("unix", "@", {.control = control}).ok());
  EXPECT_EQ(calls, (std::vector<std::string>{"tcp4 127.0.0.1", "tcp4 127.0.0.1", "unix @"}));
  const absl::Status refused =
      Listen("tcp", "127.0.0.1:0",
             {.control = [](absl::string_view, const SocketAddress&,
                            int) { return absl::AbortedError("not today"); }})
          .status();
  EXPECT_EQ(refused.message(), "listen tcp 127.0.0.1:0: not today");
}

TEST(FileConnTest, BufferSizesReachTheSocket) {
  const ConnPair pair = MakePair();
  ASSERT_TRUE(pair.client.SetReadBuffer(50'000).ok());
  ASSERT_TRUE(pair.client.SetWriteBuffer(60'000).ok());
  for (const auto& [option, value] :
       {std::pair(SO_RCVBUF, 100'000), std::pair(SO_SNDBUF, 120'000)}) {
    int actual = 0;
    socklen_t size = sizeof(actual);
    ASSERT_EQ(getsockopt(pair.client.fd(), SOL_SOCKET, option, &actual, &size), 0);
    EXPECT_EQ(actual, value);
  }
}

TEST(FileConnTest, ALocalAddressIsUsed) {
  const Listener listener = MustListen();
  const absl::StatusOr<Conn> conn = Dial("tcp", listener.addr().ToString(),
                                         {.local_address = *SocketAddress::Parse("127.0.0.2:0")});
  ASSERT_TRUE(conn.ok()) << conn.status();
  EXPECT_EQ(conn->local_address().host(), "127.0.0.2");
  EXPECT_EQ(MustAccept(listener).remote_address(), conn->local_address());
}

}  // namespace
}  // namespace weft
