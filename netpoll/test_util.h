// What the network tests share.
#ifndef WEFT_NETPOLL_TEST_UTIL_H_
#define WEFT_NETPOLL_TEST_UTIL_H_

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "sched/goroutine.h"
#include "sched/testing.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace weft::testing {

enum class TaskKind { kGoroutine, kThread };

// Runs the test's body on a goroutine, with 1, 2, 4 and 8 Ps, and on a plain thread, with tasks of
// either kind; the tasks that it starts are of the kind it is given.
inline void ForEachSetting(absl::FunctionRef<void(TaskKind)> body) {
  ForEachMaxProcs([&] { RunOnGoroutine([&] { body(TaskKind::kGoroutine); }); });
  for (const TaskKind kind : AllInTurn({TaskKind::kThread, TaskKind::kGoroutine})) {
    RunOnThread([&] { body(kind); });
  }
}

// Goroutines or threads, to be waited for from either. Its tasks may start more of them. The
// destructor waits too.
class TaskGroup {
 public:
  explicit TaskGroup(TaskKind kind) : kind_(kind), owner_(Waiter::Current()) {}
  ~TaskGroup() { Wait(); }

  void Go(absl::AnyInvocable<void()> task) {
    running_.fetch_add(1, std::memory_order_relaxed);
    auto run = [this, task = std::move(task)]() mutable {
      task();
      task = nullptr;  // what it has captured, such as connections, is gone when the group is done
      Waiter* const owner = owner_;
      // Release: pairs with the acquire in Wait(). The group may be gone afterwards.
      if (running_.fetch_sub(1, std::memory_order_release) == 1) owner->Unpark();
    };
    if (kind_ == TaskKind::kGoroutine) {
      weft::Go(std::move(run));
    } else {
      const std::lock_guard<std::mutex> lock(mutex_);
      threads_.emplace_back(std::move(run));
    }
  }

  bool done() const { return running_.load(std::memory_order_acquire) == 0; }

  // Only where the group was made.
  void Wait() {
    while (!done()) owner_->Park(WaitReason::kWaitGroupWait);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  const TaskKind kind_;
  Waiter* const owner_;
  std::atomic<int> running_{0};
  std::mutex mutex_;  // of threads_, until all have ended
  std::vector<std::thread> threads_;
};

inline Listener MustListen(absl::string_view address = "127.0.0.1:0") {
  absl::StatusOr<Listener> listener = Listen("tcp", address);
  EXPECT_TRUE(listener.ok()) << listener.status();
  return listener.ok() ? *listener : Listener();
}

inline Conn MustDial(const SocketAddress& address) {
  absl::StatusOr<Conn> conn = Dial("tcp", address.ToString());
  EXPECT_TRUE(conn.ok()) << conn.status();
  return conn.ok() ? *conn : Conn();
}

inline Conn MustAccept(const Listener& listener) {
  absl::StatusOr<Conn> conn = listener.Accept();
  EXPECT_TRUE(conn.ok()) << conn.status();
  return conn.ok() ? *conn : Conn();
}

// The two ends of a connection over loopback.
struct ConnPair {
  Conn client;
  Conn server;
};
inline ConnPair MakePair() {
  const Listener listener = MustListen();
  ConnPair pair;
  pair.client = MustDial(listener.addr());
  pair.server = MustAccept(listener);
  return pair;
}

// An address at which connecting hangs: the queue of a listener that nobody serves is full.
class StalledListener {
 public:
  StalledListener() {
    absl::StatusOr<Listener> listener = Listen("tcp", "127.0.0.1:0", {.backlog = 1});
    EXPECT_TRUE(listener.ok()) << listener.status();
    listener_ = *listener;
    // The kernel has room for two. So the third that fails does so for want of room, even if a slow
    // moment was to blame before.
    int failed = 0;
    for (int i = 0; i < 100 && failed < 3; ++i) {
      absl::StatusOr<Conn> conn =
          Dial("tcp", address().ToString(), {.timeout = absl::Milliseconds(50)});
      if (conn.ok()) {
        queued_.push_back(*conn);
      } else {
        ++failed;
      }
    }
  }

  SocketAddress address() const { return listener_.addr(); }

 private:
  Listener listener_;
  std::vector<Conn> queued_;
};

// The file that a descriptor refers to. Whether it still does cannot be told by the number: once
// that is closed any thread of the process may be given it again, the runtime's monitor for one.
class OpenFileId {
 public:
  explicit OpenFileId(int fd) { EXPECT_EQ(fstat(fd, &status_), 0); }
  // Whether `fd` refers to that file, which others must keep from being freed.
  bool IsAt(int fd) const {
    struct stat now;
    return fstat(fd, &now) == 0 && now.st_dev == status_.st_dev && now.st_ino == status_.st_ino;
  }

 private:
  struct stat status_ = {};
};

// Descriptors that this process has open, but for those of the system's own files, as the runtime's
// monitor looks at some of these once a second.
inline int CountDescriptors() {
  DIR* const directory = opendir("/proc/self/fd");
  int count = 0;
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    std::string target(256, '\0');
    const ssize_t n = readlinkat(dirfd(directory), name.c_str(), target.data(), target.size());
    if (n <= 0) continue;  // closed meanwhile
    target.resize(static_cast<size_t>(n));
    if (target.rfind("/proc/", 0) != 0 && target.rfind("/sys/", 0) != 0) ++count;
  }
  closedir(directory);
  return count;
}

// Reads to the end of the stream or an error; what came is appended to *text.
inline absl::Status ReadAll(const Conn& conn, std::string* text) {
  std::string buffer(64 << 10, '\0');
  for (;;) {
    const absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(buffer.data(), buffer.size()));
    if (!n.ok()) return n.status();
    if (*n == 0) return absl::OkStatus();
    text->append(buffer, 0, *n);
  }
}

inline absl::Time In(absl::Duration duration) { return absl::Now() + duration; }

}  // namespace weft::testing

#endif  // WEFT_NETPOLL_TEST_UTIL_H_
