// Counts heap allocations: in a program of its own, since it replaces operator new.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/packet_conn.h"
#include "netpoll/pipe.h"
#include "netpoll/test_util.h"
#include "tests/rounds.h"

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
using testing::Rounds;
using testing::TaskGroup;
using testing::TaskKind;

// NE-29 of the list of behaviours: a round trip, waits and deadlines included, allocates nothing.
// What is made once for good may fall into the time of the test (a thread's waiter at its first
// wait, an M, a timer heap of a P that had none), so one stretch out of a few must be free of it.
TEST(NetAllocTest, NE29_RoundTripsAllocateNothing) {
  ForEachSetting([](TaskKind kind) {
    constexpr int kStretches = 20;
    const int rounds = Rounds(300, 40);
    const ConnPair pair = MakePair();
    TaskGroup group(kind);
    group.Go([&] {
      char buffer[128];
      while (pair.server.ReadFull(absl::MakeSpan(buffer)).ok()) {
        if (!pair.server.Write(absl::string_view(buffer, sizeof(buffer))).ok()) return;
      }
    });
    char buffer[128] = {};
    int64_t fewest = rounds;
    for (int stretch = 0; stretch < kStretches && fewest != 0; ++stretch) {
      const int64_t before = allocations.load();
      for (int i = 0; i < rounds; ++i) {
        ASSERT_TRUE(pair.client.SetReadDeadline(testing::In(absl::Hours(1))).ok());
        ASSERT_TRUE(
            pair.client.Writev({absl::string_view(buffer, 100), absl::string_view(buffer, 28)})
                .ok());
        ASSERT_TRUE(pair.client.ReadFull(absl::MakeSpan(buffer)).ok());
      }
      fewest = std::min(fewest, allocations.load() - before);
    }
    EXPECT_EQ(fewest, 0);
    ASSERT_TRUE(pair.client.CloseWrite().ok());
  });
}

// NE-50, TestAllocs: neither do datagrams, with the sender's address, one by one or in batches.
TEST(NetAllocTest, NE50_DatagramsAllocateNothing) {
  ForEachSetting([](TaskKind kind) {
    constexpr int kStretches = 20;
    const int rounds = Rounds(300, 40);
    const absl::StatusOr<PacketConn> server = ListenPacket("udp", "127.0.0.1:0");
    const absl::StatusOr<PacketConn> client = ListenPacket("udp", "127.0.0.1:0");
    ASSERT_TRUE(server.ok() && client.ok());
    const SocketAddress to = server->local_address();
    TaskGroup group(kind);
    group.Go([&] {
      char buffer[128];
      SocketAddress from;
      for (;;) {
        const absl::StatusOr<size_t> n = server->ReadFrom(absl::MakeSpan(buffer), &from);
        if (!n.ok() || !server->WriteTo(absl::string_view(buffer, *n), from).ok()) return;
      }
    });
    char buffer[128] = {};
    int64_t fewest = rounds;
    for (int stretch = 0; stretch < kStretches && fewest != 0; ++stretch) {
      const int64_t before = allocations.load();
      for (int i = 0; i < rounds; ++i) {
        const OutPacket out = {absl::string_view(buffer, 100), to};
        ASSERT_TRUE(client->WriteBatch(absl::MakeConstSpan(&out, 1)).ok());
        InPacket in;
        in.buffer = absl::MakeSpan(buffer);
        ASSERT_TRUE(client->ReadBatch(absl::MakeSpan(&in, 1)).ok());
        ASSERT_EQ(in.size, 100u);
      }
      fewest = std::min(fewest, allocations.load() - before);
    }
    EXPECT_EQ(fewest, 0);
    ASSERT_TRUE(server->Close().ok());
  });
}

// Nor do connections in memory.
TEST(NetAllocTest, PipesAllocateNothing) {
  ForEachSetting([](TaskKind kind) {
    constexpr int kStretches = 20;
    const int rounds = Rounds(300, 40);
    const PipePair pipe = Pipe();
    TaskGroup group(kind);
    group.Go([&] {
      char buffer[128];
      while (pipe.b.ReadFull(absl::MakeSpan(buffer)).ok()) {
        if (!pipe.b.Write(absl::string_view(buffer, sizeof(buffer))).ok()) return;
      }
    });
    char buffer[128] = {};
    int64_t fewest = rounds;
    for (int stretch = 0; stretch < kStretches && fewest != 0; ++stretch) {
      const int64_t before = allocations.load();
      for (int i = 0; i < rounds; ++i) {
        ASSERT_TRUE(pipe.a.SetReadDeadline(testing::In(absl::Hours(1))).ok());
        ASSERT_TRUE(pipe.a.Write(absl::string_view(buffer, sizeof(buffer))).ok());
        ASSERT_TRUE(pipe.a.ReadFull(absl::MakeSpan(buffer)).ok());
      }
      fewest = std::min(fewest, allocations.load() - before);
    }
    EXPECT_EQ(fewest, 0);
    ASSERT_TRUE(pipe.a.Close().ok());
  });
}

}  // namespace
}  // namespace weft
