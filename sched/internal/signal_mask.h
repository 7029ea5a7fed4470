// No signals for a while, on this thread: around the birth and the end of the runtime's threads.
//
// A handler that was built to keep locals on a pinned stack needs the thread to have one, which it
// does not have before its first function has begun, nor after its last one. A thread is born with
// the mask of the one that makes it.
#ifndef WEFT_SCHED_INTERNAL_SIGNAL_MASK_H_
#define WEFT_SCHED_INTERNAL_SIGNAL_MASK_H_

#include <pthread.h>
#include <signal.h>

namespace weft::internal {

inline void BlockAllSignals(sigset_t* old = nullptr) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, old);
}

class AllSignalsBlocked {
 public:
  AllSignalsBlocked() { BlockAllSignals(&old_); }
  ~AllSignalsBlocked() { pthread_sigmask(SIG_SETMASK, &old_, nullptr); }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;

 private:
  sigset_t old_;
};

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_SIGNAL_MASK_H_
