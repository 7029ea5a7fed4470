#include "netpoll/pollfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/test_util.h"

namespace weft {
namespace {

using testing::Eventually;
using testing::ForEachSetting;
using testing::In;
using testing::TaskGroup;
using testing::TaskKind;

class SocketPair {
 public:
  // Blocking ones: PollFd() does not mind.
  SocketPair() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds_), 0); }
  ~SocketPair() {
    close(fds_[0]);
    if (fds_[1] >= 0) close(fds_[1]);
  }
  SocketPair(const SocketPair&) = delete;

  int mine() const { return fds_[0]; }
  void Send() { EXPECT_EQ(write(fds_[1], "x", 1), 1); }
  void Receive(size_t n) {
    std::string bytes(n, '\0');
    EXPECT_EQ(recv(fds_[1], bytes.data(), n, MSG_WAITALL), static_cast<ssize_t>(n));
  }
  void TakeOne() {
    char c;
    EXPECT_EQ(read(fds_[0], &c, 1), 1);
  }
  // Until a write would block; returns how many bytes that took.
  size_t FillMine() {
    const std::string bytes(4096, 'x');
    size_t sum = 0;
    for (;;) {
      const ssize_t n = send(fds_[0], bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (n < 0) return sum;
      sum += n;
    }
  }
  void ClosePeer() {
    close(fds_[1]);
    fds_[1] = -1;
  }

 private:
  int fds_[2];
};

PollEvents MustPoll(int fd, PollEvents events) {
  const absl::StatusOr<PollEvents> ready = PollFd(fd, events);
  EXPECT_TRUE(ready.ok()) << ready.status();
  return ready.ok() ? *ready : PollEvents{};
}

constexpr PollEvents kBoth = kReadable | kWritable;

TEST(PollFdTest, ReturnsAtOnceWhatIsReady) {
  SocketPair pair;
  EXPECT_EQ(MustPoll(pair.mine(), kWritable), kWritable);
  EXPECT_EQ(MustPoll(pair.mine(), kBoth), kWritable);
  pair.Send();
  EXPECT_EQ(MustPoll(pair.mine(), kReadable), kReadable);
  EXPECT_EQ(MustPoll(pair.mine(), kBoth), kBoth);
  pair.ClosePeer();
  EXPECT_EQ(MustPoll(pair.mine(), kBoth), kBoth);
}

TEST(PollFdTest, WaitsForData) {
  ForEachSetting([](TaskKind kind) {
    SocketPair pair;
    TaskGroup group(kind);
    for (int i = 0; i < 20; ++i) {
      group.Go([&] {
        Yield();
        pair.Send();
      });
      EXPECT_EQ(MustPoll(pair.mine(), kReadable), kReadable);
      pair.TakeOne();
    }
  });
}

TEST(PollFdTest, WaitsForRoomAndForEither) {
  ForEachSetting([](TaskKind kind) {
    for (const PollEvents events : {kWritable, kBoth}) {
      SocketPair pair;
      const size_t n = pair.FillMine();
      TaskGroup group(kind);
      group.Go([&] {
        Sleep(absl::Milliseconds(1));
        pair.Receive(n);
      });
      EXPECT_EQ(MustPoll(pair.mine(), events), kWritable);
    }
    SocketPair pair;
    pair.FillMine();
    TaskGroup group(kind);
    group.Go([&] {
      Sleep(absl::Milliseconds(1));
      pair.Send();
    });
    EXPECT_EQ(MustPoll(pair.mine(), kBoth), kReadable);
  });
}

TEST(PollFdTest, ManyMayWaitForOneDescriptor) {
  ForEachSetting([](TaskKind kind) {
    constexpr int kWaiters = 5;
    SocketPair pair;
    std::atomic<int> woken{0};
    TaskGroup group(kind);
    for (int i = 0; i < kWaiters; ++i) {
      group.Go([&] {
        EXPECT_EQ(MustPoll(pair.mine(), kReadable), kReadable);
        woken.fetch_add(1);
      });
    }
    Sleep(absl::Milliseconds(2));
    EXPECT_EQ(woken.load(), 0);
    pair.Send();
    group.Wait();
  });
}

TEST(PollFdTest, HangUpIsReadiness) {
  ForEachSetting([](TaskKind kind) {
    SocketPair pair;
    TaskGroup group(kind);
    group.Go([&] { EXPECT_EQ(MustPoll(pair.mine(), kReadable), kReadable); });
    Sleep(absl::Milliseconds(1));
    pair.ClosePeer();
  });
}

TEST(PollFdTest, DeadlineEndsTheWait) {
  ForEachSetting([](TaskKind) {
    SocketPair pair;
    const absl::Time deadline = In(absl::Milliseconds(3));
    const absl::Status status = PollFd(pair.mine(), kReadable, deadline).status();
    EXPECT_TRUE(IsTimeout(status)) << status;
    EXPECT_TRUE(absl::EndsWith(status.message(), "i/o timeout"));
    EXPECT_GE(absl::Now(), deadline);
    EXPECT_TRUE(IsTimeout(PollFd(pair.mine(), kReadable, absl::InfinitePast()).status()));
    // Ready counts for more than late.
    pair.Send();
    EXPECT_TRUE(PollFd(pair.mine(), kReadable, absl::InfinitePast()).ok());
  });
}

TEST(PollFdTest, TheDescriptorOfAConnMayBePolledToo) {
  ForEachSetting([](TaskKind kind) {
    const testing::ConnPair pair = testing::MakePair();
    // Registered with the poller already.
    ASSERT_TRUE(pair.server.SetReadDeadline(In(absl::Microseconds(1))).ok());
    char buffer[8];
    EXPECT_FALSE(pair.server.Read(absl::MakeSpan(buffer)).ok());
    ASSERT_TRUE(pair.server.SetReadDeadline(absl::InfiniteFuture()).ok());
    TaskGroup group(kind);
    group.Go([&] {
      Sleep(absl::Milliseconds(1));
      EXPECT_TRUE(pair.client.Write("x").ok());
    });
    EXPECT_EQ(MustPoll(pair.server.fd(), kReadable), kReadable);
    const absl::StatusOr<size_t> n = pair.server.Read(absl::MakeSpan(buffer));
    EXPECT_TRUE(n.ok() && *n == 1);
  });
}

TEST(PollFdTest, OtherKindsOfDescriptors) {
  ForEachSetting([](TaskKind kind) {
    const int event = eventfd(0, EFD_CLOEXEC);
    TaskGroup group(kind);
    group.Go([event] {
      const uint64_t one = 1;
      EXPECT_EQ(write(event, &one, sizeof(one)), 8);
    });
    EXPECT_EQ(MustPoll(event, kReadable), kReadable);
    group.Wait();
    close(event);

    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(MustPoll(file, kReadable), kReadable);
    close(file);
    EXPECT_EQ(ErrnoOf(PollFd(file, kReadable).status()), EBADF);
    EXPECT_TRUE(absl::IsInvalidArgument(PollFd(0, PollEvents{}).status()));
  });
}

}  // namespace
}  // namespace weft
