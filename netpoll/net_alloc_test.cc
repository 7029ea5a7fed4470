// Counts heap allocations: in a program of its own, since it replaces operator new.
#include <atomic>
#include <cstdlib>
#include <new>

#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/test_util.h"

namespace {
std::atomic<int64_t> allocations{0};

void* Counted(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

void* operator new(size_t size) { return Counted(size); }
void* operator new[](size_t size) { return Counted(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace weft {
namespace {

using testing::ConnPair;
using testing::ForEachSetting;
using testing::MakePair;
using testing::TaskGroup;
using testing::TaskKind;

// NE-29 of the list of behaviours: a round trip, waits and deadlines included, allocates nothing.
TEST(NetAllocTest, NE29_RoundTripsAllocateNothing) {
  ForEachSetting([](TaskKind kind) {
    constexpr int kWarmUp = 20, kRounds = 300;
    const ConnPair pair = MakePair();
    TaskGroup group(kind);
    group.Go([&] {
      char buffer[128];
      while (pair.server.ReadFull(absl::MakeSpan(buffer)).ok()) {
        if (!pair.server.Write(absl::string_view(buffer, sizeof(buffer))).ok()) return;
      }
    });
    char buffer[128] = {};
    int64_t before = 0;
    for (int i = 0; i < kWarmUp + kRounds; ++i) {
      if (i == kWarmUp) before = allocations.load();
      ASSERT_TRUE(pair.client.SetReadDeadline(testing::In(absl::Hours(1))).ok());
      ASSERT_TRUE(
          pair.client.Writev({absl::string_view(buffer, 100), absl::string_view(buffer, 28)}).ok());
      ASSERT_TRUE(pair.client.ReadFull(absl::MakeSpan(buffer)).ok());
    }
    EXPECT_EQ(allocations.load() - before, 0);
    ASSERT_TRUE(pair.client.CloseWrite().ok());
  });
}

}  // namespace
}  // namespace weft
