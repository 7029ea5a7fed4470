// Memory of stacks goes back to the system when nobody needs it any more.
#include "sched/internal/give_back.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"
#include "sched/sysmon.h"
#include "sched/testing.h"
#include "stack/mode.h"
#include "stack/rest.h"
#include "stack/slots.h"
#include "tests/debug_setting.h"

namespace weft {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kDeep = 4 << 20;

// Pages that are there of the stack's top `kDeep` bytes.
size_t PagesOf(const stack::Slot& slot) {
  const size_t bytes = std::min<size_t>(kDeep, static_cast<size_t>(slot.hi - slot.lo));
  std::vector<unsigned char> pages(bytes / kPage);
  if (mincore(slot.hi - bytes, bytes, pages.data()) != 0) ADD_FAILURE() << "mincore";
  return static_cast<size_t>(
      std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return (p & 1) != 0; }));
}

// Optimized, an array of which two bytes are used is two bytes.
#ifdef __clang__
#define UNOPTIMIZED __attribute__((optnone))
#else
#define UNOPTIMIZED
#endif

// Uses so many pages of the stack.
__attribute__((noinline)) UNOPTIMIZED int GoDown(size_t pages) {
  volatile char page[kPage];
  page[0] = 1;
  page[kPage - 1] = 1;
  return pages <= 1 ? page[0] : GoDown(pages - 1) + page[kPage - 1];
}

// Of the slot of a class that holds most: of that which stacks rest in.
size_t MostPages(stack::SizeClass size_class = stack::DefaultSizeClass()) {
  size_t most = 0;
  for (const stack::Slot* slot = stack::NewestSlot(size_class); slot != nullptr;
       slot = slot->made_before) {
    most = std::max(most, PagesOf(*slot));
  }
  return most;
}

class GiveBackTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (!stack::kMayMove) GTEST_SKIP() << "slots stay with their goroutines here";
    SetMaxProcs(GetParam());
  }
};

constexpr size_t kPages = 200;

// Where no P is idle at the moment nothing is given back, so it is tried again.
void GiveBackUntil(size_t most_pages) {
  ASSERT_TRUE(testing::Eventually([&] {
    internal::GiveBackStacks(absl::ZeroDuration());
    return MostPages() <= most_pages;
  })) << MostPages();
}

TEST_P(GiveBackTest, AStackThatWasDeepOnceAndWaits) {
  if (testing::HasDebugSetting("stackmove=always")) {
    GTEST_SKIP() << "the mover keeps the slots that it goes to and fro between";
  }
  Chan<int> down(0);
  Chan<int> gate(0);
  Chan<int> done(0);
  Go([=] {
    GoDown(kPages);
    down.Send(1);
    const int got = *gate.Recv();
    // The stack still works, at every depth.
    done.Send(GoDown(kPages) > 0 ? got : 0);
  });
  down.Recv();
  EXPECT_GE(MostPages(), kPages);
  const uint64_t before = stack::GetRestStats().given_back;
  GiveBackUntil(stack::kKeptBytes / kPage + 4);
  EXPECT_GT(stack::GetRestStats().given_back, before);
  gate.Send(7);
  EXPECT_EQ(done.Recv(), 7);
  GiveBackUntil(stack::kKeptBytes / kPage + 4);
}

// A stack of a program's own, of which every page is there, at a higher address than `slot`.
class StackAbove {
 public:
  static constexpr size_t kBytes = 256 << 10;

  explicit StackAbove(const stack::Slot& slot) {
    constexpr uintptr_t kStep = uintptr_t{1} << 28;
    uintptr_t at = (reinterpret_cast<uintptr_t>(slot.hi) + kStep) & ~(kStep - 1);
    while (memory_ == MAP_FAILED && at < uintptr_t{1} << 47) {
      memory_ = mmap(reinterpret_cast<void*>(at), kBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
      at += kStep;
    }
    if (memory_ != MAP_FAILED) std::memset(memory_, 1, kBytes);
  }
  ~StackAbove() {
    if (memory_ != MAP_FAILED) munmap(memory_, kBytes);
  }
  void* memory() const { return memory_ == MAP_FAILED ? nullptr : memory_; }

 private:
  void* memory_ = MAP_FAILED;
};

struct OwnStack {
  Chan<int> waiting = Chan<int>(0);
  Chan<int> gate = Chan<int>(0);
  ucontext_t outside;
  ucontext_t inside;
  int got = 0;
};

void ParkOnOwnStack(unsigned high, unsigned low) {
  auto* own = reinterpret_cast<OwnStack*>(uintptr_t{high} << 32 | low);
  own->waiting.Send(1);
  own->got = *own->gate.Recv();
}

// Parks on the stack `memory`. What gate gives then, and 100 if the outer frames are whole.
__attribute__((noinline)) UNOPTIMIZED int SwitchStacks(OwnStack* own, void* memory) {
  volatile char frame[8 * kPage];
  for (volatile char& byte : frame) byte = 5;
  if (getcontext(&own->inside) != 0) return -1;
  own->inside.uc_stack.ss_sp = memory;
  own->inside.uc_stack.ss_size = StackAbove::kBytes;
  own->inside.uc_link = &own->outside;
  const auto address = reinterpret_cast<uintptr_t>(own);
  makecontext(&own->inside, reinterpret_cast<void (*)()>(ParkOnOwnStack), 2,
              static_cast<unsigned>(address >> 32), static_cast<unsigned>(address));
  if (swapcontext(&own->outside, &own->inside) != 0) return -1;
  const bool whole = std::all_of(frame, frame + sizeof frame, [](char byte) { return byte == 5; });
  return own->got + (whole ? 100 : 0);
}

TEST_P(GiveBackTest, NothingOfAStackThatIsLeftForOneOfTheProgramsOwn) {
  if (testing::HasDebugSetting("stackmove=always")) {
    GTEST_SKIP() << "the mover keeps the slots that it goes to and fro between";
  }
  const auto own = std::make_unique<OwnStack>();
  Chan<int> done(0);
  Go([own = own.get(), done] {
    const stack::Slot* slot = stack::FindSlot(__builtin_frame_address(0));
    ASSERT_NE(slot, nullptr);
    const StackAbove above(*slot);
    ASSERT_NE(above.memory(), nullptr);
    done.Send(SwitchStacks(own, above.memory()));
  });
  own->waiting.Recv();
  // When this one has given back what it does not use, the other has been looked at too.
  Chan<int> down(0);
  Chan<int> gate(0);
  Go([=] {
    GoDown(kPages);
    down.Send(1);
    gate.Recv();
  });
  down.Recv();
  GiveBackUntil(stack::kKeptBytes / kPage + 16);
  gate.Send(1);
  own->gate.Send(7);
  EXPECT_EQ(done.Recv(), 107);
}

__attribute__((noinline)) void Use(char* bytes) { asm volatile("" : : "r"(bytes) : "memory"); }

// On the pinned stack.
__attribute__((noinline)) UNOPTIMIZED int GoDownPinned(size_t pages) {
  char page[kPage];
  page[0] = 1;
  page[kPage - 1] = 1;
  Use(page);
  return pages <= 1 ? page[0] : GoDownPinned(pages - 1) + page[kPage - 1];
}

TEST_P(GiveBackTest, APinnedStackThatWasDeepOnce) {
  // With stackmove=always who parks rests, but in slots that a P lists, which is a matter of
  // chance.
  if (testing::HasDebugSetting("stackrest=always") ||
      testing::HasDebugSetting("stackmove=always")) {
    GTEST_SKIP() << "what is below the pinned stacks of those that rest stays";
  }
  Chan<int> down(0);
  Chan<int> gate(0);
  Chan<int> done(0);
  Go({.stack_bytes = kDeep}, [=] {
    // There is always something on it.
    char kept[16] = {3};
    Use(kept);
    GoDownPinned(kPages);
    down.Send(1);
    gate.Recv();
    const int deep = GoDownPinned(kPages);
    Use(kept);
    done.Send(deep > 0 ? kept[0] : 0);
  });
  down.Recv();
  const auto pages = [] { return MostPages(stack::SizeClass::kPinned64MiB); };
  EXPECT_GE(pages(), kPages);
  EXPECT_TRUE(testing::Eventually([&] {
    internal::GiveBackStacks(absl::ZeroDuration());
    return pages() <= stack::kKeptBytes / kPage + 4;
  })) << pages();
  EXPECT_GE(pages(), 1u);
  gate.Send(1);
  EXPECT_EQ(done.Recv(), 3);
}

TEST_P(GiveBackTest, NobodyIsLostWhileItIsGivenBack) {
  constexpr int kRing = 300;
  constexpr int kRounds = 20;
  std::vector<Chan<int>> ring;
  for (int i = 0; i < kRing; ++i) ring.emplace_back(0);
  for (int i = 0; i < kRing; ++i) {
    Go([in = ring[i], out = ring[(i + 1) % kRing], i] {
      for (int r = 0; r < kRounds; ++r) {
        const int v = *in.Recv();
        if (v % 17 == 0) GoDown(20);
        if (r == kRounds - 1 && i == kRing - 1) return;
        out.Send(v + 1);
      }
    });
  }
  std::atomic<bool> over{false};
  Go([&, in = ring[0]] {
    in.Send(0);
    EXPECT_TRUE(testing::Eventually([] { return NumGoroutine() <= 1; }));
    over.store(true);
  });
  while (!over.load()) internal::GiveBackStacks(absl::ZeroDuration());
}

TEST_P(GiveBackTest, BlocksWhenNobodyRestsAnyMore) {
  constexpr int kGoroutines = 20'000;
  Chan<int> gate(0);
  WaitGroup all;
  all.Add(kGoroutines);
  for (int i = 0; i < kGoroutines; ++i) {
    Go([&] {
      gate.Recv();
      all.Done();
    });
  }
  ASSERT_TRUE(testing::Eventually([] { return stack::GetRestStats().block_bytes > 2'000'000; }));
  gate.Close();
  all.Wait();
  ASSERT_TRUE(testing::Eventually([] {
    internal::GiveBackStacks(absl::ZeroDuration());
    return stack::GetRestStats().block_bytes <= 1'000'000;
  })) << stack::GetRestStats().block_bytes;
}

TEST_P(GiveBackTest, IsADutyOfTheMonitor) {
  MonitorDutyStats duties[32];
  const int count = GetMonitorStats(duties, 32);
  EXPECT_TRUE(std::any_of(duties, duties + std::min(count, 32), [](const MonitorDutyStats& duty) {
    return absl::string_view(duty.name) == "give back";
  }));
}

INSTANTIATE_TEST_SUITE_P(MaxProcs, GiveBackTest, ::testing::Values(1, 2, 4));

}  // namespace
}  // namespace weft
