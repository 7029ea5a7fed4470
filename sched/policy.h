// Where goroutines that could run wait for it, and who takes them from there.
#ifndef WEFT_SCHED_POLICY_H_
#define WEFT_SCHED_POLICY_H_

namespace weft {

enum class Policy {
  // Each P has a queue of its own, and who runs out of work steals: Go's design (D. Vyukov). One
  // that is made ready runs next on the P of who woke it.
  kGpm,
  // In one queue for all Ps, first in, first out, with one lock: for comparison, and for who wants
  // that order.
  kGlobal,
  // As kGpm, on a machine whose memory is in several places (topology.h): each P belongs to a node,
  // its thread runs on that node's processors, what its queue has no room for waits in the node's
  // own, and who runs out of work takes it from other nodes only where its own has none, from the
  // nearest first. Where all Ps are in one node it is kGpm.
  kNuma,
};

}  // namespace weft

#endif  // WEFT_SCHED_POLICY_H_
