#include "netpoll/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/error.h"
#include "netpoll/file_testing.h"
#include "netpoll/test_util.h"
#include "sched/goroutine.h"
#include "tests/rounds.h"
#include "tests/subprocess.h"

namespace weft {
namespace {

using testing::Backend;
using testing::BlockingPipe;
using testing::DropCache;
using testing::Eventually;
using testing::ExpectClosed;
using testing::ForEachSetting;
using testing::Must;
using testing::Numbers;
using testing::OpenFileId;
using testing::ProcessResult;
using testing::Rounds;
using testing::RunProcess;
using testing::TaskGroup;
using testing::TaskKind;

class FileTest : public testing::FileTestBase {};
WEFT_FILE_TESTS(FileTest);

TEST_P(FileTest, WhatIsWrittenIsRead) {
  ForEachSetting([this](TaskKind) {
    const File file = Must(Create(Path("data")));
    EXPECT_EQ(file.name(), Path("data"));
    size_t written = 7;
    EXPECT_OK(file.Write("hello, ", &written));
    EXPECT_EQ(written, 7u);
    EXPECT_OK(file.Write("world"));
    EXPECT_EQ(Must(file.Seek(0, SEEK_CUR)), 12);
    EXPECT_OK(file.Pwrite("W", 7));
    EXPECT_EQ(Must(file.Stat()).st_size, 12);

    std::string text(20, '-');
    EXPECT_EQ(Must(file.Pread(absl::MakeSpan(text.data(), 20), 5)), 7u);
    EXPECT_EQ(text.substr(0, 8), ", World-");
    EXPECT_EQ(Must(file.Pread(absl::MakeSpan(text.data(), 20), 12)), 0u);
    EXPECT_EQ(Must(file.Seek(2)), 2);
    EXPECT_OK(file.ReadFull(absl::MakeSpan(text.data(), 3)));
    EXPECT_EQ(text.substr(0, 3), "llo");
    EXPECT_EQ(Must(file.Seek(0, SEEK_END)), 12);
    EXPECT_EQ(Must(file.Read(absl::MakeSpan(text.data(), 3))), 0u);
    EXPECT_EQ(file.ReadFull(absl::MakeSpan(text.data(), 3)).message(), "EOF");
    EXPECT_EQ(Must(file.Seek(-2, SEEK_END)), 10);
    EXPECT_EQ(file.ReadFull(absl::MakeSpan(text.data(), 3)).message(), "unexpected EOF");

    EXPECT_OK(file.Truncate(5));
    EXPECT_OK(file.Sync());
    EXPECT_OK(file.SyncData());
    EXPECT_EQ(Must(ReadFile(Path("data"))), "hello");
    EXPECT_OK(file.Truncate(7));
    EXPECT_EQ(Must(ReadFile(Path("data"))), absl::string_view("hello\0\0", 7));
    EXPECT_OK(file.Close());
  });
}

TEST_P(FileTest, WhatIsNotInTheCacheIsRead) {
  ForEachSetting([this](TaskKind) {
    const auto size = static_cast<size_t>(Rounds(3 << 20, 3 << 17));
    const std::string numbers = Numbers(size);
    EXPECT_OK(WriteFile(Path("large"), numbers));
    const File file = Must(Open(Path("large")));
    DropCache(file);
    std::string text(size + 1, '-');
    for (size_t at = 5000; at + 4096 < size; at += size / 20) {
      ASSERT_EQ(Must(file.Pread(absl::MakeSpan(text.data(), 4096), static_cast<int64_t>(at))),
                4096u);
      ASSERT_EQ(text.substr(0, 4096), numbers.substr(at, 4096));
    }
    DropCache(file);
    EXPECT_EQ(Must(file.Pread(absl::MakeSpan(text.data(), text.size()), 0)), size);
    EXPECT_TRUE(text.substr(0, size) == numbers);
    DropCache(file);
    EXPECT_OK(file.ReadFull(absl::MakeSpan(text.data(), size)));
    EXPECT_TRUE(text.substr(0, size) == numbers);
  });
}

TEST_P(FileTest, ReadvFillsOneBufferAfterTheOther) {
  ForEachSetting([this](TaskKind) {
    EXPECT_OK(WriteFile(Path("data"), "0123456789"));
    const File file = Must(Open(Path("data")));
    for (const bool cached : {true, false}) {
      if (!cached) DropCache(file);
      EXPECT_EQ(Must(file.Seek(1)), 1);
      std::string a(3, '-'), b(2, '-'), c(10, '-');
      const size_t n = Must(file.Readv({absl::MakeSpan(a.data(), 3), absl::MakeSpan(b.data(), 2),
                                        absl::Span<char>(), absl::MakeSpan(c.data(), 10)}));
      EXPECT_EQ(n, 9u);
      EXPECT_EQ(absl::StrCat(a, " ", b, " ", c), "123 45 6789------");
    }
    const FilePipe pipe = Must(OpenPipe());
    EXPECT_OK(pipe.writer.Write("abc"));
    std::string a(3, '-');
    EXPECT_EQ(Must(pipe.reader.Readv({absl::Span<char>(), absl::MakeSpan(a.data(), 3)})), 3u);
    EXPECT_EQ(a, "abc");
    const std::vector<absl::Span<char>> too_many(2000);
    EXPECT_EQ(ErrnoOf(file.Readv(too_many).status()), EINVAL);
  });
}

TEST_P(FileTest, ManyReadAndWriteAtOnce) {
  ForEachSetting([this](TaskKind kind) {
    constexpr int kTasks = 64;
    constexpr size_t kBlock = 8192;
    const File file = Must(Create(Path("shared")));
    TaskGroup tasks(kind);
    for (int i = 0; i < kTasks; ++i) {
      tasks.Go([&, i] {
        std::string block(kBlock, '-');
        for (int round = 0; round < Rounds(6, 2); ++round) {
          const std::string mine(kBlock, static_cast<char>('A' + (i + round) % 26));
          const int64_t at = static_cast<int64_t>(kBlock) * i;
          EXPECT_OK(file.Pwrite(mine, at));
          if (round % 2 == 1) DropCache(file);
          EXPECT_EQ(Must(file.Pread(absl::MakeSpan(block.data(), kBlock), at)), kBlock);
          EXPECT_TRUE(block == mine);
        }
      });
    }
    tasks.Wait();
    EXPECT_EQ(Must(file.Stat()).st_size, static_cast<int64_t>(kBlock * kTasks));
  });
}

// Each line is written as a whole, at a place of its own.
TEST_P(FileTest, WritesAtThePositionTakeTurns) {
  ForEachSetting([this](TaskKind kind) {
    const File file = Must(Create(Path("lines")));
    TaskGroup tasks(kind);
    constexpr int kTasks = 8;
    const int lines = Rounds(30, 5);
    for (int i = 0; i < kTasks; ++i) {
      tasks.Go([&, i] {
        for (int n = 0; n < lines; ++n) {
          EXPECT_OK(file.Write(absl::StrCat("line ", i, " of ", std::string(100, 'x'), "\n")));
        }
      });
    }
    tasks.Wait();
    const std::string text = Must(ReadFile(Path("lines")));
    EXPECT_EQ(text.size(), static_cast<size_t>(kTasks * lines * 111));
    for (size_t at = 0; at < text.size(); at += 111) {
      ASSERT_EQ(text.substr(at, 5), "line ");
      ASSERT_EQ(text[at + 110], '\n');
    }
  });
}

TEST_P(FileTest, ErrorsNameTheFile) {
  ForEachSetting([this](TaskKind) {
    const absl::Status missing = Open(Path("missing")).status();
    EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(missing.message(),
              absl::StrCat("open ", Path("missing"), ": no such file or directory"));
    EXPECT_EQ(ErrnoOf(missing), ENOENT);

    char byte;
    const File directory = Must(Open(Path("")));
    EXPECT_EQ(ErrnoOf(directory.Read(absl::MakeSpan(&byte, 1)).status()), EISDIR);
    EXPECT_OK(WriteFile(Path("data"), "x"));
    const File file = Must(Open(Path("data")));
    EXPECT_EQ(file.Write("y").message(),
              absl::StrCat("write ", Path("data"), ": bad file descriptor"));
    EXPECT_EQ(ErrnoOf(file.Pread(absl::MakeSpan(&byte, 1), -1).status()), EINVAL);
    EXPECT_EQ(ErrnoOf(file.Pwrite("y", -1)), EINVAL);
    EXPECT_EQ(ErrnoOf(file.Truncate(0)), EINVAL);
    EXPECT_EQ(file.SetDeadline(testing::In(absl::Seconds(1))).message(),
              absl::StrCat("set deadline ", Path("data"), ": file type does not support deadline"));
    EXPECT_EQ(ErrnoOf(WrapFile(-1, "nothing").status()), EBADF);

    const FilePipe pipe = Must(OpenPipe());
    EXPECT_EQ(ErrnoOf(pipe.reader.Pread(absl::MakeSpan(&byte, 1), 0).status()), ESPIPE);
    EXPECT_EQ(ErrnoOf(pipe.writer.Pwrite("x", 0)), ESPIPE);
    EXPECT_EQ(ErrnoOf(pipe.writer.Seek(0).status()), ESPIPE);
    EXPECT_EQ(ErrnoOf(pipe.writer.Sync()), EINVAL);

    const File full = Must(OpenFile("/dev/full", O_WRONLY));
    EXPECT_EQ(ErrnoOf(full.Write("x")), ENOSPC);
  });
}

TEST_P(FileTest, ClosedFilesAndNoFilesSaySo) {
  ForEachSetting([this](TaskKind) {
    char byte;
    for (const File& file :
         {File(), Must(Create(Path("data"))), Must(OpenPipe()).reader, Must(Open("/dev/null"))}) {
      if (file.fd() >= 0) EXPECT_OK(file.Close());
      EXPECT_EQ(file.fd(), -1);
      ExpectClosed(file.Close());
      ExpectClosed(file.Read(absl::MakeSpan(&byte, 1)).status());
      ExpectClosed(file.Readv({absl::MakeSpan(&byte, 1)}).status());
      ExpectClosed(file.Write("x"));
      ExpectClosed(file.SetDeadline(absl::InfiniteFuture()));
      ExpectClosed(file.Stat().status());
    }
    const File none;
    EXPECT_EQ(none.name(), "");
    ExpectClosed(none.Pread(absl::MakeSpan(&byte, 1), 0).status());
    ExpectClosed(none.Pwrite("x", 0));
    ExpectClosed(none.Sync());
    ExpectClosed(none.SyncData());
    ExpectClosed(none.Truncate(0));
    ExpectClosed(none.Seek(0).status());
    ExpectClosed(Copy(none, none).status());
  });
}

TEST_P(FileTest, TheLastHandleCloses) {
  ForEachSetting([this](TaskKind) {
    File file = Must(Create(Path("data")));
    const int fd = file.fd();
    const OpenFileId id(fd);
    File copy = file;
    file = File();
    EXPECT_OK(copy.Write("x"));
    EXPECT_TRUE(id.IsAt(fd));
    copy = File();
    EXPECT_FALSE(id.IsAt(fd));
  });
}

// What io_uring waits for in the kernel ends when the file is closed. (A thread that is blocked
// does not.)
TEST_P(FileTest, CloseEndsReadsOfBlockingDescriptors) {
  if (!by_ring()) GTEST_SKIP() << "a blocked thread cannot be waked by a close";
  ForEachSetting([](TaskKind kind) {
    for (int i = 0; i < Rounds(30, 3); ++i) {
      const BlockingPipe pipe;
      const OpenFileId id(pipe.ends[0]);
      const File reader = Must(WrapFile(pipe.ends[0], "in"));
      std::atomic<int> begun{0};
      TaskGroup tasks(kind);
      for (int n = 0; n < 3; ++n) {
        tasks.Go([&] {
          std::string text(10, '-');
          begun.fetch_add(1);
          ExpectClosed(reader.Read(absl::MakeSpan(text.data(), 10)).status());
        });
      }
      if (i % 2 == 0) {
        ASSERT_TRUE(Eventually([&] { return begun.load() == 3; }));
      }
      EXPECT_OK(reader.Close());
      EXPECT_FALSE(id.IsAt(pipe.ends[0]));
      tasks.Wait();
      close(pipe.ends[1]);
    }
  });
}

// The writer writes and the closer closes at the same time: whatever becomes of the read, once it
// has returned the buffer is the caller's.
TEST_P(FileTest, BuffersAreNotTouchedAfterACancelledRead) {
  ForEachSetting([](TaskKind kind) {
    int cancelled = 0;
    for (int i = 0; i < Rounds(100, 4); ++i) {
      const BlockingPipe pipe;
      const File reader = Must(WrapFile(pipe.ends[0], "in"));
      const File writer = Must(WrapFile(pipe.ends[1], "out"));
      std::string buffer(100, '-');
      std::atomic<bool> begun{false};
      bool is_cancelled = false;
      TaskGroup tasks(kind);
      tasks.Go([&] {
        begun.store(true);
        const absl::StatusOr<size_t> n = reader.Read(absl::MakeSpan(buffer.data(), 100));
        is_cancelled = !n.ok();
        for (char& c : buffer) c = '#';
      });
      ASSERT_TRUE(Eventually([&] { return begun.load(); }));
      tasks.Go([&] { writer.Write(std::string(100, 'x')).IgnoreError(); });
      tasks.Go([&] { reader.Close().IgnoreError(); });
      tasks.Wait();
      cancelled += is_cancelled ? 1 : 0;
      for (int n = 0; n < 10; ++n) Yield();
      EXPECT_EQ(buffer, std::string(100, '#'));
    }
    RecordProperty("cancelled", cancelled);
  });
}

// While many read, the file is closed: each gets its data or learns of it, and nobody reads from
// what then has the number.
TEST_P(FileTest, CloseDuringReadsMisdirectsNone) {
  ForEachSetting([this](TaskKind kind) {
    EXPECT_OK(WriteFile(Path("a"), std::string(64 << 10, 'a')));
    EXPECT_OK(WriteFile(Path("b"), std::string(64 << 10, 'b')));
    for (int i = 0; i < Rounds(20, 2); ++i) {
      const File a = Must(Open(Path("a")));
      if (i % 2 == 0) DropCache(a);
      TaskGroup tasks(kind);
      std::atomic<int> begun{0};
      for (int n = 0; n < 8; ++n) {
        tasks.Go([&, n] {
          std::string text(4096, '-');
          for (int round = 0;; ++round) {
            begun.fetch_add(1);
            const absl::StatusOr<size_t> got =
                a.Pread(absl::MakeSpan(text.data(), text.size()), (n * 8 + round) % 16 * 4096);
            if (!got.ok()) {
              ExpectClosed(got.status());
              return;
            }
            ASSERT_EQ(text, std::string(4096, 'a'));
          }
        });
      }
      ASSERT_TRUE(Eventually([&] { return begun.load() >= 8 + i; }));
      EXPECT_OK(a.Close());
      const File b = Must(Open(Path("b")));
      tasks.Wait();
    }
  });
}

// The kernel gives up on what a thread has begun when that ends.
TEST_P(FileTest, OperationsOutliveTheThreadThatBeganThem) {
  if (!by_ring()) GTEST_SKIP() << "a thread that is blocked does not end";
  testing::ForEachMaxProcs([] {
    testing::RunOnGoroutine([] {
      for (int i = 0; i < Rounds(20, 3); ++i) {
        const BlockingPipe pipe;
        const File reader = Must(WrapFile(pipe.ends[0], "in"));
        TaskGroup tasks(TaskKind::kGoroutine);
        std::atomic<bool> ended{false};
        tasks.Go([&] {
          // Next on this thread, which ends with a goroutine that is locked to it.
          tasks.Go([&] {
            LockOSThread();
            ended.store(true);
          });
          std::string text(10, '-');
          EXPECT_EQ(Must(reader.Read(absl::MakeSpan(text.data(), 10))), 3u);
        });
        ASSERT_TRUE(Eventually([&] { return ended.load(); }));
        EXPECT_EQ(write(pipe.ends[1], "abc", 3), 3);
        tasks.Wait();
        close(pipe.ends[1]);
      }
    });
  });
}

TEST_P(FileTest, CopyMovesBytesBetweenFilesOfAnyKind) {
  ForEachSetting([this](TaskKind kind) {
    const std::string numbers = Numbers(700'000);
    EXPECT_OK(WriteFile(Path("from"), numbers));
    const File from = Must(Open(Path("from")));
    const File to = Must(Create(Path("to")));
    EXPECT_EQ(Must(Copy(to, from, 1000)), 1000u);
    EXPECT_EQ(Must(Copy(to, from)), numbers.size() - 1000);
    EXPECT_EQ(Must(Copy(to, from)), 0u);
    EXPECT_TRUE(Must(ReadFile(Path("to"))) == numbers);

    // Through a pipe, and appending, which copy_file_range() refuses.
    EXPECT_EQ(Must(from.Seek(0)), 0);
    const FilePipe pipe = Must(OpenPipe());
    const File log = Must(OpenFile(Path("log"), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND));
    TaskGroup tasks(kind);
    tasks.Go([&] {
      EXPECT_EQ(Must(Copy(pipe.writer, from)), numbers.size());
      EXPECT_OK(pipe.writer.Close());
    });
    EXPECT_EQ(Must(Copy(log, pipe.reader)), numbers.size());
    tasks.Wait();
    EXPECT_EQ(Must(from.Seek(0)), 0);
    EXPECT_EQ(Must(Copy(log, from, 5)), 5u);
    EXPECT_TRUE(Must(ReadFile(Path("log"))) == absl::StrCat(numbers, "0 1 2"));

    // Two at once in opposite directions end.
    const File back = Must(OpenFile(Path("to"), O_RDWR));
    const File other = Must(OpenFile(Path("from"), O_RDWR));
    tasks.Go([&] { EXPECT_TRUE(Copy(back, other, 100'000).ok()); });
    tasks.Go([&] { EXPECT_TRUE(Copy(other, back, 100'000).ok()); });
    tasks.Wait();
  });
}

TEST_P(FileTest, ProcFilesAreReadWhole) {
  ForEachSetting([this](TaskKind) {
    EXPECT_TRUE(absl::StrContains(Must(ReadFile("/proc/self/status")), "Threads:"));
    const File from = Must(Open("/proc/self/status"));
    const File to = Must(Create(Path("status")));
    EXPECT_GT(Must(Copy(to, from)), 100u);
    EXPECT_EQ(Must(ReadFile("/dev/null")), "");
  });
}

TEST_P(FileTest, EventfdsAndInotifyWaitInThePoller) {
  ForEachSetting([this](TaskKind kind) {
    const File event = Must(WrapFile(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "event"));
    const int watcher_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    ASSERT_GE(inotify_add_watch(watcher_fd, Path("").c_str(), IN_CREATE), 0);
    const File watcher = Must(WrapFile(watcher_fd, "inotify"));
    EXPECT_OK(event.SetDeadline(testing::In(absl::Seconds(60))));
    EXPECT_OK(watcher.SetDeadline(testing::In(absl::Seconds(60))));
    TaskGroup tasks(kind);
    std::atomic<int> begun{0};
    tasks.Go([&] {
      uint64_t count = 0;
      begun.fetch_add(1);
      EXPECT_EQ(Must(event.Read(absl::MakeSpan(reinterpret_cast<char*>(&count), 8))), 8u);
      EXPECT_EQ(count, 3u);
    });
    tasks.Go([&] {
      alignas(inotify_event) char buffer[4096];
      begun.fetch_add(1);
      EXPECT_GT(Must(watcher.Read(absl::MakeSpan(buffer))), sizeof(inotify_event));
      EXPECT_STREQ(reinterpret_cast<inotify_event*>(buffer)->name, "new");
    });
    ASSERT_TRUE(Eventually([&] { return begun.load() == 2; }));
    const uint64_t three = 3;
    EXPECT_OK(event.Write({reinterpret_cast<const char*>(&three), 8}));
    EXPECT_OK(WriteFile(Path("new"), ""));
    tasks.Wait();
    unlink(Path("new").c_str());
  });
}

// There is no runtime in the child of a fork, nor are its rings its own.
TEST_P(FileTest, TheChildOfAForkReadsFiles) {
  testing::RunOnGoroutine([this] {
    EXPECT_OK(WriteFile(Path("data"), Numbers(10'000)));
    const File file = Must(Open(Path("data")));
    DropCache(file);
    const pid_t child = fork();
    if (child == 0) {
      std::string text(5000, '-');
      const absl::StatusOr<size_t> n = file.Pread(absl::MakeSpan(text.data(), 5000), 0);
      _exit(n.ok() && *n == 5000 && text == Numbers(5000) ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  });
}

constexpr const char* kProgram = "netpoll/file_program";

TEST(FileProgramTest, SaysHowFilesAreRead) {
  const ProcessResult r = RunProcess({kProgram, "plain"}, {.env = {"WEFTDEBUG=netpoll=1"}});
  EXPECT_EQ(r.exit_status, 0) << r.err;
  EXPECT_EQ(r.out, absl::StrCat(FilesDescription(), "\nread back\n"));
  EXPECT_EQ(r.err, absl::StrCat("netpoll: files by ", FilesDescription(), "\n"));
}

TEST(FileProgramTest, AskedNotToItDoesNotUseIoUring) {
  const ProcessResult r =
      RunProcess({kProgram, "plain"}, {.env = {"WEFTDEBUG=netpoll=1,files=blocking"}});
  EXPECT_EQ(r.exit_status, 0) << r.err;
  EXPECT_EQ(r.out, "blocking threads (WEFTDEBUG=files=blocking)\nread back\n");
  EXPECT_EQ(r.err, "netpoll: files by blocking threads (WEFTDEBUG=files=blocking)\n");
  EXPECT_EQ(RunProcess({kProgram, "plain"}, {.env = {"WEFTDEBUG=files=maybe"}}).exit_status, 2);
}

// Sandboxes refuse one or the other.
TEST(FileProgramTest, InASandboxThreadsBlock) {
  for (const char* const call : {"io_uring_setup", "io_uring_register", "io_uring_enter"}) {
    const ProcessResult r = RunProcess({kProgram, call}, {.env = {"WEFTDEBUG=netpoll=1"}});
    EXPECT_EQ(r.exit_status, 0) << r.err;
    const std::string how = absl::StrCat("blocking threads (", call, ": Operation not permitted)");
    EXPECT_EQ(r.out, absl::StrCat(how, "\nread back\n"));
    EXPECT_EQ(r.err, absl::StrCat("netpoll: files by ", how, "\n"));
  }
}

}  // namespace
}  // namespace weft
