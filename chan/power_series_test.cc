// CH-21: power series as channels, after D. McIlroy, "Squinting at Power Series" (1990). A series
// is a process that gives one coefficient, a rational number, for each demand. Processes make
// further processes and select over channels that are switched off by being nil: a long test of
// everything at once.
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "chan/chan.h"
#include "chan/select.h"
#include "gtest/gtest.h"
#include "sched/sync/testing.h"

namespace weft {
namespace {

struct Rational {
  int64_t num = 0;
  int64_t den = 1;

  Rational() = default;
  Rational(int64_t n, int64_t d = 1) : num(n), den(d) {  // NOLINT: numbers are rationals
    const int64_t g = std::gcd(n, d);
    if (g > 1) {
      num /= g;
      den /= g;
    }
    if (den < 0) {
      num = -num;
      den = -den;
    }
  }
  friend Rational operator+(Rational a, Rational b) {
    const int64_t g = std::gcd(a.den, b.den);
    return {a.num * (b.den / g) + b.num * (a.den / g), a.den / g * b.den};
  }
  friend Rational operator*(Rational a, Rational b) {
    const Rational x(a.num, b.den);
    const Rational y(b.num, a.den);
    return {x.num * y.num, x.den * y.den};
  }
  Rational operator-() const { return {-num, den}; }
  friend bool operator==(Rational a, Rational b) { return a.num == b.num && a.den == b.den; }
  friend std::ostream& operator<<(std::ostream& out, Rational r) {
    return out << r.num << "/" << r.den;
  }
};

// Elements as they are, and behind a pointer to a base class (the second of Go's two programs).
struct ByValue {
  using Item = Rational;
  static Item Make(Rational r) { return r; }
  static Rational Get(const Item& item) { return item; }
};
struct Number {
  virtual ~Number() = default;
  virtual Rational Get() const = 0;
};
struct RationalNumber : Number {
  explicit RationalNumber(Rational r) : value(r) {}
  Rational Get() const override { return value; }
  Rational value;
};
struct ByPointer {
  using Item = std::unique_ptr<Number>;
  static Item Make(Rational r) { return std::make_unique<RationalNumber>(r); }
  static Rational Get(const Item& item) { return item->Get(); }
};

template <typename Form>
class Algebra {
 public:
  // A demand, and what answers it.
  struct Series {
    Chan<int> demand{0};
    Chan<typename Form::Item> data{0};
  };

  Algebra() = default;
  Algebra(const Algebra&) = delete;
  Algebra& operator=(const Algebra&) = delete;
  // Every process ends by an exception out of the operation that it waits in.
  ~Algebra() {
    stop_.Close();
    tasks_.Wait();
  }

  Rational Get(const Series& u) {
    Demand(u);
    return Receive(u);
  }

  Series Repeat(Rational c) {
    return Start([=, this](Series z) {
      for (;;) Put(z, c);
    });
  }

  Series Add(Series u, Series v) {
    return Start([=, this](Series z) {
      for (;;) {
        AwaitDemand(z);
        const auto [a, b] = GetBoth(u, v);
        Send(z, a + b);
      }
    });
  }

  Series Scale(Rational c, Series u) {
    return Start([=, this](Series z) {
      for (;;) {
        AwaitDemand(z);
        Send(z, c * Get(u));
      }
    });
  }

  Series Shift(Rational c, Series u) {
    return Start([=, this](Series z) {
      Put(z, c);
      Copy(u, z);
    });
  }

  // (u + x U)(v + x V) = uv + x (uV + vU) + x^2 UV
  Series Multiply(Series u, Series v) {
    return Start([=, this](Series z) {
      AwaitDemand(z);
      const auto [a, b] = GetBoth(u, v);
      Send(z, a * b);
      const auto [u1, u2] = Split(u);
      const auto [v1, v2] = Split(v);
      const Series w = Add(Scale(a, v1), Scale(b, u1));
      AwaitDemand(z);
      Send(z, Get(w));
      Copy(Add(w, Multiply(u2, v2)), z);
    });
  }

  Series Differentiate(Series u) {
    return Start([=, this](Series z) {
      AwaitDemand(z);
      Get(u);
      for (int64_t i = 1;; ++i) {
        Send(z, Rational(i) * Get(u));
        AwaitDemand(z);
      }
    });
  }

  Series Integrate(Rational c, Series u) {
    return Start([=, this](Series z) {
      Put(z, c);
      for (int64_t i = 1;; ++i) {
        AwaitDemand(z);
        Send(z, Rational(1, i) * Get(u));
      }
    });
  }

  // z = exp(u) solves z' = z u'.
  Series Exponential(Series u) {
    Series z1;
    Series z2;
    SplitInto(Integrate(1, Multiply(z1, Differentiate(u))), z1, z2);
    return z2;
  }

  // u(c x^n)
  Series Substitute(Series u, Rational c, int n) {
    return Start([=, this](Series z) {
      Rational power = 1;
      for (;;) {
        AwaitDemand(z);
        Send(z, power * Get(u));
        power = power * c;
        for (int i = 1; i < n; ++i) Put(z, 0);
      }
    });
  }

 private:
  struct Stopped {};

  Series Start(std::function<void(Series)> process) {
    Series z;
    Spawn([=] { process(z); });
    return z;
  }
  void Spawn(std::function<void()> process) {
    tasks_.Go([process = std::move(process)] {
      try {
        process();
      } catch (const Stopped&) {
      }
    });
  }

  void Demand(const Series& u) {
    if (Select(u.demand.OnSend(1), stop_.OnRecv()) == 1) throw Stopped();
  }
  void AwaitDemand(const Series& z) {
    if (Select(z.demand.OnRecv(), stop_.OnRecv()) == 1) throw Stopped();
  }
  Rational Receive(const Series& u) {
    Rational value;
    if (Select(stop_.OnRecv(), u.data.OnRecv([&](std::optional<typename Form::Item> item) {
          value = Form::Get(*item);
        })) == 0) {
      throw Stopped();
    }
    return value;
  }
  void Send(const Series& z, Rational r) {
    if (Select(z.data.OnSend(Form::Make(r)), stop_.OnRecv()) == 1) throw Stopped();
  }
  void Put(const Series& z, Rational r) {
    AwaitDemand(z);
    Send(z, r);
  }
  void Copy(const Series& u, const Series& z) {
    for (;;) {
      AwaitDemand(z);
      Send(z, Get(u));
    }
  }

  // One coefficient of each, asked for at once and taken as they come.
  std::pair<Rational, Rational> GetBoth(const Series& u, const Series& v) {
    Rational a;
    Rational b;
    Chan<int> ask_u = u.demand;
    Chan<int> ask_v = v.demand;
    Chan<typename Form::Item> from_u;
    Chan<typename Form::Item> from_v;
    for (int left = 4; left > 0; --left) {
      Select(ask_u.OnSend(1,
                          [&] {
                            from_u = u.data;
                            ask_u = {};
                          }),
             ask_v.OnSend(1,
                          [&] {
                            from_v = v.data;
                            ask_v = {};
                          }),
             from_u.OnRecv([&](std::optional<typename Form::Item> item) {
               a = Form::Get(*item);
               from_u = {};
             }),
             from_v.OnRecv([&](std::optional<typename Form::Item> item) {
               b = Form::Get(*item);
               from_v = {};
             }),
             stop_.OnRecv([] { throw Stopped(); }));
    }
    return {a, b};
  }

  // The same series twice, to be read at different speeds. Each coefficient has a process of its
  // own, which ends when both sides have it; the newest one serves the side that is ahead, and the
  // end of the one before lets it serve the other side as well.
  std::pair<Series, Series> Split(Series u) {
    Series a;
    Series b;
    SplitInto(u, a, b);
    return {a, b};
  }
  void SplitInto(Series u, Series a, Series b) {
    Chan<int> release(1);
    release.Send(0);
    Spawn([=, this] { ServeSplit(u, a, b, release); });
  }
  void ServeSplit(Series u, Series ahead, Series behind, Chan<int> older) {
    bool both = false;
    const auto stopped = [] { throw Stopped(); };
    Select(ahead.demand.OnRecv(), older.OnRecv([&] { both = true; }), stop_.OnRecv(stopped));
    if (both) {
      Select(ahead.demand.OnRecv(), behind.demand.OnRecv([&] { std::swap(ahead, behind); }),
             stop_.OnRecv(stopped));
    }
    Chan<int> release(1);
    // The successor must not ask for the next coefficient before this one is here.
    Demand(u);
    Spawn([=, this] { ServeSplit(u, ahead, behind, release); });
    const Rational r = Receive(u);
    Send(ahead, r);
    if (!both) Select(older.OnRecv(), stop_.OnRecv(stopped));
    Select(behind.demand.OnRecv(), stop_.OnRecv(stopped));
    Send(behind, r);
    release.Send(0);
  }

  Chan<int> stop_{0};
  testing::Tasks tasks_;
};

class PowerSeries : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, PowerSeries, testing::Worlds(), testing::WorldName);

template <typename Form>
void CheckSeries() {
  using Series = typename Algebra<Form>::Series;
  const auto check = [](const char* what, auto make, std::vector<Rational> expected) {
    Algebra<Form> algebra;
    const Series u = make(algebra);
    for (const Rational& r : expected) EXPECT_EQ(algebra.Get(u), r) << what;
  };
  using A = Algebra<Form>;
  const auto ones = [](A& a) { return a.Repeat(1); };
  check("Diff", [&](A& a) { return a.Differentiate(ones(a)); }, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  check("Integ", [&](A& a) { return a.Integrate(0, ones(a)); },
        {0, 1, {1, 2}, {1, 3}, {1, 4}, {1, 5}, {1, 6}, {1, 7}, {1, 8}, {1, 9}});
  check("Cmul", [&](A& a) { return a.Scale(-1, a.Repeat(2)); },
        {-2, -2, -2, -2, -2, -2, -2, -2, -2, -2});
  check("Add", [&](A& a) { return a.Add(ones(a), a.Repeat(2)); }, {3, 3, 3, 3, 3, 3, 3, 3, 3, 3});
  check("Shift", [&](A& a) { return a.Shift(5, ones(a)); }, {5, 1, 1, 1, 1});
  check("Mul", [&](A& a) { return a.Multiply(ones(a), ones(a)); }, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  check("Exp", [&](A& a) { return a.Exponential(ones(a)); },
        {1,
         1,
         {3, 2},
         {13, 6},
         {73, 24},
         {167, 40},
         {4051, 720},
         {37633, 5040},
         {43817, 4480},
         {4596553, 362880}});
  check("ATan", [&](A& a) { return a.Integrate(0, a.Substitute(ones(a), -1, 2)); },
        {0, 1, 0, {-1, 3}, 0, {1, 5}, 0, {-1, 7}, 0, {1, 9}});
}

TEST_P(PowerSeries, CH21_CoefficientsAreExact) {
  Run([] { CheckSeries<ByValue>(); });
}

TEST_P(PowerSeries, CH21_CoefficientsBehindPointersAreExact) {
  Run([] { CheckSeries<ByPointer>(); });
}

}  // namespace
}  // namespace weft
