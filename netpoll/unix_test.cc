// Unix sockets: as connections, and what only they can do.
#include "netpoll/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/test_util.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::ForEachSetting;
using testing::In;
using testing::ReadAll;
using testing::Rounds;
using testing::TaskGroup;
using testing::TaskKind;

// A directory for sockets, gone at the end. Not in TempDir(), whose name may be longer than a
// socket's may be.
class SocketDirectory {
 public:
  SocketDirectory() : name_("/tmp/weft-XXXXXX") { EXPECT_NE(mkdtemp(name_.data()), nullptr); }
  ~SocketDirectory() { std::filesystem::remove_all(name_); }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
};

// A name that nobody else has, for a socket's file.
std::string NewPath() {
  static const SocketDirectory directory;
  static std::atomic<int> next{0};
  return absl::StrCat(directory.name(), "/u", next.fetch_add(1));
}

bool Exists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

Listener MustListenUnix(absl::string_view network, absl::string_view name) {
  absl::StatusOr<Listener> listener = Listen(network, name);
  EXPECT_TRUE(listener.ok()) << listener.status();
  return listener.ok() ? *listener : Listener();
}

UnixPair MustPair(absl::string_view network = "unix") {
  absl::StatusOr<UnixPair> pair = MakeUnixPair(network);
  EXPECT_TRUE(pair.ok()) << pair.status();
  return pair.ok() ? *pair : UnixPair();
}

TEST(UnixTest, NE24_ConnAndListener) {
  ForEachSetting([](TaskKind kind) {
    for (const absl::string_view network : {"unix", "unixpacket"}) {
      for (const std::string& name : {NewPath(), std::string("@")}) {
        const Listener listener = MustListenUnix(network, name);
        EXPECT_EQ(listener.network(), network);
        if (name != "@") {
          EXPECT_EQ(listener.addr().ToString(), name);
        }
        ASSERT_TRUE(listener.SetDeadline(In(absl::Hours(1))).ok());
        TaskGroup group(kind);
        group.Go([&] {
          const absl::StatusOr<Conn> conn = listener.Accept();
          ASSERT_TRUE(conn.ok()) << conn.status();
          EXPECT_EQ(conn->network(), network);
          EXPECT_EQ(conn->local_address(), listener.addr());
          EXPECT_TRUE(conn->remote_address().empty());
          ASSERT_TRUE(conn->SetDeadline(In(absl::Hours(1))).ok());
          char buffer[128];
          const absl::StatusOr<size_t> n = conn->Read(absl::MakeSpan(buffer));
          ASSERT_TRUE(n.ok());
          EXPECT_TRUE(conn->Write(absl::string_view(buffer, *n)).ok());
        });
        const absl::StatusOr<Conn> conn = Dial(network, listener.addr().ToString());
        ASSERT_TRUE(conn.ok()) << conn.status();
        EXPECT_EQ(conn->remote_address(), listener.addr());
        ASSERT_TRUE(conn->SetDeadline(In(absl::Hours(1))).ok());
        ASSERT_TRUE(conn->Write("CONN AND LISTENER TEST").ok());
        char got[64];
        const absl::StatusOr<size_t> n = conn->Read(absl::MakeSpan(got));
        ASSERT_TRUE(n.ok()) << n.status();
        EXPECT_EQ(absl::string_view(got, *n), "CONN AND LISTENER TEST");
      }
    }
  });
}

TEST(UnixTest, PacketsKeepTheirBounds) {
  ForEachSetting([](TaskKind) {
    const UnixPair pair = MustPair("unixpacket");
    ASSERT_TRUE(pair.a.Write("one").ok());
    ASSERT_TRUE(pair.a.Writev({"t", "w", "o"}).ok());
    ASSERT_TRUE(pair.a.Close().ok());
    char buffer[16];
    for (const absl::string_view text : {"one", "two", ""}) {
      const absl::StatusOr<size_t> n = pair.b.Read(absl::MakeSpan(buffer));
      ASSERT_TRUE(n.ok());
      EXPECT_EQ(absl::string_view(buffer, *n), text);
    }
  });
}

TEST(UnixTest, LargeWritesArriveWhole) {
  ForEachSetting([](TaskKind kind) {
    const UnixPair pair = MustPair();
    const std::string text(static_cast<size_t>(Rounds(2 << 20, 1 << 19)), 'x');
    TaskGroup group(kind);
    group.Go([&] {
      EXPECT_TRUE(pair.a.Write(text).ok());
      EXPECT_TRUE(pair.a.CloseWrite().ok());
    });
    std::string got;
    EXPECT_TRUE(ReadAll(pair.b, &got).ok());
    EXPECT_TRUE(got == text);
  });
}

TEST(UnixTest, ErrorsTellTheNames) {
  const std::string path = NewPath();
  const absl::Status nobody = Dial("unix", path).status();
  EXPECT_EQ(nobody.message(),
            absl::StrCat("dial unix ", path, ": connect: no such file or directory"));
  const Listener listener = MustListenUnix("unix", path);
  const absl::Status taken = Listen("unix", path).status();
  EXPECT_EQ(taken.message(), absl::StrCat("listen unix ", path, ": bind: address already in use"));
  const absl::StatusOr<Conn> conn = Dial("unix", path);
  ASSERT_TRUE(conn.ok());
  ASSERT_TRUE(conn->SetReadDeadline(absl::InfinitePast()).ok());
  char buffer[1];
  EXPECT_EQ(conn->Read(absl::MakeSpan(buffer)).status().message(),
            absl::StrCat("read unix ", path, ": i/o timeout"));
  EXPECT_EQ(ErrnoOf(Dial("unixpacket", path).status()), EPROTOTYPE);
  EXPECT_TRUE(absl::IsInvalidArgument(Listen("unix", "").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Dial("unix", std::string(108, 'x')).status()));
  EXPECT_EQ(ErrnoOf(conn->SetNoDelay(true)), EOPNOTSUPP);
}

TEST(UnixTest, ADialledSocketMayHaveAName) {
  const Listener listener = MustListenUnix("unix", "@");
  const absl::StatusOr<Conn> client =
      Dial("unix", listener.addr().ToString(), {.local_address = *SocketAddress::Unix("@")});
  ASSERT_TRUE(client.ok()) << client.status();
  const absl::StatusOr<Conn> server = listener.Accept();
  ASSERT_TRUE(server.ok());
  EXPECT_FALSE(client->local_address().empty());
  EXPECT_EQ(server->remote_address(), client->local_address());
}

TEST(UnixTest, NE17_CloseRead) {
  ForEachSetting([](TaskKind kind) {
    for (const absl::string_view network : {"unix", "unixpacket"}) {
      const UnixPair pair = MustPair(network);
      char buffer[1];
      {
        TaskGroup group(kind);
        group.Go([&] {
          const absl::StatusOr<size_t> n = pair.a.Read(absl::MakeSpan(buffer));
          EXPECT_TRUE(n.ok() && *n == 0) << n.status();
        });
        Sleep(absl::Milliseconds(1));
        EXPECT_TRUE(pair.a.CloseRead().ok());
      }
      const absl::StatusOr<size_t> n = pair.a.Read(absl::MakeSpan(buffer));
      EXPECT_TRUE(n.ok() && *n == 0) << n.status();
      EXPECT_TRUE(pair.a.Write("x").ok());
      EXPECT_TRUE(pair.b.ReadFull(absl::MakeSpan(buffer)).ok());
    }
  });
}

TEST(UnixTest, NE18_CloseWrite) {
  ForEachSetting([](TaskKind) {
    for (const absl::string_view network : {"unix", "unixpacket"}) {
      const UnixPair pair = MustPair(network);
      char buffer[4];
      EXPECT_TRUE(pair.a.CloseWrite().ok());
      EXPECT_EQ(pair.b.Read(absl::MakeSpan(buffer)).value_or(7), 0u);
      // The other direction works until it is closed too.
      EXPECT_TRUE(pair.b.Write("back").ok());
      EXPECT_EQ(pair.a.Read(absl::MakeSpan(buffer)).value_or(7), 4u);
      EXPECT_TRUE(pair.b.CloseWrite().ok());
      EXPECT_EQ(pair.a.Read(absl::MakeSpan(buffer)).value_or(7), 0u);
      const absl::Status status = pair.a.Write("x");
      EXPECT_EQ(ErrnoOf(status), EPIPE) << status;
    }
  });
}

// NE-45 TestUnixUnlink: who made the file removes it, once.
TEST(UnixTest, NE45_UnixUnlink) {
  struct Case {
    const char* name;
    bool removed;
    std::function<void(Listener*)> prepare;
  };
  auto from_fd = [](Listener* listener) {
    const absl::StatusOr<int> fd = listener->Dup();
    ASSERT_TRUE(fd.ok());
    listener->SetUnlinkOnClose(false);
    ASSERT_TRUE(listener->Close().ok());
    const absl::StatusOr<Listener> again = FileListener(*fd);
    ASSERT_TRUE(again.ok()) << again.status();
    *listener = *again;
  };
  const Case cases[] = {
      {"Listen", true, [](Listener*) {}},
      {"FileListener", false, from_fd},
      {"Listen, unlink(true)", true, [](Listener* l) { l->SetUnlinkOnClose(true); }},
      {"Listen, unlink(false)", false, [](Listener* l) { l->SetUnlinkOnClose(false); }},
      {"FileListener, unlink(true)", true,
       [&](Listener* l) {
         from_fd(l);
         l->SetUnlinkOnClose(true);
       }},
      {"FileListener, unlink(false)", false,
       [&](Listener* l) {
         from_fd(l);
         l->SetUnlinkOnClose(false);
       }},
  };
  for (const Case& c : cases) {
    for (const bool by_close : {true, false}) {
      const std::string path = NewPath();
      Listener listener = MustListenUnix("unix", path);
      c.prepare(&listener);
      ASSERT_TRUE(Exists(path)) << c.name;
      if (by_close) {
        EXPECT_TRUE(listener.Close().ok());
      } else {
        listener = Listener();  // the last handle closes
      }
      EXPECT_EQ(Exists(path), !c.removed) << c.name;
      unlink(path.c_str());
    }
  }
}

TEST(UnixTest, NE45_OnlyTheFirstCloseRemoves) {
  const std::string path = NewPath();
  Listener listener = MustListenUnix("unix", path);
  ASSERT_TRUE(listener.Close().ok());
  EXPECT_FALSE(Exists(path));
  const int file = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  ASSERT_GE(file, 0);
  close(file);
  EXPECT_TRUE(IsClosed(listener.Close()));
  listener.SetUnlinkOnClose(true);
  listener = Listener();
  EXPECT_TRUE(Exists(path));
  unlink(path.c_str());
}

TEST(UnixTest, AForkedChildLeavesTheFile) {
  const std::string path = NewPath();
  const Listener listener = MustListenUnix("unix", path);
  const pid_t child = fork();
  if (child == 0) _exit(listener.Close().ok() ? 0 : 1);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(Exists(path));
}

// Writes to a pipe whose other end came over a socket: proof that it is the same file.
void ExpectPipe(int write_end, int read_end) {
  ASSERT_EQ(write(write_end, "!", 1), 1);
  char byte = 0;
  ASSERT_EQ(read(read_end, &byte, 1), 1);
  EXPECT_EQ(byte, '!');
}

TEST(UnixTest, DescriptorsGoAlong) {
  ForEachSetting([](TaskKind kind) {
    for (const absl::string_view network : {"unix", "unixpacket"}) {
      const UnixPair pair = MustPair(network);
      int pipe_fds[2];
      ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
      const OwnedFd ends[2] = {OwnedFd(pipe_fds[0]), OwnedFd(pipe_fds[1])};
      TaskGroup group(kind);
      group.Go([&] {
        EXPECT_TRUE(SendDescriptors(pair.a, "two of them", pipe_fds).ok());
        EXPECT_TRUE(SendDescriptors(pair.a, "none", {}).ok());
      });
      char buffer[11];
      const absl::StatusOr<UnixMessage> message =
          ReceiveDescriptors(pair.b, absl::MakeSpan(buffer));
      ASSERT_TRUE(message.ok()) << message.status();
      EXPECT_EQ(absl::string_view(buffer, message->size), "two of them");
      ASSERT_EQ(message->descriptors.size(), 2u);
      EXPECT_FALSE(message->descriptors_lost);
      EXPECT_FALSE(message->credentials.has_value());
      EXPECT_NE(fcntl(message->descriptors[0].get(), F_GETFD) & FD_CLOEXEC, 0);
      ExpectPipe(ends[1].get(), message->descriptors[0].get());
      ExpectPipe(message->descriptors[1].get(), ends[0].get());
      const absl::StatusOr<UnixMessage> second = ReceiveDescriptors(pair.b, absl::MakeSpan(buffer));
      ASSERT_TRUE(second.ok());
      EXPECT_EQ(second->size, 4u);
      EXPECT_TRUE(second->descriptors.empty());
    }
  });
}

TEST(UnixTest, DescriptorsGoAlongWithDatagrams) {
  const absl::StatusOr<PacketConn> server = ListenPacket("unixgram", "@");
  const absl::StatusOr<PacketConn> client = ListenPacket("unixgram", "@");
  ASSERT_TRUE(server.ok() && client.ok());
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  const OwnedFd ends[2] = {OwnedFd(pipe_fds[0]), OwnedFd(pipe_fds[1])};
  ASSERT_TRUE(SetPassCredentials(*server, true).ok());
  ASSERT_TRUE(
      SendDescriptors(*client, "longer than it", {pipe_fds[0]}, server->local_address()).ok());
  char buffer[6];
  const absl::StatusOr<UnixMessage> message = ReceiveDescriptors(*server, absl::MakeSpan(buffer));
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(absl::string_view(buffer, message->size), "longer");
  EXPECT_TRUE(message->truncated);
  EXPECT_EQ(message->from, client->local_address());
  ASSERT_EQ(message->descriptors.size(), 1u);
  ExpectPipe(ends[1].get(), message->descriptors[0].get());
  ASSERT_TRUE(message->credentials.has_value());
  EXPECT_EQ(message->credentials->pid, getpid());
  EXPECT_TRUE(absl::EndsWith(SendDescriptors(*client, "x", {}).message(), ": missing address"));
}

TEST(UnixTest, DescriptorsThatCannotBeSentAreRefused) {
  const UnixPair pair = MustPair();
  EXPECT_TRUE(absl::IsInvalidArgument(SendDescriptors(pair.a, "", {1})));
  const std::vector<int> many(254, 1);
  EXPECT_TRUE(absl::IsInvalidArgument(SendDescriptors(pair.a, "x", many)));
  EXPECT_EQ(ErrnoOf(SendDescriptors(pair.a, "x", {-1})), EBADF);
  EXPECT_TRUE(SendDescriptors(pair.a, "x", absl::MakeSpan(many).first(253)).ok());
  char buffer[1];
  const absl::StatusOr<UnixMessage> message = ReceiveDescriptors(pair.b, absl::MakeSpan(buffer));
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(message->descriptors.size(), 253u);
  EXPECT_TRUE(IsClosed(ReceiveDescriptors(Conn(), absl::MakeSpan(buffer)).status()));
}

TEST(UnixTest, CredentialsTellWhoIsThere) {
  const UnixPair pair = MustPair();
  const absl::StatusOr<Credentials> peer = PeerCredentials(pair.a);
  ASSERT_TRUE(peer.ok()) << peer.status();
  EXPECT_EQ(peer->pid, getpid());
  EXPECT_EQ(peer->uid, getuid());
  EXPECT_EQ(peer->gid, getgid());
  ASSERT_TRUE(SetPassCredentials(pair.b, true).ok());
  ASSERT_TRUE(pair.a.Write("x").ok());
  char buffer[1];
  const absl::StatusOr<UnixMessage> message = ReceiveDescriptors(pair.b, absl::MakeSpan(buffer));
  ASSERT_TRUE(message.ok());
  ASSERT_TRUE(message->credentials.has_value());
  EXPECT_EQ(message->credentials->uid, getuid());
}

TEST(UnixTest, WaitingForDescriptorsEndsByDeadlineAndClose) {
  ForEachSetting([](TaskKind kind) {
    const UnixPair pair = MustPair();
    char buffer[1];
    ASSERT_TRUE(pair.a.SetReadDeadline(In(absl::Milliseconds(2))).ok());
    EXPECT_TRUE(IsTimeout(ReceiveDescriptors(pair.a, absl::MakeSpan(buffer)).status()));
    TaskGroup group(kind);
    group.Go([&] {
      EXPECT_TRUE(IsClosed(ReceiveDescriptors(pair.b, absl::MakeSpan(buffer)).status()));
    });
    Sleep(absl::Milliseconds(1));
    EXPECT_TRUE(pair.b.Close().ok());
  });
}

}  // namespace
}  // namespace weft
