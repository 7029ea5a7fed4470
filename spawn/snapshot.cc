#include "spawn/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "spawn/start_error.h"

namespace weft::spawn {
namespace {

constexpr size_t kBuffer = 256 << 10;
constexpr size_t kMessage = 1000;

absl::Status SystemError(int error, absl::string_view what) {
  return absl::Status(absl::ErrnoToStatusCode(error),
                      absl::StrCat("snapshot: ", what, ": ", internal::ErrnoText(error)));
}

// The alarm's default action ends the process: no handler has to find its turn.
void StartTimeout(absl::Duration timeout) {
  signal(SIGALRM, SIG_DFL);
  if (timeout == absl::InfiniteDuration()) return;
  itimerval once = {};
  // Zero would be never.
  once.it_value = absl::ToTimeval(std::max(timeout, absl::Microseconds(1)));
  setitimer(ITIMER_REAL, &once, nullptr);
}

void ResetHandlers() {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action;
    if (sigaction(signal, nullptr, &action) != 0) continue;
    if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) {
      action = {};
      action.sa_handler = SIG_DFL;
      sigaction(signal, &action, nullptr);
    }
  }
}

// The parent's connections must not stay open because we have them too.
void CloseAllBut(int fd) {
  const auto close_range = [](int first, int last) {
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0) return;
    rlimit limit = {};
    getrlimit(RLIMIT_NOFILE, &limit);
    const int end = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, INT_MAX));
    for (int i = first; i <= last && i < end; ++i) close(i);
  };
  const int low = std::min(fd, 2);
  const int high = std::max(fd, 2);
  close_range(0, low - 1);
  close_range(low + 1, high - 1);
  close_range(high + 1, INT_MAX);
}

void BecomeModest(const SnapshotOptions& options) {
  setpriority(PRIO_PROCESS, 0, options.nice);
  const int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  dprintf(file, "%d", options.oom_score_adj);
  close(file);
}

}  // namespace

// In memory that both have.
struct SnapshotWriter::Shared {
  std::atomic<uint64_t> progress{0};
  std::atomic<uint64_t> bytes{0};
  // The outcome, complete when `done` is set. Read when the child is gone.
  bool done = false;
  int code = 0;
  size_t message_size = 0;
  char message[kMessage] = {};

  void Finish(const absl::Status& status) {
    code = static_cast<int>(status.code());
    message_size = status.message().copy(&message[0], kMessage);
    done = true;
  }
};

SnapshotWriter::SnapshotWriter(int fd, Shared* shared)
    : fd_(fd), shared_(shared), buffer_(new char[kBuffer]) {}

bool SnapshotWriter::Write(absl::string_view bytes) {
  while (error_ == 0 && !bytes.empty()) {
    const size_t n = std::min(bytes.size(), kBuffer - used_);
    memcpy(&buffer_[used_], bytes.data(), n);
    used_ += n;
    bytes.remove_prefix(n);
    if (used_ == kBuffer) Flush();
  }
  return error_ == 0;
}

void SnapshotWriter::SetProgress(uint64_t progress) {
  shared_->progress.store(progress, std::memory_order_relaxed);
}

bool SnapshotWriter::Flush() {
  for (size_t at = 0; at < used_ && error_ == 0;) {
    const ssize_t n = write(fd_, &buffer_[at], used_ - at);
    if (n < 0 && errno != EINTR) error_ = errno;
    if (n <= 0) continue;
    at += static_cast<size_t>(n);
    shared_->bytes.fetch_add(static_cast<uint64_t>(n), std::memory_order_relaxed);
  }
  used_ = 0;
  return error_ == 0;
}

struct Snapshot::State {
  using Shared = SnapshotWriter::Shared;

  ~State() {
    if (runner.joinable()) runner.join();
    if (pidfd >= 0) close(pidfd);
    if (file >= 0) close(file);
    if (!unfinished.empty()) unlink(unfinished.c_str());
    if (shared != nullptr) munmap(shared, sizeof(Shared));
  }

  [[noreturn]] void RunChild(Function write, const SnapshotOptions& options, const sigset_t& mask,
                             pid_t parent);
  absl::Status FinishFile();

  Shared* shared = nullptr;
  int fd = -1;
  int file = -1;           // to be closed, where it is ours
  std::string path;        // what the file will be called
  std::string unfinished;  // what it is called meanwhile
  pid_t pid = -1;
  int pidfd = -1;
  bool limited = false;  // in time
  bool waited = false;
  // It has forked, and waits for the child's end.
  std::thread runner;
};

absl::Status Snapshot::State::FinishFile() {
  if (unfinished.empty()) return absl::OkStatus();
  if (fsync(fd) != 0) return SystemError(errno, "fsync");
  if (rename(unfinished.c_str(), path.c_str()) != 0) return SystemError(errno, "rename");
  // The name is on the disk when the directory is.
  const size_t slash = path.rfind('/');
  const std::string dir = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int directory = open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0 || fsync(directory) != 0) return SystemError(errno, "fsync of the directory");
  return absl::OkStatus();
}

void Snapshot::State::RunChild(Function write, const SnapshotOptions& options, const sigset_t& mask,
                               pid_t parent) {
  ResetHandlers();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  StartTimeout(options.timeout);
  sigset_t unblocked = mask;
  sigdelset(&unblocked, SIGALRM);
  pthread_sigmask(SIG_SETMASK, &unblocked, nullptr);
  CloseAllBut(fd);
  BecomeModest(options);

  SnapshotWriter writer(fd, shared);
  absl::Status status = write(writer);
  if (status.ok() && !writer.Flush()) status = SystemError(writer.error_, "write");
  if (status.ok()) status = FinishFile();
  shared->Finish(status);
  _exit(0);
}

Snapshot::Snapshot(std::unique_ptr<State> state) : state_(std::move(state)) {}
Snapshot::Snapshot(Snapshot&&) noexcept = default;

Snapshot& Snapshot::operator=(Snapshot&& other) noexcept {
  // The one that was here is killed with `other`.
  std::swap(state_, other.state_);
  return *this;
}

Snapshot::~Snapshot() {
  if (state_ == nullptr || state_->waited) return;
  Cancel();
  Wait().IgnoreError();
}

absl::StatusOr<Snapshot> Snapshot::ToFd(int fd, Function write, const SnapshotOptions& options) {
  auto state = std::make_unique<State>();
  state->fd = fd;
  return Start(std::move(state), write, options);
}

absl::StatusOr<Snapshot> Snapshot::ToFile(const std::string& path, Function write,
                                          const SnapshotOptions& options) {
  static std::atomic<uint64_t> next{0};
  auto state = std::make_unique<State>();
  const std::string unfinished = absl::StrCat(path, ".unfinished.", getpid(), ".",
                                              next.fetch_add(1, std::memory_order_relaxed));
  state->file = open(unfinished.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (state->file < 0) return SystemError(errno, absl::StrCat("open ", unfinished));
  state->fd = state->file;
  state->path = path;
  state->unfinished = unfinished;
  return Start(std::move(state), write, options);
}

absl::StatusOr<Snapshot> Snapshot::Start(std::unique_ptr<State> state, Function write,
                                         const SnapshotOptions& options) {
  void* const memory = mmap(nullptr, sizeof(State::Shared), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return SystemError(errno, "mmap");
  state->shared = new (memory) State::Shared;
  state->limited = options.timeout != absl::InfiniteDuration();
  const pid_t parent = getpid();
  // A thread of its own forks, so that the child consists of a plain one, where the caller may be a
  // goroutine, whose runtime does not come along. It stays while the child lives: the signal of the
  // parent's death would come at its end.
  std::promise<int64_t> forked;
  std::future<int64_t> result = forked.get_future();
  State* const child = state.get();
  state->runner =
      std::thread([child, parent, write, &options, forked = std::move(forked)]() mutable {
        sigset_t all;
        sigset_t mask;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &mask);
        const pid_t pid = fork();
        if (pid == 0) child->RunChild(write, options, mask, parent);
        forked.set_value(pid < 0 ? -errno : pid);
        // Nothing of the caller's is used from here on.
        siginfo_t info;
        while (pid > 0 && waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) != 0 &&
               errno == EINTR) {
        }
      });
  const int64_t pid = result.get();
  if (pid < 0) return SystemError(static_cast<int>(-pid), "fork");
  state->pid = static_cast<pid_t>(pid);
  state->pidfd = static_cast<int>(syscall(SYS_pidfd_open, state->pid, 0));
  return Snapshot(std::move(state));
}

uint64_t Snapshot::progress() const {
  return state_->shared->progress.load(std::memory_order_relaxed);
}
uint64_t Snapshot::bytes_written() const {
  return state_->shared->bytes.load(std::memory_order_relaxed);
}
int Snapshot::pidfd() const { return state_->pidfd; }
pid_t Snapshot::pid() const { return state_->pid; }

void Snapshot::Cancel() {
  // Its number is its own until Wait().
  if (!state_->waited) kill(state_->pid, SIGKILL);
}

absl::Status Snapshot::Wait() {
  if (state_->waited) return absl::FailedPreconditionError("snapshot: waited for already");
  state_->waited = true;
  state_->runner.join();
  int status = 0;
  while (waitpid(state_->pid, &status, 0) < 0) {
    if (errno != EINTR) return SystemError(errno, "waitpid");
  }
  const State::Shared& shared = *state_->shared;
  if (shared.done) {
    const auto code = static_cast<absl::StatusCode>(shared.code);
    if (code == absl::StatusCode::kOk) state_->unfinished.clear();
    return absl::Status(code, absl::string_view(shared.message, shared.message_size));
  }
  if (state_->limited && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
    return absl::DeadlineExceededError("snapshot: took too long");
  }
  return absl::AbortedError(WIFSIGNALED(status)
                                ? absl::StrCat("snapshot: killed by signal ", WTERMSIG(status))
                                : absl::StrCat("snapshot: exit status ", WEXITSTATUS(status)));
}

}  // namespace weft::spawn
