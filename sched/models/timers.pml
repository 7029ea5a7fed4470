/* Timers (sched/internal/timer_heap.cc) and who sleeps until the first one (WaitInPoller() and WakePollerFor() in
 * sched/proc.cc, StartTheWorld() in sched/stop.cc): a timer that is started runs once, unless a Stop() has said
 * otherwise, and the sleeper does not sleep past it.
 *
 * Two heaps, of two Ps; the timers are all due. The user starts, stops and starts again its timer, in the heap of
 * the P that it is on by then; the runners are Ps and thieves, which run what is due; the second P goes away, and
 * its timers move to the first; somebody sleeps until the earliest time that it has seen in any heap, or until it
 * is told. Heaps change under their locks, and what is read without them is written by locked instructions.
 *
 * Sizes:     TIMERS, STARTS of each, RUNNERS
 * Variants:  MOVE     the second P goes away once
 *            SLEEPER  nobody runs timers but the sleeper
 * Harmless, if only one of them:
 *   UNTIL      (SLEEPER) the time until when it slept stays published once it is awake
 *   LOOKONCE   (SLEEPER) once it has published that time, it does not look at the heaps again
 * Mistakes, each of which the search must find:
 *   NOLOOK     Stop() takes the timer out of the heap that it was in before it had that one's lock
 *   GAP        (MOVE) a timer that moves is in no heap for a moment
 *   NOTTOLD    (SLEEPER) who starts the earliest timer does not end the sleep
 *   TOOLATE    (SLEEPER) what is looked at is who sleeps and until when, and then the timer is added
 *   MOVEMUTE   (SLEEPER, MOVE) the sleeper has seen a timer in neither heap, and is not told when the Ps go on */
#ifndef TIMERS
#define TIMERS 1
#endif
#ifndef STARTS
#define STARTS 2
#endif
#ifndef RUNNERS
#define RUNNERS 2
#endif
#define NO 2

bool lock[2];
byte in_heap[TIMERS] = NO;         /* CallbackTimer::heap_ */
bool member0[TIMERS], member1[TIMERS]; /* the heaps themselves */
bool earliest[2];                  /* whether there is any */
byte started[TIMERS], stopped[TIMERS], ran[TIMERS];
bool second_gone;
byte on_second;                    /* users inside the runtime on the second P */

/* The sleeper. */
bool polling;                      /* last_poll is 0 */
bool until_known, until_any;       /* poll_until: 0 at first; then whether there is a time */
bool told;                         /* Break() */

inline update(q_u) {
#if TIMERS > 1
  if :: q_u == 0 -> earliest[0] = member0[0] || member0[1] :: else -> earliest[1] = member1[0] || member1[1] fi
#else
  if :: q_u == 0 -> earliest[0] = member0[0] :: else -> earliest[1] = member1[0] fi
#endif
}
inline put(q_p, i_p) {
  if
  :: q_p == 0 -> assert(!member0[i_p]); member0[i_p] = 1
  :: else -> assert(!member1[i_p]); member1[i_p] = 1
  fi;
  update(q_p)
}
inline take(q_t, i_t) {
  if
  :: q_t == 0 -> assert(member0[i_t]); member0[i_t] = 0
  :: else -> assert(member1[i_t]); member1[i_t] = 0
  fi;
  update(q_t)
}

/* stopped_it: it was pending. */
inline stop(i_s, stopped_it) {
  do
  :: h = in_heap[i_s];
     if
     :: h == NO -> stopped_it = 0; break
     :: else ->
        atomic { !lock[h] -> lock[h] = 1 };
#ifndef NOLOOK
        if :: in_heap[i_s] != h -> lock[h] = 0; goto again :: else fi;
#endif
        atomic { take(h, i_s); };
        in_heap[i_s] = NO;
        lock[h] = 0; stopped_it = 1; break
     fi;
again: skip
  od;
  h = 0
}

/* Whoever adds the earliest one; w: what it has seen of the sleeper. */
inline look_at_sleeper(w) {
  w = 0;
  if
  :: polling ->
     if
     :: !until_known -> w = 1
     :: else -> if :: !until_any -> w = 1 :: else fi
     fi
  :: else
  fi
}
inline tell(w) {
  if :: w -> told = 1; w = 0 :: else fi
}

proctype User(byte i) {
  byte n, h, q;
  bool was, w;
  do
  :: n < STARTS ->
     n++;
     stop(i, was);
     if :: was -> atomic { stopped[i]++; was = 0 } :: else fi;
     /* The heap of the P that it is on. */
     if :: q = 0 :: atomic { !second_gone -> q = 1; on_second++ } fi;
#ifdef TOOLATE
     look_at_sleeper(w);
#endif
     atomic { !lock[q] -> lock[q] = 1; started[i]++ };
     in_heap[i] = q;
     atomic { put(q, i); lock[q] = 0; on_second = on_second - q; q = 0 };
#ifdef SLEEPER
#ifndef TOOLATE
     look_at_sleeper(w);
#endif
#ifndef NOTTOLD
     tell(w)
#endif
#endif
  :: n < STARTS -> n++; stop(i, was); if :: was -> atomic { stopped[i]++; was = 0 } :: else fi
  :: else -> break
  od
}

/* RunDue() of heap q, until it is empty. */
inline run_due(q) {
  do
  :: !earliest[q] -> break
  :: else ->
     atomic { !lock[q] -> lock[q] = 1 };
     i = 0;
     do
     :: i < TIMERS && !((q == 0 && member0[i]) || (q == 1 && member1[i])) -> i++
     :: else -> break
     od;
     if
     :: i == TIMERS -> lock[q] = 0; i = 0; break
     :: else ->
        atomic { take(q, i) };
        in_heap[i] = NO;
        lock[q] = 0;
        /* The callback, without the lock. */
        atomic { ran[i]++; assert(ran[i] + stopped[i] <= started[i]); i = 0 }
     fi
  od
}

proctype Runner() {
  byte q, i;
end:
  do
  :: atomic { earliest[0] -> q = 0 }; run_due(q)
  :: atomic { earliest[1] -> q = 1 }; run_due(q); q = 0
  od
}

#ifdef SLEEPER
proctype Sleeper() {
  byte i, q;
  bool any;
end:
  do
  :: polling = 1;
     any = earliest[0];
     if :: earliest[1] -> any = 1 :: else fi;
     atomic { until_any = any; until_known = 1 };
     /* Published, and then once more. */
#ifndef LOOKONCE
     if :: earliest[0] -> any = 1 :: else fi;
     if :: earliest[1] -> any = 1 :: else fi;
     if :: any -> until_any = 1 :: else fi;
#endif
end_poll:
     atomic { any || told -> told = 0 };
#ifndef UNTIL
     atomic { until_known = 0; until_any = 0 };
#endif
     polling = 0; any = 0;
     q = 0; run_due(q); q = 1; run_due(q); q = 0
  od
}
#endif

#ifdef MOVE
proctype Mover() {
  byte i;
  bool w;
  /* The world is stopped: nobody is on it any more. */
  atomic { on_second == 0 -> second_gone = 1 };
  do
  :: atomic { !lock[1] -> lock[1] = 1 };
     i = 0;
     do :: i < TIMERS && !member1[i] -> i++ :: else -> break od;
     if
     :: i == TIMERS -> lock[1] = 0; break
     :: else ->
        atomic { take(1, i) };
#ifdef GAP
        in_heap[i] = NO;
#endif
        atomic { !lock[0] -> lock[0] = 1 };
        in_heap[i] = 0;
        atomic { put(0, i); lock[0] = 0 };
        lock[1] = 0
     fi
  od;
#if defined(SLEEPER) && !defined(MOVEMUTE)
  if :: earliest[0] -> look_at_sleeper(w); tell(w) :: else fi
#endif
}
#endif

init {
  byte i;
  atomic {
    for (i : 0 .. TIMERS - 1) { run User(i) };
#ifdef SLEEPER
    run Sleeper();
#else
    for (i : 1 .. RUNNERS) { run Runner() };
#endif
#ifdef MOVE
    run Mover()
#endif
  };
  timeout;
  for (i : 0 .. TIMERS - 1) { assert(ran[i] + stopped[i] == started[i]) }
}
