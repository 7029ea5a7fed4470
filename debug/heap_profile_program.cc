// What heap_profile_test looks at: allocates 64 MiB, some by goroutines, and writes the profile of
// the heap, in the form that the argument says.
#include <cstdio>
#include <string_view>
#include <vector>

#include "debug/profile.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"

namespace {

constexpr int kBlocks = 1024;

std::vector<char*> kept[2];

__attribute__((noinline)) void AllocateLarge() {
  for (int i = 0; i < kBlocks; ++i) kept[0].push_back(new char[48 << 10]);
}

__attribute__((noinline)) void AllocateSmall() {
  for (int i = 0; i < 256 * kBlocks; ++i) kept[1].push_back(new char[64]);
}

__attribute__((noinline)) void AllocateAndFree() {
  for (int i = 0; i < kBlocks; ++i) {
    char* volatile block = new char[64 << 10];  // which an optimizer would leave out
    delete[] block;
  }
}

}  // namespace

int main(int argc, char** argv) {
  // Of the first 16 MiB that a program allocates tcmalloc takes no samples.
  AllocateAndFree();
  return weft::Main([&] {
    weft::WaitGroup all;
    all.Add(3);
    for (void (*const allocate)() : {AllocateLarge, AllocateSmall, AllocateAndFree}) {
      weft::Go([&all, allocate] {
        allocate();
        all.Done();
      });
    }
    all.Wait();
    const bool for_google = argc > 1 && std::string_view(argv[1]) == "google";
    const absl::Status status = weft::debug::WriteProfile(
        "heap", [](absl::string_view bytes) { std::fwrite(bytes.data(), 1, bytes.size(), stdout); },
        for_google ? weft::debug::ProfileFormat::kGperftools : weft::debug::ProfileFormat::kPprof);
    if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return status.ok() ? 0 : 3;
  });
}
