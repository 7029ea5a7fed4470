#include "sched/sync/cond.h"

#include <atomic>
#include <functional>
#include <memory>
#include <numeric>
#include <type_traits>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/sync/mutex.h"
#include "sched/sync/rw_mutex.h"
#include "sched/sync/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Eventually;
using testing::Rounds;
using testing::Tasks;

class CondTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, CondTest, testing::Worlds(), testing::WorldName);

static_assert(!std::is_copy_constructible_v<Cond> && !std::is_move_constructible_v<Cond>, "SY-18");

template <typename T>
struct Guarded {
  Mutex mutex;
  T value ABSL_GUARDED_BY(mutex){};

  T Get() {
    MutexLock lock(mutex);
    return value;
  }
};

TEST_P(CondTest, SY13_SignalWakesOneAtATime) {
  Run([] {
    constexpr int kWaiters = 10;
    Guarded<int> waiting;
    Cond cond;
    std::atomic<int> awake{0};
    Tasks tasks;
    for (int i = 0; i < kWaiters; ++i) {
      tasks.Go([&] {
        MutexLock lock(waiting.mutex);
        ++waiting.value;
        cond.Wait(waiting.mutex);
        ++awake;
      });
    }
    EXPECT_TRUE(Eventually([&] { return waiting.Get() == kWaiters; }));
    for (int i = 0; i < kWaiters; ++i) {
      EXPECT_EQ(awake, i);
      cond.Signal();
      EXPECT_TRUE(Eventually([&] { return awake == i + 1; }));
      for (int n = 0; n < 10; ++n) Yield();
      EXPECT_EQ(awake, i + 1) << "one signal has woken two";
    }
    cond.Signal();  // nobody is there
    tasks.Wait();
  });
}

TEST_P(CondTest, SY14_SignalsWakeInTheOrderOfComing) {
  Run([] {
    constexpr int kWaiters = 100;
    Guarded<std::vector<int>> woken;
    Guarded<int> arrived;
    Cond cond;
    Tasks tasks;
    for (int i = 0; i < kWaiters; ++i) {
      tasks.Go([&, i] {
        MutexLock lock(arrived.mutex);
        ++arrived.value;
        cond.Wait(arrived.mutex);
        MutexLock order(woken.mutex);
        woken.value.push_back(i);
      });
      EXPECT_TRUE(Eventually([&] { return arrived.Get() == i + 1; }));
      // A signal after each arrival but the first: one is always left waiting.
      if (i == 0) continue;
      {
        MutexLock lock(arrived.mutex);
        cond.Signal();
      }
      EXPECT_TRUE(Eventually([&] { return woken.Get().size() == static_cast<size_t>(i); }));
    }
    cond.Signal();
    tasks.Wait();
    std::vector<int> expected(kWaiters);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(woken.Get(), expected);
  });
}

TEST_P(CondTest, SY15_BroadcastWakesEachOnce) {
  Run([] {
    const int waiters = Rounds(200, 20);
    const int rounds = Rounds(200, 20);
    Guarded<int> running;
    Cond cond;
    std::atomic<int> awake{0};
    bool stop = false;  // under the mutex
    Tasks tasks;
    for (int i = 0; i < waiters; ++i) {
      tasks.Go([&] {
        MutexLock lock(running.mutex);
        while (!stop) {
          ++running.value;
          cond.Wait(running.mutex);
          ++awake;
        }
      });
    }
    for (int round = 0; round < rounds; ++round) {
      EXPECT_TRUE(Eventually([&] { return running.Get() == waiters; }));
      {
        MutexLock lock(running.mutex);
        EXPECT_EQ(awake, 0);
        running.value = 0;
        if (round == rounds - 1) stop = true;
        cond.Broadcast();
      }
      EXPECT_TRUE(Eventually([&] { return awake == waiters; }));
      awake = 0;
    }
    tasks.Wait();
  });
}

TEST_P(CondTest, SY16_EachBroadcastOrSignalIsHeardByThoseWhoWaitForIt) {
  // Go's TestRace: three tasks that hand a number on.
  Run([] {
    Guarded<int> x;
    Cond cond;
    Tasks tasks;
    tasks.Go([&] {
      MutexLock lock(x.mutex);
      x.value = 1;
      cond.Wait(x.mutex);
      EXPECT_EQ(x.value, 2);
      x.value = 3;
      cond.Signal();
    });
    tasks.Go([&] {
      for (;;) {
        MutexLock lock(x.mutex);
        if (x.value == 1) {
          x.value = 2;
          cond.Signal();
          return;
        }
        Yield();
      }
    });
    tasks.Go([&] {
      for (;;) {
        {
          MutexLock lock(x.mutex);
          if (x.value == 2) {
            cond.Wait(x.mutex);
            EXPECT_EQ(x.value, 3);
            return;
          }
          if (x.value == 3) return;
        }
        Yield();
      }
    });
    tasks.Wait();
  });
}

TEST_P(CondTest, SY17_LateComerDoesNotStealTheWakeUp) {
  Run([] {
    for (int i = 0; i < Rounds(300, 50); ++i) {
      Guarded<bool> is_waiting;
      Cond cond;
      std::atomic<bool> woken{false};
      Tasks tasks;
      tasks.Go([&] {
        MutexLock lock(is_waiting.mutex);
        is_waiting.value = true;
        cond.Wait(is_waiting.mutex);
        woken = true;
      });
      EXPECT_TRUE(Eventually([&] { return is_waiting.Get(); }));
      std::atomic<bool> late_is_done{false};
      tasks.Go([&] {
        MutexLock lock(is_waiting.mutex);
        cond.Wait(is_waiting.mutex);
        late_is_done = true;
      });
      cond.Broadcast();
      EXPECT_TRUE(Eventually([&] { return woken.load(); }));
      // The late one, wherever it is.
      EXPECT_TRUE(Eventually([&] {
        cond.Broadcast();
        return late_is_done.load();
      }));
      tasks.Wait();
    }
  });
}

TEST_P(CondTest, WaitsWithALockThatIsHeldForWriting) {
  Run([] {
    RWMutex mutex;
    Cond cond;
    bool ready = false;  // under the mutex
    Tasks tasks;
    tasks.Go([&] {
      WriterLock lock(mutex);
      while (!ready) cond.Wait(mutex);
    });
    tasks.Go([&] {
      WriterLock lock(mutex);
      ready = true;
      cond.Signal();
    });
    tasks.Wait();
  });
}

TEST_P(CondTest, WhoeverIsWokenMayDestroyIt) {
  Run([] {
    struct Object {
      Mutex mutex;
      Cond cond;
      bool done = false;
    };
    for (int i = 0; i < Rounds(300); ++i) {
      auto object = std::make_unique<Object>();
      Tasks tasks;
      tasks.Go([o = object.get()] {
        MutexLock lock(o->mutex);
        o->done = true;
        o->cond.Signal();
      });
      {
        MutexLock lock(object->mutex);
        while (!object->done) object->cond.Wait(object->mutex);
      }
      object.reset();
    }
  });
}

}  // namespace
}  // namespace weft
