// A program that is slow, for debug/PROFILES.md, which finds out why: those who serve requests wait
// for a lock that one holds while it waits for a disk.
//
//   slow_program DIRECTORY   writes cpu.pb.gz, mutex.pb.gz, block.pb.gz and goroutine.txt there
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "debug/cpu_profile.h"
#include "debug/labels.h"
#include "debug/profile.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/profiles.h"
#include "sched/sync/mutex.h"
#include "sched/sync/wait_group.h"

namespace {

using weft::debug::ProfileSink;
using weft::debug::WriteProfile;

// Calls write(sink), which writes to that file.
template <typename Write>
absl::Status Save(const std::string& path, Write write) {
  std::ofstream file(path, std::ios::binary);
  return write([&file](absl::string_view bytes) {
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  });
}

class Cache {
 public:
  uint64_t Find(uint64_t key) {
    const weft::MutexLock lock(mutex_);
    return key * factor_;
  }

  void Refresh() {
    const weft::MutexLock lock(mutex_);
    factor_ = ReadFromDisk();  // while all others wait
  }

 private:
  static uint64_t ReadFromDisk() {
    weft::Sleep(absl::Milliseconds(20));
    return 3;
  }

  weft::Mutex mutex_;
  uint64_t factor_ ABSL_GUARDED_BY(mutex_) = 1;
};

std::atomic<uint64_t> served{0};

__attribute__((noinline)) uint64_t Checksum(uint64_t x) {
  for (int i = 0; i < 300'000; ++i) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    asm volatile("" : "+r"(x));  // there is a shorter way to what this loop computes
  }
  return x;
}

__attribute__((noinline)) void Serve(Cache& cache, const std::atomic<bool>& stop) {
  uint64_t x = 1;
  while (!stop.load()) {
    x = Checksum(cache.Find(x));
    served.fetch_add(1);
    weft::Yield();
  }
}

__attribute__((noinline)) void RefreshNowAndThen(Cache& cache, const std::atomic<bool>& stop) {
  while (!stop.load()) {
    cache.Refresh();
    weft::Sleep(absl::Milliseconds(5));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  const absl::string_view directory = argv[1];
  return weft::Main([&] {
    weft::SetMutexProfileFraction(1);
    weft::SetBlockProfileRate(absl::Microseconds(10));
    absl::Status status = weft::debug::StartCpuProfile();
    Cache cache;
    weft::WaitGroup all;
    all.Add(9);
    std::atomic<bool> stop{false};
    const weft::Instant second = weft::Instant::Now() + absl::Seconds(1);
    weft::debug::DoWithLabels({{"what", "refresh"}}, [&] {
      weft::Go([&] {
        RefreshNowAndThen(cache, stop);
        all.Done();
      });
    });
    weft::debug::DoWithLabels({{"what", "serve"}}, [&] {
      for (int i = 0; i < 8; ++i) {
        weft::Go([&] {
          Serve(cache, stop);
          all.Done();
        });
      }
    });
    weft::Sleep(absl::Milliseconds(500));
    status.Update(Save(absl::StrCat(directory, "/goroutine.txt"), [](ProfileSink sink) {
      return WriteProfile("goroutine", sink, weft::debug::ProfileFormat::kText);
    }));
    // For longer where the machine is busy, until the profile of processor time has something to
    // say.
    const std::clock_t enough = std::clock() + CLOCKS_PER_SEC / 10;
    while (weft::Instant::Now() < second || std::clock() < enough) {
      weft::Sleep(absl::Milliseconds(10));
    }
    stop.store(true);
    all.Wait();
    status.Update(Save(absl::StrCat(directory, "/cpu.pb.gz"),
                       [](ProfileSink sink) { return weft::debug::StopCpuProfile(sink); }));
    for (const char* const name : {"mutex", "block"}) {
      status.Update(Save(absl::StrCat(directory, "/", name, ".pb.gz"),
                         [&](ProfileSink sink) { return WriteProfile(name, sink); }));
    }
    std::printf("%llu requests\n", static_cast<unsigned long long>(served.load()));
    if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return status.ok() ? 0 : 1;
  });
}
