// Nothing that a program does again and again takes memory from the heap: counted, in a program of
// its own, since it replaces operator new.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <new>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "chan/chan.h"
#include "chan/select.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/sync/mutex.h"
#include "sched/sync/testing.h"
#include "sched/sync/wait_group.h"
#include "sched/timer.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace {

std::atomic<int64_t> allocations{0};

void* Counted(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void* CountedAligned(size_t size, std::align_val_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  const size_t align = std::max(static_cast<size_t>(alignment), sizeof(void*));
  void* memory = std::aligned_alloc(align, (size + align - 1) / align * align);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return Counted(size); }
void* operator new[](size_t size) { return Counted(size); }
void* operator new(size_t size, std::align_val_t a) { return CountedAligned(size, a); }
void* operator new[](size_t size, std::align_val_t a) { return CountedAligned(size, a); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace weft {
namespace {

using testing::Tasks;

class AllocationTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, AllocationTest, testing::Worlds(), testing::WorldName);

// Runs `operation` a few hundred times. What is made once for good may fall into that time (a
// thread's waiter at its first wait, an M, a larger heap of timers), so out of several stretches
// one must be free of it.
void ExpectNoAllocations(absl::FunctionRef<void()> operation, int times = 500) {
  int64_t fewest = std::numeric_limits<int64_t>::max();
  for (int stretch = 0; stretch < 10 && fewest != 0; ++stretch) {
    const int64_t before = allocations.load();
    for (int i = 0; i < testing::Rounds(times); ++i) operation();
    fewest = std::min(fewest, allocations.load() - before);
  }
  EXPECT_EQ(fewest, 0) << "in " << times << " operations";
}

TEST(AllocationCountTest, CountsWhatIsAllocated) {
  const int64_t before = allocations.load();
  int* volatile p = new int;
  delete p;
  EXPECT_EQ(allocations.load() - before, 1);
}

// Values to and fro: without a buffer, with a small one that fills, with one that does not.
template <typename T>
void TestChannel() {
  for (const int capacity : {0, 1, 64}) {
    const Chan<T> there(capacity);
    const Chan<T> back(capacity);
    Tasks tasks;
    tasks.Go([there, back] {
      for (T&& v : there) back.Send(std::move(v));
    });
    ExpectNoAllocations([&] {
      there.Send(T());
      EXPECT_TRUE(back.Recv().has_value());
    });
    there.Close();
  }
}

TEST_P(AllocationTest, ChannelOfSmallElements) {
  Run([] { TestChannel<int64_t>(); });
}

TEST_P(AllocationTest, ChannelOfLargeElements) {
  Run([] { TestChannel<std::array<char, 1000>>(); });
}

TEST_P(AllocationTest, Select) {
  Run([] {
    const Chan<int> a(0);
    const Chan<int> b(0);
    const Chan<int> stop(0);
    Tasks tasks;
    tasks.Go([=] {
      while (Select(a.OnSend(1), b.OnSend(2), stop.OnRecv()) != 2) {
      }
    });
    ExpectNoAllocations([&] {
      int got = 0;
      Select(a.OnRecv([&](std::optional<int> v) { got = *v; }),
             b.OnRecv([&](std::optional<int> v) { got = *v; }), After(absl::Hours(1)));
      EXPECT_NE(got, 0);
    });
    ExpectNoAllocations([&] { Select(stop.OnRecv(), After(absl::Microseconds(5))); }, 100);
    stop.Close();
  });
}

TEST_P(AllocationTest, Sleep) {
  Run([] {
    std::atomic<bool> stop{false};
    Tasks tasks;
    for (int i = 0; i < 4; ++i) {
      tasks.Go([&] {
        while (!stop.load()) Sleep(absl::Microseconds(20));
      });
    }
    ExpectNoAllocations([] { Sleep(absl::Microseconds(5)); }, 100);
    stop.store(true);
  });
}

TEST_P(AllocationTest, ParkAndUnpark) {
  Run([] {
    std::atomic<int> turn{0};
    std::atomic<bool> stop{false};
    Waiter* const self = Waiter::Current();
    std::atomic<Waiter*> other{nullptr};
    Tasks tasks;
    tasks.Go([&] {
      other.store(Waiter::Current());
      while (!stop.load()) {
        if (turn.load() == 1) {
          turn.store(0);
          self->Unpark();
        }
        Waiter::Current()->Park(WaitReason::kSelect);
      }
    });
    ASSERT_TRUE(testing::Eventually([&] { return other.load() != nullptr; }));
    ExpectNoAllocations([&] {
      turn.store(1);
      other.load()->Unpark();
      while (turn.load() != 0) self->Park(WaitReason::kSelect);
    });
    stop.store(true);
    other.load()->Unpark();
  });
}

TEST_P(AllocationTest, ContendedMutex) {
  Run([] {
    Mutex mutex;
    std::atomic<bool> stop{false};
    const auto hold = [&mutex] {
      mutex.Lock();
      Yield();
      mutex.Unlock();
    };
    Tasks tasks;
    for (int i = 0; i < 3; ++i) {
      tasks.Go([&] {
        while (!stop.load()) hold();
      });
    }
    ExpectNoAllocations(hold);
    stop.store(true);
  });
}

TEST_P(AllocationTest, Timer) {
  Run([] {
    weft::CallbackTimer timer([](weft::CallbackTimer&) {});
    ExpectNoAllocations([&] {
      timer.Start(Instant::Now() + absl::Hours(1));
      EXPECT_TRUE(timer.Stop());
    });
  });
}

// Ended goroutines are used again. (A task that is a thread starts them too.)
TEST_P(AllocationTest, SpawnOfASmallClosure) {
  Run([] {
    WaitGroup ended;
    ExpectNoAllocations(
        [&] {
          ended.Add(10);
          for (int i = 0; i < 10; ++i) {
            Go([&ended, i] {
              if (i % 2 == 0) Yield();
              ended.Done();
            });
          }
          ended.Wait();
        },
        100);
  });
}

// Round trips over a connection: each end finds nothing and parks.
TEST_P(AllocationTest, ReadAndWrite) {
  Run([] {
    const absl::StatusOr<Listener> listener = Listen("tcp", "127.0.0.1:0");
    ASSERT_TRUE(listener.ok()) << listener.status();
    const absl::StatusOr<Conn> client = Dial("tcp", listener->addr().ToString());
    ASSERT_TRUE(client.ok()) << client.status();
    const absl::StatusOr<Conn> server = listener->Accept();
    ASSERT_TRUE(server.ok()) << server.status();
    Tasks tasks;
    tasks.Go([server = *server] {
      char buffer[64];
      while (server.ReadFull(absl::MakeSpan(buffer)).ok()) {
        if (!server.Write(absl::string_view(buffer, sizeof(buffer))).ok()) return;
      }
    });
    char buffer[64] = {};
    bool ok = true;
    ExpectNoAllocations([&] {
      ok = ok && client->Write(absl::string_view(buffer, sizeof(buffer))).ok() &&
           client->ReadFull(absl::MakeSpan(buffer)).ok();
    });
    EXPECT_TRUE(ok);
    EXPECT_TRUE(client->Close().ok());
  });
}

}  // namespace
}  // namespace weft
