/* The idle protocol (sched/proc.cc): somebody makes work while the last M that looks for some gives up.
 *
 * The producer's goroutine queues work at its own P and then stays in user code for ever, so that only
 * others can run it. The worker has the other P: it looks, gives up, sleeps or waits in the poller, and
 * is woken. A lost wake-up is work that waits beside an idle P with nobody on the way.
 *
 * Variants:  GLOBAL  the producer is a plain thread: the work goes to the global queue, under sched.lock
 *            TIMER   the work is a timer; the worker waits in the poller with a deadline
 *            MEMBAR  no fence of the producer's; the worker calls membarrier before it looks again
 * Harmless:  NOGLOBALCHECK (GLOBAL) the P becomes idle without a look at the global queue
 *            NOTIMERCHECK  (TIMER) timers are not looked at again once poll_until is published
 * Mistakes, each of which the search must find:
 *   NOFENCE          a release store between the queue's tail and the look at who spins
 *   NORECHECK        no second look          EARLYCHECK  second look while still counted as spinning
 *   NOGLOBALRECHECK  (GLOBAL) the second look leaves the global queue out
 *   NOBREAK          (TIMER) an earlier timer does not end the wait in the poller */
#ifndef PUSHES
#define PUSHES 2
#endif
#define NT 2
#define PRODUCER 0
#define WORKER 1
#define TAIL 0                     /* the tail of the producer's queue, or the time of its timer */
#define NA 1
#define SBN 2
#include "tso.inc"

byte head;                         /* of the producer's queue: what was stolen */
byte global_queue, idle_ps;        /* under sched.lock */
byte spinning = 1;                 /* the worker */
bool started;                      /* the sleeping M was given a P and counts as spinning */
bool polling;                      /* it waits in the poller, without deadline, */
bool broken;                       /* until it is told */
byte ran;                          /* timers */

proctype Producer() {
  byte i, x;
  do
  :: i < PUSHES ->
     i++;
#ifdef GLOBAL
     atomic { flush(PRODUCER); global_queue++ };
#else
     st(PRODUCER, TAIL, i);
#if !defined(NOFENCE) && !defined(MEMBAR)
     flush(PRODUCER);
#endif
#endif
#ifdef TIMER
     if
     :: polling ->
#ifndef NOBREAK
        broken = 1;
#endif
        goto next
     :: else -> skip               /* nobody waits there: wake somebody who will */
     fi;
#endif
     if
     :: idle_ps > 0 && spinning == 0 ->
        atomic {
          x = 0;
          if :: spinning == 0 -> flush(PRODUCER); spinning = 1; x = 1 :: else fi
        };
        if
        :: x -> atomic { if :: idle_ps > 0 -> idle_ps--; started = 1 :: else -> spinning-- fi }
        :: else -> skip
        fi
     :: else -> skip
     fi;
next: skip
  :: else -> break
  od
}

/* y: is there anything? */
inline look(y) {
  y = 0;
#ifdef GLOBAL
  if :: global_queue > 0 -> y = 1 :: else fi
#else
#ifdef TIMER
  ld(WORKER, TAIL, y); if :: y > ran -> y = 1 :: else -> y = 0 fi
#else
  ld(WORKER, TAIL, y); if :: y > head -> y = 1 :: else -> y = 0 fi
#endif
#endif
}

/* y: an idle P was there and is now the worker's, which spins. None: whoever has it will look. */
inline take_idle_p(y) {
  atomic { if :: idle_ps > 0 -> idle_ps--; spinning++; y = 1 :: else -> y = 0 fi }
}

proctype Worker() {
  byte y, mb;
spin:
#ifdef GLOBAL
  atomic { y = 0; if :: global_queue > 0 -> global_queue--; y = 1 :: else fi };
#else
  look(y);
#ifdef TIMER
  if :: y -> ran = mem[TAIL] :: else fi;
#else
  if :: y -> head++ :: else fi;
#endif
#endif
  if :: y -> goto spin :: else fi;
#ifdef EARLYCHECK
  look(y); if :: y -> goto spin :: else fi;
#endif
  atomic {                         /* sched.lock */
#if defined(GLOBAL) && !defined(NOGLOBALCHECK)
    if :: global_queue > 0 -> goto spin :: else -> skip fi;
#endif
    idle_ps++
  };
  atomic { flush(WORKER); spinning-- };
#ifdef MEMBAR
  membarrier(WORKER);
#endif
#if !defined(NORECHECK) && !defined(EARLYCHECK) && !defined(NOGLOBALRECHECK)
  look(y);
  if
  :: y -> take_idle_p(y); if :: y -> goto spin :: else fi
  :: else
  fi;
#endif
#ifdef TIMER
  y = 0; polling = 1;
#ifndef NOTIMERCHECK
  look(y);
  if
  :: y -> polling = 0; take_idle_p(y); if :: y -> goto spin :: else fi
  :: else
  fi;
#endif
end_poll:
  do
  :: atomic { broken -> broken = 0; polling = 0 };
     take_idle_p(y); if :: y -> goto spin :: else -> goto sleep fi
  :: atomic { started -> started = 0; polling = 0; goto spin }
  od;
#endif
sleep:
end:
  atomic { started -> started = 0; goto spin }
}

init {
  atomic { run Drain(PRODUCER); run Drain(WORKER); run Producer(); run Worker() };
  timeout;
#ifdef GLOBAL
  assert(global_queue == 0)
#else
#ifdef TIMER
  assert(ran == PUSHES)
#else
  assert(head == PUSHES)
#endif
#endif
}
