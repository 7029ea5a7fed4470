// One operation of BM_FileRead4K is the read of 4 KiB at a random place of a file of 256 MiB, by
// File::Pread(). ...Pread is the same by pread(2) in a BlockingSection, on a goroutine too, and
// ...Threads by pread(2) on plain threads. The arguments are the number of Ps (0: all of the
// machine's), that of goroutines or threads, which share the reads, and whether the file is in the
// page cache: if not, each read goes to the disk, but for the few that meet a block again before
// the cache is dropped, every 4,096 reads.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "benchmark/benchmark.h"
#include "netpoll/file.h"
#include "sched/benchmark_args.h"
#include "sched/goroutine.h"
#include "sched/waiter.h"

namespace weft {
namespace {

constexpr size_t kBlock = 4096;
constexpr int64_t kBlocks = 65'536;

// A file that is gone when the program ends.
const File& Data() {
  static const File* const file = [] {
    const char* const directory = std::getenv("TEST_TMPDIR");
    const std::string path =
        absl::StrCat(directory != nullptr ? directory : "/tmp", "/file_benchmark.", getpid());
    absl::StatusOr<File> created = Create(path);
    if (!created.ok()) std::abort();
    unlink(path.c_str());
    const std::string block(1 << 20, 'x');
    for (int i = 0; i < 256; ++i) {
      if (!created->Write(block).ok()) std::abort();
    }
    if (!created->Sync().ok()) std::abort();
    posix_fadvise(created->fd(), 0, 0, POSIX_FADV_RANDOM);
    return new File(*created);
  }();
  return *file;
}

// Each of these reads one block, and says whether that went well.
bool ByFile(char* buffer, int64_t offset) {
  const absl::StatusOr<size_t> n = Data().Pread(absl::MakeSpan(buffer, kBlock), offset);
  return n.ok() && *n == kBlock;
}
bool ByPread(char* buffer, int64_t offset) {
  const BlockingSection section;
  return pread(Data().fd(), buffer, kBlock, offset) == static_cast<ssize_t>(kBlock);
}
bool ByThread(char* buffer, int64_t offset) {
  return pread(Data().fd(), buffer, kBlock, offset) == static_cast<ssize_t>(kBlock);
}

using ReadBlock = bool (*)(char* buffer, int64_t offset);

bool ReadBlocks(ReadBlock read, int64_t count, uint64_t seed) {
  const auto buffer = std::make_unique<char[]>(kBlock);
  uint64_t random = seed * 0x9e3779b97f4a7c15 + 1;
  for (int64_t i = 0; i < count; ++i) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    if (!read(buffer.get(), static_cast<int64_t>(random % kBlocks * kBlock))) return false;
  }
  return true;
}

void Run(benchmark::State& state, ReadBlock read, bool on_threads) {
  const testing::BenchmarkProcs procs(state);
  const int64_t tasks = state.range(1);
  const bool cached = state.range(2) != 0;
  const int64_t each = (cached ? 65'536 : 4'096) / tasks;
  state.SetLabel(FilesDescription());
  if (cached) {
    for (int64_t i = 0; i < kBlocks; ++i) {
      char block[kBlock];
      if (pread(Data().fd(), block, kBlock, i * kBlock) < 0) state.SkipWithError("no file");
    }
  }

  std::atomic<bool> failed{false};
  uint64_t seed = 1;
  while (state.KeepRunningBatch(each * tasks)) {
    if (!cached) {
      state.PauseTiming();
      posix_fadvise(Data().fd(), 0, 0, POSIX_FADV_DONTNEED);
      state.ResumeTiming();
    }
    if (on_threads) {
      std::vector<std::thread> threads;
      for (int64_t i = 0; i < tasks; ++i) {
        threads.emplace_back([&, s = seed++] {
          if (!ReadBlocks(read, each, s)) failed.store(true);
        });
      }
      for (std::thread& thread : threads) thread.join();
      continue;
    }
    Waiter* const owner = Waiter::Current();
    std::atomic<int64_t> left{tasks};
    for (int64_t i = 0; i < tasks; ++i) {
      Go([&, owner, s = seed++] {
        if (!ReadBlocks(read, each, s)) failed.store(true);
        if (left.fetch_sub(1, std::memory_order_release) == 1) owner->Unpark();
      });
    }
    while (left.load(std::memory_order_acquire) != 0) owner->Park(WaitReason::kWaitGroupWait);
  }
  if (failed.load()) state.SkipWithError("a read failed");
  state.SetItemsProcessed(state.iterations());
}

void BM_FileRead4K(benchmark::State& state) { Run(state, ByFile, /*on_threads=*/false); }
void BM_FileRead4KPread(benchmark::State& state) { Run(state, ByPread, /*on_threads=*/false); }
void BM_FileRead4KThreads(benchmark::State& state) { Run(state, ByThread, /*on_threads=*/true); }

void Arguments(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"procs", "tasks", "cached"});
  for (const int cached : {1, 0}) {
    for (const int tasks : {1, 64}) benchmark->Args({0, tasks, cached});
  }
  benchmark->MeasureProcessCPUTime()->UseRealTime();
}
BENCHMARK(BM_FileRead4K)->Apply(Arguments);
BENCHMARK(BM_FileRead4KPread)->Apply(Arguments);
BENCHMARK(BM_FileRead4KThreads)->Apply(Arguments);

}  // namespace
}  // namespace weft
