// In which order a P looks for work: the part of the policies that knows no threads, locks or
// goroutines, so that a simulation of machines that do not exist runs it as the scheduler does
// (policy_simulation.cc).
//
// A P looks
//   1 at each 61st turn, at the queues that it shares with others;
//   2 at its own queue;
//   3 at those that it shares: of its node, where there are several, and of the whole machine;
//   4 at what the others have: its own node's first, and those of other nodes, the nearest first,
//     only where all that are nearer had nothing.
// In 4 the Ps of equally near nodes have their turn in an order that differs each time. Four times,
// as what is seen at one may move to another that was looked at before; and what others are about
// to run themselves, and their timers, only the last time: both disturb them.
//
// Near and far are looked at in full, one after the other, what is next to run on a near P before
// what waits at a far one: a goroutine that changes its node leaves its memory behind for good,
// where one that changes its P stays with it.
//
// `Env` is who looks:
// clang-format off
//   using Task
//   uint32_t Random()
//   bool MustStop()                              looking any further
//   Task* TakeOwn()                              from its own queue; this and all below: or null
//   Task* TakeFromGlobal(uint32_t most)          one to run, and perhaps more for its own queue
//   Task* TakeFromNode(int node, uint32_t most)  the same
//   Task* RunTimersOf(int victim)                those that are due: what is in its own queue then
//   bool HasNothing(int victim)                  idle, and its queue empty
//   Task* StealHalf(int victim)                  one to run, the others for its own queue
//   Task* StealNext(int victim)                  what the victim would run next
// clang-format on
#ifndef WEFT_SCHED_INTERNAL_FIND_WORK_H_
#define WEFT_SCHED_INTERNAL_FIND_WORK_H_

#include <algorithm>
#include <cstdint>

#include "absl/types/span.h"
#include "sched/internal/node_map.h"

namespace weft::internal {

// Every 61st goroutine a P looks at the shared queues first, or two goroutines that keep waking
// each other would starve them.
inline constexpr uint32_t kGlobalQueueTicks = 61;
inline constexpr int kStealRounds = 4;

// How many a P takes from a queue of `size` that so many Ps share: as many as each should have, if
// its own queue has room for the rest of them. `size` is not 0.
inline uint32_t ShareOf(uint32_t size, uint32_t takers, uint32_t most, uint32_t room) {
  return std::min({size / takers + 1, most, room + 1, size});
}

// 3 of the above, for a P of `node`. Neither queue keeps the other waiting for ever, however full
// it is: which comes first depends on `turn`.
template <typename Env>
typename Env::Task* TakeShared(Env& env, const NodeMap& map, int node, uint32_t turn,
                               uint32_t most) {
  if (map.nodes() == 1) return env.TakeFromGlobal(most);
  if (turn % 2 == 0) {
    if (auto* task = env.TakeFromGlobal(most); task != nullptr) return task;
    return env.TakeFromNode(node, most);
  }
  if (auto* task = env.TakeFromNode(node, most); task != nullptr) return task;
  return env.TakeFromGlobal(most);
}

// 1 to 3. `tick`: how many turns the P has had; `most`: to take from a shared queue at once.
template <typename Env>
typename Env::Task* TakeQueued(Env& env, const NodeMap& map, int node, uint32_t tick,
                               uint32_t most) {
  if (tick % kGlobalQueueTicks == 0) {
    if (auto* task = TakeShared(env, map, node, tick / kGlobalQueueTicks, 1); task != nullptr) {
      return task;
    }
  }
  if (auto* task = env.TakeOwn(); task != nullptr) return task;
  return TakeShared(env, map, node, tick, most);
}

// Every one of `items` once, from a random one on, in a random direction, until visit(item) is not
// null.
template <typename Env, typename Visit>
typename Env::Task* InRandomOrder(Env& env, absl::Span<const uint16_t> items, Visit visit) {
  const auto count = static_cast<uint32_t>(items.size());
  const uint32_t random = env.Random();
  uint32_t at = random % count;
  const uint32_t stride = (random & 0x10000) != 0 ? 1 : count - 1;
  for (uint32_t i = 0; i < count; ++i, at = (at + stride) % count) {
    if (auto* task = visit(items[at]); task != nullptr) return task;
    if (env.MustStop()) return nullptr;
  }
  return nullptr;
}

// 4, for P `self` of `node`.
template <typename Env>
typename Env::Task* Steal(Env& env, const NodeMap& map, int node, int self, uint32_t most) {
  using Task = typename Env::Task;
  for (const NodeMap::Tier& tier : map.TiersFrom(node)) {
    const bool own = &tier == &map.TiersFrom(node).front();
    // Its own node's it has looked at.
    if (!own) {
      Task* task =
          InRandomOrder(env, tier.nodes, [&](int other) { return env.TakeFromNode(other, most); });
      if (task != nullptr) return task;
    } else if (tier.procs.size() == 1) {
      continue;
    }
    for (int round = 0; round < kStealRounds; ++round) {
      const bool last = round == kStealRounds - 1;
      Task* task = InRandomOrder(env, tier.procs, [&](int victim) -> Task* {
        if (victim == self) return nullptr;
        if (last) {
          if (Task* task = env.RunTimersOf(victim); task != nullptr) return task;
        }
        if (env.HasNothing(victim)) return nullptr;
        if (Task* task = env.StealHalf(victim); task != nullptr || !last) return task;
        return env.StealNext(victim);
      });
      if (task != nullptr || env.MustStop()) return task;
    }
  }
  return nullptr;
}

// The nearest node to `from` for which has(node); -1: none.
template <typename Has>
int NearestNode(const NodeMap& map, int from, Has has) {
  for (const uint16_t node : map.NearToFar(from)) {
    if (has(node)) return node;
  }
  return -1;
}

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_FIND_WORK_H_
