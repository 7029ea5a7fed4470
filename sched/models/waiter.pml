/* A Waiter's word (sched/waiter.h), and how a goroutine parks and is made ready (sched/park.cc).
 *
 * One goroutine, two Ms that run it, STEPS wakers that each make one condition true and unpark, one
 * unpark for no reason. With DEADLINE the waits have deadlines: a timer is one more waker, and the
 * caller looks at the clock. With THREAD the owner is a thread: it sleeps on the word itself, and
 * withdraws where it has a deadline.
 *
 * Every transition of the word is one atomic instruction. On x86 the plain stores between them keep
 * their order; elsewhere they need the release and acquire that waiter.cc names.
 *
 * Mistakes, each of which the search must find:
 *   EARLY    the wait is published while the goroutine is still on its stack
 *   NOLOOP   the caller takes a wake-up for its condition
 *   LOSTTOK  unparking one that does not wait leaves no token */
#define EMPTY 0
#define TOKEN 1
#define WAIT 2

#define RUNNING 1
#define PARKING 2
#define WAITING 3
#define RUNNABLE 4
#ifndef STEPS
#define STEPS 2
#endif

byte word;
bool cond[STEPS];
byte pc;                           /* the condition that the goroutine waits for */
bool done;

#ifdef THREAD

bool asleep;

proctype Owner() {
  bool taken;
  do
  :: pc == STEPS -> break
  :: pc < STEPS && cond[pc] -> pc++
  :: pc < STEPS && !cond[pc] ->
     if
     :: atomic { word == TOKEN -> word = EMPTY }
     :: atomic { word != TOKEN -> skip };
        atomic {
          if :: word == EMPTY -> word = WAIT; taken = 0 :: else -> word = EMPTY; taken = 1 fi
        };
        do
        :: taken -> break
        :: !taken ->
           /* futex: sleeps only while the word holds what was expected; may return for no reason */
           atomic { if :: word == WAIT -> asleep = 1 :: else fi };
           if
           :: !asleep
#ifdef DEADLINE
           :: asleep = 0           /* a signal, nothing, or the deadline */
#endif
           fi;
           if
           :: word != WAIT -> taken = 1
           :: else ->
#ifdef DEADLINE
              if
              :: skip              /* not yet the deadline */
              :: atomic { if :: word == WAIT -> word = EMPTY :: else fi }; taken = 1
              fi
#else
              skip
#endif
           fi
        od;
        taken = 0
     fi
  od;
  done = 1
}

inline unpark() {
  atomic {
    if
    :: word == EMPTY ->
#ifndef LOSTTOK
       word = TOKEN
#else
       skip
#endif
    :: word == TOKEN -> skip
    :: word == WAIT -> word = EMPTY; hit = 1
    fi
  };
  if :: hit -> asleep = 0; hit = 0 :: else fi
}

#else

byte status = RUNNABLE;
byte queued = 1;                   /* entries for the goroutine in all run queues */
byte on_stack;                     /* Ms whose stack pointer is in its stack */

inline make_ready() {
  atomic {
    if
    :: status == WAITING -> status = RUNNABLE; queued++; assert(queued == 1)
#ifdef EARLY
    :: status == RUNNING || status == PARKING -> status = RUNNABLE; queued++
#endif
    :: else -> assert(false)
    fi
  }
}

proctype M() {
  bool won;
end:
  do
  :: done -> break
  :: atomic { queued > 0 && !done -> queued-- };
     assert(status == RUNNABLE);
     status = RUNNING;
     on_stack++; assert(on_stack == 1);
     do
     :: pc == STEPS -> done = 1; on_stack--; goto over
     :: pc < STEPS && cond[pc] -> pc++
     :: pc < STEPS && !cond[pc] ->
        if
        :: atomic { word == TOKEN -> word = EMPTY }
        :: atomic { word != TOKEN -> status = PARKING }
#ifdef EARLY
           atomic { if :: word == EMPTY -> word = WAIT; won = 1 :: else -> word = EMPTY; won = 0 fi };
           if :: !won -> status = RUNNING; goto again :: else fi;
#endif
           on_stack--;             /* its stack is left */
#ifdef EARLY
           if :: status == PARKING -> status = WAITING :: else fi;
#else
           status = WAITING;
           atomic {
             if :: word == EMPTY -> word = WAIT; won = 1
                :: else -> assert(word == TOKEN); word = EMPTY; won = 0
             fi
           };
           if :: !won -> make_ready() :: else fi;
#endif
           won = 0;
           break
        fi;
#ifdef NOLOOP
        pc++;
#endif
again:  skip
     od
  od;
over: skip
}

inline unpark() {
  atomic {
    if
    :: word == EMPTY ->
#ifndef LOSTTOK
       word = TOKEN;
#endif
       hit = 0
    :: word == TOKEN -> hit = 0
    :: word == WAIT -> word = EMPTY; hit = 1
    fi
  };
  if :: hit -> make_ready() :: else fi
}

#endif

proctype Waker(byte i) { bool hit; cond[i] = 1; unpark() }
proctype Spurious() { bool hit; unpark() }
#ifdef DEADLINE
proctype TimerFires() { bool hit; byte n; do :: n < 2 -> n++; unpark() :: break od }
#endif

init {
  byte i;
  atomic {
#ifdef THREAD
    run Owner();
#else
    run M(); run M();
#endif
    for (i : 0 .. STEPS - 1) { run Waker(i) }
    run Spurious();
#ifdef DEADLINE
    run TimerFires()
#endif
  };
#ifdef NOLOOP
  done; assert(cond[STEPS - 1])
#else
  timeout; assert(done)            /* else a wake-up was lost */
#endif
}
