/* A P's queue (sched/internal/run_queue.h): its owner puts and takes, others steal. Each goroutine that is put
 * runs once, and Empty() says so only of a queue that has been empty.
 *
 * NQ Ps, each with a queue of CAP places and a runnext. The first makes N goroutines, next to run or not, and
 * takes some; what does not fit goes to the global queue. The others steal half of a queue or its runnext, put
 * what they have got into their own, and are stolen from. All end with what their own queue and the global one
 * hold. Every publication is a locked instruction, and x86 keeps the order of the stores before it: memory is
 * plain. The counters do not wrap here.
 *
 * Sizes:     NQ, CAP, N; LOOKS calls of Empty() on the first queue
 * Variants:  STOPS     at first the maker is alone and uses no locked instructions; then the world is stopped,
 *                      and goes on with all Ps; then it is stopped again, and the others are gone
 * Mistakes, each of which the search must find:
 *   STILLALONE  the owner goes on without locked instructions where others steal
 *   HASTY       (STOPS) the number of Ps changes while a queue is in use
 *   READLATE    a thief reads the places once they are its own
 *   TAILFIRST   the owner publishes a place, then fills it
 *   NEXTSTORE   a thief looks at runnext, and empties it by a store
 *   HALFSTORE   what does not fit is taken out by a store
 *   LOOKONCE    Empty() does not look at the tail again */
#ifndef NQ
#define NQ 3
#endif
#ifndef CAP
#define CAP 2
#endif
#ifndef N
#define N 3
#endif
#ifndef LOOKS
#define LOOKS 0
#endif

byte head[NQ], tail[NQ], next[NQ], ring[NQ * CAP];
chan global_queue = [N] of { byte };
bool ran[N + 1];
byte runs;

#ifdef STOPS
bool alone = 1;
bool stopping;
bool at_stop[NQ];
bool gone;                         /* the Ps but the first */
#else
bool alone;
#endif

/* What Empty() may say. */
bool looking, was_empty;
#define EMPTY0 (head[0] == tail[0] && next[0] == 0)
#define NOTE if :: looking && EMPTY0 -> was_empty = 1 :: else fi

#define HAS(q) (head[q] != tail[q] || next[q] != 0)
#ifdef STOPS
#define STOP || stopping
#else
#define STOP
#endif
#if NQ > 2
#define WORK (runs == N || nempty(global_queue) || HAS(0) || HAS(1) || HAS(2) STOP)
#else
#define WORK (runs == N || nempty(global_queue) || HAS(0) || HAS(1) STOP)
#endif

inline run_it(x_r) {
  atomic {
    assert(x_r != 0 && !ran[x_r]);
    ran[x_r] = 1; runs++; x_r = 0
  }
}

/* PutTail(x); what does not fit goes elsewhere, with half of what is there. */
inline put_tail(x) {
  h = head[me]; t = tail[me];
  if
  :: t - h < CAP ->
#ifdef TAILFIRST
     tail[me] = t + 1;
     ring[me * CAP + t % CAP] = x
#else
     ring[me * CAP + t % CAP] = x;
     tail[me] = t + 1
#endif
  :: else ->
     h = head[me];
     if
     :: t - h >= CAP ->
        n = 0;
        do :: n < CAP / 2 -> got[n] = ring[me * CAP + (h + n) % CAP]; n++ :: else -> break od;
#ifdef HALFSTORE
        head[me] = h + n;
        v = 1;
#else
        atomic {
          if :: head[me] == h -> head[me] = h + n; v = 1; NOTE :: else -> v = 0 fi
        };
#endif
        if
        :: v -> atomic { do :: n > 0 -> n--; global_queue!got[n]; got[n] = 0 :: else -> break od }
        :: else -> d_step { do :: n > 0 -> n--; got[n] = 0 :: else -> break od }
        fi;
        v = 0
     :: else
     fi;
     global_queue!x
  fi;
  h = 0; t = 0; x = 0
}

/* Take(): x, or 0. */
inline take(x) {
  x = next[me];
  if
  :: x != 0 ->
     if
     :: a -> next[me] = 0
     :: else ->
        atomic { if :: next[me] == x -> next[me] = 0; NOTE :: else -> x = 0 fi }
     fi
  :: else
  fi;
  if
  :: x == 0 ->
     h = head[me];
     do
     :: tail[me] == h -> break
     :: else ->
        x = ring[me * CAP + h % CAP];
        if
        :: a -> head[me] = h + 1; break
        :: else ->
           atomic {
             if
             :: head[me] == h -> head[me] = h + 1; h = 0; NOTE; break
             :: else -> h = head[me]; x = 0
             fi
           }
        fi
     od;
     h = 0
  :: else
  fi
}

/* StealHalf(), StealNext() */
inline steal(x) {
  h = head[v]; t = tail[v];
  n = t - h; n = n - n / 2;
  if
  :: n > 0 && n <= CAP / 2 + CAP % 2 ->
     k = 0;
#ifdef READLATE
     atomic { if :: head[v] == h -> head[v] = h + n; NOTE :: else -> n = 0 fi };
#endif
     do
     :: k < n -> ring[me * CAP + (tail[me] + k) % CAP] = ring[v * CAP + (h + k) % CAP]; k++
     :: else -> break
     od;
     k = 0;
#ifndef READLATE
     atomic { if :: head[v] == h -> head[v] = h + n; NOTE :: else -> n = 0 fi };
#endif
     if
     :: n > 0 -> n--; x = ring[me * CAP + (tail[me] + n) % CAP]; tail[me] = tail[me] + n
     :: else
     fi
  :: n == 0 ->
     x = next[v];
     if
     :: x != 0 ->
#ifdef NEXTSTORE
        next[v] = 0
#else
        atomic { if :: next[v] == x -> next[v] = 0; NOTE :: else -> x = 0 fi }
#endif
     :: else
     fi
  :: else
  fi;
  h = 0; t = 0; n = 0
}

#ifdef STOPS
inline stop_here() {
  if
  :: stopping -> atomic { at_stop[me] = 1; !stopping -> at_stop[me] = 0 }
  :: else
  fi
}
#else
#define stop_here() skip
#endif

proctype P(byte me) {
  byte made, x, h, t, n, k, v;
  byte got[CAP];
  bool a;
#ifdef STOPS
  if
  :: me != 0 -> at_stop[me] = 1; atomic { !alone && !stopping || gone -> at_stop[me] = 0 }
  :: else
  fi;
#endif
  do
  :: runs < N ->
     stop_here();
#ifdef STOPS
     if :: me != 0 && gone -> break :: else fi;
#endif
#ifdef STILLALONE
     a = 1;
#else
     a = alone;
#endif
     if
     :: me == 0 && made < N ->
        if
        :: made++; x = made; put_tail(x)
        :: made++;
           if
           :: a -> x = next[0]; next[0] = made
           :: else -> atomic { x = next[0]; next[0] = made }
           fi;
           if :: x != 0 -> put_tail(x) :: else fi
        :: take(x); if :: x != 0 -> run_it(x) :: else fi
        fi
     :: else ->
        take(x);
        if
        :: x == 0 -> atomic { if :: nempty(global_queue) -> global_queue?x :: else fi }
        :: else
        fi;
        if
        :: x == 0 && !alone ->
           v = (me + 1) % NQ;
#if NQ > 2
           if :: v = (v + 1) % NQ :: skip fi;
           if :: v == me -> v = (v + 1) % NQ :: else fi;
#endif
           steal(x); v = 0
        :: else
        fi;
        if
        :: x != 0 -> run_it(x)
        :: else -> WORK              /* Or it sleeps. If all do for ever, something was lost. */
        fi
     fi;
     a = 0
  :: else -> break
  od;
#ifdef STOPS
  atomic { at_stop[me] = 1 }
#endif
}

#if LOOKS > 0
proctype Looker() {
  byte h, t, x, i;
  do
  :: i < LOOKS ->
     i++;
     atomic { looking = 1; was_empty = EMPTY0 };
again:
     h = head[0]; t = tail[0]; x = next[0];
#ifndef LOOKONCE
     if :: tail[0] != t -> goto again :: else fi;
#endif
     atomic { assert(h != t || x != 0 || was_empty); looking = 0; was_empty = 0; h = 0; t = 0; x = 0 }
  :: else -> break
  od
}
#endif

#ifdef STOPS
inline await_all() {
#ifndef HASTY
  i = 0;
  do :: i < NQ -> at_stop[i]; i++ :: else -> i = 0; break od
#else
  skip
#endif
}

proctype Stopper() {
  byte i, x;
  stopping = 1; await_all(); alone = 0; stopping = 0;
  stopping = 1; await_all();
  atomic {
    /* What they have is for everybody. */
    i = 1;
    do
    :: i < NQ && next[i] != 0 -> global_queue!next[i]; next[i] = 0
    :: i < NQ && next[i] == 0 && head[i] != tail[i] ->
       global_queue!ring[i * CAP + head[i] % CAP]; head[i] = head[i] + 1
    :: i < NQ && next[i] == 0 && head[i] == tail[i] -> i++
    :: else -> break
    od;
    gone = 1; alone = 1
  };
  stopping = 0
}
#endif

init {
  byte i;
  atomic {
    for (i : 0 .. NQ - 1) { run P(i) };
#if LOOKS > 0
    run Looker();
#endif
#ifdef STOPS
    run Stopper()
#endif
  }
}
