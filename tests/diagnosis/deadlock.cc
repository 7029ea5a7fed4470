// A program with two accounts, and transfers in both directions that lock them in the order in
// which they are given. See debug/README.md.
#include "sched/goroutine.h"
#include "sched/sync/mutex.h"
#include "sched/sync/wait_group.h"

namespace {

struct Account {
  weft::Mutex mutex;
  int balance ABSL_GUARDED_BY(mutex) = 100;
};

__attribute__((noinline)) void Transfer(Account& from, Account& to, weft::WaitGroup& both) {
  weft::MutexLock first(from.mutex);
  // As chance would have it some day.
  both.Done();
  both.Wait();
  weft::MutexLock second(to.mutex);
  --from.balance;
  ++to.balance;
}

}  // namespace

int main() {
  return weft::Main([] {
    Account a;
    Account b;
    weft::WaitGroup both;
    both.Add(2);
    weft::WaitGroup ended;
    ended.Add(2);
    weft::Go([&] {
      Transfer(a, b, both);
      ended.Done();
    });
    weft::Go([&] {
      Transfer(b, a, both);
      ended.Done();
    });
    ended.Wait();
    return 0;
  });
}
