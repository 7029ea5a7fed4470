// A Select over a number of cases that is known only when running.
//
//   weft::SelectVector inputs;
//   for (weft::RecvChan<Event>& source : sources) {
//     inputs.OnRecv(source, [&](std::optional<Event> event) { ... });
//   }
//   inputs.After(absl::Seconds(1), [&] { ... });
//   const int chosen = inputs.Run();
//
// Run() does what Select does with the same cases, and may be called again and again. The vector
// keeps the channels, the values to be sent and the functions. A send case whose value has been
// sent, or has found its channel closed, is spent: in later runs it is never possible.
#ifndef WEFT_CHAN_SELECT_VECTOR_H_
#define WEFT_CHAN_SELECT_VECTOR_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/select.h"

namespace weft {

class SelectVector {
 public:
  SelectVector() = default;
  SelectVector(SelectVector&&) = default;
  SelectVector& operator=(SelectVector&&) = default;

  // Each adds one case, at the next position. The functions are those of Chan::OnRecv,
  // Chan::OnSend, weft::After and weft::Default; the time of After counts from Run().
  template <typename T, typename F>
  void OnRecv(RecvChan<T> channel, F f) {
    Add(std::make_unique<Receive<T, F>>(std::move(channel), std::move(f)));
  }
  template <typename T, typename F>
  void OnRecv(const Chan<T>& channel, F f) {
    OnRecv(RecvChan<T>(channel), std::move(f));
  }
  template <typename T, typename F>
  void OnSend(SendChan<T> channel, std::type_identity_t<T> value, F f) {
    Add(std::make_unique<Send<T, F>>(std::move(channel), std::move(value), std::move(f)));
  }
  template <typename T, typename F>
  void OnSend(const Chan<T>& channel, std::type_identity_t<T> value, F f) {
    OnSend(SendChan<T>(channel), std::move(value), std::move(f));
  }
  template <typename F>
  void After(absl::Duration timeout, F f) {
    Add(std::make_unique<Timeout<F>>(timeout, std::move(f)));
  }
  template <typename F>
  void Default(F f) {
    Add(std::make_unique<Otherwise<F>>(std::move(f)));
  }

  size_t size() const { return cases_.size(); }

  // Selects, and returns the position of the case that was chosen. May park. More than 65536
  // channel cases end the program.
  int Run();

 private:
  // A case as select_case.h describes it, with its type erased. `Prepare` makes it ready for one
  // run.
  class Case {
   public:
    virtual ~Case() = default;
    virtual internal::CaseKind kind() const { return internal::CaseKind::kChannel; }
    virtual size_t stage_bytes() const { return 0; }
    virtual void Prepare() {}
    virtual void Arm(internal::SelectRecord&, std::byte*) {}
    virtual void Settle(internal::SelectRecord&, bool) {}
    virtual void Run(internal::SelectRecord*, internal::Outcome) = 0;
    virtual Instant deadline() const { return Instant::Never(); }
  };

  template <typename T, typename F>
  class Receive : public Case {
   public:
    Receive(RecvChan<T> channel, F f)
        : channel_(std::move(channel)), case_(channel_.core(), std::move(f)) {}
    size_t stage_bytes() const override { return internal::StageBytes<RecvCase>(); }
    void Arm(internal::SelectRecord& r, std::byte* at) override { case_.Arm(r, at); }
    void Run(internal::SelectRecord* r, internal::Outcome outcome) override {
      case_.Run(*r, outcome);
    }

   private:
    using RecvCase = internal::RecvCase<T, F>;
    RecvChan<T> channel_;
    RecvCase case_;
  };

  template <typename T, typename F>
  class Send : public Case {
   public:
    Send(SendChan<T> channel, T value, F f)
        : channel_(std::move(channel)), value_(std::move(value)), f_(std::move(f)) {}
    size_t stage_bytes() const override { return internal::StageBytes<SendCase>(); }
    void Prepare() override {
      case_.reset();
      internal::ChanCore* core = spent_ ? nullptr : channel_.core();
      if constexpr (internal::TransportOf<T>() == internal::Transport::kWord) {
        case_.emplace(core, value_, Call{this});
      } else {
        case_.emplace(core, &value_, Call{this});
      }
    }
    void Arm(internal::SelectRecord& r, std::byte* at) override { case_->Arm(r, at); }
    void Settle(internal::SelectRecord& r, bool sent) override { case_->Settle(r, sent); }
    void Run(internal::SelectRecord* r, internal::Outcome outcome) override {
      spent_ = true;
      case_->Run(*r, outcome);
    }

   private:
    struct Call {
      Send* send;
      void operator()(bool sent) const {
        if constexpr (std::is_invocable_v<F&, bool>) {
          send->f_(sent);
        } else {
          send->f_();
        }
      }
    };
    using Held =
        std::conditional_t<internal::TransportOf<T>() == internal::Transport::kWord, T, T*>;
    using SendCase = internal::SendCase<T, Held, Call>;

    SendChan<T> channel_;
    T value_;
    F f_;
    bool spent_ = false;
    std::optional<SendCase> case_;
  };

  template <typename F>
  class Timeout : public Case {
   public:
    Timeout(absl::Duration timeout, F f) : timeout_(timeout), f_(std::move(f)) {}
    internal::CaseKind kind() const override { return internal::CaseKind::kAfter; }
    void Prepare() override { deadline_ = Instant::Now() + timeout_; }
    void Run(internal::SelectRecord*, internal::Outcome) override { f_(); }
    Instant deadline() const override { return deadline_; }

   private:
    absl::Duration timeout_;
    Instant deadline_;
    F f_;
  };

  template <typename F>
  class Otherwise : public Case {
   public:
    explicit Otherwise(F f) : f_(std::move(f)) {}
    internal::CaseKind kind() const override { return internal::CaseKind::kDefault; }
    void Run(internal::SelectRecord*, internal::Outcome) override { f_(); }

   private:
    F f_;
  };

  void Add(std::unique_ptr<Case> c) { cases_.push_back(std::move(c)); }

  std::vector<std::unique_ptr<Case>> cases_;
};

}  // namespace weft

#endif  // WEFT_CHAN_SELECT_VECTOR_H_
