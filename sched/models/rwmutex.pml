/* How an RWMutex changes hands (sched/sync/rw_mutex.cc).
 *
 * READERS threads read and WRITERS threads write, ROUNDS times each. Memory is x86's: the state, and the
 * bucket's lock (taken by an exchange, released by a store). What only holders of that lock touch, the
 * queues, is kept aside. Whether a try form comes before the queue is left to the quick way, which is
 * tried first, as in the code. A search that ends with somebody still waiting has lost a wake-up.
 * `users` are those between their first and their last access to the object: while one is on its way to
 * hand over, another is there, or the last user could destroy it too early.
 *
 * Mistakes, each of which the search must find:
 *   BARGE     the quick way of reading takes no heed of those who wait
 *   OUTSIDE   who must wait sets kWaits before it has the bucket's lock
 *   NOTLAST   the last reader does not hand over
 *   DROPWAITS kWaits is cleared as the readers get in, though a writer waits */
#ifndef READERS
#define READERS 2
#endif
#ifndef WRITERS
#define WRITERS 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define N (READERS + WRITERS)
#define NT N
#define SBN 2

#define STATE 0
#define BUCKET 1
#define NA 2
#include "tso.inc"

#define WRITER 1
#define WAITS 2
#define READER 4

byte readers_q[N], readers_n;
byte writers_q[N], writers_n;
bool token[N];
byte reading, writing;             /* who is inside */
byte users;                        /* who may still touch the object */

inline acquire_bucket(t) {
  atomic { mem[BUCKET] == 0 -> flush(t); mem[BUCKET] = 1 }
}
inline release_bucket(t) { st(t, BUCKET, 0) }

/* What fetch_sub gives is what was there before. */
inline fetch_sub(t, n, x) { atomic { flush(t); x = mem[STATE]; mem[STATE] = mem[STATE] - n } }

inline pop_writer(x) {
  d_step {
    x = writers_q[0]; writers_n--; i = 0;
    do :: i < writers_n -> writers_q[i] = writers_q[i + 1]; i++ :: else -> break od;
    writers_q[writers_n] = 0; i = 0
  }
}

inline wake(t, x) { atomic { flush(t); assert(!token[x]); token[x] = 1 } }

/* Under the bucket's lock: takes it if it is free, else sees to kWaits; y: must queue. */
inline must_queue(t, is_free, taken) {
  do
  :: ld(t, STATE, s);
     if
     :: (s & WAITS) -> y = 1; break
     :: else ->
        atomic {
          flush(t);
          if
          :: mem[STATE] != s -> skip                     /* the exchange fails: again */
          :: mem[STATE] == s && (is_free) -> mem[STATE] = taken; y = 0; break
          :: mem[STATE] == s && !(is_free) -> mem[STATE] = s | WAITS; y = 1; break
          fi
        }
     fi
  od;
  s = 0
}

inline await_token(t) {
  flush(t);
  atomic { token[t] -> token[t] = 0 }
}

proctype Reader(byte t) {
  byte round, i, s, x, y, n;
  do
  :: round == ROUNDS -> break
  :: else ->
     users++;
     ld(t, STATE, s);
#ifdef BARGE
#define QUICK_READ !(s & WRITER)
#else
#define QUICK_READ !(s & (WRITER | WAITS))
#endif
     y = 1;
     if
     :: QUICK_READ -> atomic { flush(t); if :: mem[STATE] == s -> mem[STATE] = s + READER; y = 0 :: else fi }
     :: else -> skip
     fi;
     s = 0;
     if
     :: y == 0 -> skip
     :: else ->
#ifdef OUTSIDE
        atomic { flush(t); if :: mem[STATE] & WRITER -> mem[STATE] = mem[STATE] | WAITS :: else fi };
#endif
        acquire_bucket(t);
        must_queue(t, !(s & WRITER), s + READER);
        if
        :: y -> d_step { readers_q[readers_n] = t; readers_n++; y = 0 }; release_bucket(t); await_token(t)
        :: else -> release_bucket(t)
        fi
     fi;
     reading++; assert(writing == 0);
     reading--;
     /* RUnlock() */
     fetch_sub(t, READER, x);
     assert(x >= READER && !(x & WRITER));
     if
     :: x == READER + WAITS ->
#ifndef NOTLAST
        acquire_bucket(t);
        assert(users > 1 && writers_n > 0);
        pop_writer(x);
        if
        :: writers_n > 0 || readers_n > 0 -> st(t, STATE, WRITER | WAITS)
        :: else -> st(t, STATE, WRITER)
        fi;
        users--;
        release_bucket(t);
        wake(t, x)
#else
        users--
#endif
     :: else -> users--
     fi;
     x = 0;
     round++
  od
}

proctype Writer(byte t) {
  byte round, i, s, x, y, n;
  byte served[N];
  do
  :: round == ROUNDS -> break
  :: else ->
     users++;
     y = 1;
     atomic { flush(t); if :: mem[STATE] == 0 -> mem[STATE] = WRITER; y = 0 :: else fi };
     if
     :: y == 0 -> skip
     :: else ->
#ifdef OUTSIDE
        atomic { flush(t); if :: mem[STATE] != 0 -> mem[STATE] = mem[STATE] | WAITS :: else fi };
#endif
        acquire_bucket(t);
        must_queue(t, s == 0, WRITER);
        if
        :: y -> d_step { writers_q[writers_n] = t; writers_n++; y = 0 }; release_bucket(t); await_token(t)
        :: else -> release_bucket(t)
        fi
     fi;
     writing++; assert(writing == 1 && reading == 0);
     writing--;
     /* Unlock() */
     y = 0;
     atomic { flush(t); if :: mem[STATE] == WRITER -> mem[STATE] = 0; users--; y = 1 :: else fi };
     if
     :: y -> y = 0
     :: else ->
        acquire_bucket(t);
        assert(users > 1 && (readers_n > 0 || writers_n > 0));
        if
        :: readers_n > 0 ->
           d_step {
             n = readers_n;
             do
             :: readers_n > 0 -> readers_n--; served[readers_n] = readers_q[readers_n]; readers_q[readers_n] = 0
             :: else -> break
             od
           };
#ifdef DROPWAITS
           st(t, STATE, n * READER);
#else
           st(t, STATE, n * READER + (writers_n > 0 -> WAITS : 0));
#endif
        :: else ->
           n = 1;
           pop_writer(served[0]);
           st(t, STATE, WRITER + (writers_n > 0 -> WAITS : 0))
        fi;
        users--;
        release_bucket(t);
        do
        :: n > 0 -> n--; wake(t, served[n]); served[n] = 0
        :: else -> break
        od;
     fi;
     round++
  od
}

init {
  byte k;
  atomic {
    for (k : 0 .. READERS - 1) { run Reader(k); run Drain(k) }
    for (k : READERS .. N - 1) { run Writer(k); run Drain(k) }
    k = 0
  }
}
