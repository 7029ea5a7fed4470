#include "spawn/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/testing.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

// First, while this process has one thread.
TEST(SnapshotTest, EndsWithItsParent) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    const absl::StatusOr<Snapshot> snapshot =
        Snapshot::ToFd(ends[1], [](SnapshotWriter&) -> absl::Status {
          for (;;) pause();
        });
    _exit(snapshot.ok() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(parent, &status, 0), parent);
  EXPECT_EQ(status, 0);
  close(ends[1]);
  // The end of the stream: nobody has the other end any more.
  pollfd end = {ends[0], POLLIN, 0};
  EXPECT_EQ(poll(&end, 1, 30'000), 1);
  char byte;
  EXPECT_EQ(read(ends[0], &byte, 1), 0);
  close(ends[0]);
}

// Numbers that two threads go on changing, always by moving one from one to another: their sum is
// the same at any moment at which the lock is free, and at hardly any other.
class Ledger {
 public:
  explicit Ledger(size_t accounts) : accounts_(accounts, 1000) {
    for (int i = 0; i < 2; ++i) {
      threads_.emplace_back([this, i] {
        for (size_t at = static_cast<size_t>(i); !stop_.load(std::memory_order_relaxed);
             at += 7919) {
          const std::lock_guard lock(mutex_);
          --accounts_[at % accounts_.size()];
          ++accounts_[(at * 31 + 17) % accounts_.size()];
          ++changes_;
        }
      });
    }
  }
  ~Ledger() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  std::mutex& mutex() { return mutex_; }
  const std::vector<int64_t>& accounts() const { return accounts_; }
  uint64_t changes() const { return changes_; }

 private:
  std::mutex mutex_;
  std::vector<int64_t> accounts_;
  uint64_t changes_ = 0;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

uint64_t Checksum(const std::vector<int64_t>& values) {
  uint64_t sum = 1469598103934665603u;
  for (const int64_t value : values) sum = (sum ^ static_cast<uint64_t>(value)) * 1099511628211u;
  return sum;
}

TEST(SnapshotTest, IsExactlyTheStateAtTheCall) {
  Ledger ledger(1 << 20);
  const std::string path = TempPath("ledger");
  for (int round = 0; round < 3; ++round) {
    uint64_t expected;
    uint64_t changes;
    absl::StatusOr<Snapshot> snapshot;
    {
      const std::lock_guard lock(ledger.mutex());
      expected = Checksum(ledger.accounts());
      changes = ledger.changes();
      snapshot = Snapshot::ToFile(path, [&](SnapshotWriter& out) {
        const std::vector<int64_t>& accounts = ledger.accounts();
        for (size_t i = 0; i < accounts.size(); ++i) {
          if (!out.Write({reinterpret_cast<const char*>(&accounts[i]), sizeof(accounts[i])})) break;
          if (i % 1000 == 0) out.SetProgress(i);
        }
        out.SetProgress(accounts.size());
        return absl::OkStatus();
      });
    }
    ASSERT_TRUE(snapshot.ok()) << snapshot.status();
    // It goes on here.
    EXPECT_TRUE(Eventually([&] {
      const std::lock_guard lock(ledger.mutex());
      return ledger.changes() > changes + 1000;
    }));
    ASSERT_TRUE(snapshot->Wait().ok());
    EXPECT_EQ(snapshot->progress(), ledger.accounts().size());
    EXPECT_EQ(snapshot->bytes_written(), ledger.accounts().size() * sizeof(int64_t));
    const std::string bytes = ReadFile(path);
    std::vector<int64_t> saved(bytes.size() / sizeof(int64_t));
    memcpy(saved.data(), bytes.data(), saved.size() * sizeof(int64_t));
    EXPECT_EQ(Checksum(saved), expected);
  }
  unlink(path.c_str());
}

TEST(SnapshotTest, FromAGoroutine) {
  weft::testing::ForEachMaxProcs([] {
    weft::testing::RunOnGoroutine([] {
      int ends[2];
      ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
      std::string data = "before";
      absl::StatusOr<Snapshot> snapshot = Snapshot::ToFd(ends[1], [&](SnapshotWriter& out) {
        out.Write(data);
        return absl::OkStatus();
      });
      ASSERT_TRUE(snapshot.ok()) << snapshot.status();
      data = "after";
      close(ends[1]);
      char text[16] = {};
      EXPECT_EQ(read(ends[0], text, sizeof(text)), 6);
      EXPECT_STREQ(text, "before");
      EXPECT_EQ(read(ends[0], text, sizeof(text)), 0);
      close(ends[0]);
      EXPECT_TRUE(snapshot->Wait().ok());
      EXPECT_EQ(snapshot->Wait().message(), "snapshot: waited for already");
    });
  });
}

// What fails leaves the file of before, and nothing else.
TEST(SnapshotTest, AFailureLeavesTheOldFile) {
  const std::string dir = TempPath("dir");
  ASSERT_EQ(mkdir(dir.c_str(), 0755), 0);
  const std::string path = dir + "/dump";
  std::ofstream(path) << "old";
  const std::vector<std::string> files = OpenFiles();
  const auto write = [](SnapshotWriter& out) {
    out.Write("new, but ");
    return absl::DataLossError("this is no good");
  };
  absl::StatusOr<Snapshot> snapshot = Snapshot::ToFile(path, write);
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  EXPECT_EQ(snapshot->Wait(), absl::DataLossError("this is no good"));

  snapshot = Snapshot::ToFile(path, [](SnapshotWriter&) -> absl::Status { abort(); });
  ASSERT_TRUE(snapshot.ok());
  EXPECT_EQ(snapshot->Wait(), absl::AbortedError("snapshot: killed by signal 6"));

  snapshot = Snapshot::ToFile(path, [](SnapshotWriter&) -> absl::Status {
    for (;;) pause();
  });
  ASSERT_TRUE(snapshot.ok());
  snapshot->Cancel();
  EXPECT_EQ(snapshot->Wait(), absl::AbortedError("snapshot: killed by signal 9"));

  // One that nobody waits for.
  snapshot = Snapshot::ToFile(path, [](SnapshotWriter&) -> absl::Status {
    for (;;) pause();
  });
  snapshot = absl::CancelledError();
  EXPECT_FALSE(HasChildren());

  snapshot = Snapshot::ToFile(path,
                              [](SnapshotWriter&) -> absl::Status {
                                for (volatile int spins = 0;;) spins = spins + 1;
                              },
                              {.timeout = absl::Milliseconds(50)});
  ASSERT_TRUE(snapshot.ok());
  pollfd ended = {snapshot->pidfd(), POLLIN, 0};
  EXPECT_EQ(poll(&ended, 1, 30'000), 1);
  EXPECT_EQ(snapshot->Wait(), absl::DeadlineExceededError("snapshot: took too long"));

  snapshot = absl::CancelledError();
  EXPECT_EQ(ReadFile(path), "old");
  EXPECT_EQ(OpenFiles(), files);
  unlink(path.c_str());
  EXPECT_EQ(rmdir(dir.c_str()), 0) << "something was left";

  EXPECT_EQ(Snapshot::ToFile("/nowhere/dump", write).status().code(), absl::StatusCode::kNotFound);
}

TEST(SnapshotTest, SaysThatItCouldNotWrite) {
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  absl::StatusOr<Snapshot> snapshot = Snapshot::ToFd(full, [](SnapshotWriter& out) {
    const std::string much(1 << 20, 'x');
    EXPECT_FALSE(out.Write(much));
    return absl::OkStatus();
  });
  ASSERT_TRUE(snapshot.ok());
  EXPECT_EQ(snapshot->Wait().message(), "snapshot: write: no space left on device");
  close(full);
}

std::atomic<int> handled{0};

TEST(SnapshotTest, TheChildIsModestAndHasNothingOfOurs) {
  struct sigaction action = {};
  struct sigaction old;
  action.sa_handler = [](int) { handled.fetch_add(1, std::memory_order_relaxed); };
  sigaction(SIGUSR1, &action, &old);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  absl::StatusOr<Snapshot> snapshot = Snapshot::ToFd(ends[1], [&](SnapshotWriter& out) {
    struct sigaction now;
    sigaction(SIGUSR1, nullptr, &now);
    out.Write(absl::StrCat(now.sa_handler == SIG_DFL ? "default" : "handled", " nice ",
                           getpriority(PRIO_PROCESS, 0), " oom ",
                           ReadFile("/proc/self/oom_score_adj")));
    for (const std::string& file : OpenFiles()) out.Write(file.substr(0, file.find(' ')) + ";");
    return absl::OkStatus();
  });
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  EXPECT_TRUE(snapshot->Wait().ok());
  close(ends[1]);
  char text[4096] = {};
  ASSERT_GT(read(ends[0], text, sizeof(text) - 1), 0);
  close(ends[0]);
  sigaction(SIGUSR1, &old, nullptr);
  std::set<std::string> open = {"2", absl::StrCat(ends[1])};
  EXPECT_EQ(std::string(text),
            absl::StrCat("default nice 10 oom 500\n", absl::StrJoin(open, ";"), ";"));
}

}  // namespace
}  // namespace weft::spawn::testing
