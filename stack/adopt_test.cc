#include "stack/adopt.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "gtest/gtest.h"
#include "stack/mode.h"

namespace weft::stack {
namespace {

// Needs a pinned stack: each frame's local is written by its callee.
__attribute__((noinline)) int64_t Deep(int64_t* told, int depth) {
  *told = depth;
  int64_t heard = 0;
  const int64_t below = depth == 0 ? 0 : Deep(&heard, depth - 1);
  return below + heard + 1;
}
__attribute__((noinline)) int64_t UsePinnedStack() {
  int64_t heard = 0;
  const int64_t sum = Deep(&heard, 100) + heard;
  std::string text(100, 'x');
  text += std::to_string(sum);
  return static_cast<int64_t>(text.size()) - 104 + sum;
}
constexpr int64_t kExpected = 101 + 100 * 99 / 2 + 100;

std::atomic<int64_t> result{0};
std::atomic<int> calls{0};

void OnTimer(sigval value) {
  result.store(UsePinnedStack() + value.sival_int);
  calls.fetch_add(1);
}

void WaitForCalls(int n) {
  while (calls.load() < n) std::this_thread::yield();
}

void ArmTimer(sigevent& event) {
  timer_t timer{};
  ASSERT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
  const itimerspec soon = {{0, 0}, {0, 1'000'000}};
  ASSERT_EQ(timer_settime(timer, 0, &soon, nullptr), 0);
  WaitForCalls(1);
  timer_delete(timer);
}

// The thread sanitizer faults on threads that are not made by pthread_create.
constexpr bool kSanitized = WEFT_TSAN;
constexpr char kWhySkipped[] = "the thread sanitizer does not know libc's own threads";

TEST(AdoptTest, CallbacksOfTimersRunOnThreadsOfLibcs) {
  if (kSanitized) GTEST_SKIP() << kWhySkipped;
  for (int i = 0; i < 20; ++i) {
    calls.store(0);
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD;
    event.sigev_notify_function = Adopted<OnTimer>;
    event.sigev_value.sival_int = i;
    ArmTimer(event);
    EXPECT_EQ(result.load(), kExpected + i);
  }
}

size_t Mappings() {
  std::ifstream maps("/proc/self/maps");
  size_t lines = 0;
  for (std::string line; std::getline(maps, line);) ++lines;
  return lines;
}

TEST(AdoptTest, StacksAreGivenBackWhenTheThreadsEnd) {
  if (kSanitized) GTEST_SKIP() << kWhySkipped;
  const auto many = [](int n) {
    for (int i = 0; i < n; ++i) {
      calls.store(0);
      sigevent event{};
      event.sigev_notify = SIGEV_THREAD;
      event.sigev_notify_function = Adopted<OnTimer>;
      ArmTimer(event);
    }
  };
  many(10);
  const size_t before = Mappings();
  many(100);
  // The thread of the last one may be there still, and libc keeps some stacks.
  EXPECT_LT(Mappings(), before + 40);
}

TEST(AdoptTest, ThreadsOfOursKeepWhatTheyHave) {
  EXPECT_TRUE(AdoptThread());
  DisownThread();
  EXPECT_EQ(UsePinnedStack(), kExpected);
  std::thread([] {
    EXPECT_TRUE(AdoptThread());
    DisownThread();
    EXPECT_EQ(UsePinnedStack(), kExpected);
  }).join();
}

#if WEFT_HAS_PINNED_STACK
// By the system call alone, with thread-locals made by hand: as a library does that brings its own
// threads. Nothing of libc's has seen this thread.
constexpr size_t kThreadStack = 256 * 1024;
constexpr size_t kThreadLocals = 16 * 1024;
constexpr size_t kControlBlock = 2304;  // glibc's struct pthread

std::atomic<uint32_t> clone_tid{0};

int OnClone(void*) {
  struct Body {
    static int Run(int) {
      result.store(UsePinnedStack());
      return 0;
    }
  };
  Adopted<Body::Run>(0);
  DisownThread();
  return 0;
}

// Outside the macros' flags as far as may be: it is the thread's first function.
void CloneByHand(char* stack, char* locals) {
  uintptr_t pointer;
  asm volatile("movq %%fs:0, %0" : "=r"(pointer));
  // This thread's thread-locals end where its pointer points. Where they begin is not known here,
  // so that some of its stack is copied, too: as another process would, which Valgrind does not
  // mind.
  char* const copy = locals + kThreadLocals;
  const iovec from = {reinterpret_cast<char*>(pointer) - kThreadLocals,
                      kThreadLocals + kControlBlock};
  const iovec to = {locals, from.iov_len};
  ASSERT_EQ(process_vm_readv(getpid(), &to, 1, &from, 1, 0), static_cast<ssize_t>(to.iov_len));
  // The copy needs to know where it is.
  const auto self = reinterpret_cast<uintptr_t>(copy);
  std::memcpy(copy, &self, sizeof self);
  std::memcpy(copy + 16, &self, sizeof self);
  // ... and no pinned stack.
  const intptr_t pinned = [] {
    intptr_t offset;
    asm("movq __safestack_unsafe_stack_ptr@gottpoff(%%rip), %0" : "=r"(offset));
    return offset;
  }();
  std::memset(copy + pinned, 0, sizeof(void*));
  clone_tid.store(1);
  ASSERT_GT(clone(OnClone, stack + kThreadStack,
                  CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                      CLONE_SETTLS | CLONE_CHILD_CLEARTID,
                  nullptr, nullptr, copy, &clone_tid),
            0);
  // The kernel clears it when the thread is gone.
  while (clone_tid.load() != 0) syscall(SYS_futex, &clone_tid, FUTEX_WAIT, 1, nullptr, nullptr, 0);
}

TEST(AdoptTest, ThreadsMadeByTheSystemCall) {
  const auto map = [](size_t bytes) {
    return static_cast<char*>(
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  };
  char* const stack = map(kThreadStack);
  char* const locals = map(kThreadLocals + 2 * kControlBlock);
  result.store(0);
  // On a thread whose thread-locals lie at the end of much mapped memory, its stack.
  std::thread([&] { CloneByHand(stack, locals); }).join();
  EXPECT_EQ(result.load(), kExpected);
}
#endif

}  // namespace
}  // namespace weft::stack
