// What a goroutine runs: a callable, inline where it is small, in the goroutine and not on its
// stack.
#ifndef WEFT_SCHED_INTERNAL_CLOSURE_H_
#define WEFT_SCHED_INTERNAL_CLOSURE_H_

#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

namespace weft {

struct GoOptions;

namespace internal {

// Whether an empty std::function, a null function pointer or the like was given.
template <typename Fn>
bool IsNullCallable(const Fn& fn) {
  if constexpr (std::is_constructible_v<bool, const Fn&> && !std::is_empty_v<Fn>) {
    return !static_cast<bool>(fn);
  } else {
    return false;
  }
}

class Closure {
 public:
  static constexpr size_t kInlineBytes = 40;

  Closure() = default;

  template <typename Fn, typename = std::enable_if_t<!std::is_same_v<std::decay_t<Fn>, Closure>>>
  explicit Closure(Fn&& fn) {
    using F = std::decay_t<Fn>;
    if (IsNullCallable<F>(fn)) return;  // stays empty: Spawn reports it
    if constexpr (kFitsInline<F>) {
      ::new (static_cast<void*>(storage_)) F(std::forward<Fn>(fn));
      ops_ = &kInlineOps<F>;
    } else {
      F* heap = new F(std::forward<Fn>(fn));
      std::memcpy(storage_, &heap, sizeof(heap));
      ops_ = &kHeapOps<F>;
    }
  }

  Closure(Closure&& other) noexcept { Take(other); }
  Closure& operator=(Closure&& other) noexcept {
    if (this != &other) {
      Reset();
      Take(other);
    }
    return *this;
  }
  ~Closure() { Reset(); }

  bool empty() const { return ops_ == nullptr; }

  // Calls it. Not empty.
  void operator()() { ops_->call(storage_); }

  // Destroys the callable.
  void Reset() {
    if (const Ops* ops = std::exchange(ops_, nullptr); ops != nullptr && ops->destroy != nullptr) {
      ops->destroy(storage_);
    }
  }

 private:
  struct Ops {
    void (*call)(void* storage);
    void (*relocate)(void* to, void* from);  // null: copying the bytes does it
    void (*destroy)(void* storage);          // null: nothing to do
  };

  template <typename F>
  static constexpr bool kFitsInline =
      sizeof(F) <= kInlineBytes && alignof(F) <= alignof(std::max_align_t) &&
      std::is_nothrow_move_constructible_v<F>;

  template <typename F>
  static F* As(void* storage) {
    return std::launder(static_cast<F*>(storage));
  }
  template <typename F>
  static F* FromHeap(void* storage) {
    F* heap;
    std::memcpy(&heap, storage, sizeof(heap));
    return heap;
  }

  template <typename F>
  static constexpr Ops kInlineOps = {
      [](void* storage) { static_cast<void>((*As<F>(storage))()); },
      std::is_trivially_copyable_v<F> ? nullptr
                                      : +[](void* to, void* from) {
                                          ::new (to) F(std::move(*As<F>(from)));
                                          As<F>(from)->~F();
                                        },
      std::is_trivially_destructible_v<F> ? nullptr
                                          : +[](void* storage) { As<F>(storage)->~F(); },
  };
  template <typename F>
  static constexpr Ops kHeapOps = {
      [](void* storage) { static_cast<void>((*FromHeap<F>(storage))()); },
      nullptr,
      [](void* storage) { delete FromHeap<F>(storage); },
  };

  void Take(Closure& other) noexcept {
    ops_ = std::exchange(other.ops_, nullptr);
    if (ops_ == nullptr) return;
    if (ops_->relocate != nullptr) {
      ops_->relocate(storage_, other.storage_);
    } else {
      std::memcpy(storage_, other.storage_, kInlineBytes);
    }
  }

  alignas(std::max_align_t) std::byte storage_[kInlineBytes];
  const Ops* ops_ = nullptr;
};

// Makes a goroutine of `closure` and queues it. Its creation site, for traces, is this call's
// return address, so Go() is always inlined.
void Spawn(const GoOptions& options, Closure&& closure);

}  // namespace internal
}  // namespace weft

#endif  // WEFT_SCHED_INTERNAL_CLOSURE_H_
