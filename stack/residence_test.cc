#include "stack/residence.h"

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/rounds.h"

namespace weft::stack {
namespace {

using ::weft::testing::Repeated;
using ::weft::testing::Rounds;

// The protocol without stacks: what "runs" on a slot is a number that is counted up there. The
// numbers are plain ones, so that a sanitizer sees two threads at one slot.
struct Place {
  Slot slot;
  int64_t bytes = 0;
};

struct Worker : Resident {
  int64_t runs = 0;      // by whoever has taken it from the queue
  int64_t block = 0;     // its number while it rests
  bool refuses = false;  // may not rest, now
  bool queued = false;   // under the queue's lock
};

class Queue {
 public:
  void Push(Worker* worker) {
    std::lock_guard<std::mutex> hold(lock_);
    ASSERT_FALSE(worker->queued);
    worker->queued = true;
    workers_.push_back(worker);
  }
  Worker* Pop() {
    std::lock_guard<std::mutex> hold(lock_);
    if (workers_.empty()) return nullptr;
    Worker* worker = workers_.front();
    workers_.pop_front();
    worker->queued = false;
    return worker;
  }

 private:
  std::mutex lock_;
  std::deque<Worker*> workers_;
};

Place& PlaceOf(Slot& slot) { return *reinterpret_cast<Place*>(&slot); }

// A P whose slots are some of the given ones, others' among them.
class Proc final : public Mover {
 public:
  Proc(Queue& queue, std::vector<Place*> places, RestPolicy policy, size_t budget, uint32_t seed)
      : queue_(queue),
        places_(std::move(places)),
        random_(seed),
        residence_(*this, policy, budget) {}

  bool CopyOut(Resident& resident) override {
    Pause();
    auto& worker = static_cast<Worker&>(resident);
    if (worker.refuses) return false;
    worker.block = std::exchange(PlaceOf(*resident.home).bytes, -1);
    return true;
  }
  bool CopyIn(Resident& resident, Slot& slot) override {
    EXPECT_EQ(PlaceOf(slot).bytes, -1);
    PlaceOf(slot).bytes = std::exchange(static_cast<Worker&>(resident).block, -1);
    resident.home = &slot;
    return true;
  }
  bool Begin(Resident& resident, Slot& slot) override {
    PlaceOf(slot).bytes = 0;
    resident.home = &slot;
    return true;
  }
  void Ready(Resident& resident) override { queue_.Push(static_cast<Worker*>(&resident)); }
  Slot* TakeSlot() override {
    if (places_.empty()) return nullptr;
    Slot* slot = &places_.back()->slot;
    places_.pop_back();
    return slot;
  }
  void GiveSlot(Slot& slot) override { places_.push_back(&PlaceOf(slot)); }
  bool IsRestPlace(const Slot&) const override { return true; }
  void DelayPoint(const char*) override { Pause(); }

  // Where threads change places, now and then.
  void Pause() {
    if (random_() % 8 == 0) sched_yield();
  }

  Residence::Entry Run(Worker& worker, int64_t runs, bool refuses) {
    const Residence::Entry entry = residence_.Enter(worker);
    if (entry != Residence::Entry::kRuns) return entry;
    int64_t& bytes = PlaceOf(*worker.home).bytes;
    EXPECT_EQ(bytes, worker.runs);
    ++worker.runs;
    Pause();
    ++bytes;
    worker.refuses = refuses;
    if (worker.runs == runs) {
      bytes = -1;
      residence_.End(worker);
    } else {
      residence_.Leave(worker);
    }
    return entry;
  }

  Residence& residence() { return residence_; }

 private:
  Queue& queue_;
  std::vector<Place*> places_;
  std::minstd_rand random_;
  Residence residence_;
};

struct Stress {
  int threads;
  int slots;  // each listed by every thread
  int workers;
  int64_t runs;
  RestPolicy policy;
  int refusing_percent;
};

Residence::Counts& Sum(Residence::Counts& sum, const Residence::Counts& counts) {
  sum.rests += counts.rests;
  sum.wakes_at_home += counts.wakes_at_home;
  sum.wakes_elsewhere += counts.wakes_elsewhere;
  sum.left_to_copier += counts.left_to_copier;
  sum.kept += counts.kept;
  return sum;
}

// Lets the other threads go on. Beside many other programs sched_yield() does that badly, and who
// spins takes the time of those that it waits for.
void StandBack() {
  if (Repeated()) {
    usleep(20);
  } else {
    sched_yield();
  }
}

void RunStress(const Stress& stress, Residence::Counts& sum) {
  std::vector<std::unique_ptr<Place>> places;
  for (int i = 0; i < stress.slots; ++i) {
    places.push_back(std::make_unique<Place>());
    places.back()->slot.size_class = SizeClass::kLarge;
    places.back()->bytes = -1;
  }
  Queue queue;
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < stress.workers; ++i) {
    workers.push_back(std::make_unique<Worker>());
    queue.Push(workers.back().get());
  }
  std::atomic<int> unfinished{stress.workers};
  std::vector<std::unique_ptr<Proc>> procs;
  for (int t = 0; t < stress.threads; ++t) {
    std::vector<Place*> all;
    for (const auto& place : places) all.push_back(place.get());
    procs.push_back(std::make_unique<Proc>(queue, std::move(all), stress.policy, 1,
                                           static_cast<uint32_t>(t + 1)));
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < stress.threads; ++t) {
    threads.emplace_back([&, t] {
      Proc& proc = *procs[static_cast<size_t>(t)];
      std::minstd_rand random(static_cast<uint32_t>(t));
      while (unfinished.load(std::memory_order_acquire) > 0) {
        Worker* worker = queue.Pop();
        if (worker == nullptr) {
          StandBack();
          continue;
        }
        const bool refuses = static_cast<int>(random() % 100) < stress.refusing_percent;
        const bool last = worker->runs + 1 == stress.runs;
        switch (proc.Run(*worker, stress.runs, refuses)) {
          case Residence::Entry::kRuns:
            if (last) {
              unfinished.fetch_sub(1, std::memory_order_acq_rel);
            } else {
              queue.Push(worker);
            }
            break;
          case Residence::Entry::kNoSlot:
            queue.Push(worker);
            if (Repeated()) StandBack();
            break;
          case Residence::Entry::kLeftToCopier:
            break;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& worker : workers) {
    EXPECT_EQ(worker->runs, stress.runs);
    EXPECT_EQ(worker->home, nullptr);
  }
  for (const auto& place : places) {
    EXPECT_EQ(place->slot.owner.load(), Slot::kFree);
    EXPECT_EQ(place->bytes, -1);
  }
  for (const auto& proc : procs) Sum(sum, proc->residence().counts());
}

TEST(ResidenceTest, ThousandResidentsShareTwoSlotsOfFourThreads) {
  Residence::Counts sum;
  const int residents = Rounds(1'000);
  const uint64_t each = static_cast<uint64_t>(residents);
  // On a busy machine the threads run one after another for a while, and find all homes free.
  for (int i = 0; i == 0 || (sum.wakes_elsewhere.load() <= each / 10 && i < 1'000); ++i) {
    RunStress({4, 2, residents, 20, RestPolicy::kAsNeeded, 0}, sum);
  }
  // All that can happen has.
  EXPECT_GT(sum.rests.load(), 5 * each);
  EXPECT_GT(sum.wakes_at_home.load(), each);
  EXPECT_GT(sum.wakes_elsewhere.load(), each / 10);
  EXPECT_EQ(sum.kept.load(), 0u);
}

TEST(ResidenceTest, ResidentsThatAreHotAndWantedAreNotLost) {
  // Few residents, so that those in slots are run and copied at the same time.
  Residence::Counts sum;
  const int rounds = Rounds(5, 1);
  for (int i = 0; i < rounds || (sum.left_to_copier.load() == 0 && i < 1'000); ++i) {
    RunStress({4, 2, 5, Rounds(1'000, 300), RestPolicy::kAsNeeded, 0}, sum);
  }
  EXPECT_GT(sum.left_to_copier.load(), 0u);
}

TEST(ResidenceTest, ResidentsThatRefuseToRestKeepTheirSlots) {
  Residence::Counts sum;
  for (int i = 0; i < Rounds(10); ++i) {
    RunStress({4, 8, 6, Rounds(1'000, 200), RestPolicy::kAsNeeded, 30}, sum);
  }
  RunStress({4, 4, 5, Rounds(1'000, 200), RestPolicy::kAsNeeded, 100}, sum);
  EXPECT_GT(sum.kept.load(), 0u);
}

TEST(ResidenceTest, AlwaysPolicyWakesResidentsElsewhere) {
  Residence::Counts sum;
  const int runs = Rounds(200, 10);
  RunStress({4, 5, 100, runs, RestPolicy::kAlways, 10}, sum);
  EXPECT_GT(sum.wakes_elsewhere.load(), static_cast<uint64_t>(50 * runs));
}

// A stack may move, for a test, after its thread has lost the only P, whose holder is alone
// otherwise.
TEST(ResidenceMoveTest, OneThatIsAloneSharesFreeSlotsWithStacksThatMove) {
  PoisonGuards();
  Queue queue;
  Place place;
  place.slot.size_class = SizeClass::kLarge;
  Proc proc(queue, {&place}, RestPolicy::kAsNeeded, 1, 1);
  std::atomic<bool> inside{false};
  std::atomic<int> together{0};
  const auto use = [&] {
    if (inside.exchange(true)) ++together;
    inside = false;
  };
  std::atomic<bool> done{false};
  std::atomic<int> moved{0};
  std::thread moves([&] {
    while (!done.load(std::memory_order_relaxed)) {
      uint64_t owner = Slot::kFree;
      if (!place.slot.owner.compare_exchange_strong(owner, Slot::kTaken)) continue;
      use();
      moved.fetch_add(1, std::memory_order_relaxed);
      place.slot.owner.store(Slot::kFree, std::memory_order_release);
    }
  });
  // Until both have had it often: either may be kept from running for a while.
  const int times = Rounds(300'000, 3'000);
  for (int ran = 0; ran < times || moved.load(std::memory_order_relaxed) < times / 100;) {
    Worker worker;
    if (proc.residence().Enter(worker, ResidenceSharing::kAlone) != Residence::Entry::kRuns) {
      continue;
    }
    use();
    ++ran;
    proc.residence().End(worker);
  }
  done = true;
  moves.join();
  EXPECT_EQ(together.load(), 0);
}

// --- the policy, with one P ---

class OneProc {
 public:
  OneProc(int slots, RestPolicy policy, size_t budget) {
    std::vector<Place*> all;
    for (int i = 0; i < slots; ++i) {
      places_.push_back(std::make_unique<Place>());
      places_.back()->slot.size_class = SizeClass::kLarge;
      places_.back()->bytes = -1;
      all.push_back(places_.back().get());
    }
    proc_ = std::make_unique<Proc>(queue_, std::move(all), policy, budget, 1);
  }
  Slot* Run(Worker& worker) {
    EXPECT_EQ(proc_->Run(worker, 1'000'000, false), Residence::Entry::kRuns);
    return worker.home;
  }
  void End(Worker& worker) {
    EXPECT_EQ(proc_->Run(worker, worker.runs + 1, false), Residence::Entry::kRuns);
  }
  const Residence::Counts& counts() { return proc_->residence().counts(); }
  Residence& residence() { return proc_->residence(); }

 private:
  Queue queue_;
  std::vector<std::unique_ptr<Place>> places_;
  std::unique_ptr<Proc> proc_;
};

TEST(ResidencePolicyTest, ResidentsKeepTheirSlotsWithinTheBudget) {
  OneProc proc(10, RestPolicy::kAsNeeded, 4);
  Worker workers[4];
  std::set<Slot*> homes;
  for (Worker& worker : workers) homes.insert(proc.Run(worker));
  EXPECT_EQ(homes.size(), 4u);
  for (Worker& worker : workers) {
    const Slot* home = worker.home;
    EXPECT_EQ(proc.Run(worker), home);
  }
  EXPECT_EQ(proc.counts().rests.load(), 0u);
}

TEST(ResidencePolicyTest, HomesBeyondTheBudgetAreDealtRoundRobin) {
  OneProc proc(100, RestPolicy::kAsNeeded, 4);
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < 40; ++i) {
    workers.push_back(std::make_unique<Worker>());
    proc.Run(*workers.back());
  }
  std::multiset<Slot*> homes;
  for (const auto& worker : workers) homes.insert(worker->home);
  EXPECT_EQ(proc.counts().rests.load(), 36u);
  for (const auto& worker : workers) EXPECT_EQ(homes.count(worker->home), 10u);
  // And they wake there.
  for (const auto& worker : workers) {
    const Slot* home = worker->home;
    EXPECT_EQ(proc.Run(*worker), home);
  }
  EXPECT_EQ(proc.counts().wakes_elsewhere.load(), 0u);
}

TEST(ResidencePolicyTest, SlotOfOneThatEndedIsTheNextToBeUsed) {
  OneProc proc(100, RestPolicy::kAsNeeded, 4);
  Worker parent;
  Slot* home = proc.Run(parent);
  Worker child;
  Slot* slot = proc.Run(child);
  proc.End(child);
  for (int i = 0; i < 20; ++i) {
    Worker next;
    EXPECT_EQ(proc.Run(next), slot);
    EXPECT_EQ(proc.Run(parent), home);
    proc.End(next);
  }
}

TEST(ResidencePolicyTest, WhoKeptAnothersHomeRestsWhenItMayAgain) {
  OneProc proc(10, RestPolicy::kAsNeeded, 1);
  Worker comes_home;
  Slot* home = proc.Run(comes_home);
  Worker keeps;
  EXPECT_EQ(proc.Run(keeps), home);
  keeps.refuses = true;
  // Nobody lists that slot from now on.
  Worker other;
  EXPECT_NE(proc.Run(other), home);
  EXPECT_NE(proc.Run(comes_home), home);
  EXPECT_EQ(proc.counts().kept.load(), 2u);
  EXPECT_EQ(proc.Run(keeps), home);
  EXPECT_EQ(keeps.rest.load(), RestState::kRested);
}

TEST(ResidencePolicyTest, NeverPolicyLetsNobodyRest) {
  OneProc proc(100, RestPolicy::kNever, 4);
  Worker workers[100];
  std::set<Slot*> homes;
  for (Worker& worker : workers) homes.insert(proc.Run(worker));
  EXPECT_EQ(homes.size(), 100u);
  EXPECT_EQ(proc.counts().rests.load(), 0u);
  // And their slots are used again.
  for (Worker& worker : workers) proc.End(worker);
  Worker again[100];
  for (Worker& worker : again) EXPECT_EQ(homes.count(proc.Run(worker)), 1u);
}

TEST(ResidencePolicyTest, DrainHasResidentsRestAndWakeAnywhere) {
  OneProc proc(4, RestPolicy::kAsNeeded, 4);
  Worker workers[4];
  for (Worker& worker : workers) proc.Run(worker);
  proc.residence().Drain();
  EXPECT_EQ(proc.counts().rests.load(), 4u);
  for (Worker& worker : workers) proc.Run(worker);
  EXPECT_EQ(proc.counts().wakes_at_home.load(), 4u);
}

}  // namespace
}  // namespace weft::stack
