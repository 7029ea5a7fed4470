#include "spawn/internal/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "spawn/internal/arch.h"
#include "spawn/step.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

namespace weft::spawn::internal {
namespace {

[[noreturn]] void Exit() {
  for (;;) RawSyscall(SYS_exit_group, 127);
}

[[noreturn]] void Fail(ChildPlan& plan, Step step, int64_t result, int index = -1) {
  plan.outcome.error = static_cast<int32_t>(-result);
  plan.outcome.index = index;
  plan.outcome.step = static_cast<int32_t>(step);
  if (plan.report >= 0) {
    const int32_t words[3] = {static_cast<int32_t>(step), static_cast<int32_t>(-result), index};
    static_assert(sizeof(words) == sizeof(Outcome));
    RawSyscall(SYS_write, plan.report, &words[0], sizeof(words));
  }
  Exit();
}

void Check(ChildPlan& plan, Step step, int64_t result, int index = -1) {
  if (result < 0) Fail(plan, step, result, index);
}

// The kernel's struct, which is not libc's.
struct KernelSigaction {
  void (*handler)(int);
  uint64_t flags;
  void* restorer;
  KernelSignals mask;
};

int64_t SetDefaultAction(int signal) {
  const KernelSigaction action = {SIG_DFL, 0, nullptr, 0};
  return RawSyscall(SYS_rt_sigaction, signal, &action, nullptr, sizeof(KernelSignals));
}

// A handler would run in the child, on the parent's data. What is ignored stays ignored, as exec
// leaves it.
void ResetHandlers() {
  for (int signal = 1; signal <= kSignals; ++signal) {
    KernelSigaction action;
    if (RawSyscall(SYS_rt_sigaction, signal, nullptr, &action, sizeof(KernelSignals)) < 0) continue;
    if (action.handler != SIG_DFL && action.handler != SIG_IGN) SetDefaultAction(signal);
  }
}

// The parent opens it when it has written the maps of the user namespace.
void PassGate(ChildPlan& plan) {
  if (plan.gate < 0) return;
  RawSyscall(SYS_close, plan.gate_writer);
  char byte;
  if (RawSyscall(SYS_read, plan.gate, &byte, 1) != 1) Exit();
}

void SetSession(ChildPlan& plan) {
  if (plan.new_session) Check(plan, Step::kSession, RawSyscall(SYS_setsid));
  if (plan.set_group) Check(plan, Step::kProcessGroup, RawSyscall(SYS_setpgid, 0, plan.group));
  if (plan.foreground_tty >= 0) {
    // From the background this raises SIGTTOU, which is blocked and so does not count.
    const pid_t group = plan.group != 0 ? plan.group : static_cast<pid_t>(RawSyscall(SYS_getpid));
    Check(plan, Step::kForeground, RawSyscall(SYS_ioctl, plan.foreground_tty, TIOCSPGRP, &group));
  }
}

void EnterCgroup(ChildPlan& plan) {
  if (plan.cgroup_procs < 0) return;
  const char self = '0';
  Check(plan, Step::kCgroup, RawSyscall(SYS_write, plan.cgroup_procs, &self, 1));
}

// Where the origin's mounts are shared, as systemd has them, ours would show there.
void DetachMounts(ChildPlan& plan) {
  if (!plan.private_mounts) return;
  Check(plan, Step::kPrivateMounts,
        RawSyscall(SYS_mount, "none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
}

// Puts files[i] at i. First those go out of the way that would be overwritten before their turn,
// to numbers that are nobody's target; then each goes to its place, in ascending order: what is at
// i is either files[i] already, or moved, or has been used, or is nobody's.
void MoveFiles(ChildPlan& plan) {
  const int count = plan.file_count;
  if (plan.report >= 0 && plan.report < count) {
    const int64_t moved = RawSyscall(SYS_fcntl, plan.report, F_DUPFD_CLOEXEC, count);
    if (moved < 0) Fail(plan, Step::kStatusPipe, moved);
    plan.report = static_cast<int>(moved);
  }
  for (int i = 0; i < count; ++i) {
    if (plan.files[i] < 0 || plan.files[i] >= i) continue;
    const int64_t moved = RawSyscall(SYS_fcntl, plan.files[i], F_DUPFD_CLOEXEC, count);
    Check(plan, Step::kFiles, moved, i);
    plan.files[i] = static_cast<int>(moved);
  }
  for (int i = 0; i < count; ++i) {
    if (plan.files[i] < 0) {
      RawSyscall(SYS_close, i);
    } else if (plan.files[i] == i) {
      Check(plan, Step::kFiles, RawSyscall(SYS_fcntl, i, F_SETFD, 0), i);
    } else {
      Check(plan, Step::kFiles, RawSyscall(SYS_dup3, plan.files[i], i, 0), i);
    }
  }
}

// The record that getdents64 fills in.
struct DirEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t size;
  uint8_t type;
  char name[1];
};

// Marks every descriptor from `first` on that /proc knows of.
int64_t CloseOthersByProc(int first) {
  const int64_t dir =
      RawSyscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return dir;
  alignas(8) char buffer[1024];
  for (;;) {
    const int64_t bytes = RawSyscall(SYS_getdents64, dir, &buffer[0], sizeof(buffer));
    if (bytes <= 0) {
      RawSyscall(SYS_close, dir);
      return bytes;
    }
    for (int64_t at = 0; at < bytes;) {
      const auto* entry = reinterpret_cast<const DirEntry*>(&buffer[at]);
      int fd = 0;
      const char* digit = &entry->name[0];
      for (; *digit >= '0' && *digit <= '9'; ++digit) fd = fd * 10 + (*digit - '0');
      if (digit != &entry->name[0] && fd >= first) RawSyscall(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
      at += entry->size;
    }
  }
}

// Closed by exec, not now: the report still needs its descriptor.
void CloseOthers(ChildPlan& plan) {
  const int64_t result =
      RawSyscall(SYS_close_range, plan.file_count, ~0U >> 1, CLOSE_RANGE_CLOEXEC);
  if (result == 0) return;
  if (CloseOthersByProc(plan.file_count) < 0) Fail(plan, Step::kCloseOthers, result);
}

void SetControllingTty(ChildPlan& plan) {
  if (plan.controlling_tty < 0) return;
  Check(plan, Step::kControllingTty, RawSyscall(SYS_ioctl, plan.controlling_tty, TIOCSCTTY, 1));
}

void SetResources(ChildPlan& plan) {
  for (int i = 0; i < plan.limit_count; ++i) {
    const LimitWish& wish = plan.limits[i];
    Check(plan, Step::kLimits, RawSyscall(SYS_prlimit64, 0, wish.resource, &wish.value, nullptr),
          wish.resource);
  }
  if (plan.set_nice) {
    Check(plan, Step::kNice,
          RawSyscall(SYS_setpriority, static_cast<int>(PRIO_PROCESS), 0, plan.nice));
  }
  if (plan.cpus != nullptr) {
    Check(plan, Step::kAffinity, RawSyscall(SYS_sched_setaffinity, 0, plan.cpus_bytes, plan.cpus));
  }
  if (plan.set_umask) RawSyscall(SYS_umask, plan.umask);
}

void SetRoot(ChildPlan& plan) {
  if (plan.chroot == nullptr) return;
  Check(plan, Step::kChroot, RawSyscall(SYS_chroot, plan.chroot));
  Check(plan, Step::kChroot, RawSyscall(SYS_chdir, "/"));
}

void SetIds(ChildPlan& plan) {
  if (plan.capability_count > 0) {
    Check(plan, Step::kCapabilities, RawSyscall(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0), -1);
  }
  if (plan.group_count >= 0) {
    Check(plan, Step::kGroups, RawSyscall(SYS_setgroups, plan.group_count, plan.groups));
  }
  if (plan.set_gid) {
    Check(plan, Step::kGid, RawSyscall(SYS_setresgid, plan.gid, plan.gid, plan.gid));
  }
  if (plan.set_uid) {
    Check(plan, Step::kUid, RawSyscall(SYS_setresuid, plan.uid, plan.uid, plan.uid));
  }
}

// An ambient capability has to be permitted and inheritable.
void SetCapabilities(ChildPlan& plan) {
  if (plan.capability_count == 0) return;
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  Check(plan, Step::kCapabilities, RawSyscall(SYS_capget, &header, &data[0]));
  for (int i = 0; i < plan.capability_count; ++i) {
    const int capability = plan.capabilities[i];
    __user_cap_data_struct& word = data[capability / 32];
    const uint32_t bit = uint32_t{1} << (capability % 32);
    word.permitted |= bit;
    word.inheritable |= bit;
    word.effective |= bit;
  }
  Check(plan, Step::kCapabilities, RawSyscall(SYS_capset, &header, &data[0]), plan.capabilities[0]);
  for (int i = 0; i < plan.capability_count; ++i) {
    Check(plan, Step::kCapabilities,
          RawSyscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, plan.capabilities[i], 0, 0),
          plan.capabilities[i]);
  }
}

// After the ids, whose change clears it. A parent that had gone before is noticed here.
void SetParentDeathSignal(ChildPlan& plan) {
  if (plan.parent_death_signal == 0) return;
  Check(plan, Step::kParentDeathSignal,
        RawSyscall(SYS_prctl, PR_SET_PDEATHSIG, plan.parent_death_signal, 0, 0, 0));
  if (plan.parent != 0 && RawSyscall(SYS_getppid) != plan.parent) {
    RawSyscall(SYS_kill, static_cast<int>(RawSyscall(SYS_getpid)), plan.parent_death_signal);
  }
}

[[noreturn]] void RunChild(void* argument) {
  ChildPlan& plan = *static_cast<ChildPlan*>(argument);
  plan.memory_is_shared = true;
  if (!plan.handlers_are_reset) ResetHandlers();
  PassGate(plan);
  SetSession(plan);
  EnterCgroup(plan);
  DetachMounts(plan);
  MoveFiles(plan);
  CloseOthers(plan);
  SetControllingTty(plan);
  // While the child may still do everything that its parent may.
  SetResources(plan);
  SetRoot(plan);
  SetIds(plan);
  SetCapabilities(plan);
  // As the user that the program will run as.
  if (plan.dir != nullptr) Check(plan, Step::kDir, RawSyscall(SYS_chdir, plan.dir));
  if (plan.no_new_privileges) {
    Check(plan, Step::kNoNewPrivileges, RawSyscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  }
  SetParentDeathSignal(plan);
  for (int signal = 1; signal <= kSignals; ++signal) {
    if ((plan.default_signals & SignalBit(signal)) != 0) {
      Check(plan, Step::kDefaultSignals, SetDefaultAction(signal), signal);
    }
  }
  SwapSignalMask(plan.mask);
  Fail(plan, Step::kExec, RawSyscall(SYS_execve, plan.path, plan.argv, plan.env));
}

}  // namespace

KernelSignals SwapSignalMask(KernelSignals mask) {
  KernelSignals old = 0;
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof(mask));
  return old;
}

int64_t StartChild(const CloneRequest& request, ChildPlan* plan) {
  if (!request.clone3) {
    const uint64_t top = SyscallWord(request.stack) + request.stack_bytes;
    return RawClone(SYS_clone, request.flags | static_cast<uint64_t>(request.exit_signal), top,
                    SyscallWord(request.pidfd), &RunChild, plan);
  }
  // Every member by name, so that no memset is called for.
  clone_args args;
  args.flags = request.flags;
  args.pidfd = SyscallWord(request.pidfd);
  args.child_tid = 0;
  args.parent_tid = 0;
  args.exit_signal = static_cast<uint64_t>(request.exit_signal);
  args.stack = SyscallWord(request.stack);
  args.stack_size = request.stack_bytes;
  args.tls = 0;
  args.set_tid = 0;
  args.set_tid_size = 0;
  args.cgroup = request.cgroup >= 0 ? static_cast<uint64_t>(request.cgroup) : 0;
  // A kernel that does not know the last members takes the rest alone.
  const size_t size = request.cgroup >= 0 ? CLONE_ARGS_SIZE_VER2 : CLONE_ARGS_SIZE_VER0;
  return RawClone(SYS_clone3, SyscallWord(&args), size, 0, &RunChild, plan);
}

}  // namespace weft::spawn::internal
