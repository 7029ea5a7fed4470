// A value that is computed when it is first asked for, once.
//
//   weft::OnceValue config([] { return LoadConfig(); });
//   config().port;     // the first call loads it, the others have it
//
// As Go's sync.OnceValue and, for a function that returns nothing, OnceFunc; return a std::pair
// where Go has OnceValues. From goroutines and threads.
#ifndef WEFT_SCHED_SYNC_ONCE_VALUE_H_
#define WEFT_SCHED_SYNC_ONCE_VALUE_H_

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "sched/fatal.h"
#include "sched/goroutine.h"
#include "sched/sync/once.h"

namespace weft {

template <typename F>
class OnceValue {
 public:
  using Result = std::invoke_result_t<F&>;

  explicit OnceValue(F f) : f_(std::move(f)) {}
  OnceValue(const OnceValue&) = delete;
  OnceValue& operator=(const OnceValue&) = delete;

  // Runs the function at the first call; the others wait until it has ended. Returns what it has
  // returned, as a const reference that is good as long as this. If it has thrown, every call
  // throws that exception. If it has ended its goroutine by weft::Exit() there is no value, and
  // further calls end the program: "panic: sync: the function of a OnceValue has not returned".
  //
  // The function and what it holds are destroyed when it has run. May park at the first calls;
  // later ones are a load, and allocate nothing.
  decltype(auto) operator()() {
    once_.Do([this] { Run(); });
    if (error_ != nullptr) [[unlikely]]
      std::rethrow_exception(error_);
    if (!value_.has_value()) [[unlikely]]
      Panic("sync: the function of a OnceValue has not returned");
    if constexpr (!std::is_void_v<Result>) return static_cast<const Value&>(*value_);
  }

 private:
  using Value = std::conditional_t<std::is_void_v<Result>, std::monostate, std::decay_t<Result>>;

  void Run() {
    // The function is gone however this ends.
    struct Release {
      std::optional<F>& f;
      ~Release() { f.reset(); }
    } release{f_};
    try {
      if constexpr (std::is_void_v<Result>) {
        (*f_)();
        value_.emplace();
      } else {
        value_.emplace((*f_)());
      }
    } catch (...) {
      error_ = std::current_exception();
      if (internal::IsExit(error_)) {
        error_ = nullptr;
        throw;
      }
    }
  }

  Once once_;
  std::optional<F> f_;
  std::optional<Value> value_;
  std::exception_ptr error_;
};

}  // namespace weft

#endif  // WEFT_SCHED_SYNC_ONCE_VALUE_H_
