#include "tests/soak/workloads.h"

#include <unistd.h>

#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/context.h"
#include "chan/select.h"
#include "chan/timer.h"
#include "sched/clock.h"
#include "sched/sync/cond.h"
#include "sched/sync/err_group.h"
#include "sched/sync/mutex.h"
#include "sched/sync/rw_mutex.h"
#include "sched/sync/semaphore.h"
#include "sched/sync/wait_group.h"

namespace weft::soak {
namespace {

void Expect(bool right, absl::string_view what) {
  if (!right) Fail(what);
}

// A tree of goroutines that each wait for their children.
int64_t Tree(Ledger& ledger, int depth, int width) {
  if (depth == 0) return 1;
  Chan<int64_t> sums(width);
  for (int i = 0; i < width; ++i) {
    ledger.Go([&ledger, sums, depth, width] { sums.Send(Tree(ledger, depth - 1, width)); });
  }
  int64_t sum = 1;
  for (int i = 0; i < width; ++i) sum += *sums.Recv();
  return sum;
}

void Spawn(Ledger& ledger, Random& random) {
  const int width = Between(random, 2, 6);
  const int depth = Between(random, 1, 4);
  int64_t nodes = 1;
  for (int i = 0; i < depth; ++i) nodes = nodes * width + 1;
  Expect(Tree(ledger, depth, width) == nodes, "spawn: a tree of goroutines has lost some");
}

// Producers and consumers of one channel; a thread may be among them.
void Channels(Ledger& ledger, Random& random) {
  Chan<int64_t> values(Between(random, 0, 3) * Between(random, 0, 8));
  const int producers = Between(random, 1, 5);
  const int consumers = Between(random, 1, 5);
  const int64_t each = Between(random, 1, 300);
  WaitGroup sending;
  sending.Add(producers);
  Chan<int64_t> sums(0);
  for (int i = 0; i < producers; ++i) {
    ledger.Go([values, each, &sending] {
      for (int64_t v = 1; v <= each; ++v) values.Send(v);
      sending.Done();
    });
  }
  const auto consume = [values, sums] {
    int64_t sum = 0;
    for (const int64_t v : values) sum += v;
    sums.Send(sum);
  };
  for (int i = 0; i < consumers; ++i) ledger.Go(consume);
  std::thread thread(consume);
  sending.Wait();
  values.Close();
  int64_t sum = 0;
  for (int i = 0; i < consumers + 1; ++i) sum += *sums.Recv();
  thread.join();
  Expect(sum == producers * each * (each + 1) / 2, "channels: values were lost or doubled");
}

// A loop over what may be ready, be it by other goroutines or by time.
void Selects(Ledger& ledger, Random& random) {
  Chan<int> a(0);
  Chan<int> b(2);
  Chan<int> quit(0);
  const int each = Between(random, 1, 100);
  for (const Chan<int>& c : {a, b}) {
    ledger.Go([c, each, pause = Between(random, 0, 30)] {
      for (int i = 0; i < each; ++i) {
        if (pause > 0 && i % pause == 0) Sleep(absl::Microseconds(pause));
        c.Send(1);
      }
    });
  }
  Timer often(absl::Microseconds(100));
  for (int got = 0; got < 2 * each;) {
    Select(a.OnRecv([&](std::optional<int> v) { got += *v; }),
           b.OnRecv([&](std::optional<int> v) { got += *v; }),
           often.C().OnRecv([&] { often.Reset(absl::Microseconds(100)); }),
           quit.OnRecv([] { Fail("select: received from a channel that nobody sends to"); }),
           After(absl::Seconds(60), [] { Fail("select: nothing came for a minute"); }));
  }
}

void Timers(Ledger& ledger, Random& random) {
  const int count = Between(random, 1, 60);
  WaitGroup all;
  all.Add(count);
  for (int i = 0; i < count; ++i) {
    const absl::Duration wait = absl::Microseconds(Between(random, 0, 3'000));
    ledger.Go([wait, i, &all, &ledger] {
      const Instant start = Instant::Now();
      switch (i % 4) {
        case 0:
          Sleep(wait);
          break;
        case 1:
          Timer(wait).C().Recv();
          break;
        case 2: {
          auto [context, cancel] = WithTimeout(Background(), wait);
          context.Done().Recv();
          cancel();
          break;
        }
        default: {
          // Cancelled by another one: that it is early is right.
          auto [context, cancel] = WithTimeout(Background(), absl::Hours(1));
          ledger.Go([cancel = cancel] { cancel(); });
          context.Done().Recv();
          Expect(absl::IsCancelled(context.Err()), "timers: a context is done for another reason");
          all.Done();
          return;
        }
      }
      Expect(Instant::Now() - start >= wait, "timers: one was early");
      all.Done();
    });
  }
  const Timer never = AfterFunc(absl::Hours(1), [] { Fail("timers: a stopped one fired"); });
  all.Wait();
  Expect(never.Stop(), "timers: one that is an hour away has fired");
}

void Locks(Ledger& ledger, Random& random) {
  const int tasks = Between(random, 2, 12);
  const int each = Between(random, 1, 200);
  Mutex mutex;
  RWMutex rw;
  Semaphore semaphore(3);
  Cond changed;
  WaitGroup all;
  all.Add(tasks);
  int64_t under_mutex = 0;
  int64_t under_rw = 0;
  int arrived = 0;
  std::atomic<int> within{0};
  for (int t = 0; t < tasks; ++t) {
    ledger.Go([&, t] {
      for (int i = 0; i < each; ++i) {
        mutex.Lock();
        ++under_mutex;
        if ((i + t) % 50 == 0) Yield();
        mutex.Unlock();
        if ((i + t) % 4 == 0) {
          rw.Lock();
          ++under_rw;
          rw.Unlock();
        } else {
          rw.RLock();
          const int64_t seen = under_rw;
          if (i % 16 == 0) Yield();
          Expect(seen == under_rw, "locks: a writer was in beside a reader");
          rw.RUnlock();
        }
        semaphore.Acquire();
        Expect(within.fetch_add(1) < 3, "locks: too many within a semaphore");
        within.fetch_sub(1);
        semaphore.Release();
      }
      mutex.Lock();
      if (++arrived == tasks) changed.Broadcast();
      while (arrived < tasks) changed.Wait(mutex);
      mutex.Unlock();
      all.Done();
    });
  }
  all.Wait();
  Expect(under_mutex == int64_t{tasks} * each, "locks: a Mutex let two in");
}

// What blocks the thread, announced or not, with a lock of the thread's in hand or not.
void Blocking(Ledger& ledger, Random& random) {
  const int tasks = Between(random, 1, 12);
  std::mutex mutex;
  int64_t turns = 0;
  WaitGroup all;
  all.Add(tasks);
  for (int t = 0; t < tasks; ++t) {
    ledger.Go([&, t, micros = Between(random, 1, 2'000)] {
      switch (t % 4) {
        case 0: {
          const BlockingSection section(BlockingSection::Expect::kLong);
          usleep(static_cast<useconds_t>(micros));
          break;
        }
        case 1: {
          const BlockingSection section;
          usleep(static_cast<useconds_t>(micros));
          break;
        }
        case 2:
          usleep(static_cast<useconds_t>(micros));
          break;
        default: {
          const std::lock_guard<std::mutex> lock(mutex);
          usleep(static_cast<useconds_t>(micros / 4));
          break;
        }
      }
      {
        const std::lock_guard<std::mutex> lock(mutex);
        ++turns;
      }
      all.Done();
    });
  }
  all.Wait();
  Expect(turns == tasks, "blocking: a std::mutex let two in");
}

// Computes for longer than a time slice.
void Computing(Ledger& ledger, Random& random) {
  WaitGroup all;
  all.Add(2);
  for (int t = 0; t < 2; ++t) {
    ledger.Go([&all, millis = Between(random, 1, 25)] {
      const Instant end = Instant::Now() + absl::Milliseconds(millis);
      while (Instant::Now() < end) {
      }
      all.Done();
    });
  }
  all.Wait();
}

// Goroutines on threads of their own; some end with them.
void LockedThreads(Ledger& ledger, Random& random) {
  const int tasks = Between(random, 1, 3);
  Chan<pid_t> done(0);
  for (int t = 0; t < tasks; ++t) {
    ledger.Go([done, t] {
      LockOSThread();
      const pid_t thread = gettid();
      for (int i = 0; i < 5; ++i) {
        Yield();
        Sleep(absl::Microseconds(50));
        Expect(gettid() == thread, "threads: a locked goroutine has changed its thread");
      }
      done.Send(thread);
      if (t % 2 == 0) UnlockOSThread();
      if (t % 3 == 0) Exit();
    });
  }
  for (int t = 0; t < tasks; ++t) done.Recv();
}

void Failures(Ledger&, Random& random) {
  // Its goroutines are its own, and all of them have ended when Wait() returns.
  auto [context, cancel] = WithCancelCause(Background());
  ErrGroup group(cancel);
  const int tasks = Between(random, 2, 20);
  const int fails = Between(random, 0, tasks - 1);
  const bool throws = Between(random, 0, 1) == 1;
  for (int t = 0; t < tasks; ++t) {
    group.Go([=, context = context]() -> absl::Status {
      if (t != fails) {
        context.Done().Recv();
        return context.Err();
      }
      if (throws) throw std::runtime_error("fails");
      return absl::DataLossError("fails");
    });
  }
  bool caught = false;
  absl::Status status;
  try {
    status = group.Wait();
  } catch (const std::runtime_error&) {
    caught = true;
  }
  Expect(throws ? caught : absl::IsDataLoss(status), "failures: another one came first");
}

int64_t Deep(int depth) {
  volatile char frame[40];
  frame[depth % 40] = static_cast<char>(depth);
  if (depth == 0) {
    Yield();
    return frame[0];
  }
  const int64_t below = Deep(depth - 1);
  Expect(frame[depth % 40] == static_cast<char>(depth), "stacks: a frame has changed");
  return below + 1;
}

void DeepStacks(Ledger& ledger, Random& random) {
  const int tasks = Between(random, 1, 8);
  WaitGroup all;
  all.Add(tasks);
  for (int t = 0; t < tasks; ++t) {
    ledger.Go([&all, depth = Between(random, 10, 500)] {
      Expect(Deep(depth) == depth, "stacks: a call was lost");
      all.Done();
    });
  }
  all.Wait();
}

// A thread of the program's own that starts goroutines.
void ForeignThreads(Ledger& ledger, Random& random) {
  const int tasks = Between(random, 1, 100);
  Chan<int> ended(1);
  std::thread([&ledger, ended, tasks] {
    WaitGroup all;
    all.Add(tasks);
    for (int i = 0; i < tasks; ++i) ledger.Go([&all] { all.Done(); });
    all.Wait();
    ended.Send(tasks);
  }).detach();
  Expect(*ended.Recv() == tasks, "threads: a wrong value came");
}

}  // namespace

const Workload kWorkloads[] = {{"spawn", Spawn},
                               {"channels", Channels},
                               {"select", Selects},
                               {"timers", Timers},
                               {"locks", Locks},
                               {"blocking", Blocking},
                               {"computing", Computing},
                               {"locked threads", LockedThreads},
                               {"failures", Failures},
                               {"deep stacks", DeepStacks},
                               {"foreign threads", ForeignThreads},
                               {nullptr, nullptr}};

}  // namespace weft::soak
