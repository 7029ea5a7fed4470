#include "sched/internal/thread_state.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace weft::internal {
namespace {

// Of a thread by its number, as the kernel has it (and pthread_getcpuclockid makes it, for which a
// pthread_t must still be valid).
clockid_t CpuClockOf(int32_t tid) {
  constexpr unsigned kPerThread = 4;
  constexpr unsigned kScheduled = 2;
  return static_cast<clockid_t>((~static_cast<unsigned>(tid) << 3) | kPerThread | kScheduled);
}

}  // namespace

int64_t ThreadCpuNanos(int32_t tid) {
  timespec time;
  if (tid == 0 || clock_gettime(CpuClockOf(tid), &time) != 0) return -1;
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

bool ThreadSleeps(int32_t tid) {
  char text[128];
  std::snprintf(text, sizeof(text), "/proc/self/task/%d/stat", tid);
  const int fd = open(text, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return true;
  const ssize_t size = read(fd, text, sizeof(text) - 1);
  close(fd);
  if (size <= 0) return true;
  text[size] = '\0';
  // "TID (name) S ...", and the name, of 15 bytes at most, may hold anything.
  const char* end = std::strrchr(text, ')');
  return end != nullptr && (end[2] == 'S' || end[2] == 'D');
}

}  // namespace weft::internal
