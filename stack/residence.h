// Who has which slot: goroutines that are not running keep theirs while nobody needs it, rest when
// somebody does, and come back to it.
//
// A goroutine's *home* is the slot it last ran on: its bytes are good for those addresses only. It
// is *hot* while they lie there, and *rests* while they lie in a block of their exact size.
//
// The owner word of a slot (Slot::owner) is the only arbiter of who may touch the slot's bytes:
//
//     FREE      nobody's bytes lie there
//     RES(g)    g's bytes lie there, and nobody runs on them
//     RUN(g)    g runs there, or whoever wants to run g there is moving bytes
//
// What changes it, always by a compare-exchange but for who has it already:
//
//     FREE   -> RUN(g)   g's first run, or g wakes there from a block
//     RES(g) -> RUN(g)   g goes on, hot
//     RES(o) -> RUN(g)   o has to go: whoever wins this copies o out, then goes on with g
//     RUN(g) -> RES(g)   g has parked (its registers are saved, its stack is left), or stays after
//     all RUN(g) -> FREE     g has ended, or has been copied out for nobody in particular
//
// To run a resident and to evict it thus both start with the same compare-exchange from RES(o), and
// exactly one wins. No version number is needed: RES(o) says all that either of them relies on,
// that o's bytes lie there and nobody touches them, however often o has been away in between.
//
// Who comes to run a hot g and finds that it is being copied out does not wait (the copier's thread
// may be descheduled): it leaves word and runs something else. For that g has its own word:
//
//     kHot     its bytes lie at home, or are being copied from there
//     kWanted  the same, and its runner has left: the copier must queue g again when it is done
//     kRested  the copy is complete: whoever runs g takes it from the block
//
//     runner of g (one at a time: g was     copier of g (has made the owner word RUN(other))
//     in a run queue)
//     1 CAS owner RES(g) -> RUN(g): go on   1 copy
//     2 CAS rest kHot -> kWanted            2 exchange rest: kRested
//       fails: it is kRested, go on so      3 it was kWanted: queue g
//     3 look at the owner word again: if
//       RES(g), CAS rest kWanted -> kHot,   ... or g may not be copied (a foreign frame, say):
//       and from 1 again                    2 owner = RES(g)
//     4 leave                               3 CAS rest kWanted -> kHot: if it was, queue g
//
// The runner's 3 is for a copier that gives up: its store of RES(g) comes before its look at
// `rest`, the runner's compare-exchange of `rest` before its look at the owner word, and both in
// the one order of sequentially consistent operations, so one of the two sees the other's. Whoever
// changes kWanted to something else has g, so g is queued once.
//
// Every goroutine that is not running is either in RES, in a block, or being copied by a thread
// that does nothing else meanwhile; and a slot that is RUN is so for a thread. So with as many
// slots as threads, and one for each goroutine that may not be copied, who needs a slot finds one.
// models/residence.pml checks all this.
//
// The protocol says who copies and when, not how: that is the Mover's (rest.h).
#ifndef WEFT_STACK_RESIDENCE_H_
#define WEFT_STACK_RESIDENCE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "stack/context.h"
#include "stack/rest_policy.h"
#include "stack/slots.h"

namespace weft::stack {

enum class RestState : uint8_t { kHot, kWanted, kRested };

// The part of a goroutine that has to do with its stack. Never unmapped: a thread that has read its
// address in an owner word may look at it later.
struct Resident {
  Context context;
  // Null until the first run and after the end. Written, by SetHome(), by who has the slot it is
  // changed to.
  Slot* home = nullptr;
  // The Mover's: where the bytes [context.sp, context.stack_hi) are while they are not in their
  // place, and the pinned stack, by SetPinned().
  void* block = nullptr;
  Slot* pinned = nullptr;
  std::atomic<RestState> rest{RestState::kHot};
  // The class of pinned stack that it gets. To be set before its first run.
  SizeClass pinned_class = SizeClass::kPinned;
  // How often it has woken in another slot than its home. The Mover's.
  uint32_t moves = 0;

  // Release: who looks at a resident from outside (UseOf() of rest.h) acquires with the pointer the
  // constant part of the slot, and a context that has been made.
  void SetHome(Slot* slot) { __atomic_store_n(&home, slot, __ATOMIC_RELEASE); }
  void SetPinned(Slot* slot) { __atomic_store_n(&pinned, slot, __ATOMIC_RELEASE); }
  const Slot* HomeFromOutside() const { return __atomic_load_n(&home, __ATOMIC_ACQUIRE); }
  const Slot* PinnedFromOutside() const { return __atomic_load_n(&pinned, __ATOMIC_ACQUIRE); }
};

// How bytes are moved, and where slots come from. One for each P, called by its holder.
class Mover {
 public:
  // `resident`'s bytes lie in its home, which is the caller's: copies them out. False: they have to
  // stay.
  virtual bool CopyOut(Resident& resident) = 0;
  // Makes `slot`, which is the caller's, the home of a resident whose bytes are in a block. False:
  // memory for it is refused, and nothing has changed.
  virtual bool CopyIn(Resident& resident, Slot& slot) = 0;
  // The same for one that has never run.
  virtual bool Begin(Resident& resident, Slot& slot) = 0;
  // Puts a resident that this P's thread has kept from running in a run queue.
  virtual void Ready(Resident& resident) = 0;
  // A slot to be used from now on: FREE, or even in use by somebody whose home it is. Null: none.
  virtual Slot* TakeSlot() = 0;
  // Gives a slot back whose use is over, FREE, or in use as above.
  virtual void GiveSlot(Slot& slot) = 0;
  // Whether a resident of this slot can ever rest.
  virtual bool IsRestPlace(const Slot& slot) const = 0;
  // Whether a resident that has parked in another slot, to which it has grown, had better rest, and
  // wake in a rest place. Asked at each park.
  virtual bool ShouldLeave(const Resident&, Slot&) const { return false; }
  // Where a test may hold the thread up.
  virtual void DelayPoint(const char*) {}

 protected:
  ~Mover() = default;
};

// When residents give up their slots.
enum class RestPolicy : uint8_t {
  kAsNeeded,  // see Residence
  kAlways,    // at each park, to wake in another slot each time: for tests
  kNever,
};

// Whether there are other Ps, to take slots or residents meanwhile. With one P, all of this is done
// by the threads that hold it one after the other, and needs no locked instructions; but for what
// becomes of a free slot where stacks move at each function's entry (PoisonGuards()): goroutines
// take slots of every class then, and may have lost the P.
enum class ResidenceSharing : uint8_t { kAlone, kShared };

// The slots that a P uses. Not thread-safe: for the holder of the P.
//
// A P lists up to `budget` slots and uses them in turn: a goroutine that runs for the first time
// takes the slot that was last freed here, which is the warmest; else a new one, up to the budget;
// else the next of the list that nobody runs on, whose resident rests. So homes are dealt round
// robin, who has come latest stays hot longest, and a thousand goroutines that park one after the
// other do so in a few warm pages. Who wakes goes home, whoever lists that slot, if nobody runs
// there; else it moves. A list gets longer than the budget only while all of its slots are being
// run on, by threads that lost their P.
//
// A slot whose resident may not rest leaves the list, so that it is not tried over and over; its
// resident is tried again at its next park.
class Residence {
 public:
  enum class Entry : uint8_t {
    kRuns,          // the slot is the resident's to run on
    kLeftToCopier,  // it is being copied out, and will be queued when that is done
    kNoSlot,        // none is to be had: try later
  };

  struct Counts {
    std::atomic<uint64_t> rests{0};          // copied out
    std::atomic<uint64_t> wakes_at_home{0};  // copied in
    std::atomic<uint64_t> wakes_elsewhere{0};
    std::atomic<uint64_t> left_to_copier{0};
    std::atomic<uint64_t> kept{0};  // had to stay where they were
  };

  Residence(Mover& mover, RestPolicy policy, size_t budget);
  Residence(const Residence&) = delete;
  Residence& operator=(const Residence&) = delete;

  // Brings a resident to a slot, before it is switched to. A resident has one caller at a time:
  // whoever has taken it from a run queue.
  Entry Enter(Resident& resident, ResidenceSharing sharing = ResidenceSharing::kShared) {
    return EnterHot(resident, sharing) ? Entry::kRuns : EnterSlowly(resident, sharing);
  }

  // The same for one that is hot; false for all others.
  static bool EnterHot(Resident& resident, ResidenceSharing sharing) {
    return resident.home != nullptr &&
           Change(*resident.home, Resides(resident), Runs(resident), sharing);
  }

  // The same after EnterHot().
  Entry EnterSlowly(Resident& resident, ResidenceSharing sharing);

  // The resident's stack is left, registers saved. To be called before anybody may Enter() it.
  void Leave(Resident& resident) {
    if (!StaysFor(resident)) [[unlikely]] {
      LeaveSlowly(resident);
      return;
    }
    // Release: the next to have the slot acquires the bytes with it.
    LeaveAlone(resident);
  }

  // Whether a resident that leaves stays where it is, for now: LeaveAlone() does then.
  bool StaysFor(const Resident& resident) const {
    return resident.home->managed && policy_ != RestPolicy::kAlways;
  }

  // Leave() where there is no P: it stays for now.
  static void LeaveAlone(Resident& resident) {
    resident.home->owner.store(Resides(resident), std::memory_order_release);
  }

  // The resident's stack is left for good.
  void End(Resident& resident) {
    Slot& slot = *resident.home;
    resident.SetHome(nullptr);
    if (!slot.managed || freed_count_ == kMostFreed) [[unlikely]] {
      Free(slot);
      return;
    }
    slot.owner.store(Slot::kFree, std::memory_order_release);
    freed_[freed_count_++] = &slot;
  }

  // Has the residents of the listed slots rest and gives the slots back, as when the P goes away.
  // Those that somebody runs on at this moment stay listed.
  void Drain();

  // Calls with(occupant) where somebody's bytes lie in the slot who does not run at this moment,
  // and will not during that. For who holds some P, so that no other is alone (ResidenceSharing).
  // The steps are those of a copier that gives up.
  template <typename Fn>
  static void Borrow(Slot& slot, Mover& mover, Fn with) {
    uint64_t owner = slot.owner.load(std::memory_order_relaxed);
    if (!IsResident(owner) ||
        !slot.owner.compare_exchange_strong(owner, Slot::kTaken, std::memory_order_seq_cst,
                                            std::memory_order_relaxed)) {
      return;
    }
    Resident& occupant = ResidentOf(owner);
    with(occupant);
    PutBack(slot, occupant, mover);
  }

  void SetPolicy(RestPolicy policy, size_t budget) {
    policy_ = policy;
    budget_ = policy == RestPolicy::kNever ? SIZE_MAX : budget;
  }

  const Counts& counts() const { return counts_; }

  // The owner words.
  static uint64_t Resides(const Resident& r) { return reinterpret_cast<uintptr_t>(&r) | kResides; }
  static uint64_t Runs(const Resident& r) { return reinterpret_cast<uintptr_t>(&r) | kRuns; }

 private:
  static constexpr uint64_t kResides = 1;
  static constexpr uint64_t kRuns = 2;
  static_assert(Slot::kTaken == kRuns, "nobody runs there, and nobody else may");
  static constexpr uint64_t kState = 3;

  enum class Claimed : uint8_t {
    kYes,
    kNo,    // somebody runs there, or was faster
    kKept,  // its resident may not rest
  };

  static bool IsResident(uint64_t owner) { return (owner & kState) == kResides; }
  static Resident& ResidentOf(uint64_t owner) {
    return *reinterpret_cast<Resident*>(static_cast<uintptr_t>(owner & ~kState));
  }
  // By a compare-exchange, but where nobody else can come in between.
  static bool Change(Slot& slot, uint64_t from, uint64_t to, ResidenceSharing sharing) {
    if (sharing == ResidenceSharing::kAlone) {
      // Acquire: pairs with the release of who has left the slot after losing this P.
      if (slot.owner.load(std::memory_order_acquire) != from) return false;
      slot.owner.store(to, std::memory_order_relaxed);
      return true;
    }
    return slot.owner.compare_exchange_strong(from, to, std::memory_order_seq_cst,
                                              std::memory_order_relaxed);
  }
  bool Change(Slot& slot, uint64_t from, uint64_t to) { return Change(slot, from, to, sharing_); }
  bool ChangeFree(Slot& slot, uint64_t to) {
    return Change(slot, Slot::kFree, to,
                  GuardsArePoisoned() ? ResidenceSharing::kShared : sharing_);
  }

  // Gives the slot back to whose bytes still lie there, and queues it if it was wanted meanwhile.
  static void PutBack(Slot& slot, Resident& occupant, Mover& mover);

  Entry EnterFirst(Resident& resident);
  void LeaveSlowly(Resident& resident);
  // Makes the slot's word RUN(resident), from FREE, or by having who is there rest. Where that may
  // not, the slot is as it was, but not managed any more if the caller `unlists` it then.
  Claimed Claim(Slot& slot, Resident& resident, bool unlists);
  // Copies `occupant` out of the slot that the caller has. False: it stays, and has the slot again.
  bool Evict(Slot& slot, Resident& occupant, bool unlists);
  Slot* ClaimAny(Resident& resident);
  Slot* ClaimFreed(Resident& resident);
  Slot* ClaimListed(Resident& resident);
  Slot* ClaimNew(Resident& resident);
  // Makes free a slot that the caller has.
  void Free(Slot& slot);
  void NoteFreed(Slot& slot);
  void Unlist(size_t index);

  Mover& mover_;
  RestPolicy policy_;
  ResidenceSharing sharing_ = ResidenceSharing::kShared;  // of the EnterSlowly() under way
  size_t budget_;
  std::vector<Slot*> slots_;
  size_t hand_ = 0;  // where the next search of the list begins
  // Slots that were freed here, the latest on top, some of them in use again.
  std::array<Slot*, kMostFreed> freed_;
  uint32_t freed_count_ = 0;
  Resident nobody_;  // in whose name Drain() claims
  Counts counts_;
};

}  // namespace weft::stack

#endif  // WEFT_STACK_RESIDENCE_H_
