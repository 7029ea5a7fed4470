// Threads that nobody of us made, and code that the macros built.
//
// In mode `copying` a function with a local whose address escapes puts it on the thread's pinned
// stack, without a look whether there is one. Threads that pthread_create makes have one, and so
// has the main thread. Those that libc makes for itself do not, and such a function on one of them
// is a fault: the callbacks of timer_create with SIGEV_THREAD, mq_notify, getaddrinfo_a and aio_*;
// nor do those of a library that makes its threads by clone().
//
//     void OnTimer(sigval value) { ... }
//
//     event.sigev_notify = SIGEV_THREAD;
//     event.sigev_notify_function = weft::stack::Adopted<OnTimer>;
//
// In the other modes all of this does nothing.
#ifndef WEFT_STACK_ADOPT_H_
#define WEFT_STACK_ADOPT_H_

namespace weft::stack {

// Gives the calling thread a pinned stack of 256 KiB, if it has none, until its end. False: the
// system refuses the memory. To be called before any function with such locals, so by one that has
// none itself, and into which none is inlined: Adopted is that. Not from signal handlers.
//
// A thread whose end libc does not see, made by clone() with thread-locals of its own, has to call
// DisownThread() at its end. One that shares those of its maker (no CLONE_SETTLS) shares the pinned
// stack as well, and its maker must wait for it.
bool AdoptThread();

// Takes back what AdoptThread() has given to the calling thread. Nothing where that was nothing.
void DisownThread();

namespace internal {

// For what cannot go on.
[[noreturn]] void CannotAdopt();

template <auto function>
struct Adoption;

template <typename Result, typename... Args, Result (*function)(Args...)>
struct Adoption<function> {
  static Result Run(Args... args) {
    if (!AdoptThread()) CannotAdopt();
    // By a pointer that the compiler does not know, so that the function is not inlined here: it
    // would have its locals made before the call above.
    Result (*volatile callback)(Args...) = function;
    return callback(args...);
  }
};

}  // namespace internal

// A function like `function`, which may be called on any thread. Ends the program with a line on
// stderr where AdoptThread() fails. Arguments are scalars, or structures of up to 16 bytes.
template <auto function>
inline constexpr auto* Adopted = &internal::Adoption<function>::Run;

}  // namespace weft::stack

#endif  // WEFT_STACK_ADOPT_H_
