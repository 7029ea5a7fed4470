// The parent's half of a start. internal/child.cc is the child's.
//
// How the child may be made, best first; each is tried where the one before is refused (ENOSYS of
// an old kernel, EPERM and EINVAL of sandboxes and emulators, and of namespaces that do not go with
// shared memory):
//
//   clone3  memory shared, parent suspended, pidfd, cgroup, handlers reset by the kernel
//   clone   memory shared, parent suspended, pidfd; the child does the rest
//   clone   the same without a pidfd, which is asked for afterwards (Linux before 5.2)
//   clone3  memory copied, pidfd
//   clone   memory copied, pidfd
//   clone   as fork does it; a pidfd is asked for afterwards
//
// An error that is nobody's refusal (EAGAIN at RLIMIT_NPROC, EMFILE, ENOMEM) ends the search. What
// the kernel has been found to lack is not asked for again.
//
// The outcome. A child that shares memory writes it into the plan. Others write it into a pipe that
// exec closes. Emulators may take a clone that asks for shared memory and make a fork of it, so
// until this process has once seen that memory is shared, there is a pipe as well.
//
// A child that has not begun its program has exit signal 0, and exec makes that SIGCHLD. So a
// failed start raises no SIGCHLD, other code's waitpid(-1) cannot take that child from us, and
// wait4 with
// __WCLONE, which sees only children of another exit signal, both tells whether this one has begun
// and takes it away if it has not: even one that was killed in the middle.
#include "spawn/fork_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "spawn/internal/arch.h"
#include "spawn/internal/child.h"
#include "spawn/internal/child_stack.h"
#include "spawn/internal/prepared.h"

namespace weft::spawn {
namespace {

using internal::ChildPlan;
using internal::ChildStack;
using internal::CloneRequest;
using internal::KernelSignals;
using internal::Outcome;

struct Way {
  bool clone3 = false;
  bool share = false;
  bool pidfd = false;
  bool as_fork = false;
};
constexpr Way kWays[] = {{.clone3 = true, .share = true, .pidfd = true},
                         {.share = true, .pidfd = true},
                         {.share = true},
                         {.clone3 = true, .pidfd = true},
                         {.pidfd = true},
                         {.as_fork = true}};

// This process has seen a child write to its memory.
std::atomic<bool> memory_is_shared{false};
// The kernel has no clone3, or a clone that gives no pidfd.
std::atomic<bool> no_clone3{false};
std::atomic<bool> no_pidfd{false};

class OwnedFd {
 public:
  explicit OwnedFd(int fd = -1) : fd_(fd) {}
  ~OwnedFd() { Close(); }
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;

  int get() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  // For calls that fill in a number.
  int* address() { return &fd_; }

 private:
  int fd_;
};

struct Pipe {
  OwnedFd reader;
  OwnedFd writer;

  // 0 or an errno.
  int Open() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return errno;
    *reader.address() = ends[0];
    *writer.address() = ends[1];
    return 0;
  }
};

class BlockedSignals {
 public:
  BlockedSignals() : old_(internal::SwapSignalMask(~KernelSignals{0})) {}
  ~BlockedSignals() { internal::SwapSignalMask(old_); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  KernelSignals old() const { return old_; }

 private:
  const KernelSignals old_;
};

// A child that changes its ids while it shares our memory makes that memory undumpable, which
// protects it from the new user. Afterwards it is ours alone again, and gets back what it was. One
// at a time, or a second start would take the first one's state for ours.
class KeepDumpable {
 public:
  explicit KeepDumpable(bool wanted) {
    if (!wanted) return;
    lock_ = std::unique_lock(mutex_);
    was_ = prctl(PR_GET_DUMPABLE);
  }
  ~KeepDumpable() {
    if (was_ == 1) prctl(PR_SET_DUMPABLE, 1);
  }
  KeepDumpable(const KeepDumpable&) = delete;
  KeepDumpable& operator=(const KeepDumpable&) = delete;

 private:
  static std::mutex mutex_;
  std::unique_lock<std::mutex> lock_;
  int was_ = 0;
};
std::mutex KeepDumpable::mutex_;

bool ChangesIds(const Attributes& attr) {
  return attr.uid.has_value() || attr.gid.has_value() || attr.groups.has_value() ||
         !attr.ambient_capabilities.empty();
}

bool IsRefusal(int error) {
  return error == ENOSYS || error == EPERM || error == EINVAL || error == E2BIG;
}

// Of whatever the child was to have besides.
bool IsShortage(int error) {
  return error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE;
}

std::string Lines(const std::vector<IdMap>& map) {
  std::string lines;
  for (const IdMap& line : map) {
    absl::StrAppend(&lines, line.inside, " ", line.outside, " ", line.count, "\n");
  }
  return lines;
}

// Writes a file of the child in /proc. 0 or an errno.
int WriteProc(pid_t pid, absl::string_view name, absl::string_view text) {
  const std::string path = absl::StrCat("/proc/", pid, "/", name);
  const OwnedFd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.open()) return errno;
  return write(file.get(), text.data(), text.size()) < 0 ? errno : 0;
}

class Start {
 public:
  Start(const std::string& path, const std::vector<std::string>& argv,
        const ForkExecOptions& options)
      : path_(path), attr_(options.attr), prepared_(path, argv, options) {}

  absl::StatusOr<Child> Run() {
    if (absl::Status status = prepared_.Check(); !status.ok()) return status;
    if (stack_.error() != 0) return Error(Step::kChildStack, stack_.error());
    const KeepDumpable keep_dumpable(ChangesIds(attr_));
    const BlockedSignals signals;
    prepared_.Fill(plan_, signals.old());
    if (NewUser()) {
      if (const int error = gate_.Open(); error != 0) return Error(Step::kStatusPipe, error);
      plan_.gate = gate_.reader.get();
      plan_.gate_writer = gate_.writer.get();
    }
    if (absl::Status status = Clone(); !status.ok()) return status;
    return Finish();
  }

 private:
  bool NewUser() const { return (attr_.namespaces & CLONE_NEWUSER) != 0; }

  absl::Status Error(Step step, int error, int index = -1) const {
    return internal::MakeStartError(path_, {step, error, index});
  }

  absl::Status Clone() {
    const bool may_share = !attr_.plain_fork && !NewUser();
    bool pidfd_refused = false;
    int error = ENOSYS;
    for (const Way& way : kWays) {
      if (way.share && !may_share) continue;
      // Relaxed: these guard nothing.
      if (way.clone3 && no_clone3.load(std::memory_order_relaxed)) continue;
      if (way.pidfd && no_pidfd.load(std::memory_order_relaxed)) continue;
      if (absl::Status status = PrepareFor(way); !status.ok()) return status;
      const int64_t pid = internal::StartChild(RequestFor(way), &plan_);
      if (pid > 0) {
        pid_ = static_cast<pid_t>(pid);
        way_ = way;
        if (!way.pidfd && pidfd_refused) no_pidfd.store(true, std::memory_order_relaxed);
        return absl::OkStatus();
      }
      error = static_cast<int>(-pid);
      if (!IsRefusal(error)) break;
      if (way.clone3 && error == ENOSYS) no_clone3.store(true, std::memory_order_relaxed);
      pidfd_refused = pidfd_refused || way.pidfd;
    }
    return CloneError(error);
  }

  // Names what the kernel may have refused.
  absl::Status CloneError(int error) const {
    if (IsShortage(error)) return Error(Step::kClone, error);
    if (attr_.cgroup.has_value() && !IsRefusal(error)) return Error(Step::kCgroup, error);
    return Error(Step::kClone, error, static_cast<int>(attr_.namespaces));
  }

  absl::Status PrepareFor(const Way& way) {
    const bool needs_report = !way.share || !memory_is_shared.load(std::memory_order_relaxed);
    if (needs_report && !report_.reader.open()) {
      if (const int error = report_.Open(); error != 0) return Error(Step::kStatusPipe, error);
      plan_.report = report_.writer.get();
    }
    plan_.handlers_are_reset = way.clone3;
    if (attr_.cgroup.has_value() && !way.clone3 && !cgroup_procs_.open()) {
      *cgroup_procs_.address() = openat(*attr_.cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
      if (!cgroup_procs_.open()) return Error(Step::kCgroupOpen, errno);
    }
    plan_.cgroup_procs = way.clone3 ? -1 : cgroup_procs_.get();
    return absl::OkStatus();
  }

  CloneRequest RequestFor(const Way& way) {
    CloneRequest request;
    request.clone3 = way.clone3;
    request.flags = attr_.namespaces;
    if (attr_.untraced) request.flags |= CLONE_UNTRACED;
    if (way.share) request.flags |= CLONE_VM | CLONE_VFORK;
    if (way.clone3) {
      request.flags |= CLONE_CLEAR_SIGHAND;
      if (attr_.cgroup.has_value()) {
        request.flags |= CLONE_INTO_CGROUP;
        request.cgroup = *attr_.cgroup;
      }
    }
    if (way.as_fork) request.exit_signal = SIGCHLD;
    if (way.pidfd) {
      request.flags |= CLONE_PIDFD;
      request.pidfd = pidfd_.address();
    }
    request.stack = stack_.base();
    request.stack_bytes = ChildStack::kBytes;
    return request;
  }

  absl::StatusOr<Child> Finish() {
    const absl::Status maps = NewUser() ? OpenGate() : absl::OkStatus();
    gate_.writer.Close();
    const StartError error = ReadOutcome();
    if (way_.share && plan_.memory_is_shared) {
      memory_is_shared.store(true, std::memory_order_relaxed);
    }
    const int ended_by = WaitUntilBegun(error.step != Step::kNone || !maps.ok());
    if (!maps.ok()) return maps;
    if (error.step != Step::kNone) return internal::MakeStartError(path_, error);
    if (ended_by != 0) return Error(Step::kKilled, ECANCELED, ended_by);
    if (!pidfd_.open()) *pidfd_.address() = static_cast<int>(OpenPidfd());
    return Child{pid_, pidfd_.Release()};
  }

  int64_t OpenPidfd() const {
    const int64_t fd = internal::RawSyscall(SYS_pidfd_open, pid_, 0);
    return fd < 0 ? -1 : fd;
  }

  // Writes the maps, and lets the child go on if that went well.
  absl::Status OpenGate() {
    if (!attr_.uid_map.empty()) {
      const int error = WriteProc(pid_, "uid_map", Lines(attr_.uid_map));
      if (error != 0) return Error(Step::kUidMap, error);
    }
    if (!attr_.gid_map.empty()) {
      int error = WriteProc(pid_, "setgroups", attr_.allow_setgroups ? "allow" : "deny");
      // The file came with the rule that it is needed for.
      if (error != 0 && error != ENOENT) return Error(Step::kGidMap, error);
      error = WriteProc(pid_, "gid_map", Lines(attr_.gid_map));
      if (error != 0) return Error(Step::kGidMap, error);
    }
    const char byte = 0;
    if (write(gate_.writer.get(), &byte, 1) != 1) return Error(Step::kUidMap, errno);
    return absl::OkStatus();
  }

  // Waits until the child has begun its program or given up, and says why the latter.
  StartError ReadOutcome() {
    report_.writer.Close();
    Outcome words;
    if (report_.reader.open() &&
        read(report_.reader.get(), &words, sizeof(words)) != sizeof(words)) {
      words = Outcome();
    }
    if (plan_.memory_is_shared) {
      words.step = plan_.outcome.step;
      words.error = plan_.outcome.error;
      words.index = plan_.outcome.index;
    }
    return {static_cast<Step>(words.step), words.error, words.index};
  }

  // Takes the child away if it has not begun its program. The signal that ended it, or 0.
  int WaitUntilBegun(bool failed) const {
    if (way_.as_fork && !failed) return 0;
    int status = 0;
    const int64_t waited =
        internal::RawSyscall(SYS_wait4, pid_, &status, way_.as_fork ? 0 : __WCLONE, nullptr);
    return waited == pid_ && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }

  const std::string& path_;
  const Attributes& attr_;
  internal::Prepared prepared_;
  ChildPlan plan_;
  ChildStack stack_;
  Pipe report_;
  Pipe gate_;
  OwnedFd cgroup_procs_;
  OwnedFd pidfd_;
  Way way_ = {};
  pid_t pid_ = -1;
};

}  // namespace

absl::StatusOr<Child> ForkExec(const std::string& path, const std::vector<std::string>& argv,
                               const ForkExecOptions& options) {
  return Start(path, argv, options).Run();
}

}  // namespace weft::spawn
