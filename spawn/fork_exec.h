// Starting a process, at a price that does not grow with the memory of the one that starts it.
//
//   absl::StatusOr<weft::spawn::Child> child =
//       weft::spawn::ForkExec("/bin/echo", {"echo", "hello"});
//   if (!child.ok()) return child.status();  // fork/exec /bin/echo: no such file or directory
//   int status;
//   waitpid(child->pid, &status, 0);
//   close(child->pidfd);
//
// fork(2) copies the page tables of its parent, and each page that either touches afterwards: tens
// of milliseconds for a process of some gigabytes. Here the child borrows its parent's memory and
// the calling thread stands still until the child has begun its program (clone3 with CLONE_VM |
// CLONE_VFORK). The other threads go on. What makes that safe: the child has a stack of its own,
// receives no signals and has no handlers, and runs only code that makes system calls on data
// prepared before (internal/child.h).
//
// Where that cannot be had, a forked child does the same on its copy of the memory: with a user
// namespace, whose maps the parent has to write meanwhile; under emulators and sandboxes that
// refuse such a clone or do not share memory; and where Attributes::plain_fork asks for it.
//
// This target depends on Abseil only and may be embedded alone. ForkExec blocks its thread until
// the program has begun, some 50 us, more on a busy machine: on a goroutine use //spawn:command, or
// a weft::BlockingSection.
#ifndef WEFT_SPAWN_FORK_EXEC_H_
#define WEFT_SPAWN_FORK_EXEC_H_

#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/start_error.h"

namespace weft::spawn {

// `count` ids from `inside` on, in the user namespace, are those from `outside` on.
struct IdMap {
  uint32_t inside;
  uint32_t outside;
  uint32_t count;
};

struct ResourceLimit {
  int resource;  // RLIMIT_NOFILE, ...
  rlimit value;
};

// How the child is to differ from its parent. One that the kernel does not have, or does not
// permit, fails the start with an error that names it; nothing is left out in silence.
struct Attributes {
  // A session, and so a process group, of its own (setsid).
  bool new_session = false;
  // The process group that it joins; 0: one of its own.
  std::optional<pid_t> process_group = {};
  // With new_session: which of the child's descriptors becomes its controlling terminal.
  std::optional<int> controlling_tty = {};
  // A descriptor, of this process, of the terminal whose foreground group becomes the child's,
  // which is one of its own unless process_group says otherwise. Not together with controlling_tty.
  std::optional<int> foreground_tty = {};

  // Sent to the child when the *thread* that started it ends; 0: none. A parent that is gone before
  // this has been set up is noticed too, except across pid namespaces. Goroutines are on whatever
  // thread: use this where threads live as long as the process.
  int parent_death_signal = 0;

  // All three of each kind, real, effective and saved. If uid or gid is given and `groups` is not,
  // the supplementary groups are dropped, unless a user namespace denies that (allow_setgroups).
  std::optional<uid_t> uid = {};
  std::optional<gid_t> gid = {};
  std::optional<std::vector<gid_t>> groups = {};
  // Capabilities (CAP_NET_BIND_SERVICE, ...) that the program keeps although it is no root's.
  std::vector<int> ambient_capabilities = {};
  // The program cannot gain privileges, by set-user-id files or otherwise.
  bool no_new_privileges = false;

  std::vector<ResourceLimit> limits = {};
  // -20 to 19.
  std::optional<int> nice = {};
  // The processors that it may run on; empty: as this thread.
  std::vector<int> cpus = {};
  std::optional<mode_t> umask = {};
  // The program's path and `dir` are looked up in there.
  std::string chroot = {};

  // CLONE_NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWCGROUP. A new mount namespace is made
  // private, so that what is mounted there does not show here.
  uint64_t namespaces = 0;
  // With CLONE_NEWUSER; without them its ids are the overflow ids. Groups can be changed in there
  // only if allow_setgroups is set, which takes privileges here.
  std::vector<IdMap> uid_map = {};
  std::vector<IdMap> gid_map = {};
  bool allow_setgroups = false;
  // A descriptor of the directory of the cgroup, version 2, that it begins in.
  std::optional<int> cgroup = {};

  // The signals that it blocks; nullopt: those that the calling thread blocks.
  std::optional<sigset_t> signal_mask = {};
  // Signals that are ignored here but not by the child. (Those with a handler get their default
  // action anyway.)
  std::vector<int> default_signals = {SIGPIPE};
  // A debugger that follows this process's children does not get this one.
  bool untraced = false;

  // Fork even where memory could be shared.
  bool plain_fork = false;
};

struct ForkExecOptions {
  // "NAME=value"; of several with one name the last counts. nullopt: this process's, with PWD set
  // to `dir` if that is given.
  std::optional<std::vector<std::string>> env = {};
  // Where it runs; empty: where this process does. A relative path of the program is taken from
  // there.
  std::string dir = {};
  // The child's descriptor i is this process's files[i], or closed if that is -1. It inherits
  // nothing else, close-on-exec or not.
  std::vector<int> files = {0, 1, 2};
  Attributes attr = {};
};

// A child that has begun its program. The caller waits for it, with waitpid(2) or the like, and
// closes the descriptor.
struct Child {
  pid_t pid = -1;
  // Becomes readable when it has ended; close-on-exec. -1: the system has none for us.
  int pidfd = -1;
};

// Starts the program `path`, which is not looked up in PATH, with argument vector `argv`, the
// program's name for itself included. On return it has begun, or there is no child, no zombie, and
// no open descriptor of it: no SIGCHLD is raised for one that failed either.
//
// From any thread, any number of them at once; blocks it; not from signal handlers. All signals of
// the thread are blocked meanwhile.
//
// Errors: those that start_error.h describes.
absl::StatusOr<Child> ForkExec(const std::string& path, const std::vector<std::string>& argv,
                               const ForkExecOptions& options = {});

}  // namespace weft::spawn

#endif  // WEFT_SPAWN_FORK_EXEC_H_
