// The part of signal.h that signal handlers have to do with: which signals are caught, and which
// have been.
//
// States of a signal, and what a handler does that finds them:
//
//   action   wanted   the handler
//   ours     set      sets its bit of `pending`
//   ours     clear    cannot be seen when ReleaseSignals() has returned; as below
//   others'  clear    it began late: the signal was sent when the action was still ours. It sends
//                     it again to its own thread, where it is blocked until the handler returns,
//                     and then does what it does now. But what was ignored when it was released is
//                     in `passed_over` until it is caught again, and does nothing, whatever its
//                     action has become since.
//
// Why no signal is lost when a signal is released: ReleaseSignals() gives the action back, clears
// `wanted`, and waits until no handler for that signal is in the middle. A handler counts itself
// and then looks at `wanted`, both sequentially consistent: either it is seen in the count, and its
// bit is in `pending` when the waiting is over; or it sees `wanted` clear. Whoever calls
// ReleaseSignals() takes the bits afterwards, while the channels that are to leave are still there.
#ifndef WEFT_NETPOLL_SIGNAL_CATCHER_H_
#define WEFT_NETPOLL_SIGNAL_CATCHER_H_

#include <signal.h>

#include <cstdint>

namespace weft::internal {

// Bit n - 1 is signal n.
using SignalSet = uint64_t;
constexpr int kSignals = 64;
constexpr SignalSet SignalBit(int signal) { return SignalSet{1} << (signal - 1); }

// Those that may be caught.
SignalSet CatchableSignals();

// What is done with a signal that is given back.
enum class Afterwards {
  kRestore,  // what it did before it was first caught or ignored
  kIgnore,
};

// All of these by one caller at a time.

// Makes the eventfd, which is written when signals are caught and none is pending yet. The first
// call only; returns the descriptor.
int StartCatchingSignals();

void CatchSignals(SignalSet signals);

// None of `signals` is caught when it returns; what has been, TakeCaughtSignals() returns.
void ReleaseSignals(SignalSet signals, Afterwards afterwards);

// Whether its action is to do nothing.
bool IsIgnored(int signal);

// What has come since the last call.
SignalSet TakeCaughtSignals();

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_SIGNAL_CATCHER_H_
