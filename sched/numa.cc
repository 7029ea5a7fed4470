// The policy `numa`: goroutines stay near their memory.
//
// On a machine with several nodes (sched/topology.h) a goroutine's stack, and mostly what it works
// on, is in the memory of the node where it first ran, and takes two or three times as long to
// reach from another. So
//
// - each P belongs to a node (node_map.h), and so do its slots: an M that takes a P has its thread
//   run on the processors of that node, so that what is first touched there lies there. A slot
//   that was in use comes back to Ps of its node, whoever releases it (SlotCache::SetPlace());
// - what a P's ring has no room for, and goroutines whose time slice is over, wait in the node's
//   queue. What comes from threads without a P waits in the machine's;
// - who looks for work does so near before far, and only where all that is nearer had nothing
//   (find_work.h);
// - for work that is made a P of the same node is woken if one is idle, else the nearest, and with
//   it a thread that runs there already, if there is one.
//
// Rejected: to keep work in its node while far Ps are idle. It saves memory traffic, and costs time
// whenever the load of the nodes differs; and a goroutine that waits is always slower than a far
// one.
//
// No wake-up is lost, as the nodes' queues are to the idle protocol (proc.cc) what Ps' own queues
// are, and only those:
// - Who puts something in one publishes it (`size`, sequentially consistent, under the queue's own
//   lock) and then does what the makers of work do: WakeP(). What an overflowing ring has lost and
//   the queue has not got yet nobody sees, but WakeP() comes after.
// - The second look covers all of them (SharedWorkWaits()), whatever node the looker had its P in:
//   near before far is an order, and leaves nothing out. It sees as many of them as there are when
//   work is published, as node_count is sequentially consistent too: a map that changed before was
//   published before the work.
// - Who takes several at once puts all but one in its own ring before `size` says that they are
//   gone; the second look reads `size` first. From that ring they may go on to another one that was
//   looked at before; so the taker wakes somebody too, as every thief does.
// - "No idle P: queue the goroutine" and "no work: the P is idle" must be critical sections of one
//   lock, sched.lock. So goroutines that lost their P (lease.cc, bound.cc) wait in the machine's
//   queue, which has that lock, and idle Ps are under it too, in a list for each node.
//
// A node's lock is taken with none of the scheduler's other locks in hand, but for the change of
// the map, which has sched.lock; with it in hand none is.
//
// One thing is done without regard to distance: where a P does not get to what it has taken from
// the poller, any other one helps (TakeBacklog()). It is rare, and the P's neighbours may be in the
// same plight.
//
// Where all Ps are in one node (always, under the other policies) node_count is 1: nodes[0] has the
// idle Ps, no node's queue is used, and no thread is bound.
//
// Affinity is the thread's, and the program may set it as well. So before a change of its own the
// scheduler looks whether the thread's is what it has set last; where it is not, the thread is left
// alone for ever. A goroutine that locks itself to its thread finds it running on all of the
// process's processors, and it is not changed while that lasts. The program's first thread is
// always left alone: its affinity is what the process's is taken from (SystemProcs()).
#include "sched/internal/numa.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sched/internal/delay.h"
#include "sched/internal/runtime.h"
#include "sched/topology.h"

namespace weft::internal {
namespace {

constexpr char kVariable[] = "WEFTTOPOLOGY";

// As the kernel has it, for as many processors as it can be built for. One that has more refuses
// it, and no thread is bound.
class CpuMask {
 public:
  CpuMask() = default;
  explicit CpuMask(const std::vector<int>& cpus) {
    for (const int cpu : cpus) {
      if (static_cast<size_t>(cpu) < kCpus) words_[cpu / 64] |= uint64_t{1} << cpu % 64;
    }
  }
  bool empty() const {
    return std::all_of(words_.begin(), words_.end(), [](uint64_t word) { return word == 0; });
  }
  bool operator==(const CpuMask&) const = default;

  // Of the thread that calls.
  bool Get() { return sched_getaffinity(0, sizeof(words_), AsSet()) == 0; }
  bool Set() const {
    return sched_setaffinity(0, sizeof(words_), const_cast<CpuMask*>(this)->AsSet()) == 0;
  }

 private:
  static constexpr size_t kCpus = 8192;
  cpu_set_t* AsSet() { return reinterpret_cast<cpu_set_t*>(words_.data()); }

  std::array<uint64_t, kCpus / 64> words_ = {};
};

// The machine, and what threads may run on. Made when there first are nodes, and replaced only
// while there are no Ms, when the runtime is started again. Goroutines run on while the program's
// statics are destroyed: so it has no destructor.
struct Machine {
  Topology topology;
  CpuMask every;
  std::vector<CpuMask> nodes;  // those that the process may use; all, where that is none
};
const Machine* machine = nullptr;
// From RuntimeOptions or the environment.
const Topology* given = nullptr;
// A thread may have been bound, and so may those that it has made.
std::atomic<bool> threads_were_bound{false};

const Topology* FromEnvironment() {
  const char* text = std::getenv(kVariable);
  if (text == nullptr) return nullptr;
  absl::StatusOr<Topology> topology = ParseTopology(text);
  if (topology.ok()) return new Topology(*std::move(topology));
  const std::string message(topology.status().message());
  std::fprintf(stderr, "%s: %s\n", kVariable, message.c_str());
  // Not by exit(): its handlers may want the runtime, whose start this is.
  _exit(2);
}

void MakeMachine() {
  if (machine != nullptr) return;
  if (given == nullptr) given = FromEnvironment();
  const std::vector<int> allowed = AllowedCpus();
  auto* made = new Machine{.topology = given != nullptr ? *given : SystemTopology(allowed),
                           .every = CpuMask(allowed),
                           .nodes = {}};
  for (const Topology::Node& node : made->topology.nodes) {
    std::vector<int> usable;
    std::set_intersection(node.cpus.begin(), node.cpus.end(), allowed.begin(), allowed.end(),
                          std::back_inserter(usable));
    made->nodes.emplace_back(usable.empty() ? allowed : usable);
  }
  machine = made;
}

const CpuMask& MaskOf(int16_t affinity) {
  return affinity == kEveryCpu ? machine->every : machine->nodes[affinity];
}

// `to`, unless somebody else has changed what the scheduler had set.
__attribute__((noinline)) void ChangeAffinity(M* m, int16_t to) {
  const int error = errno;
  if (m->affinity != kUnknownCpus) {
    CpuMask now;
    if (!now.Get() || now != MaskOf(m->affinity)) to = kUsersCpus;
  }
  if (to != kUsersCpus) {
    threads_were_bound.store(true, std::memory_order_relaxed);
    if (!MaskOf(to).Set()) to = kUsersCpus;
  }
  m->affinity = to;
  errno = error;
}

// What there is in the nodes' queues goes to the one that is always there.
void EmptyNodes() ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock) {
  for (int i = sched.node_count.load(std::memory_order_relaxed) - 1; i >= 0; --i) {
    Node& node = sched.nodes[i];
    LockGuard guard(node.lock);
    while (G* g = node.queue.PopFront()) sched.global_queue.PushBack(g);
    node.size.store(0, std::memory_order_seq_cst);
  }
  sched.global_size.store(sched.global_queue.size(), std::memory_order_seq_cst);
}

}  // namespace

void SetTopology(std::optional<Topology> topology) {
  if (topology.has_value()) {
    delete given;
    given = new Topology(*std::move(topology));
  }
  // The system's may have changed.
  delete machine;
  machine = nullptr;
}

void SetPolicy(Policy policy) {
  const int procs = sched.p_count.load(std::memory_order_relaxed);
  const bool has_nodes = policy == Policy::kNuma && procs > 1;
  // Threads that are bound are to be set free.
  if (has_nodes || threads_were_bound.load(std::memory_order_relaxed)) MakeMachine();
  const NodeMap* map = has_nodes ? new NodeMap(machine->topology, procs) : new NodeMap(procs);
  const NodeMap* old;
  {
    LockGuard guard(sched.lock);
    EmptyNodes();
    old = sched.node_map.exchange(map, std::memory_order_acq_rel);
    sched.node_count.store(map->nodes(), std::memory_order_seq_cst);
    for (int i = 0; i < kMaxProcsLimit; ++i) {
      P* p = sched.ps[i].load(std::memory_order_relaxed);
      if (p == nullptr) break;
      p->node = i < procs ? map->NodeOf(i) : 0;
      const int affinity = map->nodes() > 1 ? map->TopologyNode(p->node) : kEveryCpu;
      p->affinity.store(static_cast<int16_t>(affinity), std::memory_order_relaxed);
      p->slots.SetPlace(std::max(affinity, 0) % stack::SlotCache::kPlaces);
    }
  }
  delete old;
  sched.policy.store(policy, std::memory_order_relaxed);
  sched.alone.store(policy != Policy::kGlobal && procs == 1, std::memory_order_relaxed);
}

int NearNode() {
  if (sched.node_count.load(std::memory_order_relaxed) == 1) return 0;
  const M* m = ThisM();
  const P* p = m == nullptr ? nullptr : m->last_p.load(std::memory_order_relaxed);
  if (p != nullptr) return p->node;
  return sched.node_map.load(std::memory_order_relaxed)->NodeOfCpu(sched_getcpu());
}

void PutInNode(const P* p, G* const* items, uint32_t count) {
  Node& node = sched.nodes[p->node];
  LockGuard guard(node.lock);
  node.queue.PushBack(items, count);
  node.size.store(node.queue.size(), std::memory_order_seq_cst);
}

G* TakeFromNode(P* p, int number, uint32_t most) {
  Node& node = sched.nodes[number];
  if (node.size.load(std::memory_order_relaxed) == 0) return nullptr;
  const auto takers =
      static_cast<uint32_t>(sched.node_map.load(std::memory_order_relaxed)->ProcsOf(number));
  G* taken[RunQueue<G>::kCapacity / 2];
  LockGuard guard(node.lock);
  const auto size = static_cast<uint32_t>(node.queue.size());
  if (size == 0) return nullptr;
  const uint32_t count =
      node.queue.PopFront(taken, ShareOf(size, takers, most, p->run_queue.Room()));
  WEFT_DELAY_POINT("numa.take");
  if (count > 1) p->run_queue.PutTail(taken + 1, count - 1);
  node.size.store(node.queue.size(), std::memory_order_seq_cst);
  return taken[0];
}

int NodeQueueSizes() {
  int sum = 0;
  const int count = sched.node_count.load(std::memory_order_seq_cst);
  for (int i = 0; i < count; ++i) sum += sched.nodes[i].size.load(std::memory_order_seq_cst);
  return sum;
}

void FollowNode(M* m, const P* p) {
  if (m->is_main_thread || m->locked_g.load(std::memory_order_relaxed) != nullptr ||
      m->affinity == kUsersCpus)
    return;
  ChangeAffinity(m, p->affinity.load(std::memory_order_relaxed));
}

void LeaveNode(M* m) {
  if (m->affinity >= 0) ChangeAffinity(m, kEveryCpu);
}

int16_t InitialAffinity() {
  return threads_were_bound.load(std::memory_order_relaxed) ? kUnknownCpus : kEveryCpu;
}

}  // namespace weft::internal
