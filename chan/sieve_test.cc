// CH-20: the sieve of Eratosthenes with buffered channels, a heap of streams of which each shows
// its head, and a feedback loop, which would lock up without a sender that never waits.
#include <functional>
#include <optional>
#include <queue>
#include <vector>

#include "chan/chan.h"
#include "chan/select.h"
#include "gtest/gtest.h"
#include "sched/sync/testing.h"

namespace weft {
namespace {

using testing::Tasks;

class Sieve {
 public:
  explicit Sieve(Tasks& tasks) : tasks_(tasks) {}

  RecvChan<int> Start() {
    Chan<int> primes(10);
    Chan<int> composites(50);
    Chan<int> out(10);
    out.Send(2);
    out.Send(3);
    primes.Send(3);
    tasks_.Go([=, this] { MergeMultiples(primes, composites); });
    tasks_.Go([=, this] { SiftCandidates(composites, primes, out); });
    return out;
  }

  void Stop() { stop_.Close(); }

 private:
  struct Peeked {
    int head;
    RecvChan<int> rest;
    bool operator>(const Peeked& other) const { return head > other.head; }
  };

  // False: the test is over.
  bool Send(const SendChan<int>& c, int v) {
    bool sent = false;
    Select(c.OnSend(v, [&] { sent = true; }), stop_.OnRecv());
    return sent;
  }
  bool Recv(const RecvChan<int>& c, int* v) {
    bool received = false;
    Select(c.OnRecv([&](std::optional<int> got) {
      *v = *got;
      received = true;
    }),
           stop_.OnRecv());
    return received;
  }

  RecvChan<int> Count(int from, int step, int capacity) {
    Chan<int> c(capacity);
    tasks_.Go([=, this] {
      for (int n = from; Send(c, n); n += step) {
      }
    });
    return c;
  }

  SendChan<int> SendProxy(Chan<int> to) {
    Chan<int> proxy(10);
    tasks_.Go([=, this] {
      std::queue<int> queue;
      bool running = true;
      while (running) {
        // Nothing to send: the send case is switched off by being nil's.
        const Chan<int> target = queue.empty() ? Chan<int>() : to;
        const int next = queue.empty() ? 0 : queue.front();
        Select(proxy.OnRecv([&](std::optional<int> v) { queue.push(*v); }),
               target.OnSend(next, [&] { queue.pop(); }), stop_.OnRecv([&] { running = false; }));
      }
    });
    return proxy;
  }

  void MergeMultiples(Chan<int> primes, Chan<int> composites) {
    std::priority_queue<Peeked, std::vector<Peeked>, std::greater<>> heap;
    const auto advance = [&](int* min) {
      Peeked smallest = heap.top();
      heap.pop();
      *min = smallest.head;
      if (!Recv(smallest.rest, &smallest.head)) return false;
      heap.push(smallest);
      return true;
    };
    int min = 15;
    for (int prime; Recv(primes, &prime);) {
      const RecvChan<int> multiples = Count(prime * prime, 2 * prime, 10);
      int head;
      if (!Recv(multiples, &head)) return;
      while (min < head) {
        if (!Send(composites, min) || !advance(&min)) return;
      }
      while (min == head) {
        if (!advance(&min)) return;
      }
      int next;
      if (!Send(composites, head) || !Recv(multiples, &next)) return;
      heap.push({next, multiples});
    }
  }

  void SiftCandidates(Chan<int> composites, Chan<int> primes, Chan<int> out) {
    const SendChan<int> feedback = SendProxy(primes);
    const RecvChan<int> candidates = Count(5, 2, 50);
    int candidate;
    if (!Recv(candidates, &candidate)) return;
    for (int composite; Recv(composites, &composite);) {
      while (candidate < composite) {
        if (!Send(feedback, candidate) || !Send(out, candidate) || !Recv(candidates, &candidate)) {
          return;
        }
      }
      if (candidate == composite && !Recv(candidates, &candidate)) return;
    }
  }

  Tasks& tasks_;
  Chan<int> stop_{0};
};

class SieveTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, SieveTest, testing::Worlds(), testing::WorldName);

TEST_P(SieveTest, CH20_FeedbackThroughAProxyFindsThePrimes) {
  Run([] {
    Tasks tasks;
    Sieve sieve(tasks);
    const RecvChan<int> primes = sieve.Start();
    for (const int expected : {2,  3,  5,  7,  11, 13, 17, 19, 23, 29, 31, 37, 41,
                               43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97}) {
      EXPECT_EQ(primes.Recv(), expected);
    }
    sieve.Stop();
    tasks.Wait();
  });
}

}  // namespace
}  // namespace weft
