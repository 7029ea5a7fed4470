// What Go asserts of net.Pipe, and of any connection, for the one in memory.
#include "netpoll/pipe.h"

#include <algorithm>
#include <atomic>
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
using testing::Rounds;
using testing::Shortened;
using testing::TaskGroup;
using testing::TaskKind;

void ExpectTimeout(const absl::Status& status) {
  EXPECT_TRUE(IsTimeout(status)) << status;
  EXPECT_TRUE(absl::EndsWith(status.message(), ": i/o timeout")) << status;
}

void ExpectClosedPipe(const absl::Status& status) {
  EXPECT_TRUE(IsClosed(status)) << status;
  EXPECT_EQ(status.message(), "io: read/write on closed pipe");
}

TEST(PipeTest, BytesGoBothWaysAtOnce) {
  ForEachSetting([](TaskKind kind) {
    const size_t size = static_cast<size_t>(Rounds(1 << 20, 1 << 17));
    const PipePair pipe = Pipe();
    TaskGroup group(kind);
    for (const auto& [conn, letter] : {std::pair(pipe.a, 'a'), std::pair(pipe.b, 'b')}) {
      group.Go([conn = conn, letter = letter, size] {
        size_t written = 0;
        EXPECT_TRUE(conn.Write(std::string(size, letter), &written).ok());
        EXPECT_EQ(written, size);
      });
      group.Go([conn = conn, letter = letter, size] {
        const char other = letter == 'a' ? 'b' : 'a';
        size_t got = 0;
        for (std::string buffer(5000, '\0'); got < size;) {
          const absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(buffer.data(), buffer.size()));
          ASSERT_TRUE(n.ok() && *n > 0);
          EXPECT_TRUE(std::all_of(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(*n),
                                  [other](char c) { return c == other; }));
          got += *n;
        }
      });
    }
  });
}

TEST(PipeTest, AWriteEndsWhenAllOfItIsTaken) {
  ForEachSetting([](TaskKind kind) {
    const PipePair pipe = Pipe();
    std::atomic<bool> written{false};
    TaskGroup group(kind);
    group.Go([&] {
      EXPECT_TRUE(pipe.a.Writev({"ab", "", "cd"}).ok());
      written.store(true);
      EXPECT_TRUE(pipe.a.Close().ok());
    });
    char buffer[3];
    // Pieces are Writes of their own; the empty one shows as an empty Read.
    for (const absl::string_view piece : {"ab", "", "c", "d"}) {
      EXPECT_FALSE(written.load());
      const absl::StatusOr<size_t> n =
          pipe.b.Read(absl::MakeSpan(buffer, piece == "c" ? 1 : sizeof(buffer)));
      ASSERT_TRUE(n.ok());
      EXPECT_EQ(absl::string_view(buffer, *n), piece);
    }
    EXPECT_EQ(pipe.b.Read(absl::MakeSpan(buffer)).value_or(7), 0u);
    EXPECT_EQ(pipe.b.ReadFull(absl::MakeSpan(buffer)).message(), "read pipe: EOF");
  });
}

TEST(PipeTest, ConcurrentWritesStayWhole) {
  ForEachSetting([](TaskKind kind) {
    constexpr size_t kSize = 1000;
    constexpr int kWriters = 4;
    const PipePair pipe = Pipe();
    TaskGroup group(kind);
    for (int i = 0; i < kWriters; ++i) {
      group.Go([&, i] {
        const std::string text(kSize / 2, static_cast<char>('a' + i));
        EXPECT_TRUE(pipe.a.Writev({text, text}).ok());
      });
    }
    std::string got(kSize * kWriters, '\0');
    for (size_t at = 0; at < got.size(); at += 100) {
      EXPECT_TRUE(pipe.b.ReadFull(absl::MakeSpan(got.data() + at, 100)).ok());
    }
    for (int i = 0; i < kWriters; ++i) {
      EXPECT_EQ(got.substr(i * kSize, kSize), std::string(kSize, got[i * kSize]));
    }
  });
}

// NE-51 of the list of behaviours, TestPipeCloseError.
TEST(PipeTest, NE51_CloseError) {
  ForEachSetting([](TaskKind) {
    const PipePair pipe = Pipe();
    EXPECT_TRUE(pipe.a.Close().ok());
    char buffer[1];
    ExpectClosedPipe(pipe.a.Read(absl::MakeSpan(buffer)).status());
    ExpectClosedPipe(pipe.a.Write("x"));
    ExpectClosedPipe(pipe.a.SetDeadline(absl::InfiniteFuture()));
    EXPECT_EQ(pipe.b.Read(absl::MakeSpan(buffer)).value_or(7), 0u);
    ExpectClosedPipe(pipe.b.Write("x"));
    ExpectClosedPipe(pipe.b.SetReadDeadline(absl::InfiniteFuture()));
    ExpectClosedPipe(pipe.b.SetWriteDeadline(absl::InfiniteFuture()));
    EXPECT_TRUE(pipe.a.Close().ok()) << "again";
    ExpectClosedPipe(PipeConn().Close());
    ExpectClosedPipe(PipeConn().Write("x"));
  });
}

TEST(PipeTest, CloseEndsEveryCallThatWaits) {
  ForEachSetting([](TaskKind kind) {
    for (const bool own : {true, false}) {
      PipePair pipe = Pipe();
      std::atomic<int> ended{0};
      TaskGroup group(kind);
      for (int i = 0; i < 3; ++i) {
        group.Go([&, conn = pipe.a] {
          char buffer[1];
          const absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(buffer));
          if (own) {
            ExpectClosedPipe(n.status());
          } else {
            EXPECT_EQ(n.value_or(7), 0u);
          }
          ended.fetch_add(1);
        });
        group.Go([&, conn = pipe.a] {
          size_t written = 7;
          ExpectClosedPipe(conn.Write("nobody reads this", &written));
          EXPECT_EQ(written, 0u);
          ended.fetch_add(1);
        });
      }
      Sleep(absl::Milliseconds(2));
      EXPECT_EQ(ended.load(), 0);
      if (own) {
        EXPECT_TRUE(pipe.a.Close().ok());
      } else {
        pipe.b = PipeConn();  // the last handle
      }
    }
  });
}

// NE-01, 02: a deadline in the past fails calls at once and again, though there is something to do;
// one ahead fails them once its time has come.
TEST(PipeTest, NE01_02_Timeouts) {
  ForEachSetting([](TaskKind kind) {
    const PipePair pipe = Pipe();
    char buffer[4], all[9];
    TaskGroup group(kind);
    group.Go([&] {
      size_t written = 0;
      EXPECT_TRUE(pipe.b.Write("something", &written).ok());
    });
    ASSERT_TRUE(pipe.a.SetReadDeadline(In(-absl::Seconds(5))).ok());
    for (int i = 0; i < 2; ++i) ExpectTimeout(pipe.a.Read(absl::MakeSpan(buffer)).status());
    ASSERT_TRUE(pipe.a.SetDeadline(absl::InfiniteFuture()).ok());
    EXPECT_TRUE(pipe.a.ReadFull(absl::MakeSpan(all)).ok());
    group.Wait();

    absl::Time start = absl::Now();
    ASSERT_TRUE(pipe.a.SetReadDeadline(start + absl::Milliseconds(3)).ok());
    ExpectTimeout(pipe.a.Read(absl::MakeSpan(buffer)).status());
    EXPECT_GE(absl::Now() - start, absl::Milliseconds(3));

    for (const absl::Time past : {In(-absl::Seconds(5)), absl::InfinitePast()}) {
      ASSERT_TRUE(pipe.a.SetWriteDeadline(past).ok());
      size_t written = 7;
      ExpectTimeout(pipe.a.Write("x", &written));
      EXPECT_EQ(written, 0u);
    }
    // What was taken before counts.
    start = absl::Now();
    ASSERT_TRUE(pipe.a.SetWriteDeadline(absl::InfiniteFuture()).ok());
    group.Go([&] {
      EXPECT_TRUE(pipe.b.ReadFull(absl::MakeSpan(all, 4)).ok());
      EXPECT_TRUE(pipe.a.SetWriteDeadline(In(absl::Milliseconds(3))).ok());
    });
    size_t written = 0;
    ExpectTimeout(pipe.a.Write("0123456789", &written));
    EXPECT_EQ(written, 4u);
    EXPECT_GE(absl::Now() - start, absl::Milliseconds(3));
  });
}

// A deadline that is set to the past ends a call that waits; one that is taken away does not.
TEST(PipeTest, DeadlinesMoveUnderCallsThatWait) {
  ForEachSetting([](TaskKind kind) {
    const PipePair pipe = Pipe();
    std::atomic<bool> returned{false};
    TaskGroup group(kind);
    ASSERT_TRUE(pipe.a.SetReadDeadline(In(absl::Hours(1))).ok());
    group.Go([&] {
      char buffer[1];
      ExpectTimeout(pipe.a.Read(absl::MakeSpan(buffer)).status());
      returned.store(true);
    });
    ASSERT_TRUE(pipe.a.SetReadDeadline(absl::InfiniteFuture()).ok());
    Sleep(Shortened(absl::Milliseconds(10)));
    EXPECT_FALSE(returned.load());
    ASSERT_TRUE(pipe.a.SetReadDeadline(absl::UnixEpoch()).ok());
  });
}

// NE-11: deadlines that race with reads and writes.
TEST(PipeTest, NE11_ReadWriteDeadlineRace) {
  ForEachSetting([](TaskKind kind) {
    const int rounds = Rounds(500, 20);
    const PipePair pipe = Pipe();
    std::atomic<size_t> written{0}, read{0};
    TaskGroup group(kind);
    group.Go([&] {
      for (int i = 0; i < rounds; ++i) {
        for (const PipeConn& conn : {pipe.a, pipe.b}) {
          EXPECT_TRUE(conn.SetDeadline(In(absl::Microseconds(2))).ok());
        }
        Sleep(absl::Microseconds(2));
      }
    });
    group.Go([&] {
      for (int i = 0; i < rounds; ++i) {
        size_t n = 0;
        const absl::Status status = pipe.a.Write("xyz", &n);
        if (!status.ok()) ExpectTimeout(status);
        written.fetch_add(n);
      }
    });
    group.Go([&] {
      char buffer[2];
      for (int i = 0; i < rounds; ++i) {
        const absl::StatusOr<size_t> n = pipe.b.Read(absl::MakeSpan(buffer));
        if (!n.ok()) ExpectTimeout(n.status());
        read.fetch_add(n.value_or(0));
      }
    });
    group.Wait();
    EXPECT_EQ(written.load(), read.load());
  });
}

// FP-18: once a call has returned, its buffer is the caller's alone.
TEST(PipeTest, FP18_BuffersAreNotTouchedAfterTheCall) {
  ForEachSetting([](TaskKind kind) {
    const PipePair pipe = Pipe();
    const int rounds = Rounds(100, 10);
    TaskGroup group(kind);
    for (int task = 0; task < 10; ++task) {
      group.Go([&] {
        char buffer[64] = {};
        for (int i = 0; i < rounds; ++i) {
          EXPECT_TRUE(pipe.a.SetReadDeadline(In(absl::Microseconds(100))).ok());
          pipe.a.Read(absl::MakeSpan(buffer)).status().IgnoreError();
          std::fill(std::begin(buffer), std::end(buffer), 'r');
        }
      });
      group.Go([&] {
        char buffer[64] = {};
        for (int i = 0; i < rounds; ++i) {
          EXPECT_TRUE(pipe.b.SetWriteDeadline(In(absl::Microseconds(100))).ok());
          pipe.b.Write(absl::string_view(buffer, sizeof(buffer))).IgnoreError();
          std::fill(std::begin(buffer), std::end(buffer), 'w');
        }
      });
    }
  });
}

}  // namespace
}  // namespace weft
