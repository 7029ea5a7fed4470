// Signals of the system as values on channels. As Go's package os/signal.
//
//   weft::Chan<int> stop(1);
//   weft::Notify(stop, {SIGINT, SIGTERM});
//   std::optional<int> signal = stop.Recv();
//
// How. A handler notes the signal's bit in one word and, if that was empty, writes an eventfd; the
// netpoller wakes a goroutine, which hands the signals on. (Not by signalfd, which sees only what
// every thread of the process blocks: threads of others exist before us and would be killed, and
// every child would have to be given another mask.) No mask is changed, neither here nor in
// children, and exec gives children the default action back.
//
// Promises, Go's where Go has the operation:
// - A signal is given to every channel that asks for it, without waiting: one whose buffer is full
//   does not get it. Give it room for one signal at least, more for those that must not be lost.
// - Signals of one number that come faster than they are handed on may become one, as the system
//   itself makes one of those that are pending. Several numbers that are pending together arrive in
//   numeric order.
// - When nobody asks for a signal any more, what it did before Notify() or Ignore() first changed
//   that holds again, be it the default, a handler of somebody else's, or that it is ignored
//   (nohup). A signal that
//   comes while the last one stops asking is either given to its channel or does that: none is
//   lost.
//
// Numbers that cannot be caught, or are not signals, are passed over: SIGKILL, SIGSTOP, libc's own
// two, and those by which faults are reported (SIGSEGV, SIGBUS, SIGFPE, SIGILL). The runtime itself
// uses no other signal. One that every thread of the program blocks stays pending.
//
// All functions from goroutines and threads, not from signal handlers; they may park. A program in
// which Notify() has been called is never "deadlocked", since a signal may wake it. In the child of
// a fork() the actions are what they were before, and nothing is handed on.
#ifndef WEFT_NETPOLL_SIGNAL_H_
#define WEFT_NETPOLL_SIGNAL_H_

#include "absl/types/span.h"
#include "chan/chan.h"
#include "chan/context.h"

namespace weft {

// From now on `channel` gets these signals too; with none given all there are, but for SIGTRAP and
// SIGSYS, which are mostly faults. Starts the runtime. The channel is kept until Stop(). Ends the
// program with "panic: signal: Notify using nil channel" for a nil one.
void Notify(const SendChan<int>& channel, absl::Span<const int> signals = {});

// `channel` gets no signals any more: when this returns nothing more will be sent on it, and what
// had been caught for it has been. Does nothing for a channel that gets none.
void Stop(const SendChan<int>& channel);

// Undoes all Notify() and Ignore() for these signals; with none given, for all.
void Reset(absl::Span<const int> signals = {});

// The program ignores these signals from now on (with none given, all), and so do programs that it
// starts; nobody gets them until the next Notify().
void Ignore(absl::Span<const int> signals = {});

// Whether the program ignores it now, by Ignore() or in any other way.
bool Ignored(int signal);

// Takes back what NotifyContext() has asked for: cancels the context, and gives the signals back. A
// handle; any number of calls, at once too.
class NotifyStop {
 public:
  NotifyStop() = default;
  void operator()() const;

 private:
  friend struct NotifyAccess;
  NotifyStop(CancelFunc cancel, Chan<int> channel)
      : cancel_(std::move(cancel)), channel_(std::move(channel)) {}

  CancelFunc cancel_;
  Chan<int> channel_;
};

struct ContextWithStop {
  Context context;
  NotifyStop stop;
};

// A child of `parent` that is cancelled when one of these signals comes (with none given, any),
// too. The signals keep their meaning until stop() is called, and later ones do nothing: call it
// when the context is done, so that a second SIGINT ends a program that hangs.
[[nodiscard]] ContextWithStop NotifyContext(const Context& parent,
                                            absl::Span<const int> signals = {});

}  // namespace weft

#endif  // WEFT_NETPOLL_SIGNAL_H_
