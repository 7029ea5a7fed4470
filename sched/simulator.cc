#include "sched/simulator.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <numeric>
#include <queue>
#include <tuple>
#include <utility>

#include "sched/internal/block_queue.h"
#include "sched/internal/find_work.h"
#include "sched/internal/node_map.h"
#include "sched/internal/run_queue.h"

namespace weft::simulation {
namespace {

using internal::BlockQueue;
using internal::NodeMap;
using internal::QueueSharing;

constexpr double kStealNextPause = 3'000;  // as in proc.cc
constexpr int kNobody = -1;

struct Task {
  double work = 0;
  int children = 0;     // still to be started
  int descendants = 0;  // of kTrees: how many its tree is to have below it
  int home = kNobody;   // a node of the machine: of who has started it
  double ready = 0;
};
using RunQueue = internal::RunQueue<Task>;

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15) {}
  // SplitMix64 (G. Steele, D. Lea, C. Flood, 2014).
  uint64_t Next() {
    uint64_t x = state_ += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  // In (0, 1].
  double Uniform() { return static_cast<double>((Next() >> 11) + 1) * 0x1p-53; }
  double Exponential(double mean) { return -mean * std::log(Uniform()); }

 private:
  uint64_t state_;
};

// One that whoever uses it has for a while, and that others wait for.
struct SimLock {
  double free_at = 0;
  int node = 0;  // of who had it last
};

struct SharedQueue {
  SharedQueue() = default;
  ~SharedQueue() { tasks.Free(); }
  SharedQueue(const SharedQueue&) = delete;
  SharedQueue& operator=(const SharedQueue&) = delete;

  BlockQueue<Task> tasks;
  SimLock lock;
};

enum class State : uint8_t { kIdle, kAwake };

struct Proc {
  RunQueue queue;
  State state = State::kIdle;
  bool spinning = false;
  int node = 0;       // of the policy's map
  int true_node = 0;  // of the machine
  uint32_t tick = 0;
  Task* task = nullptr;
  bool working = false;                // on the task's own work; else it starts its children
  std::vector<uint32_t> last_look_at;  // by victim: at which of its looks
  uint32_t looks = 0;
};

enum class EventKind : uint8_t {
  kGoOn,     // the P goes on with its task
  kLook,     // it looks for work
  kGiveUp,   // it has found none
  kRequest,  // one comes
};

struct Event {
  double at;
  uint64_t number;  // those at the same time, in their order
  EventKind kind;
  int p;
  bool operator>(const Event& o) const { return std::tie(at, number) > std::tie(o.at, o.number); }
};

class Simulator {
 public:
  explicit Simulator(const Options& options)
      : options_(options),
        arrivals_(3 * options.seed),
        works_(3 * options.seed + 1),
        looks_(3 * options.seed + 2),
        machine_(options.topology, options.procs),
        map_(options.policy == Policy::kNuma
                 ? std::make_unique<NodeMap>(options.topology, options.procs)
                 : std::make_unique<NodeMap>(options.procs)),
        most_(options.policy == Policy::kGlobal ? 1 : RunQueue::kCapacity / 2),
        nodes_(map_->nodes()),
        idle_(map_->nodes()) {
    size_t tiers = 0;
    for (int p = 0; p < options.procs; ++p) {
      Proc& proc = procs_.emplace_back();
      proc.node = map_->NodeOf(p);
      proc.true_node = machine_.NodeOf(p);
      proc.last_look_at.resize(options.procs, 0);
      tiers = std::max(tiers, machine_.TiersFrom(proc.true_node).size());
    }
    for (int p = options.procs - 1; p >= 0; --p) PushIdle(p);
    result_.stolen_by_tier.resize(tiers, 0);
  }

  Result Run() {
    Begin();
    while (!events_.empty()) {
      const Event event = events_.top();
      events_.pop();
      if (stranded_since_ >= 0) result_.stranded_nanos += std::lround(event.at - stranded_since_);
      now_ = event.at;
      switch (event.kind) {
        case EventKind::kGoOn:
          GoOn(event.p);
          break;
        case EventKind::kLook:
          Look(event.p);
          break;
        case EventKind::kGiveUp:
          GiveUp(event.p);
          break;
        case EventKind::kRequest:
          Request();
          break;
      }
      stranded_since_ = spinning_ == 0 && idle_count_ > 0 && queued_ > 0 ? now_ : -1;
    }
    Finish();
    return std::move(result_);
  }

 private:
  class Looker;

  void At(double when, EventKind kind, int p) { events_.push({when, next_event_++, kind, p}); }

  // --- the machine ---

  // What it costs a processor of one node to get what one of another has written.
  double Line(int from, int to) const { return options_.line * Distance(from, to) / 10; }
  double Distance(int from, int to) const {
    if (from == to) return 10;
    const Topology::Node& node = options_.topology.nodes[machine_.TopologyNode(from)];
    return node.distances[machine_.TopologyNode(to)];
  }
  size_t Tier(int from, int to) const {
    const auto tiers = machine_.TiersFrom(from);
    for (size_t i = 0; i < tiers.size(); ++i) {
      if (std::count(tiers[i].nodes.begin(), tiers[i].nodes.end(), to) > 0) return i;
    }
    return 0;
  }

  // A processor of `node` comes at `at` and has the lock for `hold`, beside its line; when it is
  // done.
  double Lock(SimLock& lock, double at, int node, double hold) {
    const double start = std::max(at, lock.free_at);
    lock_waits_ += start - at;
    lock.free_at = start + Line(node, lock.node) + options_.lock + hold;
    lock.node = node;
    return lock.free_at;
  }

  // --- the load ---

  Task* NewTask(double work, int children, int descendants, int home) {
    Task& task = tasks_.emplace_back();
    task.work = work;
    task.children = children;
    task.descendants = descendants;
    task.home = home;
    return &task;
  }

  void Begin() {
    if (options_.load == Load::kTrees) {
      // One for each eight Ps.
      const int trees = std::max(1, options_.procs / 8);
      for (int i = 0; i < trees; ++i) {
        PutGlobal(NewTree(options_.tasks / trees - 1, kNobody), RandomNode());
      }
      return;
    }
    const double mean = options_.work * (options_.per_request + 1);
    request_every_ = mean / (options_.busy * options_.procs);
    requests_left_ = std::max(1, options_.tasks / (options_.per_request + 1));
    At(arrivals_.Exponential(request_every_), EventKind::kRequest, kNobody);
  }

  Task* NewTree(int descendants, int home) {
    return NewTask(works_.Exponential(options_.work), std::min(options_.fan_out, descendants),
                   descendants, home);
  }

  Task* NewChild(Task& parent, int home) {
    if (options_.load == Load::kRequests) {
      return NewTask(works_.Exponential(options_.work), 0, 0, home);
    }
    // An equal part of what is left.
    const int part = parent.descendants / parent.children;
    parent.descendants -= part;
    return NewTree(part - 1, home);
  }

  int RandomNode() { return static_cast<int>(looks_.Next() % map_->nodes()); }

  void Request() {
    PutGlobal(NewTask(works_.Exponential(options_.work), options_.per_request, 0, kNobody),
              RandomNode());
    if (--requests_left_ > 0) {
      At(now_ + arrivals_.Exponential(request_every_), EventKind::kRequest, kNobody);
    }
  }

  // --- making work: as Enqueue() and EnqueueShared() ---

  // By a thread that has no P, on a processor of this node.
  void PutGlobal(Task* task, int node) {
    task->ready = now_;
    ++queued_;
    global_.tasks.PushBack(task);
    Lock(global_.lock, now_, 0, options_.item);
    Wake(node);
  }

  // By P p, when it is done. At `at`.
  double Put(int p, Task* task, double at) {
    Proc& proc = procs_[p];
    task->ready = at;
    ++queued_;
    if (options_.policy == Policy::kGlobal) {
      global_.tasks.PushBack(task);
      at = Lock(global_.lock, at, proc.true_node, options_.item);
    } else {
      at += options_.own_queue;
      Task* second = proc.queue.ExchangeNext(task, QueueSharing::kShared);
      if (second != nullptr && !proc.queue.PutTail(second, QueueSharing::kShared)) {
        at = Overflow(proc, second, at);
      }
    }
    return at + Wake(proc.node);
  }

  double Overflow(Proc& proc, Task* task, double at) {
    Task* items[RunQueue::kCapacity / 2 + 1];
    uint32_t count = proc.queue.TakeHalfIfFull(items);
    items[count++] = task;
    SharedQueue& queue = map_->nodes() > 1 ? nodes_[proc.node] : global_;
    queue.tasks.PushBack(items, count);
    return Lock(queue.lock, at, proc.true_node, count * options_.item);
  }

  // As WakeP(); what it takes.
  double Wake(int node) {
    if (idle_count_ == 0) {
      if (spinning_ == 0) need_spinning_ = true;
      return 0;
    }
    if (spinning_ > 0) return 0;
    const int p = PopIdle(node);
    BecomeSpinning(p);
    At(now_ + options_.asleep, EventKind::kLook, p);
    return options_.wake;
  }

  void PushIdle(int p) {
    procs_[p].state = State::kIdle;
    idle_[procs_[p].node].push_back(p);
    ++idle_count_;
  }

  int PopIdle(int near) {
    const int node = internal::NearestNode(*map_, near, [&](int n) { return !idle_[n].empty(); });
    const int p = idle_[node].back();
    idle_[node].pop_back();
    --idle_count_;
    procs_[p].state = State::kAwake;
    return p;
  }

  void BecomeSpinning(int p) {
    procs_[p].spinning = true;
    ++spinning_;
    need_spinning_ = false;
  }

  void LeaveSpinning(int p) {
    procs_[p].spinning = false;
    --spinning_;
  }

  bool WorkWaits() const {
    const auto some = [](const SharedQueue& queue) { return !queue.tasks.empty(); };
    return some(global_) || std::any_of(nodes_.begin(), nodes_.end(), some) ||
           std::any_of(procs_.begin(), procs_.end(),
                       [](const Proc& proc) { return !proc.queue.Empty(); });
  }

  // --- what a P does ---

  void GoOn(int p) {
    Proc& proc = procs_[p];
    Task* task = proc.task;
    if (task->children > 0) {
      Task* child = NewChild(*task, proc.true_node);
      --task->children;
      At(Put(p, child, now_ + options_.spawn), EventKind::kGoOn, p);
      return;
    }
    if (!proc.working) {
      proc.working = true;
      const double distance = Distance(proc.true_node, task->home);
      const double nanos = task->work * (1 - options_.memory + options_.memory * distance / 10);
      worked_ += nanos;
      At(now_ + nanos, EventKind::kGoOn, p);
      return;
    }
    ++result_.tasks;
    result_.nanos = std::lround(now_);
    proc.task = nullptr;
    Look(p);
  }

  void Start(int p, Task* task, double at) {
    Proc& proc = procs_[p];
    if (proc.spinning) {
      LeaveSpinning(p);
      at += Wake(proc.node);
    }
    ++proc.tick;
    --queued_;
    // What comes from outside has its memory where it first runs.
    if (task->home == kNobody) task->home = proc.true_node;
    if (task->home != proc.true_node) ++result_.ran_away;
    // It may have been taken while who has started it was still about to.
    waits_.push_back(std::max(0.0, at - task->ready));
    proc.task = task;
    proc.working = false;
    At(at, EventKind::kGoOn, p);
  }

  void Look(int p);
  void GiveUp(int p);
  void Finish();

  const Options options_;
  // Apart from each other, so that under every policy there is the same to do.
  Random arrivals_;
  Random works_;
  Random looks_;
  const NodeMap machine_;               // where Ps are
  const std::unique_ptr<NodeMap> map_;  // where the policy has them
  const uint32_t most_;
  std::deque<Proc> procs_;
  std::deque<Task> tasks_;
  SharedQueue global_;
  std::vector<SharedQueue> nodes_;
  std::vector<std::vector<int>> idle_;  // by node, the latest last
  int idle_count_ = 0;
  int queued_ = 0;  // goroutines, in whatever queue
  int spinning_ = 0;
  bool need_spinning_ = false;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint64_t next_event_ = 0;
  double now_ = 0;
  double request_every_ = 0;
  int requests_left_ = 0;
  std::vector<double> waits_;
  double lock_waits_ = 0;
  double worked_ = 0;
  double stranded_since_ = -1;
  Result result_;
};

// A P that looks, for find_work.h: `at` is when it is done.
class Simulator::Looker {
 public:
  using Task = simulation::Task;

  Looker(Simulator& s, int p) : s_(s), proc_(s.procs_[p]), at_(s.now_) { ++proc_.looks; }

  double at() const { return at_; }

  uint32_t Random() { return static_cast<uint32_t>(s_.looks_.Next()); }
  bool MustStop() const { return false; }

  Task* TakeOwn() {
    at_ += s_.options_.own_queue;
    bool inherits;
    return proc_.queue.Take(&inherits, QueueSharing::kShared);
  }
  Task* TakeFromGlobal(uint32_t most) { return TakeFrom(s_.global_, s_.options_.procs, most); }
  Task* TakeFromNode(int node, uint32_t most) {
    const int before = s_.nodes_[node].tasks.size();
    Task* task = TakeFrom(s_.nodes_[node], s_.map_->ProcsOf(node), most);
    if (task == nullptr) return nullptr;
    if (node != proc_.node) {
      // Nodes of the policy's map are the machine's where there are several.
      CountStolen(node, before - s_.nodes_[node].tasks.size());
    }
    if (!proc_.spinning) at_ += s_.Wake(proc_.node);
    return task;
  }

  Task* RunTimersOf(int) { return nullptr; }
  bool HasNothing(int victim) {
    const Proc& v = s_.procs_[victim];
    // What it has seen a moment ago is in its cache.
    if (proc_.last_look_at[victim] != proc_.looks) {
      proc_.last_look_at[victim] = proc_.looks;
      at_ += s_.Line(proc_.true_node, v.true_node);
    }
    return v.state == State::kIdle && v.queue.Empty();
  }
  Task* StealHalf(int victim) {
    Proc& v = s_.procs_[victim];
    const uint32_t before = v.queue.Size();
    Task* task = proc_.queue.StealHalf(v.queue);
    if (task == nullptr) return nullptr;
    Stole(v, before - v.queue.Size());
    return task;
  }
  Task* StealNext(int victim) {
    Proc& v = s_.procs_[victim];
    if (!v.queue.HasNext()) return nullptr;
    // It does not get to it meanwhile, as it has begun its task just now or long ago.
    at_ += kStealNextPause;
    Task* task = RunQueue::StealNext(v.queue);
    if (task != nullptr) Stole(v, 1);
    return task;
  }

 private:
  Task* TakeFrom(SharedQueue& queue, int takers, uint32_t most) {
    const auto size = static_cast<uint32_t>(queue.tasks.size());
    if (size == 0) return nullptr;
    Task* taken[RunQueue::kCapacity / 2];
    const uint32_t count = queue.tasks.PopFront(
        taken, internal::ShareOf(size, static_cast<uint32_t>(takers), most, proc_.queue.Room()));
    if (count > 1) proc_.queue.PutTail(taken + 1, count - 1);
    at_ = s_.Lock(queue.lock, at_, proc_.true_node, count * s_.options_.item);
    return taken[0];
  }

  void Stole(const Proc& victim, int64_t count) {
    ++s_.result_.steals;
    // Its head and tail, and the part of the ring.
    at_ += 3 * s_.Line(proc_.true_node, victim.true_node) +
           static_cast<double>(count) * s_.options_.item;
    CountStolen(victim.true_node, count);
  }

  void CountStolen(int from, int64_t count) {
    s_.result_.stolen += count;
    s_.result_.stolen_by_tier[s_.Tier(proc_.true_node, from)] += count;
  }

  Simulator& s_;
  Proc& proc_;
  double at_;
};

// As FindRunnable(), to where it has found something or has nowhere else to look.
void Simulator::Look(int p) {
  Proc& proc = procs_[p];
  Looker looker(*this, p);
  Task* task = internal::TakeQueued(looker, *map_, proc.node, proc.tick, most_);
  if (task == nullptr) {
    const int busy = options_.procs - idle_count_;
    if (proc.spinning || 2 * spinning_ < busy) {
      if (!proc.spinning) BecomeSpinning(p);
      task = internal::Steal(looker, *map_, proc.node, p, most_);
    }
  }
  if (task != nullptr) {
    Start(p, task, looker.at());
  } else {
    At(looker.at(), EventKind::kGiveUp, p);
  }
}

void Simulator::GiveUp(int p) {
  Proc& proc = procs_[p];
  if (!global_.tasks.empty()) {
    Look(p);
    return;
  }
  PushIdle(p);
  if (proc.spinning) {
    LeaveSpinning(p);
    if (!WorkWaits()) return;
  } else if (!need_spinning_) {
    return;
  }
  const int again = PopIdle(proc.node);
  BecomeSpinning(again);
  Look(again);
}

void Simulator::Finish() {
  if (waits_.empty()) return;
  const auto count = static_cast<double>(waits_.size());
  result_.mean_wait = std::accumulate(waits_.begin(), waits_.end(), 0.0) / count;
  const auto p99 = waits_.begin() + static_cast<ptrdiff_t>(count * 0.99);
  std::nth_element(waits_.begin(), p99, waits_.end());
  result_.p99_wait = *p99;
  result_.mean_lock_wait = lock_waits_ / count;
  result_.busy = worked_ / (static_cast<double>(result_.nanos) * options_.procs);
}

}  // namespace

double Result::FarShare() const {
  if (stolen == 0) return 0;
  return 1 - static_cast<double>(stolen_by_tier[0]) / static_cast<double>(stolen);
}

Result Simulate(const Options& options) { return Simulator(options).Run(); }

Topology TwoSockets(int nodes, int cpus) {
  constexpr int kOwn = 10;
  constexpr int kSameSocket = 12;
  constexpr int kOtherSocket = 32;
  Topology topology;
  for (int n = 0; n < nodes; ++n) {
    Topology::Node& node = topology.nodes.emplace_back();
    node.id = n;
    for (int c = 0; c < cpus; ++c) node.cpus.push_back(n * cpus + c);
    for (int to = 0; to < nodes; ++to) {
      const bool same_socket = n / (nodes / 2) == to / (nodes / 2);
      node.distances.push_back(to == n ? kOwn : same_socket ? kSameSocket : kOtherSocket);
    }
  }
  return topology;
}

}  // namespace weft::simulation
