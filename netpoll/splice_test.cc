#include "netpoll/splice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <deque>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/pipe_pool.h"
#include "netpoll/test_util.h"
#include "netpoll/unix.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using internal::PooledPipe;
using testing::ConnPair;
using testing::CountDescriptors;
using testing::ForEachSetting;
using testing::In;
using testing::MakePair;
using testing::ReadAll;
using testing::Rounds;
using testing::TaskGroup;
using testing::TaskKind;

std::string Pattern(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i * 7 % 26 + i / 4096 % 3);
  return text;
}

ConnPair MakeUnix(absl::string_view network) {
  const absl::StatusOr<UnixPair> pair = MakeUnixPair(network);
  EXPECT_TRUE(pair.ok()) << pair.status();
  return {pair->a, pair->b};
}

OwnedFd TempFile(int flags) {
  std::string name = absl::StrCat(::testing::TempDir(), "/splice_XXXXXX");
  OwnedFd made(mkstemp(name.data()));
  OwnedFd file(open(name.c_str(), O_RDWR | O_CLOEXEC | flags));
  EXPECT_TRUE(file);
  unlink(name.c_str());
  return file;
}

std::string Contents(const OwnedFd& file) {
  std::string text(static_cast<size_t>(lseek(file.get(), 0, SEEK_END)), '\0');
  EXPECT_EQ(pread(file.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  return text;
}

// A packet socket ends the splice in the kernel's refusal, on either side.
TEST(SpliceTest, StreamsGoFromAnyConnectionToAnyOther) {
  const std::string text = Pattern(static_cast<size_t>(Rounds(3 << 20, 1 << 19)));
  ForEachSetting([&](TaskKind kind) {
    for (const bool unix_from : {false, true}) {
      for (const bool unix_to : {false, true}) {
        const ConnPair from = unix_from ? MakeUnix("unix") : MakePair();
        const ConnPair to = unix_to ? MakeUnix("unix") : MakePair();
        TaskGroup group(kind);
        group.Go([&] {
          EXPECT_TRUE(from.client.Write(text).ok());
          EXPECT_TRUE(from.client.CloseWrite().ok());
        });
        group.Go([&] {
          const absl::StatusOr<uint64_t> moved = Splice(to.client, from.server);
          ASSERT_TRUE(moved.ok()) << moved.status();
          EXPECT_EQ(*moved, text.size());
          EXPECT_TRUE(to.client.CloseWrite().ok());
        });
        std::string got;
        EXPECT_TRUE(ReadAll(to.server, &got).ok());
        EXPECT_TRUE(got == text);
      }
    }
  });
}

TEST(SpliceTest, WhatTheKernelCannotSpliceIsCopied) {
  ForEachSetting([](TaskKind) {
    for (const bool packets_first : {true, false}) {
      const ConnPair packets = MakeUnix("unixpacket");
      const ConnPair stream = MakePair();
      const ConnPair& from = packets_first ? packets : stream;
      const ConnPair& to = packets_first ? stream : packets;
      ASSERT_TRUE(from.client.Write("some words").ok());
      ASSERT_TRUE(from.client.CloseWrite().ok());
      const absl::StatusOr<uint64_t> moved = Splice(to.client, from.server);
      ASSERT_TRUE(moved.ok()) << moved.status();
      EXPECT_EQ(*moved, 10u);
      char buffer[16];
      const absl::StatusOr<size_t> n = to.server.Read(absl::MakeSpan(buffer));
      ASSERT_TRUE(n.ok());
      EXPECT_EQ(absl::string_view(buffer, *n), "some words");
    }
  });
}

TEST(SpliceTest, NoMoreThanAskedForIsTaken) {
  ForEachSetting([](TaskKind) {
    const ConnPair from = MakePair();
    const ConnPair to = MakePair();
    ASSERT_TRUE(from.client.Write("0123456789").ok());
    EXPECT_EQ(Splice(to.client, from.server, 0).value_or(7), 0u);
    EXPECT_EQ(Splice(to.client, from.server, 4).value_or(7), 4u);
    char buffer[16];
    EXPECT_EQ(to.server.Read(absl::MakeSpan(buffer)).value_or(7), 4u);
    EXPECT_EQ(from.server.Read(absl::MakeSpan(buffer)).value_or(7), 6u);
    EXPECT_EQ(std::string(buffer, 6), "456789");
  });
}

TEST(SpliceTest, DeadlinesAndClosesEndIt) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair from = MakePair();
    const ConnPair to = MakePair();
    ASSERT_TRUE(from.server.SetReadDeadline(In(absl::Milliseconds(2))).ok());
    EXPECT_TRUE(IsTimeout(Splice(to.client, from.server).status()));
    ASSERT_TRUE(from.server.SetReadDeadline(absl::InfiniteFuture()).ok());
    {
      TaskGroup group(kind);
      group.Go([&] { EXPECT_TRUE(IsClosed(Splice(to.client, from.server).status())); });
      Sleep(absl::Milliseconds(1));
      EXPECT_TRUE(from.server.Close().ok());
    }
    // Nobody reads at the other end.
    const ConnPair more = MakePair();
    ASSERT_TRUE(to.client.SetWriteDeadline(In(absl::Milliseconds(20))).ok());
    TaskGroup group(kind);
    group.Go([&] {
      EXPECT_TRUE(IsTimeout(Splice(to.client, more.server).status()));
      EXPECT_TRUE(more.server.Close().ok());
    });
    const std::string text(1 << 20, 'x');
    while (more.client.Write(text).ok()) {
    }
    EXPECT_TRUE(IsClosed(Splice(to.client, Conn()).status()));
    EXPECT_TRUE(IsClosed(Splice(Conn(), to.client).status()));
  });
}

TEST(SpliceTest, StreamsGoIntoFiles) {
  const std::string text = Pattern(static_cast<size_t>(Rounds(3 << 20, 1 << 19)));
  ForEachSetting([&](TaskKind kind) {
    // Into a file that is open for appending the kernel splices nothing; the offset is its end.
    for (const int flags : {0, O_APPEND}) {
      const OwnedFd file = TempFile(flags);
      const ConnPair from = MakePair();
      TaskGroup group(kind);
      group.Go([&] {
        EXPECT_TRUE(from.client.Write(text).ok());
        EXPECT_TRUE(from.client.CloseWrite().ok());
      });
      ASSERT_EQ(pwrite(file.get(), "begin:", 6, 0), 6);
      EXPECT_EQ(SpliceToFile(file.get(), 6, from.server, 1000).value_or(0), 1000u);
      EXPECT_EQ(SpliceToFile(file.get(), 1006, from.server).value_or(0), text.size() - 1000);
      EXPECT_EQ(lseek(file.get(), 0, SEEK_CUR), 0);
      EXPECT_TRUE(Contents(file) == absl::StrCat("begin:", text));
    }
    const ConnPair from = MakePair();
    ASSERT_TRUE(from.client.Write("x").ok());
    EXPECT_EQ(ErrnoOf(SpliceToFile(-1, 0, from.server).status()), EBADF);
  });
}

// FP-08 of the list of behaviours, TestSplicePipePool.
TEST(SpliceTest, FP08_PipesAreKeptAndClosed) {
  PooledPipe::CloseIdle();
  const int before = CountDescriptors();
  {
    std::deque<PooledPipe> pipes(64);
    EXPECT_EQ(CountDescriptors(), before + 128);
    pipes[0].set_dirty(true);
  }
  EXPECT_EQ(CountDescriptors(), before + static_cast<int>(PooledPipe::kMaxIdle) * 2);
  {
    const PooledPipe again;
    EXPECT_EQ(again.error(), 0);
    EXPECT_EQ(CountDescriptors(), before + static_cast<int>(PooledPipe::kMaxIdle) * 2);
  }
  PooledPipe::CloseIdle();
  EXPECT_EQ(CountDescriptors(), before);
}

}  // namespace
}  // namespace weft
