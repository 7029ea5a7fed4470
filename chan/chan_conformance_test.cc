// What Go's own tests assert of channels, case by case (tests/README.md says where the numbers come
// from), from threads and goroutines.
#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/select.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/sync/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Rounds;
using testing::Tasks;

class ChanConformance : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, ChanConformance, testing::Worlds(), testing::WorldName);

constexpr int kCapacities[] = {0, 1, 2, 10, 100};

TEST_P(ChanConformance, CH02_SendToFullChannelWaitsForARoom) {
  Run([] {
    for (const int capacity : kCapacities) {
      Chan<int> c(capacity);
      for (int i = 0; i < capacity; ++i) c.Send(i);
      std::atomic<bool> sent{false};
      Tasks tasks;
      tasks.Go([&] {
        c.Send(capacity);
        sent.store(true);
      });
      Sleep(absl::Milliseconds(1));
      EXPECT_FALSE(sent.load());
      // Without a buffer the waiting sender is one on the same side: still nobody receives.
      EXPECT_EQ(c.TrySend(-1), TryResult::kWouldBlock);
      EXPECT_EQ(c.Recv(), 0);
      tasks.Wait();
      EXPECT_TRUE(sent.load());
      for (int i = 1; i <= capacity; ++i) EXPECT_EQ(c.Recv(), i);
      EXPECT_EQ(c.TryRecv().result, TryResult::kWouldBlock);
    }
  });
}

TEST_P(ChanConformance, CH03_ClosedChannelIsDrainedInOrder) {
  Run([] {
    for (const int capacity : kCapacities) {
      Chan<int> c(capacity);
      for (int i = 0; i < capacity; ++i) c.Send(i);
      EXPECT_TRUE(c.Close());
      for (int i = 0; i < capacity; ++i) EXPECT_EQ(c.Recv(), i);
      for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(c.Recv(), std::nullopt);
        EXPECT_EQ(c.TryRecv().result, TryResult::kClosed);
      }
    }
  });
}

TEST_P(ChanConformance, CH05_ValuesArriveInOrder) {
  Run([] {
    for (const int capacity : kCapacities) {
      Chan<int> c(capacity);
      Tasks tasks;
      tasks.Go([&] {
        for (int i = 0; i < 100; ++i) c.Send(i);
      });
      for (int i = 0; i < 100; ++i) {
        if (i % 2 == 0) {
          EXPECT_EQ(c.Recv(), i);
        } else {
          Select(c.OnRecv([&](std::optional<int> v) { EXPECT_EQ(v, i); }));
        }
      }
    }
  });
}

TEST_P(ChanConformance, CH06_ProducersAndConsumersLoseNothing) {
  Run([] {
    for (const int capacity : kCapacities) {
      constexpr int kTasks = 4;
      const int count = Rounds(1000, 100);
      Chan<int> c(capacity);
      std::array<std::vector<int>, kTasks> seen;
      Tasks tasks;
      for (int t = 0; t < kTasks; ++t) {
        tasks.Go([&] {
          for (int i = 0; i < count; ++i) c.Send(i);
        });
        tasks.Go([&c, count, &mine = seen[t]] {
          for (int i = 0; i < count; ++i) mine.push_back(*c.Recv());
        });
      }
      tasks.Wait();
      std::map<int, int> times;
      for (const std::vector<int>& values : seen) {
        for (const int v : values) ++times[v];
      }
      EXPECT_EQ(times.size(), static_cast<size_t>(count));
      for (const auto& [value, n] : times) EXPECT_EQ(n, kTasks) << value;
      EXPECT_EQ(c.len(), 0);
    }
  });
}

TEST_P(ChanConformance, CH08_TryRecvNeverMissesBothValueAndClose) {
  Run([] {
    const int rounds = Rounds(2000, 200);
    int misses = 0;
    Chan<bool> result(0);
    for (int i = 0; i < rounds; ++i) {
      Chan<int> c(1);
      c.Send(1);
      Tasks task;
      task.Go([c, result] { result.Send(c.TryRecv().result != TryResult::kWouldBlock); });
      c.Close();
      c.Recv();
      if (!*result.Recv()) ++misses;
    }
    EXPECT_EQ(misses, 0);
  });
}

TEST_P(ChanConformance, CH09_BufferedAndChainedOrder) {
  Run([] {
    Chan<int> buffered(10);
    for (int i = 0; i < 10; ++i) buffered.Send(i);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(buffered.Recv(), i);

    Chan<int> c(0);
    Tasks tasks;
    Chan<int> before(0);
    const Chan<int> first = before;
    for (int i = 0; i < 10; ++i) {
      Chan<int> after(0);
      tasks.Go([c, before, after, i] {
        before.Recv();
        EXPECT_EQ(c.Recv(), i);
        after.Send(1);
      });
      before = after;
    }
    first.Send(0);
    for (int i = 0; i < 10; ++i) c.Send(i);
    EXPECT_EQ(before.Recv(), 1);
  });
}

TEST_P(ChanConformance, CH11_EmptyElementsPassTokens) {
  struct Nothing {};
  Run([] {
    for (const int capacity : {0, 1, 1000}) {
      const int count = Rounds(3000);
      Chan<Nothing> c(capacity);
      Tasks tasks;
      tasks.Go([&] {
        for (int i = 0; i < count; ++i) c.Send(Nothing{});
        c.Close();
      });
      int tokens = 0;
      for (Nothing n : c) {
        static_cast<void>(n);
        ++tokens;
      }
      EXPECT_EQ(tokens, count);
    }
  });
}

TEST_P(ChanConformance, CH12_CapAndLen) {
  Run([] {
    Chan<int> c(10);
    EXPECT_EQ(c.len(), 0);
    EXPECT_EQ(c.cap(), 10);
    for (int i = 0; i < 3; ++i) c.Send(i);
    EXPECT_EQ(c.len(), 3);
    EXPECT_EQ(c.cap(), 10);
    Chan<int> unbuffered(0);
    EXPECT_EQ(unbuffered.len(), 0);
    EXPECT_EQ(unbuffered.cap(), 0);
  });
}

TEST(ChanConformanceMake, CH12_ImpossibleCapacity) {
  struct Large {
    char bytes[512];
  };
  const auto refused = [](const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), "makechan: size out of range");
  };
  refused(Chan<char>::Make(-1).status());
  refused(Chan<char>::Make(int64_t{1} << 59).status());
  refused(Chan<int64_t>::Make((int64_t{1} << 61) + 1).status());
  refused(Chan<Large>::Make(int64_t{1} << 59).status());
  refused(Chan<std::string>::Make(int64_t{1} << 59).status());
  EXPECT_TRUE(Chan<int>::Make(7).ok());
  EXPECT_EQ(Chan<int>::Make(7)->cap(), 7);
}

TEST(ChanConformanceDeathTest, CH12_ImpossibleCapacityIsFatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(Chan<int>(-1), ::testing::ExitedWithCode(2), "panic: makechan: size out of range");
}

// The four receive forms.
std::optional<int> ReceiveBy(int form, const Chan<int>& c) {
  std::optional<int> got;
  switch (form) {
    case 0:
      return c.Recv();
    case 1:
      return c.TryRecv().value;
    case 2:
      Select(c.OnRecv([&](std::optional<int> v) { got = v; }));
      return got;
    default:
      Select(c.OnRecv([&](std::optional<int> v) { got = v; }),
             Default([] { ADD_FAILURE() << "a value or a close is always ready"; }));
      return got;
  }
}

TEST_P(ChanConformance, CH14_ValueBeforeCloseIsReceivedOnce) {
  Run([] {
    for (int form = 0; form < 4; ++form) {
      Chan<int> c(2);
      c.Send(1);
      c.Close();
      EXPECT_EQ(ReceiveBy(form, c), 1) << form;
      for (int again = 0; again < 4; ++again) EXPECT_EQ(ReceiveBy(again, c), std::nullopt);
    }
  });
}

TEST_P(ChanConformance, CH15_SendToClosedChannelReportsIt) {
  Run([] {
    for (const int capacity : {0, 1}) {
      Chan<int> c(capacity);
      EXPECT_TRUE(c.Close());
      EXPECT_FALSE(c.Close());
      EXPECT_FALSE(c.Send(2));
      EXPECT_EQ(c.TrySend(2), TryResult::kClosed);
      bool told = false;
      Select(c.OnSend(2, [&](bool sent) { told = !sent; }),
             Default([] { ADD_FAILURE() << "default of a send to a closed channel"; }));
      EXPECT_TRUE(told);
      // The same where a Select may wait.
      told = false;
      EXPECT_EQ(Select(Chan<int>(0).OnRecv(), c.OnSend(2, [&](bool sent) { told = !sent; })), 1);
      EXPECT_TRUE(told);
      for (int i = 0; i < 3; ++i) EXPECT_EQ(c.Recv(), std::nullopt);
    }
  });
}

template <typename T>
void TryFormsMeetTheOtherSide(const T& value) {
  for (const int capacity : {0, 1}) {
    Chan<T> c(capacity);
    EXPECT_EQ(c.TryRecv().result, TryResult::kWouldBlock);
    Tasks tasks;
    tasks.Go([&] { EXPECT_EQ(c.Recv(), value); });
    EXPECT_TRUE(testing::Eventually([&] { return c.TrySend(value) == TryResult::kDone; }));
    tasks.Wait();
    EXPECT_EQ(c.TryRecv().result, TryResult::kWouldBlock);

    tasks.Go([&] { EXPECT_TRUE(c.Send(value)); });
    TryReceived<T> got;
    EXPECT_TRUE(testing::Eventually([&] {
      got = c.TryRecv();
      return got.result == TryResult::kDone;
    }));
    EXPECT_EQ(got.value, value);
    tasks.Wait();
  }
}

TEST_P(ChanConformance, CH17_TryFormsMeetAWaitingOtherSide) {
  Run([] {
    TryFormsMeetTheOtherSide<int32_t>(123456789);
    TryFormsMeetTheOtherSide<int64_t>(int64_t{1} << 40 | 3);
    TryFormsMeetTheOtherSide<bool>(true);
    TryFormsMeetTheOtherSide<std::string>("a string that is longer than its inline buffer");
  });
}

// CH-18: who may do what is settled when compiling.
template <typename C>
concept CanSend = requires(C c) { c.Send(1); };
template <typename C>
concept CanTrySend = requires(C c) { c.TrySend(1); };
template <typename C>
concept CanSelectSend = requires(C c) { c.OnSend(1, [] {}); };
template <typename C>
concept CanRecv = requires(C c) { c.Recv(); };
template <typename C>
concept CanTryRecv = requires(C c) { c.TryRecv(); };
template <typename C>
concept CanSelectRecv = requires(C c) { c.OnRecv([] {}); };
template <typename C>
concept CanRange = requires(C c) { c.begin(); };
template <typename C>
concept CanClose = requires(C c) { c.Close(); };

template <typename C>
constexpr bool kSends = CanSend<C> && CanTrySend<C> && CanSelectSend<C> && CanClose<C>;
template <typename C>
constexpr bool kSendsNot = !CanSend<C> && !CanTrySend<C> && !CanSelectSend<C> && !CanClose<C>;
template <typename C>
constexpr bool kReceives = CanRecv<C> && CanTryRecv<C> && CanSelectRecv<C> && CanRange<C>;
template <typename C>
constexpr bool kReceivesNot = !CanRecv<C> && !CanTryRecv<C> && !CanSelectRecv<C> && !CanRange<C>;

static_assert(kSends<Chan<int>> && kReceives<Chan<int>>);
static_assert(kSends<SendChan<int>> && kReceivesNot<SendChan<int>>);
static_assert(kSendsNot<RecvChan<int>> && kReceives<RecvChan<int>>);

static_assert(std::is_convertible_v<Chan<int>, SendChan<int>>);
static_assert(std::is_convertible_v<Chan<int>, RecvChan<int>>);
static_assert(!std::is_constructible_v<Chan<int>, SendChan<int>>);
static_assert(!std::is_constructible_v<Chan<int>, RecvChan<int>>);
static_assert(!std::is_constructible_v<SendChan<int>, RecvChan<int>>);
static_assert(!std::is_constructible_v<RecvChan<int>, SendChan<int>>);
static_assert(!std::is_assignable_v<Chan<int>&, SendChan<int>>);
static_assert(!std::is_assignable_v<Chan<int>&, RecvChan<int>>);
static_assert(!std::is_convertible_v<Chan<int>, Chan<long>>);
static_assert(!std::is_convertible_v<Chan<int>, SendChan<long>>);

TEST_P(ChanConformance, CH18_ViewsAreTheSameChannel) {
  Run([] {
    Chan<int> c(1);
    SendChan<int> s = c;
    RecvChan<int> r = c;
    EXPECT_TRUE(s.Send(3));
    EXPECT_EQ(r.Recv(), 3);
    EXPECT_TRUE(s.Close());
    EXPECT_EQ(r.Recv(), std::nullopt);
  });
}

TEST_P(ChanConformance, CH23_WritesBeforeASendAreSeenAfterTheReceive) {
  Run([] {
    const int count = Rounds(1000, 200);
    enum : int { kUnsent, kSent, kReceived };
    std::vector<int> state(static_cast<size_t>(count), kUnsent);
    Chan<int> c(2);
    Tasks tasks;
    for (int r = 0; r < 10; ++r) {
      tasks.Go([&] {
        for (const int i : c) {
          EXPECT_EQ(state[i], kSent);
          state[i] = kReceived;
        }
      });
    }
    tasks.Go([&] {
      for (int i = 0; i < count; ++i) {
        state[i] = kSent;
        c.Send(i);
      }
      c.Close();
    });
    tasks.Wait();
    for (const int s : state) EXPECT_EQ(s, kReceived);
  });
}

struct Response {
  int value = 0;
};
struct Request {
  std::unique_ptr<Response> payload;
  Chan<std::unique_ptr<Response>> reply;
};

void ExchangeOwnedObjects(bool by_select) {
  Chan<Request> requests(0);
  Tasks tasks;
  tasks.Go([&] {
    for (Request r : requests) {
      EXPECT_EQ(r.payload->value, 7);
      r.payload->value = 8;
      if (by_select) {
        Chan<int> never(0);
        Select(never.OnRecv(), r.reply.OnSend(std::move(r.payload)));
      } else {
        r.reply.Send(std::move(r.payload));
      }
      EXPECT_EQ(r.payload, nullptr);
    }
  });
  Tasks clients;
  for (int t = 0; t < 10; ++t) {
    clients.Go([&] {
      Chan<std::unique_ptr<Response>> reply(0);
      for (int i = 0; i < Rounds(1000, 30); ++i) {
        auto payload = std::make_unique<Response>();
        payload->value = 7;
        Request request{std::move(payload), reply};
        if (by_select) {
          Chan<int> never(0);
          Select(requests.OnSend(std::move(request)), never.OnRecv());
        } else {
          requests.Send(std::move(request));
        }
        std::optional<std::unique_ptr<Response>> response = reply.Recv();
        EXPECT_EQ((*response)->value, 8);
      }
    });
  }
  clients.Wait();
  requests.Close();
}

TEST_P(ChanConformance, CH24_OwnedObjectsArriveIntact) {
  Run([] { ExchangeOwnedObjects(false); });
}

TEST_P(ChanConformance, CH24_OwnedObjectsArriveIntactBySelect) {
  Run([] { ExchangeOwnedObjects(true); });
}

// CH-25: what a sender has on its stack stays as it is while it waits. Before, the stack was deep;
// beside it others come and go. tests/stacks/channels_test.cc has stacks rest and move meanwhile.
[[gnu::noinline]] int UseStack(int depth) {
  volatile char frame[512];
  frame[0] = static_cast<char>(depth);
  const int below = depth == 0 ? 0 : UseStack(depth - 1);
  return below + frame[0] - static_cast<char>(depth) + 1;
}

TEST_P(ChanConformance, CH25_ABlockedSendKeepsWhatIsOnItsStack) {
  Run([] {
    for (const int depth : {1, 10, 30, 200}) {
      Chan<std::array<int, 5>> c(0);
      Chan<int> crowd(0);
      Tasks tasks;
      const int rounds = Rounds(30, 3);
      tasks.Go([&] {
        int sum = 0;
        for (int i = 0; i < rounds; ++i) {
          const std::array<int, 5> value = {i, i + 1, i + 2, i + 3, i + 4};
          sum += UseStack(depth);
          EXPECT_TRUE(c.Send(value));
          EXPECT_EQ(value[4], i + 4);
        }
        EXPECT_EQ(sum, rounds * (depth + 1));
        c.Close();
      });
      for (int i = 0; i < rounds; ++i) {
        Yield();  // so that it waits, mostly
        constexpr int kCrowd = 20;
        for (int n = 0; n < kCrowd; ++n) {
          tasks.Go([&] {
            UseStack(depth / 10);
            crowd.Send(1);
          });
        }
        for (int n = 0; n < kCrowd; ++n) crowd.Recv();
        EXPECT_EQ(c.Recv(), (std::array<int, 5>{i, i + 1, i + 2, i + 3, i + 4}));
      }
      EXPECT_EQ(c.Recv(), std::nullopt);
    }
  });
}

TEST_P(ChanConformance, CH26_ChannelsTravelThroughChannels) {
  Run([] {
    Chan<Chan<int>> channels(1);
    Chan<int> c(1);
    Select(channels.OnSend(c), Default([] { ADD_FAILURE(); }));
    Select(channels.Recv()->OnSend(5), Default([] { ADD_FAILURE(); }));
    EXPECT_EQ(c.Recv(), 5);
  });
}

// Counts its objects.
struct Counted {
  static inline std::atomic<int> alive{0};
  explicit Counted(int v) : value(v) { ++alive; }
  Counted(const Counted& other) : value(other.value) { ++alive; }
  Counted(Counted&& other) noexcept : value(other.value) { ++alive; }
  ~Counted() { --alive; }
  int value;
};

TEST_P(ChanConformance, CH27_UnsentValuesOfAFullChannelAreNotLeaked) {
  Run([] {
    {
      Chan<Counted> c(1);
      ASSERT_TRUE(c.Send(Counted(1)));
      const int alive = Counted::alive;
      int defaults = 0;
      for (int i = 0; i < 10; ++i) {
        Select(c.OnSend(Counted(2)), Default([&] { ++defaults; }));
        Select(c.OnSend(Counted(2)), c.OnSend(Counted(3)), Default([&] { ++defaults; }));
        const Counted kept(4);
        Select(c.OnSend(kept), c.OnSend(kept), Default([&] { ++defaults; }));
      }
      EXPECT_EQ(defaults, 30);
      EXPECT_EQ(Counted::alive, alive);
      EXPECT_EQ(c.Recv()->value, 1);
    }
    EXPECT_EQ(Counted::alive, 0);
  });
}

}  // namespace
}  // namespace weft
