// A key-value map saved while it is being written to.
//
// One operation is a snapshot of the whole map, from the call until the file is complete. The
// argument is the size of the values in MiB. A writer changes random keys all the time. pause_ms is
// the longest time that one of its changes took while a snapshot was made, still_ms in a while
// without one; call_ms how long the call held the lock, for the fork. The benchmark fails if what
// is in the file is not exactly what the map was at the call, by a sum of hashes.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <fstream>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "spawn/snapshot.h"

namespace {

constexpr size_t kValueBytes = 4000;

class Store {
 public:
  explicit Store(int64_t mib) : keys_(static_cast<uint64_t>(mib << 20) / kValueBytes) {
    map_.reserve(keys_);
    for (uint64_t key = 0; key < keys_; ++key) Set(key, key);
    writer_ = std::thread([this] { Write(); });
  }
  ~Store() {
    stop_ = true;
    writer_.join();
  }

  // The sum of a hash of each entry, kept up to date.
  uint64_t sum() const { return sum_; }
  std::mutex& mutex() { return mutex_; }

  void Save(weft::spawn::SnapshotWriter& out) const {
    for (const auto& [key, value] : map_) {
      if (!out.Write({reinterpret_cast<const char*>(&key), sizeof(key)}) || !out.Write(value)) {
        return;
      }
    }
  }

  // The sum of what has been saved there.
  static uint64_t SumOfSaved(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    uint64_t sum = 0;
    uint64_t key;
    std::string value(kValueBytes, '\0');
    while (file.read(reinterpret_cast<char*>(&key), sizeof(key)) &&
           file.read(value.data(), static_cast<std::streamsize>(value.size()))) {
      sum += Hash(key, value);
    }
    return sum;
  }

  double TakeLongestPauseMs() {
    return absl::ToDoubleMilliseconds(absl::Nanoseconds(longest_.exchange(0)));
  }

 private:
  static uint64_t Hash(uint64_t key, const std::string& value) {
    uint64_t version;
    value.copy(reinterpret_cast<char*>(&version), sizeof(version));
    return (key * 0x9e3779b97f4a7c15u) ^ (version * 0xff51afd7ed558ccdu);
  }

  void Set(uint64_t key, uint64_t version) {
    std::string& value = map_[key];
    if (!value.empty()) sum_ -= Hash(key, value);
    value.assign(kValueBytes, static_cast<char>(version));
    value.replace(0, sizeof(version), reinterpret_cast<const char*>(&version), sizeof(version));
    sum_ += Hash(key, value);
  }

  void Write() {
    std::mt19937_64 random(1);
    while (!stop_.load(std::memory_order_relaxed)) {
      const absl::Time begin = absl::Now();
      {
        const std::lock_guard lock(mutex_);
        Set(random() % keys_, random());
      }
      const int64_t took = absl::ToInt64Nanoseconds(absl::Now() - begin);
      if (took > longest_.load(std::memory_order_relaxed)) longest_.store(took);
      // A load, not a flood.
      if (random() % 16 == 0) absl::SleepFor(absl::Microseconds(100));
    }
  }

  const uint64_t keys_;
  std::mutex mutex_;
  std::unordered_map<uint64_t, std::string> map_;
  uint64_t sum_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> longest_{0};
  std::thread writer_;
};

void BM_Snapshot(benchmark::State& state) {
  Store store(state.range(0));
  const char* const dir = getenv("TMPDIR");
  const std::string path =
      absl::StrCat(dir == nullptr ? P_tmpdir : dir, "/weft_snapshot.", getpid());
  store.TakeLongestPauseMs();
  absl::SleepFor(absl::Seconds(1));
  state.counters["still_ms"] = store.TakeLongestPauseMs();
  double call_ms = 0;
  for (auto _ : state) {
    absl::StatusOr<weft::spawn::Snapshot> snapshot;
    uint64_t sum;
    {
      const std::lock_guard lock(store.mutex());
      sum = store.sum();
      const absl::Time begin = absl::Now();
      snapshot = weft::spawn::Snapshot::ToFile(path, [&](weft::spawn::SnapshotWriter& out) {
        store.Save(out);
        return absl::OkStatus();
      });
      call_ms = std::max(call_ms, absl::ToDoubleMilliseconds(absl::Now() - begin));
    }
    const absl::Status status = snapshot.ok() ? snapshot->Wait() : snapshot.status();
    if (!status.ok()) {
      state.SkipWithError(std::string(status.message()).c_str());
      break;
    }
    state.PauseTiming();
    const bool same = Store::SumOfSaved(path) == sum;
    state.ResumeTiming();
    if (!same) {
      state.SkipWithError("what was saved is not what the map was");
      break;
    }
  }
  state.counters["call_ms"] = call_ms;
  state.counters["pause_ms"] = store.TakeLongestPauseMs();
  unlink(path.c_str());
}
BENCHMARK(BM_Snapshot)->ArgName("MiB")->Arg(16)->Arg(1024)->Iterations(3)->UseRealTime();

}  // namespace
