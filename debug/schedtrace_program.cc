// What schedtrace_test runs and watches: `schedtrace_program MODE LINES [SINCE...]` does what MODE
// says until it has written LINES lines of trace, counted from the first that contains each SINCE
// and was taken after it began. So a run is as long as the machine makes it, and the test need not
// know. It prints the number of the line it counted from, 0 for the first of all.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "sched/fatal.h"
#include "sched/goroutine.h"
#include "sched/waiter.h"

namespace {

std::atomic<bool> going{false};
std::atomic<bool> done{false};
std::atomic<weft::Waiter*> main_waiter{nullptr};
int first_line = 0;  // published by `done`

// Passes on what the program writes to standard error.
class Forwarder {
 public:
  Forwarder(int lines, std::vector<std::string> since) : lines_(lines), since_(std::move(since)) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) std::abort();
    from_ = ends[0];
    to_ = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    std::thread([this] { Run(); }).detach();
  }

 private:
  void Run() {
    std::string line;
    for (char c; read(from_, &c, 1) == 1;) {
      line += c;
      if (c != '\n') continue;
      if (write(to_, line.data(), line.size()) < 0) std::abort();
      Count(line);
      ++number_;
      line.clear();
    }
  }

  bool IsFirst(const std::string& line) const {
    return std::all_of(since_.begin(), since_.end(),
                       [&](const std::string& part) { return absl::StrContains(line, part); });
  }

  void Count(const std::string& line) {
    // Acquire: pairs with whoever says that it is going.
    if (!going.load(std::memory_order_acquire)) return;
    // This one was taken before that perhaps.
    if (!seen_one_) {
      seen_one_ = true;
      return;
    }
    if (!started_ && !IsFirst(line)) return;
    if (!started_) first_line = number_;
    started_ = true;
    if (--lines_ != 0) return;
    done.store(true, std::memory_order_release);
    if (weft::Waiter* waiter = main_waiter.load(std::memory_order_acquire); waiter != nullptr) {
      waiter->Unpark();
    }
  }

  int from_;
  int to_;
  int lines_;
  const std::vector<std::string> since_;
  int number_ = 0;
  bool seen_one_ = false;
  bool started_ = false;
};

bool Done() { return done.load(std::memory_order_acquire); }

void Going() { going.store(true, std::memory_order_release); }

// For ever.
void Wait() {
  for (;;) weft::Waiter::Current()->Park(weft::WaitReason::kChanReceive);
}

// Everything waits.
void Idle() {
  weft::Waiter* self = weft::Waiter::Current();
  main_waiter.store(self, std::memory_order_release);
  Going();
  while (!Done()) self->Park(weft::WaitReason::kSleep);
}

// Every P has goroutines that do nothing but yield, and more of them wait.
void Busy() {
  for (int i = 0; i < 50; ++i) {
    weft::Go([] {
      while (!Done()) weft::Yield();
    });
  }
  Going();
  while (!Done()) weft::Yield();
}

// One goroutine a P computes and does not call the runtime at all.
void Hog() {
  for (int i = 1; i < weft::MaxProcs(); ++i) {
    weft::Go([] {
      while (!Done()) {
      }
    });
  }
  Going();
  while (!Done()) {
  }
}

// All goroutines wait for ever.
void Deadlock() {
  weft::Go({.name = "other"}, [] { Wait(); });
  Wait();
}

// All of the program's goroutines come and go, and so do the Ps.
void Churn() {
  Going();
  for (int n = 0; !Done(); ++n) {
    for (int i = 0; i < 100; ++i) weft::Go([] { weft::Sleep(absl::Microseconds(50)); });
    weft::SetMaxProcs(1 + n % 4);
    weft::Sleep(absl::Milliseconds(1));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 64;
  const std::string mode = argv[1];
  // Those that end by themselves do so without losing what they write last.
  constexpr absl::string_view kShort[] = {"short", "deadlock", "throw", "fatal"};
  if (std::find(std::begin(kShort), std::end(kShort), mode) == std::end(kShort)) {
    new Forwarder(std::atoi(argv[2]), std::vector<std::string>(argv + 3, argv + argc));
  }
  if (mode == "embedded") {
    // No Main(): a program of threads, of which one uses a goroutine.
    weft::Go([] {});
    Idle();
    std::printf("%d\n", first_line);
    return 0;
  }
  return weft::Main([&] {
    if (mode == "idle") Idle();
    if (mode == "busy") Busy();
    if (mode == "hog") Hog();
    if (mode == "churn") Churn();
    if (mode == "deadlock") Deadlock();
    if (mode == "throw") throw std::runtime_error("thrown");
    if (mode == "fatal") weft::Fatal("this is the end");
    if (mode == "short") weft::Sleep(absl::Milliseconds(50));
    std::printf("%d\n", first_line);
    return 0;
  });
}
