// Events do not overtake goroutines that wait already.
#include <atomic>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/test_util.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::ConnPair;
using testing::MakePair;
using testing::RunOnGoroutine;
using testing::TaskGroup;
using testing::TaskKind;

// One P holds goroutines and does not come to them; the poller has something new for the other P
// each time that it asks. Time is counted in round trips, so a slow machine counts slowly.
void HelpBeforeThePoller() {
  constexpr int kPairs = 4, kTasks = 64;
  // A few hundred are what a thread runs before the system takes its core away. Unhelped, it goes
  // on for hundreds of thousands.
  constexpr int64_t kSoon = 10'000;
  std::vector<ConnPair> pairs;
  for (int i = 0; i < kPairs; ++i) pairs.push_back(MakePair());
  std::atomic<bool> stop{false};
  std::atomic<int64_t> trips{0};
  std::atomic<int> done{0};
  int64_t first = 0;
  std::atomic<int64_t> last{0};
  {
    TaskGroup group(TaskKind::kGoroutine);
    for (const ConnPair& pair : pairs) {
      group.Go([&] {
        char buffer[64];
        for (;;) {
          const absl::StatusOr<size_t> n = pair.server.Read(absl::MakeSpan(buffer));
          if (!n.ok() || *n == 0) return;
          if (!pair.server.Write(absl::string_view(buffer, *n)).ok()) return;
        }
      });
      group.Go([&] {
        char buffer[16] = {};
        while (!stop.load()) {
          ASSERT_TRUE(pair.client.Write(absl::string_view(buffer, sizeof(buffer))).ok());
          ASSERT_TRUE(pair.client.ReadFull(absl::MakeSpan(buffer)).ok());
          trips.fetch_add(1);
        }
        ASSERT_TRUE(pair.client.CloseWrite().ok());
      });
    }
    group.Go([&] {
      while (trips.load() < 100) Yield();
      // The last one made is to run next here, whenever that is: so the last but one tells how long
      // it took. (This thread, which only waits, may be kept from running for long.)
      for (int i = 0; i < kTasks; ++i) {
        group.Go([&] {
          if (done.fetch_add(1) == kTasks - 2) last.store(trips.load());
        });
      }
      first = trips.load();
      const Instant limit = Instant::Now() + absl::Seconds(30);
      while (done.load() < kTasks - 1 && Instant::Now() < limit) {
      }
      stop.store(true);
    });
    group.Wait();
  }
  EXPECT_EQ(done.load(), kTasks);
  EXPECT_LT(last.load() - first, kSoon);
}

TEST(BacklogTest, APHelpsAnotherBeforeItLooksAtThePoller) {
  const int old_procs = MaxProcs();
  for (const int procs : testing::AllInTurn({2, 4})) {
    SCOPED_TRACE(procs);
    SetMaxProcs(procs);
    RunOnGoroutine(HelpBeforeThePoller);
  }
  SetMaxProcs(old_procs);
}

}  // namespace
}  // namespace weft
