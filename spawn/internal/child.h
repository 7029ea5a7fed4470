// What a child does between its birth and its program.
//
// It runs in its parent's memory while the parent's thread is suspended (CLONE_VM | CLONE_VFORK),
// so everything it needs has been prepared in a ChildPlan, and its code is bound by rules that a
// compiler does not know of: no malloc and no lock, since another thread may hold it; no libc,
// whose wrappers touch the parent's thread_locals and whose set*id calls signal the parent's
// threads; no instrumentation, which would run on the parent's state (split stacks, safe stacks,
// sanitizers, stack protector). So child.cc makes system calls only, is compiled without any of
// these whatever the build's configuration is, and refers to no symbol outside itself, which a test
// checks.
//
// A child that does not share memory, by fork, runs the same code on its copy.
#ifndef WEFT_SPAWN_INTERNAL_CHILD_H_
#define WEFT_SPAWN_INTERNAL_CHILD_H_

#include <linux/sched.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace weft::spawn::internal {

// A set of signals as the kernel has it: bit n - 1 is signal n.
using KernelSignals = uint64_t;
inline constexpr int kSignals = 64;
inline constexpr KernelSignals SignalBit(int signal) { return KernelSignals{1} << (signal - 1); }

// What went wrong: a StartError, as plain words.
struct Outcome {
  int32_t step = 0;  // 0: nothing
  int32_t error = 0;
  int32_t index = -1;
};

struct LimitWish {
  int resource;
  rlimit value;
};

// Absent things are null, -1, or false.
struct ChildPlan {
  const char* path = nullptr;
  char* const* argv = nullptr;
  char* const* env = nullptr;

  const char* dir = nullptr;
  const char* chroot = nullptr;

  // files[i] is the parent's descriptor that becomes the child's i, or -1. The child changes it.
  int* files = nullptr;
  int file_count = 0;

  bool new_session = false;
  bool set_group = false;
  pid_t group = 0;
  int foreground_tty = -1;
  int controlling_tty = -1;
  int cgroup_procs = -1;  // to enter the cgroup by writing to it
  bool private_mounts = false;

  const LimitWish* limits = nullptr;
  int limit_count = 0;
  bool set_nice = false;
  int nice = 0;
  const void* cpus = nullptr;
  size_t cpus_bytes = 0;
  bool set_umask = false;
  mode_t umask = 0;

  const gid_t* groups = nullptr;
  int group_count = -1;
  bool set_gid = false;
  gid_t gid = 0;
  bool set_uid = false;
  uid_t uid = 0;
  const int* capabilities = nullptr;
  int capability_count = 0;
  bool no_new_privileges = false;

  int parent_death_signal = 0;
  pid_t parent = 0;  // to see that it is still there; 0: its number is not known in the child

  KernelSignals default_signals = 0;
  KernelSignals mask = 0;
  bool handlers_are_reset = false;  // CLONE_CLEAR_SIGHAND has done it

  // The child waits for a byte here, and gives up at the end of the stream.
  int gate = -1;
  int gate_writer = -1;
  // Where the outcome is written as well, for a parent that does not share memory.
  int report = -1;

  // The child's answers, where it shares memory.
  volatile bool memory_is_shared = false;
  volatile Outcome outcome;
};

// How to make the process.
struct CloneRequest {
  bool clone3 = true;
  uint64_t flags = 0;
  int exit_signal = 0;
  int cgroup = -1;  // with CLONE_INTO_CGROUP
  void* stack = nullptr;
  size_t stack_bytes = 0;
  int* pidfd = nullptr;  // with CLONE_PIDFD
};

// Starts the child, with all signals blocked. The parent gets its pid or -errno, where CLONE_VFORK
// is among the flags after the child has begun its program or ended.
int64_t StartChild(const CloneRequest& request, ChildPlan* plan);

// Sets all of the thread's signal mask, those included that libc keeps for itself.
KernelSignals SwapSignalMask(KernelSignals mask);

}  // namespace weft::spawn::internal

#endif  // WEFT_SPAWN_INTERNAL_CHILD_H_
