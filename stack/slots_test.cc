#include "stack/slots.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "stack/internal/task.h"
#include "tests/rounds.h"

#if WEFT_ASAN
#include <sanitizer/lsan_interface.h>
#endif

namespace weft::stack {
namespace {

constexpr SizeClass kAllClasses[] = {
    SizeClass::k64KiB,  SizeClass::k256KiB,      SizeClass::k1MiB,
    SizeClass::k8MiB,   SizeClass::k64MiB,       SizeClass::kLarge,
    SizeClass::kPinned, SizeClass::kPinned64MiB, SizeClass::kPinned1GiB};

// Whether the byte can be read, found out without a fault, and as another process would, so that
// Valgrind does not object.
bool Readable(const void* address) {
  char byte = 0;
  const iovec here = {&byte, 1};
  const iovec there = {const_cast<void*>(address), 1};
  return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1;
}

bool InMemory(const char* page) {
  unsigned char resident = 0;
  return mincore(const_cast<char*>(page), 4096, &resident) == 0 && (resident & 1) != 0;
}

const Stats::Class& Of(const Stats& stats, SizeClass size_class) {
  return stats.classes[static_cast<size_t>(size_class)];
}

TEST(SlotsTest, EverySizeIsUsableFromEndToEnd) {
  SlotCache cache;
  for (SizeClass size_class : kAllClasses) {
    Slot* slot = Acquire(cache, size_class);
    ASSERT_NE(slot, nullptr) << WhyNoSlot();
    EXPECT_EQ(slot->size_class, size_class);
    EXPECT_EQ(slot->owner.load(), Slot::kFree);
    EXPECT_EQ(static_cast<size_t>(slot->hi - slot->lo), StackBytes(size_class));
    slot->lo[0] = 1;
    slot->hi[-1] = 2;
    EXPECT_EQ(slot->lo[0] + slot->hi[-1], 3);
    Release(cache, slot);
  }
}

// Whoever has released them, slots come back to the caches of the place where their memory is.
TEST(SlotsTest, SlotsComeBackToTheirPlace) {
  constexpr size_t kCount = 100;
  const auto acquire = [](SlotCache& cache) {
    std::set<Slot*> slots;
    while (slots.size() < kCount) {
      Slot* slot = Acquire(cache, SizeClass::k1MiB);
      EXPECT_NE(slot, nullptr);
      slot->hi[-1] = 1;
      slots.insert(slot);
    }
    return slots;
  };
  const auto release = [](SlotCache& cache, const std::set<Slot*>& slots) {
    for (Slot* slot : slots) Release(cache, slot);
    Drain(cache);
  };
  SlotCache here;
  SlotCache there;
  there.SetPlace(3);
  TrimIdle(absl::ZeroDuration());
  const std::set<Slot*> first = acquire(there);
  for (const Slot* slot : first) EXPECT_EQ(slot->place, 3);
  release(here, first);
  const std::set<Slot*> others = acquire(here);
  for (Slot* slot : others) EXPECT_TRUE(slot->place == 0 && first.count(slot) == 0);
  EXPECT_EQ(acquire(there), first);
  release(here, first);
  release(there, others);
  // Those without memory are wherever they are used next.
  const size_t made = Of(GetStats(), SizeClass::k1MiB).made;
  TrimIdle(absl::ZeroDuration());
  SlotCache elsewhere;
  elsewhere.SetPlace(SlotCache::kPlaces - 1);
  const std::set<Slot*> again = acquire(elsewhere);
  for (const Slot* slot : again) EXPECT_EQ(slot->place, SlotCache::kPlaces - 1);
  EXPECT_EQ(Of(GetStats(), SizeClass::k1MiB).made, made);
  release(elsewhere, again);
}

TEST(SlotsTest, BothSidesOfEveryStackAreInaccessible) {
  SlotCache cache;
  for (SizeClass size_class : kAllClasses) {
    std::vector<Slot*> slots;
    for (int i = 0; i < 3; ++i) slots.push_back(Acquire(cache, size_class));
    for (const Slot* slot : slots) {
      ASSERT_NE(slot, nullptr);
      const size_t gap = size_class == SizeClass::kLarge ? size_t{1} << 30
                         : IsPinnedClass(size_class)     ? 256 * 1024
                                                         : 68 * 1024;
      for (size_t below = 1; below <= gap; below *= 2) EXPECT_FALSE(Readable(slot->lo - below));
      EXPECT_FALSE(Readable(slot->lo - gap));
    }
    // Above is the next one's gap, or, above the latest, what nobody has been given yet.
    EXPECT_FALSE(Readable(slots[0]->hi) && size_class == SizeClass::kLarge);
    for (Slot* slot : slots) {
      for (const Slot* other : slots) {
        if (slot == other) continue;
        EXPECT_TRUE(other->lo >= slot->hi + 4096 || other->hi <= slot->lo - 4096);
      }
    }
    for (Slot* slot : slots) Release(cache, slot);
  }
}

TEST(SlotsTest, TheWarmestSlotComesFirst) {
  SlotCache cache;
  Slot* a = Acquire(cache, SizeClass::k64KiB);
  Slot* b = Acquire(cache, SizeClass::k64KiB);
  ASSERT_NE(a, b);
  Release(cache, a);
  Release(cache, b);
  EXPECT_EQ(Acquire(cache, SizeClass::k64KiB), b);
  EXPECT_EQ(Acquire(cache, SizeClass::k64KiB), a);
  Release(cache, a);
  Release(cache, b);
}

TEST(SlotsTest, WhatACacheGivesUpAnotherGets) {
  SlotCache first;
  SlotCache second;
  std::set<Slot*> slots;
  for (int i = 0; i < 200; ++i) slots.insert(Acquire(first, SizeClass::k64KiB));
  ASSERT_EQ(slots.size(), 200u);
  const size_t made = Of(GetStats(), SizeClass::k64KiB).made;
  for (Slot* slot : slots) Release(first, slot);
  EXPECT_LE(Of(GetStats(), SizeClass::k64KiB).cached, 64u);
  Drain(first);
  EXPECT_EQ(Of(GetStats(), SizeClass::k64KiB).cached, 0u);
  std::vector<Slot*> again;
  for (int i = 0; i < 200; ++i) again.push_back(Acquire(second, SizeClass::k64KiB));
  EXPECT_EQ(Of(GetStats(), SizeClass::k64KiB).made, made);
  for (Slot* slot : again) Release(second, slot);
}

TEST(SlotsTest, StatsAddUp) {
  SlotCache cache;
  std::vector<Slot*> held;
  for (int i = 0; i < 5; ++i) held.push_back(Acquire(cache, SizeClass::k1MiB));
  Release(cache, held.back());
  held.pop_back();
  const Stats stats = GetStats();
  const Stats::Class& c = Of(stats, SizeClass::k1MiB);
  EXPECT_EQ(c.in_use, 4u);
  EXPECT_GE(c.cached, 1u);
  EXPECT_EQ(c.made, c.in_use + c.cached + c.central);
  EXPECT_EQ(c.stack_bytes, size_t{1} << 20);
  EXPECT_GE(stats.bytes_reserved, c.made * c.stack_bytes);
  for (Slot* slot : held) Release(cache, slot);
  EXPECT_EQ(Of(GetStats(), SizeClass::k1MiB).in_use, 0u);
}

TEST(SlotsTest, SizesAreRoundedUpToAClass) {
  if (kHasPinnedStack) {
    EXPECT_EQ(SizeClassFor(1), SizeClass::kLarge);
    EXPECT_EQ(DefaultSizeClass(), SizeClass::kLarge);
    return;
  }
  EXPECT_EQ(DefaultSizeClass(), SizeClass::k256KiB);
  EXPECT_EQ(SizeClassFor(1), SizeClass::k64KiB);
  EXPECT_EQ(SizeClassFor(64 << 10), SizeClass::k64KiB);
  EXPECT_EQ(SizeClassFor((64 << 10) + 1), SizeClass::k256KiB);
  EXPECT_EQ(SizeClassFor(1 << 20), SizeClass::k1MiB);
  EXPECT_EQ(SizeClassFor(5 << 20), SizeClass::k8MiB);
  EXPECT_EQ(SizeClassFor(64 << 20), SizeClass::k64MiB);
  EXPECT_EQ(SizeClassFor(size_t{1} << 40), SizeClass::kLarge);
}

TEST(SlotsTest, PinnedStacksAreAsLargeAsIsAskedFor) {
  EXPECT_EQ(PinnedClassFor(0), SizeClass::kPinned);
  EXPECT_EQ(PinnedClassFor(256 << 10), SizeClass::kPinned);
  EXPECT_EQ(PinnedClassFor((256 << 10) + 1), SizeClass::kPinned64MiB);
  EXPECT_EQ(PinnedClassFor(64 << 20), SizeClass::kPinned64MiB);
  EXPECT_EQ(PinnedClassFor((64 << 20) + 1), SizeClass::kPinned1GiB);
  EXPECT_EQ(PinnedClassFor(size_t{1} << 40), SizeClass::kPinned1GiB);
  SlotCache cache;
  Slot* pinned = AcquirePinned(cache, SizeClass::kPinned64MiB);
  if (kHasPinnedStack) {
    ASSERT_NE(pinned, nullptr) << WhyNoSlot();
    EXPECT_EQ(pinned->hi - pinned->lo, 64 << 20);
  } else {
    EXPECT_EQ(pinned, nullptr);
  }
  ReleasePinned(cache, pinned);
}

TEST(SlotsTest, EveryAddressOfASlotAndItsGapsIsFound) {
  SlotCache cache;
  for (SizeClass size_class : kAllClasses) {
    Slot* slot = Acquire(cache, size_class);
    ASSERT_NE(slot, nullptr);
    EXPECT_EQ(FindSlot(slot->lo), slot);
    EXPECT_EQ(FindSlot(slot->hi - 1), slot);
    EXPECT_EQ(FindSlot(slot->lo - 1), slot);
    EXPECT_EQ(FindSlot(slot->lo - 64 * 1024), slot);
    EXPECT_EQ(PartOf(*slot, slot->lo), SlotPart::kStack);
    EXPECT_EQ(PartOf(*slot, slot->hi - 1), SlotPart::kStack);
    EXPECT_EQ(PartOf(*slot, slot->lo - 1), SlotPart::kGuard);
    Release(cache, slot);
  }
  int local = 0;
  EXPECT_EQ(FindSlot(&local), nullptr);
  EXPECT_EQ(FindSlot(nullptr), nullptr);
  EXPECT_EQ(FindSlot(reinterpret_cast<void*>(~uintptr_t{0})), nullptr);
}

TEST(SlotsTest, IdleSlotsGiveTheirMemoryBackAndStayUsable) {
  SlotCache cache;
  std::vector<Slot*> slots;
  for (int i = 0; i < 10; ++i) slots.push_back(Acquire(cache, SizeClass::k256KiB));
  for (Slot* slot : slots) {
    std::memset(slot->hi - 8192, 1, 8192);
    ASSERT_TRUE(InMemory(slot->hi - 4096));
  }
  for (Slot* slot : slots) Release(cache, slot);
  Drain(cache);
  EXPECT_EQ(TrimIdle(absl::Hours(1)), 0u);
  EXPECT_TRUE(InMemory(slots[0]->hi - 4096));
  EXPECT_GE(TrimIdle(absl::ZeroDuration()), 10u);
  for (const Slot* slot : slots) {
    EXPECT_FALSE(InMemory(slot->hi - 4096));
    EXPECT_FALSE(InMemory(slot->hi - 8192));
    EXPECT_FALSE(Readable(slot->lo - 1));
  }
  EXPECT_GE(Of(GetStats(), SizeClass::k256KiB).trimmed, 10u);
  EXPECT_EQ(TrimIdle(absl::ZeroDuration()), 0u);
  Slot* slot = Acquire(cache, SizeClass::k256KiB);
  EXPECT_NE(std::find(slots.begin(), slots.end(), slot), slots.end());
  EXPECT_EQ(slot->hi[-1], 0);
  Release(cache, slot);
}

TEST(SlotsTest, TheGuardLeavesRoomAndFollowsTheLimit) {
  SlotCache cache;
  Slot* slot = Acquire(cache, SizeClass::kLarge);
  ASSERT_NE(slot, nullptr);
  EXPECT_EQ(MaxStack(), size_t{1} << 30);
  EXPECT_EQ(LimitOf(*slot), kHasGuardWord ? size_t{1} << 30 : StackBytes(SizeClass::kLarge));
  if (kHasGuardWord) {
    EXPECT_EQ(GuardFor(*slot), slot->hi - (size_t{1} << 30));
    EXPECT_EQ(SetMaxStack(1 << 20), size_t{1} << 30);
    EXPECT_EQ(GuardFor(*slot), slot->hi - (1 << 20));
    EXPECT_EQ(SetMaxStack(size_t{1} << 40), size_t{1} << 20);
    EXPECT_EQ(MaxStack(), size_t{1} << 30);
    Slot* small = Acquire(cache, SizeClass::k64KiB);
    EXPECT_EQ(GuardFor(*small), small->lo + 16 * 1024);
    Release(cache, small);
  } else {
    EXPECT_EQ(GuardFor(*slot), nullptr);
  }
  Release(cache, slot);
}

TEST(SlotsTest, ThreadsNeverShareASlot) {
  constexpr int kThreads = 4;
  std::atomic<Slot*> handed_over[64] = {};
  std::atomic<int> shared{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      SlotCache cache;
      std::mt19937 random(t);
      std::vector<Slot*> mine;
      const auto take = [&](Slot* slot) {
        if (slot->owner.exchange(t + 1) != Slot::kFree) shared.fetch_add(1);
        mine.push_back(slot);
      };
      for (int i = 0; i < 50000; ++i) {
        if (mine.size() < 200 && random() % 2 == 0) {
          take(Acquire(cache, SizeClass::k64KiB));
        } else if (!mine.empty()) {
          Slot* slot = mine.back();
          mine.pop_back();
          slot->owner.store(Slot::kFree);
          if (random() % 4 == 0) {
            // To whoever comes by, to be released by another thread.
            slot = handed_over[random() % 64].exchange(slot);
          }
          if (slot != nullptr) Release(cache, slot);
        }
        if (random() % 10000 == 0) TrimIdle(absl::ZeroDuration());
      }
      for (Slot* slot : mine) {
        slot->owner.store(Slot::kFree);
        Release(cache, slot);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(shared.load(), 0);
  SlotCache cache;
  for (auto& place : handed_over) {
    if (Slot* slot = place.load(); slot != nullptr) Release(cache, slot);
  }
  Drain(cache);
  const Stats stats = GetStats();
  EXPECT_EQ(Of(stats, SizeClass::k64KiB).in_use, 0u);
  EXPECT_EQ(Of(stats, SizeClass::k64KiB).central, Of(stats, SizeClass::k64KiB).made);
}

TEST(SlotsTest, TwentyThousandAtOnce) {
  // Memcheck makes notes on all the addresses between them.
  if (testing::UnderValgrind()) GTEST_SKIP() << "that many addresses take Memcheck minutes";
  SlotCache cache;
  std::vector<Slot*> slots;
  for (int i = 0; i < 20000; ++i) {
    Slot* slot = Acquire(cache, DefaultSizeClass());
    ASSERT_NE(slot, nullptr) << "after " << i << ": " << WhyNoSlot();
    slots.push_back(slot);
  }
  // The first ones, and those past what there can be of the large class.
  for (size_t i : {size_t{0}, slots.size() / 2, slots.size() - 1}) {
    slots[i]->hi[-1] = 1;
    EXPECT_EQ(FindSlot(slots[i]->hi - 1), slots[i]);
  }
  if (DefaultSizeClass() == SizeClass::kLarge) {
    EXPECT_EQ(slots.front()->size_class, SizeClass::kLarge);
    EXPECT_EQ(slots.back()->size_class, SizeClass::k256KiB);
    EXPECT_LE(Of(GetStats(), SizeClass::kLarge).made, 16384u);
  }
  EXPECT_LT(GetStats().mappings, 65530u);
  std::set<Slot*> distinct(slots.begin(), slots.end());
  EXPECT_EQ(distinct.size(), slots.size());
  for (Slot* slot : slots) Release(cache, slot);
}

#if WEFT_ASAN
// Keeps memory by a pointer in a local, whose address escapes, while it is paused.
__attribute__((noinline)) void Own(Task& task, char** local) {
  *local = new char[1234];
  task.Pause();
  delete[] *local;
}

TEST(SlotsTest, MemoryThatAPausedTaskOwnsIsNoLeak) {
  SlotCache cache;
  Task task(cache, [](Task& self) {
    char* local = nullptr;
    Own(self, &local);
  });
  task.Resume();
  EXPECT_EQ(__lsan_do_recoverable_leak_check(), 0);
  task.Resume();
}
#endif

#if !WEFT_ASAN && !WEFT_TSAN  // which need more address space than any limit leaves
// In a process of its own that may have 256 MiB more than it has.
void UseUpALimitedAddressSpace() {
  size_t pages = 0;
  if (FILE* statm = std::fopen("/proc/self/statm", "r"); statm != nullptr) {
    if (std::fscanf(statm, "%zu", &pages) != 1) _exit(9);
    std::fclose(statm);
  }
  const rlim_t bytes = pages * 4096 + (256 << 20);
  const rlimit limit = {bytes, bytes};
  if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(8);

  SlotCache cache;
  // Less than was asked for, where there is not that much.
  if (Acquire(cache, SizeClass::kPinned1GiB)->size_class == SizeClass::kPinned1GiB) _exit(8);
  size_t count = 0;
  while (Slot* slot = Acquire(cache, DefaultSizeClass())) {
    if (slot->size_class != SizeClass::k256KiB) _exit(7);
    slot->hi[-1] = 1;
    if (++count > 10000) _exit(6);
  }
  if (Acquire(cache, DefaultSizeClass()) != nullptr) _exit(5);
  std::fprintf(stderr, "%s slots, then: %s\n", count > 100 ? "hundreds of" : "few", WhyNoSlot());
  _exit(0);
}

TEST(SlotsDeathTest, ALimitedAddressSpaceEndsInNull) {
  // Anew: this process has slots already.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(UseUpALimitedAddressSpace(), ::testing::ExitedWithCode(0),
              "hundreds of slots, then: no address space is left");
}
#endif

}  // namespace
}  // namespace weft::stack
