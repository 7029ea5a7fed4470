// What Go's own tests assert of select, case by case, from threads and goroutines.
#include <malloc.h>

#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/select.h"
#include "chan/select_vector.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/sync/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Rounds;
using testing::Tasks;

class SelectConformance : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, SelectConformance, testing::Worlds(), testing::WorldName);

// One of two channels is ready at every moment; `make_ready` makes c2 so before c1 is emptied.
template <typename MakeReady>
int DefaultsTaken(MakeReady make_ready) {
  const int rounds = Rounds(2000, 100);
  Chan<bool> result(0);
  int defaults = 0;
  for (int i = 0; i < rounds; ++i) {
    Chan<int> c1(1);
    Chan<int> c2(1);
    c1.Send(1);
    Tasks task;
    task.Go([c1, c2, result] {
      bool ready = true;
      Select(c1.OnRecv(), c2.OnRecv(), Default([&] { ready = false; }));
      result.Send(ready);
    });
    make_ready(c2);
    Select(c1.OnRecv(), Default([] {}));
    if (!*result.Recv()) ++defaults;
  }
  return defaults;
}

TEST_P(SelectConformance, SE01_DefaultIsNotTakenWhileAValueMovesOver) {
  Run([] { EXPECT_EQ(DefaultsTaken([](Chan<int>& c2) { c2.Send(1); }), 0); });
}

TEST_P(SelectConformance, SE02_DefaultIsNotTakenWhileAChannelCloses) {
  Run([] { EXPECT_EQ(DefaultsTaken([](Chan<int>& c2) { c2.Close(); }), 0); });
}

TEST_P(SelectConformance, SE03_SelectNeverReceivesItsOwnValue) {
  Run([] {
    const int rounds = Rounds(1000);
    for (const int capacity : {0, 10}) {
      Chan<int> c(capacity);
      Tasks tasks;
      for (int me = 0; me < 2; ++me) {
        tasks.Go([&c, rounds, capacity, me] {
          const auto received = [&](std::optional<int> v) {
            if (capacity == 0) EXPECT_NE(v, me);
          };
          for (int i = 0; i < rounds; ++i) {
            if (me == 0 || i % 2 == 0) {
              Select(c.OnSend(me), c.OnRecv(received));
            } else {
              Select(c.OnRecv(received), c.OnSend(me));
            }
          }
        });
      }
    }
  });
}

TEST_P(SelectConformance, SE05_ReadyCasesShareEvenly) {
  Run([] {
    const int trials = Rounds(10000);
    Chan<int> c1(trials + 1);
    Chan<int> c2(trials + 1);
    for (int i = 0; i <= trials; ++i) {
      c1.Send(1);
      c2.Send(2);
    }
    Chan<int> never1(0);
    Chan<int> never2(0);
    int first = 0;
    for (int i = 0; i < trials; ++i) {
      Select(never1.OnRecv(), c1.OnRecv([&] { ++first; }), never2.OnRecv(), c2.OnRecv());
    }
    // Six nines: z = 4.891676 standard deviations of the share.
    const double share = static_cast<double>(first) / trials;
    EXPECT_NEAR(share, 0.5, 4.891676 / (2 * std::sqrt(trials)));
  });
}

TEST_P(SelectConformance, SE06_SendCasesOfOneChannelAreBothChosen) {
  Run([] {
    constexpr int kRounds = 100;
    for (const int capacity : {0, kRounds}) {
      Chan<int> c(capacity);
      std::array<int, 2> times{};
      Tasks tasks;
      tasks.Go([&] {
        for (int i = 0; i < kRounds; ++i) ++times[*c.Recv()];
      });
      for (int i = 0; i < kRounds; ++i) Select(c.OnSend(0), c.OnSend(1));
      tasks.Wait();
      EXPECT_GT(times[0], 10);
      EXPECT_GT(times[1], 10);
    }
  });
}

TEST_P(SelectConformance, SE08_OperandsAreEvaluatedOnceInOrder) {
  Run([] {
    int evaluations = 0;
    int shift = 0;
    const auto value = [&] {
      ++evaluations;
      return 1 << shift;
    };
    Chan<int> a(1);
    Chan<int> b(1);
    // Sends once to each; how many have taken a value when it finds both nil.
    const auto send = [&](Chan<int> to_a, Chan<int> to_b) {
      int sent = 0;
      const auto take = [&](Chan<int>& c) {
        ++sent;
        c = Chan<int>();
      };
      for (bool more = true; more; ++shift) {
        Select{to_a.OnSend(value(), [&] { take(to_a); }), to_b.OnSend(value(), [&] { take(to_b); }),
               Default([&] { more = false; })};
      }
      return sent;
    };
    EXPECT_EQ(send(a, b), 2);
    EXPECT_EQ(evaluations, 6);
    const int both = *a.Recv() | *b.Recv();
    EXPECT_EQ(both, 1 | 2);
    EXPECT_EQ(send(a, Chan<int>()), 1);
    EXPECT_EQ(evaluations, 10);

    // Nil channels' operands too, and all from left to right.
    std::vector<int> order;
    const auto channel = [&](int n, const Chan<int>& c) {
      order.push_back(n);
      return c;
    };
    const auto operand = [&](int n) {
      order.push_back(n);
      return n;
    };
    const int chosen =
        Select{channel(1, Chan<int>()).OnRecv(), channel(2, Chan<int>()).OnSend(operand(3)),
               channel(4, a).OnRecv(), Default([] {})};
    EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4}));
    EXPECT_EQ(chosen, 2);
  });
}

TEST_P(SelectConformance, SE09_SelectsLeaveNoMemoryBehind) {
  Run([] {
    // Threads take ten times as long for it.
    const bool threads = testing::current_world.tasks != testing::World::TasksAre::kGoroutines;
    const int rounds = Rounds(threads ? 20'000 : 100'000, 300);
    Chan<int> a(0);
    Chan<int> b(0);
    const auto run = [&] {
      Tasks tasks;
      tasks.Go([&] {
        for (int i = 0; i < rounds; ++i) Select(a.OnSend(i), b.OnSend(i));
      });
      for (int i = 0; i < rounds; ++i) Select(a.OnRecv(), b.OnRecv());
    };
    run();
    const size_t before = mallinfo2().uordblks;
    run();
    const size_t after = mallinfo2().uordblks;
    EXPECT_LT(after, before + 110'000);
  });
}

TEST_P(SelectConformance, SE11_DefaultAloneReturnsAtOnce) {
  Run([] {
    bool ran = false;
    EXPECT_EQ(Select(Default([&] { ran = true; })), 0);
    EXPECT_TRUE(ran);
  });
}

// What waits for ever does so in a thread or a goroutine of its own, which the end of the process
// ends.
TEST(SelectConformanceForEver, SE11_SelectWithoutCasesWaits) {
  static std::atomic<int> begun{0};
  static std::atomic<int> returned{0};
  const auto for_ever = [](auto wait) {
    const auto task = [wait] {
      ++begun;
      wait();
      ++returned;
    };
    std::thread(task).detach();
    Go(task);
  };
  for_ever([] { Select(); });
  for_ever([] { SelectVector().Run(); });
  for_ever([] { Select(Chan<int>().OnRecv(), Chan<int>().OnSend(1)); });
  for_ever([] { Chan<int>().Recv(); });
  for_ever([] { Chan<int>().Send(1); });
  for_ever([] { Chan<std::string>().Recv(); });
  for_ever([] { Chan<std::string>().Send("s"); });
  EXPECT_TRUE(testing::Eventually([] { return begun == 14; }));
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_EQ(returned, 0);
}

TEST_P(SelectConformance, SE12_ReadyCasesArePreferredToDefault) {
  Run([] {
    for (int i = 0; i < 10; ++i) {
      const auto not_default = [] { ADD_FAILURE() << "default taken"; };
      Chan<int> c(1);
      EXPECT_EQ(Select(c.OnSend(1), Default(not_default)), 0);
      EXPECT_EQ(Select(c.OnRecv(), Default(not_default)), 0);
      Chan<int> closed(0);
      closed.Close();
      EXPECT_EQ(Select(closed.OnRecv([](std::optional<int> v) { EXPECT_FALSE(v.has_value()); }),
                       Default(not_default)),
                0);
      EXPECT_EQ(
          Select(closed.OnSend(1, [](bool sent) { EXPECT_FALSE(sent); }), Default(not_default)), 0);
      // Nothing is ready: nil, empty, full, nobody on the other side.
      c.Send(1);
      Chan<int> unbuffered(0);
      Chan<int> nil;
      Chan<int> empty(1);
      EXPECT_EQ(Select(nil.OnRecv(), nil.OnSend(1), c.OnSend(1), unbuffered.OnRecv(),
                       unbuffered.OnSend(1), empty.OnRecv(), Default([] {})),
                6);
    }
  });
}

TEST_P(SelectConformance, SE14_OnlyTheChosenCaseRuns) {
  Run([] {
    Chan<int> ready(1);
    ready.Send(42);
    Chan<int> not_ready(0);
    int got = 0;
    Select(not_ready.OnRecv([](std::optional<int>) { ADD_FAILURE() << "not ready"; }),
           ready.OnRecv([&](std::optional<int> v) { got = *v; }));
    EXPECT_EQ(got, 42);
  });
}

// SE-15: the matrix is generated by templates: a send in one of three forms to a receive in one
// of three, with cases that are never ready before and after them.
template <bool kNil, bool kBefore, bool kAfter, bool kDefault, typename Case>
void SelectWithNeighbours(Case&& c) {
  Chan<int> dummy = kNil ? Chan<int>() : Chan<int>(0);
  const auto never = [] { ADD_FAILURE() << "a case that is never ready"; };
  if constexpr (kBefore && kAfter && kDefault) {
    Select(dummy.OnRecv(never), c, dummy.OnSend(1, never), Default(never));
  } else if constexpr (kBefore && kAfter) {
    // The same dummy for both would be ready for a second Select like this one, not for itself.
    Select(dummy.OnRecv(never), c, Chan<int>().OnSend(1, never));
  } else if constexpr (kBefore && kDefault) {
    Select(dummy.OnRecv(never), c, Default(never));
  } else if constexpr (kBefore) {
    Select(dummy.OnRecv(never), c);
  } else if constexpr (kAfter && kDefault) {
    Select(Default(never), c, dummy.OnSend(1, never));
  } else if constexpr (kAfter) {
    Select(c, dummy.OnSend(1, never));
  } else if constexpr (kDefault) {
    Select(c, Default(never));
  } else {
    Select{c};  // in parentheses this would declare a variable c
  }
}

template <int kForm>
void TransferOnce() {
  constexpr bool kNil = kForm & 1;
  constexpr bool kBefore = kForm & 2;
  constexpr bool kAfter = kForm & 4;
  constexpr bool kDefault = kForm & 8;
  // With a buffer both sides are ready at once, so a default is allowed.
  Chan<int> buffered(1);
  int got = 0;
  SelectWithNeighbours<kNil, kBefore, kAfter, kDefault>(buffered.OnSend(kForm));
  SelectWithNeighbours<kNil, kBefore, kAfter, kDefault>(
      buffered.OnRecv([&](std::optional<int> v) { got = *v; }));
  EXPECT_EQ(got, kForm);
  if constexpr (!kDefault) {
    Chan<std::string> meet(0);
    std::string received;
    Tasks tasks;
    const std::string text(40, 'x');
    tasks.Go([&] { SelectWithNeighbours<kNil, kBefore, kAfter, false>(meet.OnSend(text)); });
    SelectWithNeighbours<kNil, kBefore, kAfter, false>(
        meet.OnRecv([&](std::optional<std::string> v) { received = *std::move(v); }));
    tasks.Wait();
    EXPECT_EQ(received, text);
  }
}

template <int... kForms>
void TransferAll(std::integer_sequence<int, kForms...>) {
  (TransferOnce<kForms>(), ...);
}

TEST_P(SelectConformance, SE15_ValueTransfersAmongAnyNeighbours) {
  Run([] { TransferAll(std::make_integer_sequence<int, 16>()); });
}

// Where a received value may go: the function of the case decides, once the case is chosen.
TEST_P(SelectConformance, SE15_OperandsComeFirstAndTargetsAfterTheChoice) {
  Run([] {
    Chan<int> c(1);
    Chan<int> never(0);
    std::vector<std::string> log;
    const auto channel = [&](const char* name, const Chan<int>& chan) {
      log.push_back(name);
      return chan;
    };
    const auto operand = [&](int n) {
      log.push_back("value");
      return n;
    };
    int variable = 0;
    int array[3] = {};
    std::map<int, int> map;
    std::unique_ptr<int> pointer = std::make_unique<int>(0);
    const std::function<int&()> targets[] = {
        [&]() -> int& { return variable; },
        [&]() -> int& { return array[1]; },
        [&]() -> int& { return map[13]; },
        [&]() -> int& { return *pointer; },
    };
    int n = 100;
    for (const auto& target : targets) {
      for (const bool with_default : {false, true}) {
        for (const bool first : {false, true}) {
          ++n;
          const auto not_chosen = [] { ADD_FAILURE() << "not ready"; };
          const auto store = [&](std::optional<int> v) {
            log.push_back("target");
            target() = *v;
          };
          // The channel that is ready comes first, or last.
          const Chan<int>& one = first ? c : never;
          const Chan<int>& two = first ? never : c;
          log.clear();
          if (with_default) {
            Select{channel("one", one).OnSend(operand(n), [&] { log.push_back("sent"); }),
                   channel("two", two).OnSend(operand(n), [&] { log.push_back("sent"); }),
                   Default(not_chosen)};
          } else {
            Select{channel("one", one).OnSend(operand(n), [&] { log.push_back("sent"); }),
                   channel("two", two).OnSend(operand(n), [&] { log.push_back("sent"); })};
          }
          EXPECT_EQ(log, (std::vector<std::string>{"one", "value", "two", "value", "sent"}));
          log.clear();
          if (with_default) {
            Select{Default(not_chosen), channel("one", one).OnRecv(store),
                   channel("two", two).OnRecv(store)};
          } else {
            Select{channel("one", one).OnRecv(store), channel("two", two).OnRecv(store)};
          }
          EXPECT_EQ(log, (std::vector<std::string>{"one", "two", "target"}));
          EXPECT_EQ(target(), n);
        }
      }
    }
  });
}

void SendBy(int form, const Chan<int>& c, const Chan<int>& dummy) {
  if (form == 0) c.Send(1);
  if (form == 1) Select(c.OnSend(1));
  if (form == 2) Select(c.OnSend(1), dummy.OnSend(1));
}
void RecvBy(int form, const Chan<int>& c, const Chan<int>& dummy) {
  if (form == 0) c.Recv();
  if (form == 1) Select(c.OnRecv());
  if (form == 2) Select(c.OnRecv(), dummy.OnRecv());
}

TEST_P(SelectConformance, SE17_EverySendMeetsEveryReceive) {
  Run([] {
    for (int send = 0; send < 3; ++send) {
      for (int receive = 0; receive < 3; ++receive) {
        Chan<int> c(0);
        Tasks tasks;
        tasks.Go([&] { RecvBy(receive, c, Chan<int>(0)); });
        Yield();
        SendBy(send, c, Chan<int>(0));
        tasks.Wait();
        tasks.Go([&] { SendBy(send, c, Chan<int>(0)); });
        Yield();
        RecvBy(receive, c, Chan<int>(0));
      }
    }
  });
}

TEST_P(SelectConformance, SE18_ReturnFromAFunctionLeavesTheSelectOnly) {
  Run([] {
    Chan<int> c(1);
    int after = 0;
    const auto leave = [&](bool early) {
      if (early) return;
      ADD_FAILURE() << "past the return";
    };
    const auto never = [] { ADD_FAILURE() << "not ready"; };
    const auto chosen = [&] { leave(true); };
    Chan<int> other(0);
    // One, two and three cases, without a default and with one, which is chosen or not.
    c.Send(1);
    Select{c.OnRecv(chosen)};
    ++after;
    Select{c.OnRecv(never), Default(chosen)};
    ++after;
    c.Send(1);
    Select{c.OnRecv(chosen), Default(never)};
    ++after;
    c.Send(1);
    Select{other.OnRecv(never), c.OnRecv(chosen)};
    ++after;
    c.Send(1);
    Select{other.OnRecv(never), c.OnRecv(chosen), Default(never)};
    ++after;
    Select{other.OnRecv(never), c.OnRecv(never), Default(chosen)};
    ++after;
    c.Send(1);
    Select{other.OnRecv(never), c.OnRecv(chosen), other.OnSend(1, never)};
    ++after;
    Select{other.OnRecv(never), c.OnSend(1, chosen), other.OnSend(1, never), Default(never)};
    ++after;
    Select{Default(chosen)};
    ++after;
    EXPECT_EQ(after, 9);
  });
}

// `n` tasks that each wait ten times on a shared channel and on one of their own, and are woken
// through their own.
absl::Duration TimeWithSharedChannel(int n) {
  const absl::Time start = absl::Now();
  Chan<bool> shared(0);
  std::vector<Chan<bool>> own;
  for (int i = 0; i < n; ++i) own.emplace_back(0);
  {
    Tasks tasks;
    for (int i = 0; i < n; ++i) {
      tasks.Go([&shared, mine = own[i]] {
        for (int j = 0; j < 10; ++j) Select(shared.OnRecv(), mine.OnRecv());
      });
    }
    Yield();
    for (int j = 0; j < 10; ++j) {
      for (const Chan<bool>& c : own) c.Send(true);
    }
  }
  return absl::Now() - start;
}

TEST(SelectConformanceGoroutines, SE20_LeavingAQueueTakesConstantTime) {
  testing::current_world = {testing::World::TasksAre::kGoroutines, 1};
  testing::RunOnGoroutine([] {
    int bad = 0;
    for (int n = Rounds(1000, 250);; n *= 2) {
      const absl::Duration one = TimeWithSharedChannel(n);
      const absl::Duration two = TimeWithSharedChannel(2 * n);
      // The ratio of short times says nothing.
      if (one > absl::Milliseconds(2) && two >= 3 * one && ++bad == 5) {
        FAIL() << "time is not linear: " << one << " for " << n << ", " << two << " for twice that";
      }
      if (one + two >= absl::Milliseconds(Rounds(300, 15)) || n >= 32'000) break;
    }
  });
}

// SE-21: locals of the caller that a waiting select will write to, on a stack that has grown before
// and grows afterwards. tests/stacks/channels_test.cc has it rest and move meanwhile.
__attribute__((noinline)) int UseStack(int depth) {
  volatile char frame[1024];
  frame[0] = static_cast<char>(depth);
  const int below = depth == 0 ? 0 : UseStack(depth - 1);
  return below + frame[0] - static_cast<char>(depth) + 1;
}

TEST_P(SelectConformance, SE21_LocalsOfAWaitingSelectStayValid) {
  Run([] {
    Chan<std::unique_ptr<int>> c(0);
    Chan<int> d(0);
    Chan<int> ready1(0);
    Chan<int> ready2(0);
    Tasks tasks;
    tasks.Go([&] {
      const auto receive_deep = [&](int depth) {
        EXPECT_EQ(UseStack(depth), depth + 1);
        int x = 0;
        std::unique_ptr<int> value;
        const auto take = [&](std::optional<std::unique_ptr<int>> v) {
          if (v.has_value()) value = *std::move(v);
          ++x;
        };
        // Each channel twice.
        ready1.Send(1);
        Select(c.OnRecv(take), c.OnRecv(take), d.OnRecv([&] { x += 10; }),
               d.OnRecv([&] { x += 10; }));
        EXPECT_EQ(UseStack(2 * depth), 2 * depth + 1);
        if (x == 1) EXPECT_EQ(*value, 42);
        return x;
      };
      EXPECT_EQ(receive_deep(10), 1);
      EXPECT_EQ(receive_deep(30), 1);
      ready2.Send(1);
      EXPECT_EQ(receive_deep(20), 10);
    });
    ready1.Recv();
    c.Send(std::make_unique<int>(42));
    ready1.Recv();
    c.Send(std::make_unique<int>(42));
    ready2.Recv();
    ready1.Recv();
    d.Close();
  });
}

}  // namespace
}  // namespace weft
