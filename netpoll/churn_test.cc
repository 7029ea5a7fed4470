// Connections without end: opened, used and closed in random order by several tasks at once, while
// others move their deadlines and close them under their users. Descriptors are reused as fast as
// the system can, and every message says whose it is.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/test_util.h"
#include "sched/sync/mutex.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::CountDescriptors;
using testing::ForEachSetting;
using testing::In;
using testing::Rounds;
using testing::TaskGroup;
using testing::TaskKind;

struct Message {
  uint64_t connection;
  uint64_t number;
};

absl::string_view Bytes(const Message& message) {
  return absl::string_view(reinterpret_cast<const char*>(&message), sizeof(message));
}
absl::Span<char> Room(Message& message) {
  return absl::MakeSpan(reinterpret_cast<char*>(&message), sizeof(message));
}

class Churn {
 public:
  Churn(TaskKind kind, int connections) : kind_(kind), to_open_(connections) {}

  void Run() {
    constexpr int kTasks = 4;
    // Several, since each has no more than the ports of this end to offer in a short time.
    std::vector<Listener> listeners;
    for (int i = 0; i < 8; ++i) {
      absl::StatusOr<Listener> listener =
          i % 4 == 3 ? Listen("unix", "@") : Listen("tcp", "127.0.0.1:0");
      ASSERT_TRUE(listener.ok()) << listener.status();
      listeners.push_back(*listener);
    }
    TaskGroup servers(kind_);
    for (const Listener& listener : listeners) {
      servers.Go([&servers, listener] {
        for (absl::StatusOr<Conn> c = listener.Accept(); c.ok(); c = listener.Accept()) {
          servers.Go([conn = *std::move(c)] { Echo(conn); });
        }
      });
    }
    {
      TaskGroup group(kind_);
      for (int i = 0; i < kTasks; ++i) {
        group.Go([this, i, &listeners] { Use(listeners, static_cast<uint32_t>(i)); });
      }
    }
    for (Slot& slot : slots_) slot.Set(Conn(), 0);
    for (const Listener& listener : listeners) EXPECT_TRUE(listener.Close().ok());
  }

  int exchanges() const { return exchanges_.load(); }
  int timeouts() const { return timeouts_.load(); }
  int closed_in_use() const { return closed_.load(); }

 private:
  struct Slot {
    Mutex use;  // of the connection's stream, which one task at a time uses
    Mutex mutex;
    Conn conn ABSL_GUARDED_BY(mutex);
    uint64_t id ABSL_GUARDED_BY(mutex) = 0;

    std::pair<Conn, uint64_t> Get() {
      MutexLock lock(mutex);
      return {conn, id};
    }
    void Set(Conn next, uint64_t next_id) {
      MutexLock lock(mutex);
      std::swap(conn, next);
      id = next_id;
    }
  };

  static void Echo(const Conn& conn) {
    Message message = {};
    uint64_t connection = 0;
    while (conn.ReadFull(Room(message)).ok()) {
      if (connection == 0) connection = message.connection;
      ASSERT_EQ(message.connection, connection) << "somebody else's message";
      if (!conn.Write(Bytes(message)).ok()) return;
    }
  }

  void Use(const std::vector<Listener>& listeners, uint32_t seed) {
    std::mt19937 random(seed);
    for (uint64_t number = 1;; ++number) {
      Slot& slot = slots_[random() % slots_.size()];
      const uint32_t what = random() % 8;
      if (what >= 6) {
        // Under its user's hands.
        const Conn conn = slot.Get().first;
        if (what == 6) {
          conn.SetDeadline(In(absl::Microseconds(static_cast<int>(random() % 250) - 50)))
              .IgnoreError();
        } else {
          conn.Close().IgnoreError();
        }
        continue;
      }
      if (!slot.use.TryLock()) continue;
      const auto [conn, id] = slot.Get();
      bool go_on = true;
      if (conn) {
        if (!Exchange(conn, {id, number}) || what == 0) slot.Set(Conn(), 0);
      } else {
        go_on = Open(listeners[random() % listeners.size()], slot);
      }
      slot.use.Unlock();
      if (!go_on) return;
    }
  }

  // False: as many as there should be have been opened.
  bool Open(const Listener& listener, Slot& slot) {
    const int id = to_open_.fetch_sub(1);
    if (id <= 0) return false;
    absl::StatusOr<Conn> conn = Dial(listener.network(), listener.addr().ToString());
    // The queue of a Unix listener may be full for a moment.
    EXPECT_TRUE(conn.ok() || ErrnoOf(conn.status()) == EAGAIN) << conn.status();
    if (conn.ok()) slot.Set(*std::move(conn), static_cast<uint64_t>(id));
    return true;
  }

  // False: its stream is of no use any more.
  bool Exchange(const Conn& conn, const Message& message) {
    Message answer = {};
    absl::Status status = conn.Write(Bytes(message));
    if (status.ok()) status = conn.ReadFull(Room(answer));
    if (status.ok()) {
      EXPECT_EQ(answer.connection, message.connection) << "somebody else's answer";
      EXPECT_EQ(answer.number, message.number);
      exchanges_.fetch_add(1);
      return true;
    }
    EXPECT_TRUE(IsTimeout(status) || IsClosed(status)) << status;
    (IsTimeout(status) ? timeouts_ : closed_).fetch_add(1);
    return false;
  }

  const TaskKind kind_;
  std::array<Slot, 48> slots_;
  std::atomic<int> to_open_;
  std::atomic<int> exchanges_{0}, timeouts_{0}, closed_{0};
};

void ChurnAndCount(TaskKind kind, int connections) {
  // The poller has descriptors of its own from its first use on.
  testing::MakePair();
  const int before = CountDescriptors();
  {
    Churn churn(kind, connections);
    churn.Run();
    EXPECT_GT(churn.exchanges(), 0);
    EXPECT_GT(churn.timeouts() + churn.closed_in_use(), 0);
  }
  EXPECT_EQ(CountDescriptors(), before);
}

TEST(ChurnTest, TwentyThousandConnectionsLeaveNothingAndMixNothingUp) {
  const int procs = SetMaxProcs(4);
  testing::RunOnGoroutine([] { ChurnAndCount(TaskKind::kGoroutine, Rounds(20'000, 150)); });
  SetMaxProcs(procs);
}

TEST(ChurnTest, ConnectionsOfAnyKindOfTaskLeaveNothingAndMixNothingUp) {
  ForEachSetting([](TaskKind kind) { ChurnAndCount(kind, Rounds(600, 40)); });
}

}  // namespace
}  // namespace weft
