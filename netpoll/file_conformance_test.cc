// What Go's own tests of os and internal/poll assert of files and pipes. FP-nn are the numbers of
// the list of behaviours; the name behind is that of Go's test.
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/error.h"
#include "netpoll/file.h"
#include "netpoll/file_testing.h"
#include "netpoll/test_util.h"
#include "sched/goroutine.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Backend;
using testing::BlockingPipe;
using testing::Eventually;
using testing::ExpectClosed;
using testing::ExpectTimeout;
using testing::ForEachSetting;
using testing::In;
using testing::Must;
using testing::Rounds;
using testing::Shortened;
using testing::TaskGroup;
using testing::TaskKind;

class FileConformance : public testing::FileTestBase {};
WEFT_FILE_TESTS(FileConformance);

// More than a pipe takes.
const std::string& TooMuch() {
  static const std::string text(1 << 20, 'x');
  return text;
}

TEST_P(FileConformance, FP06_FilesThatCannotBePolledAreRead) {
  ForEachSetting([](TaskKind kind) {
    TaskGroup tasks(kind);
    for (int i = 0; i < 4; ++i) {
      tasks.Go([] {
        for (int n = 0; n < Rounds(100); ++n) {
          EXPECT_EQ(Must(ReadFile("/dev/null")), "");
          EXPECT_NE(Must(ReadFile("/proc/stat")), "");
          EXPECT_NE(Must(ReadFile("/sys/devices/system/cpu/online")), "");
        }
      });
    }
    tasks.Wait();
  });
}

TEST_P(FileConformance, FP09_EPIPE) {
  ForEachSetting([](TaskKind) {
    const FilePipe pipe = Must(OpenPipe());
    EXPECT_OK(pipe.reader.Close());
    for (int i = 0; i < 20; ++i) EXPECT_EQ(ErrnoOf(pipe.writer.Write("hi")), EPIPE);
  });
}

// The same of a descriptor that somebody has given us in blocking mode.
TEST_P(FileConformance, FP09_EPIPEOfABlockingPipe) {
  ForEachSetting([](TaskKind) {
    const BlockingPipe pipe;
    const File writer = Must(WrapFile(pipe.ends[1], "out"));
    close(pipe.ends[0]);
    for (int i = 0; i < 20; ++i) EXPECT_EQ(ErrnoOf(writer.Write("hi")), EPIPE);
  });
}

TEST(PipeConformance, FP11_ClosedPipeRaceRead) {
  ForEachSetting([](TaskKind kind) {
    const FilePipe pipe = Must(OpenPipe());
    TaskGroup tasks(kind);
    tasks.Go([&] {
      Sleep(Shortened(absl::Milliseconds(20)));
      EXPECT_OK(pipe.reader.Close());
    });
    char byte;
    ExpectClosed(pipe.reader.Read(absl::MakeSpan(&byte, 1)).status());
    tasks.Wait();
  });
}

TEST(PipeConformance, FP11_ClosedPipeRaceWrite) {
  ForEachSetting([](TaskKind kind) {
    const FilePipe pipe = Must(OpenPipe());
    TaskGroup tasks(kind);
    tasks.Go([&] {
      EXPECT_TRUE(Eventually([&] {
        int bytes = 0;
        return ioctl(pipe.reader.fd(), FIONREAD, &bytes) == 0 && bytes > 0;
      }));
      Sleep(Shortened(absl::Milliseconds(20)));
      EXPECT_OK(pipe.writer.Close());
    });
    size_t written = 0;
    ExpectClosed(pipe.writer.Write(TooMuch(), &written));
    EXPECT_GT(written, 0u);
    EXPECT_LT(written, TooMuch().size());
    tasks.Wait();
  });
}

// TestReadNonblockingFd: EAGAIN (as a thread sees it), or it waits (as io_uring does); no other
// error.
TEST_P(FileConformance, FP12_DescriptorThatSomebodyMadeNonBlocking) {
  ForEachSetting([this](TaskKind kind) {
    const BlockingPipe pipe;
    const File reader = Must(WrapFile(pipe.ends[0], "stdin"));
    ASSERT_EQ(fcntl(pipe.ends[0], F_SETFL, O_NONBLOCK), 0);
    TaskGroup tasks(kind);
    tasks.Go([&] {
      char byte;
      absl::StatusOr<size_t> n;
      do {
        n = reader.Read(absl::MakeSpan(&byte, 1));
        if (!n.ok()) EXPECT_TRUE(!by_ring() && ErrnoOf(n.status()) == EAGAIN) << n.status();
        Yield();
      } while (!n.ok());
      EXPECT_EQ(*n, 1u);
    });
    Sleep(Shortened(absl::Milliseconds(20)));
    EXPECT_EQ(write(pipe.ends[1], "x", 1), 1);
    close(pipe.ends[1]);
    tasks.Wait();
  });
}

void ThreeLinesAndTheEnd(TaskKind kind, const File& reader, const File& writer) {
  TaskGroup tasks(kind);
  tasks.Go([&] {
    for (int i = 1; i <= 3; ++i) {
      EXPECT_OK(writer.Write(absl::StrCat("line ", i, "\n")));
      Sleep(absl::Milliseconds(10));
    }
    EXPECT_OK(writer.Close());
  });
  std::string text;
  char buffer[100];
  for (;;) {
    const size_t n = Must(reader.Read(absl::MakeSpan(buffer)));
    if (n == 0) break;
    text.append(buffer, n);
  }
  EXPECT_EQ(text, "line 1\nline 2\nline 3\n");
  EXPECT_EQ(Must(reader.Read(absl::MakeSpan(buffer))), 0u);
  tasks.Wait();
}

TEST(PipeConformance, FP14_PipeEOF) {
  ForEachSetting([](TaskKind kind) {
    const FilePipe pipe = Must(OpenPipe());
    EXPECT_OK(pipe.reader.SetReadDeadline(In(absl::Seconds(60))));
    ThreeLinesAndTheEnd(kind, pipe.reader, pipe.writer);
  });
}

TEST_P(FileConformance, FP14_FifoEOF) {
  const std::string path = Path("fifo");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  ForEachSetting([&](TaskKind kind) {
    File writer;
    TaskGroup tasks(kind);
    // Each waits in open() for the other.
    tasks.Go([&] { writer = Must(OpenFile(path, O_WRONLY)); });
    const File reader = Must(Open(path));
    tasks.Wait();
    EXPECT_OK(reader.SetReadDeadline(In(absl::Seconds(60))));
    ThreeLinesAndTheEnd(kind, reader, writer);
  });
}

TEST(PipeConformance, FP15_TheDescriptorIsToBeHadWhileAReadWaits) {
  ForEachSetting([](TaskKind kind) {
    const FilePipe pipe = Must(OpenPipe());
    EXPECT_OK(pipe.reader.SetReadDeadline(In(absl::Minutes(1))));
    TaskGroup tasks(kind);
    tasks.Go([&] {
      char byte;
      EXPECT_EQ(Must(pipe.reader.Read(absl::MakeSpan(&byte, 1))), 1u);
    });
    const absl::Time start = absl::Now();
    for (int i = 0; i < 100; ++i) {
      tasks.Go([&] { EXPECT_GE(pipe.reader.fd(), 0); });
    }
    EXPECT_GE(pipe.reader.fd(), 0);
    EXPECT_LT(absl::Now() - start, absl::Seconds(30));
    EXPECT_OK(pipe.writer.Write("x"));
    tasks.Wait();
  });
}

TEST(PipeConformance, FP17_ReadTimeout) {
  ForEachSetting([](TaskKind) {
    const FilePipe pipe = Must(OpenPipe());
    EXPECT_OK(pipe.writer.Write("READ TIMEOUT TEST"));
    char buffer[1];
    EXPECT_OK(pipe.reader.SetReadDeadline(In(-absl::Seconds(5))));
    for (int i = 0; i < 2; ++i) {
      ExpectTimeout(pipe.reader.Read(absl::MakeSpan(buffer)).status());
    }
    EXPECT_OK(pipe.reader.SetReadDeadline(In(absl::Milliseconds(10))));
    absl::Status status;
    while (status.ok()) status = pipe.reader.Read(absl::MakeSpan(buffer)).status();
    ExpectTimeout(status);
    ExpectTimeout(pipe.reader.Read(absl::MakeSpan(buffer)).status());
  });
}

TEST(PipeConformance, FP17_ReadTimeoutMustNotReturn) {
  ForEachSetting([](TaskKind kind) {
    const FilePipe pipe = Must(OpenPipe());
    EXPECT_OK(pipe.reader.SetDeadline(In(-absl::Seconds(5))));
    EXPECT_OK(pipe.reader.SetDeadline(absl::InfiniteFuture()));
    std::atomic<bool> returned{false};
    TaskGroup tasks(kind);
    tasks.Go([&] {
      char byte;
      ExpectClosed(pipe.reader.Read(absl::MakeSpan(&byte, 1)).status());
      returned.store(true);
    });
    Sleep(Shortened(absl::Milliseconds(100)));
    EXPECT_FALSE(returned.load());
    EXPECT_OK(pipe.reader.Close());
    tasks.Wait();
  });
}

TEST(PipeConformance, FP17_WriteTimeout) {
  ForEachSetting([](TaskKind) {
    const FilePipe pipe = Must(OpenPipe());
    EXPECT_OK(pipe.writer.SetWriteDeadline(In(-absl::Seconds(5))));
    for (int i = 0; i < 2; ++i) {
      size_t n = 7;
      ExpectTimeout(pipe.writer.Write("WRITE TIMEOUT TEST", &n));
      EXPECT_EQ(n, 0u);
    }
    EXPECT_OK(pipe.writer.SetWriteDeadline(In(absl::Milliseconds(10))));
    ExpectTimeout(pipe.writer.Write(TooMuch()));
    EXPECT_OK(pipe.writer.SetWriteDeadline(absl::InfiniteFuture()));
  });
}

TEST(PipeConformance, FP17_TimeoutFluctuation) {
  ForEachSetting([](TaskKind) {
    const FilePipe pipe = Must(OpenPipe());
    char buffer[256];
    for (int i = 0; i < 10; ++i) {
      const absl::Time start = absl::Now();
      const absl::Duration d = absl::Milliseconds(1 + i % 3);
      EXPECT_OK(pipe.reader.SetReadDeadline(start + d));
      ExpectTimeout(pipe.reader.Read(absl::MakeSpan(buffer)).status());
      EXPECT_GE(absl::Now() - start, d);
      EXPECT_LT(absl::Now() - start, absl::Seconds(10));
    }
    for (int i = 0; i < 10; ++i) {
      const absl::Time start = absl::Now();
      const absl::Duration d = absl::Milliseconds(1 + i % 3);
      EXPECT_OK(pipe.writer.SetWriteDeadline(start + d));
      ExpectTimeout(pipe.writer.Write(TooMuch()));
      EXPECT_GE(absl::Now() - start, d);
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
        const FilePipe pipe = Must(OpenPipe());
        const absl::Time start = absl::Now();
        EXPECT_OK(pipe.reader.SetDeadline(start + timeout));
        char buffer[100];
        ExpectTimeout(pipe.reader.Read(absl::MakeSpan(buffer)).status());
        const absl::Duration took = absl::Now() - start;
        EXPECT_GE(took, timeout);
        EXPECT_LT(took, timeout + absl::Seconds(10));
      }
    });
  }
}

TEST(PipeConformance, FP17_VariousDeadlines) {
  const int before = MaxProcs();
  for (const int procs : testing::AllInTurn({before, 1, 4})) {
    SetMaxProcs(procs);
    testing::RunOnGoroutine([] { VariousDeadlines(TaskKind::kGoroutine); });
  }
  SetMaxProcs(before);
  testing::RunOnThread([] { VariousDeadlines(TaskKind::kThread); });
}

TEST(PipeConformance, FP17_ReadWriteDeadlineRace) {
  ForEachSetting([](TaskKind kind) {
    const int rounds = Rounds(1000);
    const FilePipe pipe = Must(OpenPipe());
    TaskGroup group(kind);
    group.Go([&] {
      for (int i = 0; i < rounds; ++i) {
        EXPECT_OK(pipe.reader.SetReadDeadline(In(absl::Microseconds(2))));
        EXPECT_OK(pipe.writer.SetWriteDeadline(In(absl::Microseconds(2))));
        Sleep(absl::Microseconds(2));
      }
    });
    group.Go([&] {
      char buffer[1];
      for (int i = 0; i < rounds; ++i) {
        const absl::StatusOr<size_t> n = pipe.reader.Read(absl::MakeSpan(buffer));
        if (!n.ok()) ExpectTimeout(n.status());
      }
    });
    group.Go([&] {
      for (int i = 0; i < rounds; ++i) {
        const absl::Status status = pipe.writer.Write("x");
        if (!status.ok()) ExpectTimeout(status);
      }
    });
    group.Wait();
  });
}

// What a call has left in a buffer after it has come back is nobody's but the caller's: it is
// written over at once, and must stay so.
TEST(PipeConformance, FP18_RacyRead) {
  ForEachSetting([](TaskKind kind) {
    const FilePipe pipe = Must(OpenPipe());
    std::atomic<bool> done{false};
    TaskGroup writers(kind);
    writers.Go([&] {
      const std::string text(16, 'w');
      while (!done.load()) {
        pipe.writer.SetWriteDeadline(In(absl::Milliseconds(5))).IgnoreError();
        pipe.writer.Write(text).IgnoreError();
        Yield();
      }
    });
    TaskGroup tasks(kind);
    for (int i = 0; i < 10; ++i) {
      tasks.Go([&, i] {
        std::string buffer(64, '-');
        const std::string mine(64, static_cast<char>('0' + i));
        for (int n = 0; n < Rounds(100); ++n) {
          EXPECT_OK(pipe.reader.SetReadDeadline(In(absl::Milliseconds(1))));
          const absl::StatusOr<size_t> got = pipe.reader.Read(absl::MakeSpan(buffer.data(), 64));
          if (!got.ok()) ExpectTimeout(got.status());
          std::copy(mine.begin(), mine.end(), buffer.begin());
          Yield();
          EXPECT_EQ(buffer, mine);
        }
      });
    }
    tasks.Wait();
    done.store(true);
    writers.Wait();
  });
}

TEST(PipeConformance, FP18_RacyWrite) {
  ForEachSetting([](TaskKind kind) {
    const FilePipe pipe = Must(OpenPipe());
    std::atomic<bool> done{false};
    TaskGroup readers(kind);
    readers.Go([&] {
      char buffer[4096];
      while (!done.load()) {
        EXPECT_OK(pipe.reader.SetReadDeadline(In(absl::Milliseconds(5))));
        const absl::StatusOr<size_t> n = pipe.reader.Read(absl::MakeSpan(buffer));
        // What was scribbled over after a write had come back is never seen.
        if (n.ok()) EXPECT_EQ(std::count(buffer, buffer + *n, '#'), 0);
      }
    });
    TaskGroup tasks(kind);
    for (int i = 0; i < 10; ++i) {
      tasks.Go([&] {
        for (int n = 0; n < Rounds(100); ++n) {
          std::string buffer(2048, 'w');
          EXPECT_OK(pipe.writer.SetWriteDeadline(In(absl::Milliseconds(1))));
          const absl::Status status = pipe.writer.Write(buffer);
          if (!status.ok()) ExpectTimeout(status);
          std::fill(buffer.begin(), buffer.end(), '#');
        }
      });
    }
    tasks.Wait();
    done.store(true);
    readers.Wait();
  });
}

// The same for a regular file, whose reads io_uring or a thread finishes.
TEST_P(FileConformance, FP18_RegularFilesToo) {
  ForEachSetting([this](TaskKind kind) {
    EXPECT_OK(WriteFile(Path("w"), std::string(64 << 10, 'w')));
    TaskGroup tasks(kind);
    for (int i = 0; i < 10; ++i) {
      tasks.Go([&, i] {
        std::string buffer(64 << 10, '-');
        const std::string mine(64 << 10, static_cast<char>('0' + i));
        for (int n = 0; n < Rounds(10, 2); ++n) {
          const File file = Must(Open(Path("w")));
          testing::DropCache(file);
          TaskGroup closer(kind);
          closer.Go([&] { file.Close().IgnoreError(); });
          const absl::StatusOr<size_t> got =
              file.Pread(absl::MakeSpan(buffer.data(), buffer.size()), 0);
          if (!got.ok()) ExpectClosed(got.status());
          buffer = mine;
          closer.Wait();
          EXPECT_TRUE(buffer == mine);
        }
      });
    }
    tasks.Wait();
  });
}

TEST_P(FileConformance, FP20_NewFileBlock) {
  ForEachSetting([](TaskKind kind) {
    const BlockingPipe pipe;
    const File reader = Must(WrapFile(pipe.ends[0], "in"));
    EXPECT_EQ(fcntl(pipe.ends[0], F_GETFL) & O_NONBLOCK, 0);
    EXPECT_EQ(reader.SetReadDeadline(In(absl::Milliseconds(1))).code(),
              absl::StatusCode::kFailedPrecondition);
    TaskGroup tasks(kind);
    tasks.Go([&] {
      Sleep(Shortened(absl::Milliseconds(100)));
      EXPECT_EQ(write(pipe.ends[1], "x", 1), 1);
    });
    char byte;
    EXPECT_EQ(Must(reader.Read(absl::MakeSpan(&byte, 1))), 1u);
    tasks.Wait();
    EXPECT_EQ(fcntl(pipe.ends[0], F_GETFL) & O_NONBLOCK, 0);
    close(pipe.ends[1]);
  });
}

TEST_P(FileConformance, FP20_NewFileNonBlock) {
  ForEachSetting([](TaskKind) {
    const BlockingPipe pipe;
    ASSERT_EQ(fcntl(pipe.ends[0], F_SETFL, O_NONBLOCK), 0);
    const File reader = Must(WrapFile(pipe.ends[0], "in"));
    EXPECT_OK(reader.SetReadDeadline(In(absl::Milliseconds(1))));
    char byte;
    ExpectTimeout(reader.Read(absl::MakeSpan(&byte, 1)).status());
    close(pipe.ends[1]);
  });
}

}  // namespace
}  // namespace weft
