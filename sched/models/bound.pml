/* Goroutines that only one thread may run, and threads that end (sched/bound.cc, threads.cc): a P that
 * is passed on is neither lost nor doubled, and the goroutine comes on.
 *
 * Processes: a bound M, which gives up its P again and again, to wait in place or to park its locked
 * goroutine; somebody who wakes that; NW other Ms, that run whatever is queued, which is that goroutine
 * alone, so they pass their P to the bound M. One that sleeps may end at any moment, and is made again
 * when there is need.
 *
 * Sizes:     NP Ps, NW other Ms, ROUNDS waits
 * Mistakes, each of which the search must find:
 *   NOLISTCHECK  an idle M ends without looking whether somebody has it in hand
 *   TWOSECTIONS  "no work" and "the P is idle" are two critical sections
 *   EARLYCLEAR   the bound M clears its wake word before it sleeps, instead of after
 *   KEEP         it keeps its own P until it has the other one
 *   HASTY        an M gives its P to the bound one and puts it on the idle list too */
#ifndef NP
#define NP 1
#endif
#ifndef NW
#define NW 2
#endif
#ifndef ROUNDS
#define ROUNDS 3
#endif
#define B NW

/* Under sched.lock; one atomic block is one critical section. */
byte queued;                       /* the goroutine is in a queue */
byte idle_ps;
bool listed[NW];                   /* in the list of idle Ms */
bool exists[NW];

bool parked;                       /* the goroutine waits, and may be woken */
byte next_p[NW + 1];
bool wake[NW + 1];
byte has[NW + 1];                  /* m->p */
bool ended;

/* Wakes a sleeping M, or makes one, with a P in hand. (The real one can always make another: here it
 * waits until one of the few is to be had.) */
inline start(w) {
  atomic {
    if
    :: listed[0] -> listed[0] = 0; w = 0
    :: !exists[0] -> exists[0] = 1; w = 0
#if NW > 1
    :: listed[1] -> listed[1] = 0; w = 1
    :: !exists[1] -> exists[1] = 1; w = 1
#endif
#if NW > 2
    :: listed[2] -> listed[2] = 0; w = 2
    :: !exists[2] -> exists[2] = 1; w = 2
#endif
    fi
  };
  assert(!wake[w]);
  next_p[w] = 1;
  wake[w] = 1
}

inline hand_off(w) {
#ifdef TWOSECTIONS
  if :: queued -> start(w) :: else -> idle_ps++ fi
#else
  atomic { if :: queued -> w = NW :: else -> idle_ps++; w = NW + 1 fi };
  if :: w == NW -> start(w) :: else fi
#endif
}

proctype Bound() {
  byte r, w;
  do
  :: r < ROUNDS ->
     r++;
     assert(has[B] == 1);
     if
     :: /* in place */
#ifndef KEEP
        has[B] = 0;
#endif
        atomic { queued++; assert(queued == 1) };
        hand_off(w)
     :: /* locked: its stack is left before it gives up the P */
        parked = 1;
#ifndef KEEP
        has[B] = 0;
#endif
        hand_off(w)
     fi;
#ifdef EARLYCLEAR
     wake[B] = 0; (wake[B]);
#else
     atomic { wake[B] -> wake[B] = 0 };
#endif
     assert(next_p[B] == 1 && has[B] == 0);
     next_p[B] = 0; has[B] = 1
  :: else -> break
  od;
  ended = 1
}

/* A plain thread: publishes, then looks for an idle P. */
proctype Waker() {
  byte w;
end:
  do
  :: atomic { parked -> parked = 0 };
     atomic { queued++; assert(queued == 1) };
     atomic { if :: idle_ps > 0 -> idle_ps--; w = 1 :: else -> w = 0 fi };
     if :: w -> start(w) :: else fi
  od
}

proctype Worker(byte m) {
  byte got;
end:
  do
  :: exists[m] && wake[m] ->
     wake[m] = 0; assert(has[m] == 0 && next_p[m] == 1); next_p[m] = 0; has[m] = 1;
#ifdef TWOSECTIONS
     atomic { got = queued; queued = 0 };
     if :: !got -> has[m] = 0; idle_ps++ :: else fi;
#else
     atomic { got = queued; queued = 0; if :: !got -> has[m] = 0; idle_ps++ :: else fi };
#endif
     if
     :: got ->
        has[m] = 0;
        assert(!wake[B]);
        next_p[B] = 1; wake[B] = 1;
#ifdef HASTY
        idle_ps++
#endif
     :: else
     fi;
     got = 0;
     atomic { listed[m] = 1 }
#ifdef NOLISTCHECK
  :: atomic { exists[m] && has[m] == 0 -> listed[m] = 0; exists[m] = 0; wake[m] = 0; next_p[m] = 0 }
#else
  :: atomic { listed[m] -> listed[m] = 0; exists[m] = 0 }
#endif
  od
}

init {
  byte i;
  atomic {
    has[B] = 1; idle_ps = NP - 1;
    run Bound(); run Waker();
    for (i : 0 .. NW - 1) { run Worker(i) }
  };
  timeout;
  assert(ended);
  /* All Ps are there. */
  i = idle_ps + has[B];
  assert(i == NP)
}
