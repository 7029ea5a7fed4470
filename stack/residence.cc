#include "stack/residence.h"

namespace weft::stack {

namespace {

// Counters have one writer.
void Count(std::atomic<uint64_t>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace

Residence::Residence(Mover& mover, RestPolicy policy, size_t budget) : mover_(mover) {
  SetPolicy(policy, budget);
}

inline Slot* Residence::ClaimFreed(Resident& resident) {
  // Under kAlways everybody is to wake in another slot, and the latest freed is its own, often.
  if (policy_ == RestPolicy::kAlways) return nullptr;
  while (freed_count_ > 0) {
    Slot* slot = freed_[--freed_count_];
    if (slot->owner.load(std::memory_order_relaxed) == Slot::kFree &&
        ChangeFree(*slot, Runs(resident))) {
      return slot;
    }
  }
  return nullptr;
}

Residence::Entry Residence::EnterFirst(Resident& resident) {
  Slot* slot = ClaimFreed(resident);
  if (slot == nullptr) slot = ClaimAny(resident);
  if (slot == nullptr) return Entry::kNoSlot;
  if (!mover_.Begin(resident, *slot)) {
    Free(*slot);
    return Entry::kNoSlot;
  }
  return Entry::kRuns;
}

Residence::Entry Residence::EnterSlowly(Resident& resident, ResidenceSharing sharing) {
  sharing_ = sharing;
  if (resident.home == nullptr) return EnterFirst(resident);

  Slot& home = *resident.home;
  for (;;) {
    RestState state = RestState::kHot;
    // On success somebody copies, or has just given that up. Acquire on failure: with the copier's
    // exchange, for the block.
    if (!resident.rest.compare_exchange_strong(state, RestState::kWanted, std::memory_order_seq_cst,
                                               std::memory_order_acquire)) {
      break;
    }
    mover_.DelayPoint("residence.wanted");
    if (home.owner.load(std::memory_order_seq_cst) != Resides(resident)) {
      // From the exchange above on the resident may be the copier's: it is not touched any more.
      Count(counts_.left_to_copier);
      return Entry::kLeftToCopier;
    }
    state = RestState::kWanted;
    if (!resident.rest.compare_exchange_strong(state, RestState::kHot, std::memory_order_seq_cst,
                                               std::memory_order_acquire)) {
      // The copier that gave up, or another one, has seen that it was wanted.
      Count(counts_.left_to_copier);
      return Entry::kLeftToCopier;
    }
    if (Change(home, Resides(resident), Runs(resident))) return Entry::kRuns;
  }

  Slot* slot = &home;
  if (policy_ == RestPolicy::kAlways || !mover_.IsRestPlace(home) ||
      Claim(home, resident, /*unlists=*/false) != Claimed::kYes) {
    slot = ClaimFreed(resident);
    if (slot == nullptr) slot = ClaimAny(resident);
    if (slot == nullptr) return Entry::kNoSlot;
  }
  if (!mover_.CopyIn(resident, *slot)) {
    Free(*slot);
    return Entry::kNoSlot;
  }
  Count(slot == &home ? counts_.wakes_at_home : counts_.wakes_elsewhere);
  // Relaxed: the slot's word keeps everybody else away, until Leave() publishes this with the rest.
  resident.rest.store(RestState::kHot, std::memory_order_relaxed);
  return Entry::kRuns;
}

void Residence::LeaveSlowly(Resident& resident) {
  Slot& slot = *resident.home;
  // Nobody else can get at the resident yet: it is in no queue, and its slot's word says that it
  // runs.
  const bool rests = policy_ != RestPolicy::kNever &&
                     (mover_.IsRestPlace(slot) || mover_.ShouldLeave(resident, slot)) &&
                     mover_.CopyOut(resident);
  if (!rests) {
    slot.owner.store(Resides(resident), std::memory_order_release);
    return;
  }
  resident.rest.store(RestState::kRested, std::memory_order_relaxed);
  Count(counts_.rests);
  Free(slot);
}

void Residence::Free(Slot& slot) {
  if (slot.managed) {
    slot.owner.store(Slot::kFree, std::memory_order_release);
    NoteFreed(slot);
    return;
  }
  const bool list =
      policy_ != RestPolicy::kNever && mover_.IsRestPlace(slot) && slots_.size() < budget_;
  // Before the word is free: from then on it may be somebody's who comes home.
  slot.managed = true;
  slot.owner.store(Slot::kFree, std::memory_order_release);
  if (list) {
    slots_.push_back(&slot);
    NoteFreed(slot);
  } else {
    mover_.GiveSlot(slot);
  }
}

void Residence::NoteFreed(Slot& slot) {
  if (freed_count_ == kMostFreed) return;
  freed_[freed_count_++] = &slot;
}

Residence::Claimed Residence::Claim(Slot& slot, Resident& resident, bool unlists) {
  const uint64_t owner = slot.owner.load(std::memory_order_relaxed);
  if (owner == Slot::kFree) {
    return ChangeFree(slot, Runs(resident)) ? Claimed::kYes : Claimed::kNo;
  }
  if (!IsResident(owner) || !Change(slot, owner, Runs(resident))) return Claimed::kNo;
  mover_.DelayPoint("residence.claimed");
  return Evict(slot, ResidentOf(owner), unlists) ? Claimed::kYes : Claimed::kKept;
}

bool Residence::Evict(Slot& slot, Resident& occupant, bool unlists) {
  if (mover_.CopyOut(occupant)) {
    Count(counts_.rests);
    mover_.DelayPoint("residence.copied");
    // Releases the block to whoever finds that it rests.
    if (occupant.rest.exchange(RestState::kRested, std::memory_order_seq_cst) ==
        RestState::kWanted) {
      mover_.Ready(occupant);
    }
    return true;
  }
  Count(counts_.kept);
  if (unlists) slot.managed = false;
  PutBack(slot, occupant, mover_);
  return false;
}

void Residence::PutBack(Slot& slot, Resident& occupant, Mover& mover) {
  slot.owner.store(Resides(occupant), std::memory_order_seq_cst);
  mover.DelayPoint("residence.kept");
  RestState wanted = RestState::kWanted;
  if (occupant.rest.compare_exchange_strong(wanted, RestState::kHot, std::memory_order_seq_cst,
                                            std::memory_order_relaxed)) {
    mover.Ready(occupant);
  }
}

Slot* Residence::ClaimAny(Resident& resident) {
  if (slots_.size() >= budget_) {
    if (Slot* slot = ClaimListed(resident); slot != nullptr) return slot;
  }
  if (Slot* slot = ClaimNew(resident); slot != nullptr) return slot;
  // The system gives no more.
  return ClaimListed(resident);
}

// Once round the list.
Slot* Residence::ClaimListed(Resident& resident) {
  for (size_t left = slots_.size(); left > 0; --left) {
    if (hand_ >= slots_.size()) hand_ = 0;
    Slot& slot = *slots_[hand_];
    if (policy_ == RestPolicy::kAlways && &slot == resident.home) {
      ++hand_;
      continue;
    }
    const Claimed claimed = Claim(slot, resident, /*unlists=*/true);
    if (claimed == Claimed::kKept) {
      Unlist(hand_);
      continue;
    }
    ++hand_;
    if (claimed == Claimed::kYes) return &slot;
  }
  return nullptr;
}

Slot* Residence::ClaimNew(Resident& resident) {
  // One that comes from a cache may be in use by somebody whose home it is: then it is listed, and
  // the next is tried.
  while (Slot* slot = mover_.TakeSlot()) {
    const bool list = policy_ != RestPolicy::kNever && mover_.IsRestPlace(*slot);
    if (list) slots_.push_back(slot);
    if (!ChangeFree(*slot, Runs(resident))) continue;
    slot->managed = list;
    return slot;
  }
  return nullptr;
}

void Residence::Unlist(size_t index) {
  slots_[index] = slots_.back();
  slots_.pop_back();
}

void Residence::Drain() {
  sharing_ = ResidenceSharing::kShared;
  freed_count_ = 0;
  for (size_t i = 0; i < slots_.size();) {
    Slot& slot = *slots_[i];
    const Claimed claimed = Claim(slot, nobody_, /*unlists=*/true);
    if (claimed == Claimed::kNo) {
      ++i;
      continue;
    }
    Unlist(i);
    if (claimed == Claimed::kKept) continue;
    slot.owner.store(Slot::kFree, std::memory_order_release);
    mover_.GiveSlot(slot);
  }
}

}  // namespace weft::stack
