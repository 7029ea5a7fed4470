// What the scheduler is doing, as plain data: the one source of schedtrace, debug pages and
// metrics.
#ifndef WEFT_SCHED_SNAPSHOT_H_
#define WEFT_SCHED_SNAPSHOT_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

namespace weft {

struct ProcSnapshot {
  int id = 0;
  int status = 0;  // 0 idle, 1 running, 2 syscall, 3 stopped
  uint32_t schedtick = 0;
  uint32_t syscalltick = 0;
  int64_t m = -1;  // the M that holds it
  int node = 0;    // that it belongs to
  int run_queue_size = 0;
  int free_goroutines = 0;
  int timers = 0;
};

// What has become of the leases of Ps since the start (README.md).
struct LeaseCounts {
  // Taken from goroutines in a BlockingSection, from those that blocked without saying so, from
  // those that computed for longer than two time slices, and to stop the world.
  uint64_t taken_blocking = 0;
  uint64_t taken_asleep = 0;
  uint64_t taken_slice = 0;
  uint64_t taken_stop = 0;
  uint64_t asked = 0;             // to yield, at the end of a slice
  uint64_t yielded_in_place = 0;  // did so in a function call
  uint64_t refused = 0;           // was inside the runtime at that moment
  uint64_t barriers = 0;          // calls of membarrier for all that
};

// A thread (M) of the scheduler's.
struct ThreadSnapshot {
  int64_t id = 0;
  int p = -1;                     // the P that it holds
  int64_t goroutine = -1;         // that it runs, or that runs on in it without a P
  int runtime_sections = 0;       // that its code is in
  bool spinning = false;          // looks for work
  bool idle = false;              // asleep until there is some
  int64_t locked_goroutine = -1;  // the one that called LockOSThread(): it runs no other
};

// One goroutine and its stacks, in bytes.
struct GoroutineSnapshot {
  uint64_t id = 0;
  int status = 0;  // 1 runnable, 2 running, 3 syscall, 4 waiting, 9 waits for a P where it is
  int64_t m = -1;  // the thread that it is on
  int64_t locked_m = -1;  // the only one that it may be on
  absl::string_view name;
  const char* wait_reason = "";    // "chan receive", ...; of one that waits
  const char* stack_mode = "";     // "copying" (it can rest), "segmented", "reserved", "fixed"
  uint64_t stack_limit = 0;        // the most that its stack may grow to; 0: it has not run yet
  uint64_t stack_used = 0;         // when it last left it
  uint32_t stack_segments = 0;     // that its stack was on then, beside its slot
  uint64_t stack_rest_bytes = 0;   // of the block where its stack rests; 0: it has its slot
  uint64_t pinned_stack_used = 0;  // when it last left it
  uint32_t stack_moves = 0;        // how often its stack has gone on at another address
};

enum class SnapshotDetail {
  kCounters,  // no lists but that of the Ps
  kAll,       // all threads and goroutines too
};

struct SchedSnapshot {
  int max_procs = 0;
  int idle_procs = 0;
  int threads = 0;            // Ms and the monitor
  int spinning_threads = 0;   // Ms that look for work
  int idle_threads = 0;       // Ms asleep, without the one that waits in the poller
  int locked_threads = 0;     // Ms asleep until the one goroutine that is locked to them can run
  int outlaws = 0;            // goroutines that run without a P, as theirs was taken
  int global_queue_size = 0;  // nodes' queues included
  int nodes = 1;              // that have Ps; more than one under the policy `numa` only
  uint64_t steals = 0;      // how often one of these Ps has taken goroutines from another's queue,
  uint64_t far_steals = 0;  // and of these, how often in another node
  bool need_spinning = false;
  bool monitor_waiting = false;
  bool stopping = false;  // the world is stopped, or is to be
  int stop_wait = 0;      // Ps that whoever stops it waits for
  int64_t goroutines = 0;
  LeaseCounts leases;
  std::vector<ProcSnapshot> procs;
  std::vector<ThreadSnapshot> thread_list;        // the latest first; without the monitor
  std::vector<GoroutineSnapshot> goroutine_list;  // by number
};

// All goroutines that have not ended, in no order. From any thread, at any time; the figures of one
// that runs meanwhile need not belong together.
std::vector<GoroutineSnapshot> GetGoroutineSnapshots();

// From any thread, at any time; starts the scheduler if it is not running. The figures are read one
// after the other while the scheduler works, except those that its lock covers.
SchedSnapshot GetSchedSnapshot(SnapshotDetail detail = SnapshotDetail::kCounters);

// The same for who is about to end the process, whatever it was in the middle of: starts nothing,
// and does without the lock where that is not to be had. It allocates, so not in signal handlers.
SchedSnapshot GetLastSchedSnapshot(SnapshotDetail detail);

}  // namespace weft

#endif  // WEFT_SCHED_SNAPSHOT_H_
