// What a goroutine that waits in one of Weft's own calls has on its stacks, the caller's frame
// included. What is on the pinned stack costs it a page for as long as it waits, so that should be
// nothing; what is on the other one is what its block holds.
//
// In optimized builds only: else compilers keep every local that anybody mentions the address of.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "chan/chan.h"
#include "chan/select.h"
#include "netpoll/net.h"
#include "sched/goroutine.h"
#include "sched/snapshot.h"
#include "sched/sync/mutex.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "stack/mode.h"

namespace weft {
namespace {

constexpr absl::string_view kWaiter = "waiter";

struct Stacks {
  uint64_t used;
  uint64_t pinned;
};

// Starts a goroutine that runs `wait`, and says what it has on its stacks once it waits. `wake`
// ends the wait.
template <typename Wait>
Stacks OnStacksOf(Wait wait, const std::function<void()>& wake) {
  Go({.name = kWaiter}, wait);
  std::optional<Stacks> stacks;
  EXPECT_TRUE(testing::Eventually([&] {
    for (const GoroutineSnapshot& g : GetGoroutineSnapshots()) {
      if (g.name == kWaiter && g.status == 4) stacks = Stacks{g.stack_used, g.pinned_stack_used};
    }
    return stacks.has_value();
  }));
  wake();
  EXPECT_TRUE(testing::Eventually([] { return NumGoroutine() == 0; }));
  return stacks.value_or(Stacks{0, 0});
}

void Expect(const char* call, const Stacks& stacks, uint64_t most_used, uint64_t most_pinned = 0) {
  std::printf("%-34s %4d used, %4d pinned\n", call, static_cast<int>(stacks.used),
              static_cast<int>(stacks.pinned));
  EXPECT_LE(stacks.pinned, most_pinned) << call;
  EXPECT_LE(stacks.used, most_used) << call;
}

class WaitingStacksTest : public ::testing::Test {
 protected:
  void SetUp() override {
#ifndef NDEBUG
    GTEST_SKIP() << "the build is not optimized";
#endif
    if (!stack::kHasPinnedStack) GTEST_SKIP() << "there is no pinned stack";
    // Clang 14, say, for which there is no escape pass: it pins more, and it matters less.
    if (!stack::kMayMove) GTEST_SKIP() << "who waits keeps all of the stack";
  }
};

// Its move may throw, so it travels in a box.
struct Throwing {
  Throwing() = default;
  Throwing(Throwing&& other) : value(other.value) {}
  int value = 0;
};

TEST_F(WaitingStacksTest, Channels) {
  Chan<int> ints(0);
  Chan<std::string> strings(0);
  Chan<Throwing> boxed(0);
  Expect("Chan<int>::Recv", OnStacksOf([=] { ints.Recv(); }, [&] { ints.Send(1); }), 256);
  Expect("Chan<int>::Send", OnStacksOf([=] { ints.Send(1); }, [&] { ints.Recv(); }), 256);
  Expect("for (int x : Chan<int>)",
         OnStacksOf(
             [=] {
               for (const int x : ints) static_cast<void>(x);
             },
             [&] { ints.Close(); }),
         384);
  Expect("Chan<std::string>::Recv", OnStacksOf([=] { strings.Recv(); }, [&] { strings.Send("a"); }),
         384);
  Expect("Chan<boxed>::Recv", OnStacksOf([=] { boxed.Recv(); }, [&] { boxed.Send(Throwing()); }),
         384);
}

TEST_F(WaitingStacksTest, Select) {
  Chan<int> a(0);
  Chan<int> b(0);
  static int64_t sum;
  sum = 0;
  const auto add = [](std::optional<int> v) { sum += v.value_or(0); };
  Expect("Select of two receives",
         OnStacksOf([=] { Select(a.OnRecv(add), b.OnRecv(add)); }, [&] { a.Send(1); }), 512);
  Expect("Select of a receive and After",
         OnStacksOf([=] { Select(a.OnRecv(add), After(absl::Hours(1))); }, [&] { a.Send(1); }),
         512);
  EXPECT_EQ(sum, 2);
}

// Locked by one thread and unlocked by another.
void WaitForAMutex() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  static Mutex mutex;
  mutex.Lock();
  Expect("Mutex::Lock",
         OnStacksOf(
             [] {
               mutex.Lock();
               mutex.Unlock();
             },
             []() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.Unlock(); }),
         512);
}

TEST_F(WaitingStacksTest, Sync) {
  WaitForAMutex();
  static WaitGroup group;
  group.Add(1);
  Expect("WaitGroup::Wait", OnStacksOf([] { group.Wait(); }, [] { group.Done(); }), 384);
}

TEST_F(WaitingStacksTest, Sleep) {
  Expect("Sleep", OnStacksOf([] { Sleep(absl::Milliseconds(500)); }, [] {}), 384);
}

// A StatusOr is returned in memory, which is the caller's and pinned.
TEST_F(WaitingStacksTest, Net) {
  auto listener = Listen("tcp", "127.0.0.1:0");
  ASSERT_TRUE(listener.ok()) << listener.status();
  static std::array<char, 64> buffer;
  std::optional<Conn> accepted;
  std::optional<Conn> dialed;
  Expect("Listener::Accept",
         OnStacksOf(
             [&] {
               auto c = listener->Accept();
               if (c.ok()) accepted = *std::move(c);
             },
             [&] {
               testing::RunOnGoroutine([&] {
                 auto c = Dial("tcp", listener->addr().ToString());
                 if (c.ok()) dialed = *std::move(c);
               });
             }),
         1024, 512);
  ASSERT_TRUE(accepted.has_value() && dialed.has_value());
  Expect("Conn::Read",
         OnStacksOf([&] { static_cast<void>(accepted->Read(absl::MakeSpan(buffer))); },
                    [&] { static_cast<void>(dialed->Write("x")); }),
         1024, 512);
}

}  // namespace
}  // namespace weft
