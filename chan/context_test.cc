// What chan/context.h promises; the cases of Go's tests, CX-01 to CX-19, among it.
#include "chan/context.h"

#include <atomic>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/select.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/sync/err_group.h"
#include "sched/sync/semaphore.h"
#include "sched/sync/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Eventually;
using testing::Rounds;
using testing::Tasks;

class ContextTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, ContextTest, testing::Worlds(), testing::WorldName);

const absl::Status kCanceled = absl::CancelledError("context canceled");
const absl::Status kLate = absl::DeadlineExceededError("context deadline exceeded");

bool IsDone(const Context& c) { return c.Done().TryRecv().result == TryResult::kClosed; }

void ExpectDone(const Context& c, const absl::Status& err, const absl::Status& cause) {
  EXPECT_TRUE(IsDone(c)) << c.DebugString();
  EXPECT_EQ(c.Err(), err) << c.DebugString();
  EXPECT_EQ(Cause(c), cause) << c.DebugString();
}
void ExpectNotDone(const Context& c) {
  EXPECT_FALSE(IsDone(c)) << c.DebugString();
  EXPECT_TRUE(c.Err().ok()) << c.DebugString();
  EXPECT_TRUE(Cause(c).ok()) << c.DebugString();
}

template <typename T>
struct Key {
  T value;
  bool operator==(const Key&) const = default;
};
struct OtherKey {
  int value;
  bool operator==(const OtherKey&) const = default;
};

TEST_P(ContextTest, CX01_RootsAreNeverDone) {
  Run([] {
    for (const Context& root : {Background(), TODO()}) {
      EXPECT_TRUE(root.Done().is_nil());
      EXPECT_TRUE(root.Err().ok());
      EXPECT_FALSE(root.Deadline().has_value());
      EXPECT_EQ(root.Value<int>(Key<int>{1}), nullptr);
    }
    EXPECT_EQ(Background().DebugString(), "context.Background");
    EXPECT_EQ(TODO().DebugString(), "context.TODO");
    EXPECT_EQ(WithoutCancel(WithCancel(TODO()).context).DebugString(),
              "context.TODO.WithCancel.WithoutCancel");
    EXPECT_EQ(Background(), Background());
  });
}

TEST_P(ContextTest, CX03_ParentFinishesItsChildren) {
  Run([] {
    auto [parent, cancel] = WithCancel(Background());
    const Context child = WithCancel(parent).context;
    const Context value = WithValue(parent, Key<int>{1}, std::string("v"));
    const Context child_of_value = WithCancel(value).context;
    const Context timer = WithTimeout(value, absl::Hours(1)).context;
    EXPECT_EQ(internal::CountChildren(parent), 3);
    for (const Context& c : {parent, child, value, child_of_value, timer}) ExpectNotDone(c);
    cancel();
    for (const Context& c : {parent, child, value, child_of_value, timer}) {
      ExpectDone(c, kCanceled, kCanceled);
    }
    EXPECT_EQ(internal::CountChildren(parent), 0);
    ExpectDone(WithCancel(parent).context, kCanceled, kCanceled);
    ExpectDone(WithTimeout(value, absl::Hours(1)).context, kCanceled, kCanceled);
    EXPECT_EQ(internal::CountChildren(parent), 0);
    cancel();
  });
}

TEST_P(ContextTest, CX04_ChildThatIsCancelledOrDroppedLeavesItsParent) {
  Run([] {
    const Context parent = WithCancel(Background()).context;
    {
      auto [child, cancel] = WithCancel(parent);
      auto [late, cancel_late] = WithTimeout(parent, absl::Minutes(60));
      EXPECT_EQ(internal::CountChildren(parent), 2);
      cancel();
      EXPECT_EQ(internal::CountChildren(parent), 1);
      cancel_late();
      EXPECT_EQ(internal::CountChildren(parent), 0);
      ExpectDone(child, kCanceled, kCanceled);
    }
    {
      const Context dropped = WithCancel(parent).context;
      const Context with_timer = WithTimeout(parent, absl::Hours(1)).context;
      const StopFunc stop = AfterFunc(parent, [] { ADD_FAILURE(); });
      EXPECT_EQ(internal::CountChildren(parent), 3);
      EXPECT_TRUE(stop());
    }
    EXPECT_EQ(internal::CountChildren(parent), 0);
    ExpectNotDone(parent);
  });
}

TEST_P(ContextTest, DeadlinesPass) {
  Run([] {
    const Instant start = Instant::Now();
    const Context c = WithTimeout(Background(), absl::Milliseconds(20)).context;
    const Context child = WithValue(WithCancel(c).context, Key<int>{1}, 1);
    EXPECT_EQ(child.Deadline(), c.Deadline());
    EXPECT_FALSE(c.Done().Recv().has_value());
    EXPECT_GE(Instant::Now() - start, absl::Milliseconds(20));
    ExpectDone(c, kLate, kLate);
    child.Done().Recv();  // right after
    ExpectDone(child, kLate, kLate);
    // The nearer one counts.
    const Context sooner = WithDeadline(Background(), absl::Now() + absl::Hours(1)).context;
    EXPECT_EQ(WithTimeout(sooner, absl::Hours(2)).context.Deadline(), sooner.Deadline());
    EXPECT_LT(*WithTimeout(sooner, absl::Minutes(1)).context.Deadline(), *sooner.Deadline());
    // One that has passed.
    ExpectDone(WithDeadline(sooner, absl::Now() - absl::Seconds(1)).context, kLate, kLate);
    ExpectDone(WithTimeout(sooner, absl::ZeroDuration()).context, kLate, kLate);
    // Never.
    const Context never = WithTimeout(Background(), absl::InfiniteDuration()).context;
    ExpectNotDone(never);
    EXPECT_FALSE(never.Deadline().has_value());
  });
}

TEST_P(ContextTest, CX06_CancelledBeforeItsTimeIsCancelled) {
  Run([] {
    auto [c, cancel] = WithTimeout(Background(), absl::Hours(1));
    auto [d, cancel_d] = WithTimeout(c, absl::Hours(1));
    cancel();
    ExpectDone(c, kCanceled, kCanceled);
    ExpectDone(d, kCanceled, kCanceled);
  });
}

TEST_P(ContextTest, CX07_ValuesAreThoseOfTheNearestParent) {
  Run([] {
    const Context c1 = WithValue(Background(), Key<int>{1}, std::string("c1k1"));
    const Context c2 = WithValue(c1, Key<int>{2}, std::string("c2k2"));
    const Context c3 = WithValue(c2, OtherKey{1}, 3);
    const auto value = [](const Context& c, const auto& key) {
      const std::string* v = c.Value<std::string>(key);
      return v == nullptr ? "none" : *v;
    };
    EXPECT_EQ(value(c1, Key<int>{1}), "c1k1");
    EXPECT_EQ(value(c1, Key<int>{2}), "none");
    EXPECT_EQ(value(c3, Key<int>{1}), "c1k1") << "keys of different types differ";
    EXPECT_EQ(value(c3, Key<int>{2}), "c2k2");
    EXPECT_EQ(value(c3, OtherKey{1}), "none") << "it is no string";
    EXPECT_EQ(*c3.Value<int>(OtherKey{1}), 3);
    EXPECT_EQ(value(c3, Key<int64_t>{1}), "none");
    const Context shadowed = WithValue(WithCancel(c3).context, Key<int>{1}, std::nullopt);
    EXPECT_EQ(value(shadowed, Key<int>{1}), "none");
    EXPECT_EQ(value(shadowed, Key<int>{2}), "c2k2");
    EXPECT_EQ(value(WithoutCancel(c3), Key<int>{2}), "c2k2");
  });
}

TEST_P(ContextTest, CX09_CancellingChildAndParentAtOnce) {
  Run([] {
    for (int i = 0; i < Rounds(200); ++i) {
      auto [parent, cancel_parent] = WithCancel(Background());
      auto [child, cancel_child] = WithCancel(parent);
      Tasks tasks;
      tasks.Go([parent = parent, cancel_child = cancel_child] {
        parent.Done().Recv();
        cancel_child();
      });
      cancel_parent();
      child.Done().Recv();
      tasks.Wait();
    }
  });
}

TEST_P(ContextTest, CX10_EndOfAnyLayerIsTheEndOfTheTop) {
  Run([] {
    std::minstd_rand random(5);
    for (int round = 0; round < Rounds(50); ++round) {
      const bool by_time = round % 2 == 0;
      constexpr int kLayers = 30;
      std::vector<std::pair<Key<int>, int>> values;
      std::vector<CancelFunc> cancels;
      Context c = Background();
      int timers = 0;
      for (int i = 0; i < kLayers || cancels.empty() || (by_time && timers == 0); ++i) {
        switch (random() % 3) {
          case 0:
            values.emplace_back(Key<int>{i}, i * 10);
            c = WithValue(c, values.back().first, values.back().second);
            break;
          case 1: {
            ContextWithCancel child = WithCancel(c);
            c = std::move(child.context);
            cancels.push_back(std::move(child.cancel));
            break;
          }
          default: {
            const absl::Duration wait =
                by_time ? absl::Milliseconds(2 + random() % 10) : absl::Hours(1);
            ContextWithCancel child = WithTimeout(c, wait);
            c = std::move(child.context);
            cancels.push_back(std::move(child.cancel));
            ++timers;
          }
        }
      }
      const auto check_values = [&] {
        for (const auto& [key, value] : values) EXPECT_EQ(*c.Value<int>(key), value);
      };
      check_values();
      if (by_time) {
        EXPECT_EQ(Select(c.Done().OnRecv(), After(absl::Seconds(30))), 0);
        EXPECT_EQ(c.Err(), kLate);
      } else {
        ExpectNotDone(c);
        cancels[random() % cancels.size()]();
        ExpectDone(c, kCanceled, kCanceled);
      }
      check_values();
    }
  });
}

template <typename K>
concept CanBeKey = requires(const Context& c, const K& k) { c.Value<int>(k); };
struct Uncomparable {};
static_assert(CanBeKey<OtherKey> && !CanBeKey<Uncomparable>, "CX-12");

TEST(ContextDeathTest, CX12_NilParentPanics) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const ::testing::ExitedWithCode fatal(2);
  const char kText[] = "panic: cannot create context from nil parent";
  EXPECT_EXIT(static_cast<void>(WithCancel(Context())), fatal, kText);
  EXPECT_EXIT(static_cast<void>(WithTimeout(Context(), absl::Seconds(1))), fatal, kText);
  EXPECT_EXIT(WithValue(Context(), OtherKey{1}, 1), fatal, kText);
  EXPECT_EXIT(WithoutCancel(Context()), fatal, kText);
  EXPECT_EXIT(static_cast<void>(Context().Err()), fatal, "panic: context: use of a nil Context");
}

// Passes everything on.
class PassThrough : public CustomContext {
 public:
  using CustomContext::CustomContext;
};

// Has a channel and an error of its own.
class OwnDone : public CustomContext {
 public:
  explicit OwnDone(Context held) : CustomContext(std::move(held)) {}
  void Finish(absl::Status why) {
    err_ = std::move(why);
    done_.Close();
  }
  DoneChan Done() const override { return done_; }
  absl::Status Err() const override {
    return done_.TryRecv().result == TryResult::kClosed ? err_ : absl::OkStatus();
  }

 private:
  Chan<std::monostate> done_{0};
  absl::Status err_;
};

// Makes one, and keeps the object at hand.
struct Owned {
  OwnDone* node;
  Context context;
};
Owned MakeOwnDone(const Context& held) {
  struct Catcher : OwnDone {
    Catcher(Context h, OwnDone** out) : OwnDone(std::move(h)) { *out = this; }
  };
  OwnDone* node = nullptr;
  Context context = MakeContext<Catcher>(held, &node);
  return {node, std::move(context)};
}

TEST(ContextGoroutinesTest, CX13_OnlyForeignChannelsTakeAGoroutine) {
  const int64_t before = NumGoroutine();
  const auto goroutines = [&] { return NumGoroutine() - before; };
  auto [parent, cancel] = WithCancel(Background());
  const Context timeout = WithTimeout(parent, absl::Hours(1)).context;
  const Context through = MakeContext<PassThrough>(WithValue(timeout, OtherKey{1}, 1));
  const Context of_through = WithCancel(through).context;
  const Context last = WithTimeout(of_through, absl::Minutes(30)).context;
  EXPECT_EQ(goroutines(), 0);
  EXPECT_EQ(*last.Value<int>(OtherKey{1}), 1);
  auto [own, own_context] = MakeOwnDone(last);
  EXPECT_EQ(goroutines(), 0);
  auto [of_own, cancel_of_own] = WithCancel(own_context);
  EXPECT_EQ(goroutines(), 1);
  const Context below = WithCancel(of_own).context;
  EXPECT_EQ(goroutines(), 1) << "that one is known again";
  cancel_of_own();
  EXPECT_TRUE(Eventually([&] { return goroutines() == 0; }));
  ExpectDone(below, kCanceled, kCanceled);
  cancel();
  ExpectDone(last, kCanceled, kCanceled);
}

TEST_P(ContextTest, CX19_CancellationPassesThroughContextsOfTheUser) {
  Run([] {
    const absl::Status cause = absl::DataLossError("the disk");
    {
      auto [parent, cancel] = WithCancelCause(Background());
      const Context custom = MakeContext<PassThrough>(parent);
      const Context child = WithCancel(custom).context;
      cancel(cause);
      ExpectDone(custom, kCanceled, cause);
      ExpectDone(child, kCanceled, cause);
    }
    {
      auto [own, custom] = MakeOwnDone(Background());
      const Context child = WithCancel(custom).context;
      std::atomic<bool> called{false};
      AfterFunc(custom, [&] { called = true; });
      ExpectNotDone(child);
      own->Finish(absl::AbortedError("by itself"));
      child.Done().Recv();
      ExpectDone(child, absl::AbortedError("by itself"), absl::AbortedError("by itself"));
      EXPECT_TRUE(Eventually([&] { return called.load(); }));
    }
    {
      auto [own, custom] = MakeOwnDone(Background());
      auto [child, cancel] = WithCancelCause(custom);
      const StopFunc stop = AfterFunc(custom, [] { ADD_FAILURE(); });
      cancel(cause);
      ExpectDone(child, kCanceled, cause);
      ExpectNotDone(custom);
      EXPECT_TRUE(stop());
      EXPECT_FALSE(stop());
      own->Finish(kCanceled);
    }
  });
}

TEST_P(ContextTest, CX15_CausesAreThoseOfTheFirst) {
  Run([] {
    const absl::Status mine = absl::NotFoundError("mine");
    const absl::Status theirs = absl::AbortedError("theirs");
    const absl::Status too_slow = absl::UnavailableError("too slow");
    {
      auto [c, cancel] = WithCancel(Background());
      ExpectNotDone(c);
      cancel();
      ExpectDone(c, kCanceled, kCanceled);
    }
    {
      auto [c, cancel] = WithCancelCause(Background());
      ExpectNotDone(c);
      cancel(mine);
      cancel(theirs);
      ExpectDone(c, kCanceled, mine);
    }
    {
      auto [c, cancel] = WithCancelCause(Background());
      cancel(absl::OkStatus());
      ExpectDone(c, kCanceled, kCanceled);
    }
    for (const bool parent_first : {true, false}) {
      auto [parent, cancel_parent] = WithCancelCause(Background());
      auto [child, cancel_child] = WithCancelCause(parent);
      if (parent_first) cancel_parent(theirs);
      cancel_child(mine);
      if (!parent_first) cancel_parent(theirs);
      ExpectDone(parent, kCanceled, theirs);
      ExpectDone(child, kCanceled, parent_first ? theirs : mine);
    }
    {
      // Between the two, a context with nothing to say.
      auto [parent, cancel_parent] = WithCancelCause(Background());
      auto [middle, cancel_middle] = WithCancel(parent);
      auto [child, cancel_child] = WithCancelCause(middle);
      cancel_parent(theirs);
      cancel_middle();
      cancel_child(mine);
      ExpectDone(child, kCanceled, theirs);
    }
    {
      auto [parent, cancel_parent] = WithCancelCause(Background());
      auto [middle, cancel_middle] = WithCancel(parent);
      auto [child, cancel_child] = WithCancelCause(middle);
      cancel_middle();
      cancel_parent(theirs);
      ExpectDone(middle, kCanceled, kCanceled);
      ExpectDone(child, kCanceled, kCanceled);
      ExpectDone(parent, kCanceled, theirs);
    }
    {
      const Context c = WithTimeout(Background(), absl::ZeroDuration()).context;
      ExpectDone(c, kLate, kLate);
    }
    for (const absl::Duration wait : {absl::ZeroDuration(), absl::Milliseconds(1)}) {
      const Context c = WithTimeout(Background(), wait, too_slow).context;
      c.Done().Recv();
      ExpectDone(c, kLate, too_slow);
    }
    {
      auto [c, cancel] = WithTimeout(Background(), absl::Hours(1), too_slow);
      cancel();
      ExpectDone(c, kCanceled, kCanceled);
    }
    {
      auto [parent, cancel] = WithCancelCause(Background());
      const Context c = WithTimeout(parent, absl::Hours(1), too_slow).context;
      cancel(theirs);
      ExpectDone(c, kCanceled, theirs);
    }
    {
      auto [parent, cancel] = WithCancelCause(Background());
      const Context detached = WithoutCancel(parent);
      auto [child, cancel_child] = WithCancelCause(detached);
      cancel(theirs);
      EXPECT_TRUE(detached.Err().ok());
      EXPECT_TRUE(Cause(detached).ok());
      EXPECT_TRUE(detached.Done().is_nil());
      ExpectNotDone(child);
      cancel_child(mine);
      ExpectDone(child, kCanceled, mine);
      EXPECT_TRUE(Cause(detached).ok());
    }
    EXPECT_TRUE(Cause(Background()).ok());
  });
}

TEST_P(ContextTest, CX16_CauseIsNoneAndThenTheOne) {
  Run([] {
    const absl::Status cause = absl::DataLossError("the one");
    for (int i = 0; i < Rounds(100); ++i) {
      auto [c, cancel] = WithCancelCause(Background());
      Tasks tasks;
      tasks.Go([cancel = cancel, &cause] { cancel(cause); });
      for (;;) {
        const absl::Status seen = Cause(c);
        if (seen.ok()) {
          Yield();
          continue;
        }
        EXPECT_EQ(seen, cause);
        break;
      }
      tasks.Wait();
    }
  });
}

TEST_P(ContextTest, CX18_FunctionsAreCalledWhenItIsDone) {
  Run([] {
    {
      auto [c, cancel] = WithCancel(Background());
      Chan<bool> called(0);
      AfterFunc(c, [called] { called.Send(true); });
      EXPECT_EQ(called.TryRecv().result, TryResult::kWouldBlock);
      cancel();  // does not wait for the function, which waits for this
      EXPECT_TRUE(called.Recv().has_value());
    }
    {
      const Context c = WithTimeout(Background(), absl::Milliseconds(5)).context;
      Chan<bool> called(0);
      AfterFunc(c, [called] { called.Send(true); });
      EXPECT_TRUE(called.Recv().has_value());
    }
    {
      auto [c, cancel] = WithCancel(Background());
      cancel();
      Chan<bool> called(0);
      const StopFunc stop = AfterFunc(c, [called] { called.Send(true); });
      EXPECT_FALSE(stop());
      EXPECT_TRUE(called.Recv().has_value());
    }
    {
      auto [c, cancel] = WithCancel(Background());
      const auto captured = std::make_shared<int>(0);
      const StopFunc stop = AfterFunc(c, [captured] { ADD_FAILURE() << "stopped"; });
      EXPECT_EQ(captured.use_count(), 2);
      EXPECT_TRUE(stop());
      EXPECT_EQ(captured.use_count(), 1);
      EXPECT_FALSE(stop());
      cancel();
      EXPECT_EQ(internal::CountChildren(c), 0);
    }
    {
      const StopFunc stop = AfterFunc(Background(), [] { ADD_FAILURE() << "never done"; });
      EXPECT_TRUE(stop());
      EXPECT_FALSE(stop());
    }
    {
      // It keeps its context: the parent reaches it though nobody else has a handle.
      auto [parent, cancel] = WithCancel(Background());
      Chan<bool> called(0);
      AfterFunc(WithCancel(parent).context, [called] { called.Send(true); });
      cancel();
      EXPECT_TRUE(called.Recv().has_value());
    }
  });
}

TEST_P(ContextTest, StoppingRacesWithCancelling) {
  Run([] {
    for (int i = 0; i < Rounds(300); ++i) {
      auto [c, cancel] = WithCancel(Background());
      auto calls = std::make_shared<std::atomic<int>>(0);
      const StopFunc stop = AfterFunc(c, [calls] { ++*calls; });
      Tasks tasks;
      tasks.Go([cancel = cancel] { cancel(); });
      const bool stopped = stop();
      tasks.Wait();
      if (!stopped) {
        EXPECT_TRUE(Eventually([&] { return *calls == 1; }));
      } else {
        EXPECT_EQ(*calls, 0);
      }
    }
  });
}

// A tree whose parts are made, cancelled, dropped and run out of time all at once.
TEST_P(ContextTest, TreesChangeWhileTheyAreCancelled) {
  Run([] {
    for (int round = 0; round < Rounds(30); ++round) {
      auto [root, cancel] = WithCancelCause(Background());
      Tasks tasks;
      for (int t = 0; t < 4; ++t) {
        tasks.Go([root = root, t, round] {
          std::minstd_rand random(static_cast<unsigned>(round * 4 + t) + 1);
          std::vector<ContextWithCancel> all = {WithCancel(root)};
          std::vector<DoneChan> kept;
          while (root.Err().ok() || random() % 50 != 0) {
            const Context parent = all[random() % all.size()].context;
            switch (random() % 6) {
              case 0:
                all.push_back(WithCancel(parent));
                break;
              case 1:
                all.push_back(WithTimeout(parent, absl::Microseconds(random() % 300)));
                break;
              case 2:
                all[random() % all.size()].cancel();
                break;
              case 3:
                if (all.size() > 1) all.erase(all.begin() + 1);
                break;
              case 4:
                // The channel alone keeps its context, and so its place in the tree.
                kept.push_back(WithCancel(WithValue(parent, OtherKey{1}, 1)).context.Done());
                break;
              default:
                AfterFunc(parent, [] {});
            }
            if (random() % 8 == 0) Yield();
          }
          for (const ContextWithCancel& c : all) {
            c.context.Done().Recv();  // the root is first, and they follow
            EXPECT_FALSE(c.context.Err().ok());
          }
          for (const DoneChan& done : kept) EXPECT_FALSE(done.Recv().has_value());
        });
      }
      Sleep(absl::Microseconds(500));
      cancel(absl::AbortedError("enough"));
      tasks.Wait();
      EXPECT_EQ(internal::CountChildren(root), 0);
    }
  });
}

TEST_P(ContextTest, DeepTreesAreCancelledWithoutRecursion) {
  Run([] {
    auto [root, cancel] = WithCancel(Background());
    std::vector<Context> chain = {root};
    for (int i = 0; i < Rounds(5000); ++i) chain.push_back(WithCancel(chain.back()).context);
    cancel();
    for (const Context& c : chain) EXPECT_FALSE(c.Err().ok());
    // From the leaf upward, so that none takes the next with it.
    while (!chain.empty()) chain.pop_back();
  });
}

TEST_P(ContextTest, SemaphoresAreWaitedForUntilItIsDone) {
  Run([] {
    Semaphore semaphore(2);
    auto [c, cancel] = WithCancel(Background());
    EXPECT_TRUE(semaphore.Acquire(Background(), 1).ok());
    EXPECT_TRUE(semaphore.Acquire(c).ok());
    Tasks tasks;
    tasks.Go([&, c = c] { EXPECT_EQ(semaphore.Acquire(c, 2), kCanceled); });
    tasks.Go([&, c = c] { EXPECT_EQ(semaphore.Acquire(c, 3), kCanceled) << "never so many"; });
    for (int i = 0; i < 20; ++i) Yield();
    cancel();
    tasks.Wait();
    EXPECT_EQ(semaphore.Acquire(c, 0), kCanceled) << "done before";
    tasks.Go([&] { EXPECT_TRUE(semaphore.Acquire(Background(), 2).ok()); });
    semaphore.Release(2);
    tasks.Wait();
    semaphore.Release(2);
    EXPECT_EQ(semaphore.available(), 2);
  });
}

TEST_P(ContextTest, SemaphoreAndCancellationRace) {
  Run([] {
    Semaphore semaphore(3);
    for (int i = 0; i < Rounds(300); ++i) {
      auto [c, cancel] = WithCancel(Background());
      Tasks tasks;
      semaphore.Acquire(3);
      for (int64_t n = 1; n <= 3; ++n) {
        tasks.Go([&, c = c, n] {
          if (semaphore.Acquire(c, n).ok()) semaphore.Release(n);
        });
      }
      tasks.Go([cancel = cancel] { cancel(); });
      if (i % 3 == 0) Yield();
      semaphore.Release(3);
      tasks.Wait();
      ASSERT_EQ(semaphore.available(), 3);
    }
  });
}

TEST_P(ContextTest, ErrGroupCancelsTheRest) {
  Run([] {
    const absl::Status failure = absl::DataLossError("first");
    auto [c, cancel] = WithCancelCause(Background());
    ErrGroup group(cancel);
    for (int i = 0; i < 5; ++i) {
      group.Go([c = c] {
        c.Done().Recv();
        return c.Err();
      });
    }
    group.Go([&] { return failure; });
    EXPECT_EQ(group.Wait(), failure);
    ExpectDone(c, kCanceled, failure);

    auto [d, cancel_d] = WithCancelCause(Background());
    ErrGroup fine(cancel_d);
    fine.Go([] {});
    EXPECT_TRUE(fine.Wait().ok());
    ExpectDone(d, kCanceled, kCanceled);
  });
}

}  // namespace
}  // namespace weft
