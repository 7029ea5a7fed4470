/* How a Mutex is unlocked by a plain store, and no waiter is missed (sched/sync/mutex.cc).
 *
 * N threads lock and unlock ROUNDS times each. Memory is x86's: the mutex's two bytes, the gate and the
 * bucket's lock (taken by an exchange, released by a store). What only holders of that lock touch is kept
 * aside. A search that ends with somebody still waiting has lost a wake-up. Whether an unlock finds that
 * a waiter has waited for too long, or that it has been quiet for long, is left open: both happen.
 *
 * Mistakes, each of which the search must find:
 *   NOMB     the waiter leaves out the membarrier
 *   NOGATE   the unlock leaves out the look at the gate
 *   NOLOOK   the waiter leaves out the look at the mutex after the barrier
 *   CLOSE    a look that finds the mutex taken again closes the gate
 *   NOMARK   a woken waiter that gets the mutex does not set wake_ */
#ifndef N
#define N 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define NT N
#define SBN 3

#define LOCKED 0
#define WAKE 1
#define GATE 2
#define BUCKET 3
#define NA 4
#include "tso.inc"

#define COMPETE 1
#define OWNER 2

bool woken_mark, gate_is_open;     /* flags_ */
byte waiting[N], waiters;          /* the queue */
byte token[N];
byte holders;

inline acquire_bucket(t) {
  atomic { mem[BUCKET] == 0 -> flush(t); mem[BUCKET] = 1 }
}
inline release_bucket(t) { st(t, BUCKET, 0) }

inline push_back(t) { d_step { waiting[waiters] = t; waiters++ } }
inline push_front(t) {
  d_step {
    i = waiters;
    do :: i > 0 -> waiting[i] = waiting[i - 1]; i-- :: else -> break od;
    waiting[0] = t; waiters++
  }
}
inline pop(x) {
  d_step {
    x = waiting[0]; waiters--; i = 0;
    do :: i < waiters -> waiting[i] = waiting[i + 1]; i++ :: else -> break od;
    waiting[waiters] = 0; i = 0
  }
}

inline close_gate(t) {
  if :: gate_is_open -> gate_is_open = 0; st(t, GATE, 0) :: else fi
}

/* Wake first, with its lock held, and `kind`. */
inline give(t, x, kind) {
  release_bucket(t);
  atomic { flush(t); assert(token[x] == 0); token[x] = kind; x = 0 }
}

inline look_again(t) {
  acquire_bucket(t);
  ld(t, LOCKED, y);
  if
  :: waiters > 0 && !woken_mark && y == 0 ->
     close_gate(t);
     woken_mark = 1; st(t, WAKE, 0);
     pop(x); give(t, x, COMPETE)
  :: else ->
#ifdef CLOSE
     close_gate(t);
#endif
     release_bucket(t)
  fi;
  y = 0
}

proctype Task(byte t) {
  byte round, i, x, y, mb;
  bool woken, unseen;
  do
  :: round == ROUNDS -> break
  :: else ->
try:
     /* TryLock() */
     ld(t, LOCKED, y);
     if
     :: y == 0 -> atomic { flush(t); y = mem[LOCKED]; mem[LOCKED] = 1 }
     :: else -> skip
     fi;
     if
     :: y == 0 ->
        if
        :: woken ->
           acquire_bucket(t);
           woken_mark = 0;
#ifndef NOMARK
           st(t, WAKE, 1);
#endif
           release_bucket(t);
           woken = 0
        :: else -> skip
        fi
     :: else ->
        acquire_bucket(t);
        ld(t, LOCKED, y);
        if
        :: y == 0 -> release_bucket(t); goto try
        :: else -> skip
        fi;
        if :: woken -> woken_mark = 0 :: else fi;
        ld(t, WAKE, y);
        if
        :: woken_mark || y -> unseen = 0
        :: else -> st(t, WAKE, 1); gate_is_open = 1; st(t, GATE, 1); unseen = 1
        fi;
        if :: woken -> push_front(t) :: else -> push_back(t) fi;
        woken = 0; y = 0;
        release_bucket(t);
        if
        :: unseen ->
#ifndef NOMB
           membarrier(t);
#endif
#ifndef NOLOOK
           ld(t, LOCKED, y);
           if :: y == 0 -> look_again(t) :: else -> y = 0 fi;
#endif
           unseen = 0
        :: else -> skip
        fi;
        flush(t);
        atomic { token[t] != 0 -> y = token[t]; token[t] = 0 };
        if
        :: y == COMPETE -> woken = 1; y = 0; goto try
        :: else -> skip
        fi
     fi;
     y = 0;
     holders++; assert(holders == 1);
     holders--;
     /* Unlock() */
     ld(t, WAKE, y);
     if
     :: y == 0 ->
        st(t, LOCKED, 0);
#ifndef NOGATE
        ld(t, GATE, y);
        if :: y -> look_again(t) :: else -> skip fi
#endif
     :: else ->
        acquire_bucket(t);
        if
        :: woken_mark || waiters == 0 ->
           if
           :: waiters == 0 -> st(t, WAKE, 0)      /* quiet for long */
           :: skip
           fi;
           st(t, LOCKED, 0);
           release_bucket(t)
        :: else ->
           close_gate(t);
           if
           :: woken_mark = 1; st(t, WAKE, 0); st(t, LOCKED, 0); pop(x); give(t, x, COMPETE)
           :: st(t, WAKE, 1); pop(x); give(t, x, OWNER)
           fi
        fi
     fi;
     y = 0;
     round++
  od
}

init {
  byte k;
  atomic {
    for (k : 0 .. N - 1) { run Task(k); run Drain(k) }
    k = 0
  }
}
