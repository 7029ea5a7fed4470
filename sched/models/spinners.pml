/* Several Ms that look for work at once (sched/proc.cc): WakeP(), FindRunnable(), LookAgain(), StartM() and
 * HandOffP(). Work never waits beside an idle P with nobody on the way to it.
 *
 * NM Ms, NP Ps. Goroutines make others, end, or stay in user code for ever; a thread without a P queues some
 * globally, like the monitor's batches; the monitor takes Ps back. What counts is how it looks when nothing
 * moves any more: if a P is idle, then no queue holds work. idle.pml has one spinner, and x86's store queues;
 * here memory is plain, as each store that others go by is a locked instruction or under sched.lock, or its
 * place among the loads that follow does not matter (need_spinning = false comes before a locked one).
 *
 * A P's queue is a number (run_queue.pml has its insides). Whoever steals takes half away first and puts it
 * into its own queue afterwards, so that for a while nobody sees it.
 *
 * Sizes:     NM, NP; BUSY Ms run a goroutine at first; PUSHES goroutines in all are made by goroutines,
 *            THREADS by the thread; RETAKES by the monitor; BLOCKS sections that give up the P
 * Variants:  BATCH     the thread starts an M, not counted as spinning, for what it queues
 *            LIMIT     there are no threads but these (threads.cc): a P may have to wait for one of them, and
 *                      does so beside work as long as none sleeps, or waits in the poller, of which there is
 *                      one here. The monitor has a thread before it takes a P, and may be refused that. Without
 *                      LIMIT one always sleeps soon, as the program would make it, and none looks whether it
 *                      is needed as it goes to sleep: it need not
 * Mistakes, each of which the search must find:
 *   NOLOOKAGAIN  who gives up does not look again
 *   NOCHAIN      a spinner that has found work does not see to it that another looks
 *   NOIDLEAGAIN  who finds no P idle says that a spinner is needed, and does not look for an idle P again
 *   NEEDFIRST    an M that does not spin looks whether it is needed before its P is on the idle list
 *   LOOKMUTE     the second look finds work and no idle P, and does not say so
 *   STARTMUTE    an M is to be started that spins, there is no idle P left, and it is not said
 *   HIDDEN       part of the global queue is in no queue while it moves, and it is said that the global
 *                queue is empty
 *   HANDOFFMUTE  the monitor puts a P on the idle list without a look at whether a spinner is needed
 * and with LIMIT, where there is no thread for a P:
 *   LIMITMUTE    it is not said that one is needed
 *   LIMITONCE    nobody looks again whether one sleeps, as the P is put on the idle list
 *   LIMITLATE    who was to spin counts until the lock is free
 *   SLEEPBLIND   who goes to sleep does not look whether it is needed
 *   NOBREAK      who waits in the poller is left there
 *   POLLBLIND    who is about to wait there does not look whether it is needed
 *   RETURNMUTE   the monitor gives the thread back that it had, and does not look whether it is needed */
#ifndef NP
#define NP 2
#endif
#ifndef NM
#define NM 3
#endif
#ifndef BUSY
#define BUSY 2
#endif
#ifndef PUSHES
#define PUSHES 2
#endif
#ifndef THREADS
#define THREADS 1
#endif
#ifndef RETAKES
#define RETAKES 0
#endif
#ifndef BLOCKS
#define BLOCKS 0
#endif
#define NONE NP
#define NOBODY NM
#if NM == 2
#define SOMEBODY_SLEEPS (asleep[0] || asleep[1])
#elif NM == 3
#define SOMEBODY_SLEEPS (asleep[0] || asleep[1] || asleep[2])
#elif NM == 4
#define SOMEBODY_SLEEPS (asleep[0] || asleep[1] || asleep[2] || asleep[3])
#endif
#ifdef LIMIT
#define SOMEBODY_POLLS polls
#else
#define SOMEBODY_POLLS true
#endif

byte queue[NP];
byte spinning;
bool need;                         /* need_spinning */
byte budget = PUSHES;
byte blocks = BLOCKS;

/* sched.lock. Where `locked` is not set a critical section is one atomic block. */
bool locked;
byte global_queue;
byte global_size;                  /* what those without the lock go by */
bool idle[NP];
byte idle_count;
bool asleep[NM];

byte gift[NM] = NONE;              /* the P that a sleeping M is given */
bool gift_spins[NM];
byte held[NM] = NONE;              /* the P of an M that stays in user code */

/* With LIMIT. */
bool polls;                        /* last_poll is 0 */
bool broken;                       /* what Break() leaves for who waits there, or the next one */

inline pop_idle_p(q_i) {
  q_i = 0;
  do
  :: q_i < NP && !idle[q_i] -> q_i++
  :: q_i < NP && idle[q_i] -> idle[q_i] = 0; idle_count--; break
  :: q_i == NP -> break
  od
}

inline push_idle_p(q_j) { assert(!idle[q_j]); idle[q_j] = 1; idle_count++ }

/* Takes an M that sleeps off the list; or `taken_m` is NOBODY. */
inline pop_idle_m(taken_m) {
  taken_m = 0;
  do
  :: taken_m < NM && !asleep[taken_m] -> taken_m++
  :: taken_m < NM && asleep[taken_m] -> asleep[taken_m] = 0; break
  :: taken_m == NM -> break
  od
}

/* StartM() with a P, and `spare` or an M that sleeps. */
inline give_p(q_g, spins_g) {
  atomic {
    if
    :: spare == NOBODY ->
#ifndef LIMIT
       SOMEBODY_SLEEPS;
#endif
       pop_idle_m(spare)
    :: else
    fi;
    if
    :: spare != NOBODY -> gift_spins[spare] = spins_g; gift[spare] = q_g
    :: else -> none = 1
    fi;
    spare = NOBODY
  };
#ifdef LIMIT
  if
  :: none ->
     atomic {
       !locked;
#ifndef LIMITONCE
       pop_idle_m(spare);
#endif
       if
       :: spare != NOBODY ->
          gift_spins[spare] = spins_g; gift[spare] = q_g; spare = NOBODY; none = 0
       :: else ->
          push_idle_p(q_g);
#ifndef LIMITMUTE
          need = 1;
#endif
#ifndef LIMITLATE
          if :: spins_g -> spinning-- :: else fi
#endif
       fi
     };
     if
     :: none ->
        none = 0;
#ifdef LIMITLATE
        if :: spins_g -> spinning-- :: else fi;
#endif
#ifndef NOBREAK
        if :: polls -> broken = 1 :: else fi
#endif
     :: else
     fi
  :: else
  fi
#endif
}

/* StartM(nullptr, spins_s) */
inline start_m(spins_s) {
  atomic {
    !locked -> pop_idle_p(q);
    if
    :: q == NONE && spins_s ->
#ifndef STARTMUTE
       need = 1;
#endif
       spinning--
    :: else
    fi
  };
  if :: q != NONE -> give_p(q, spins_s); q = NONE :: else fi
}

inline wake_p() {
  go = 1;
  if
  :: idle_count == 0 ->
     go = 0;
     if
     :: spinning == 0 ->
        if
        :: !need ->
           need = 1;
#ifndef NOIDLEAGAIN
           go = (idle_count != 0)
#endif
        :: else
        fi
     :: else
     fi
  :: else
  fi;
  if
  :: go ->
     atomic { if :: spinning == 0 -> spinning = 1 :: else -> go = 0 fi };
     if :: go -> start_m(1); go = 0 :: else fi
  :: else
  fi
}

/* HandOffP(), with `spare` or NOBODY. */
inline hand_off(q_h) {
  start = 1;
  if
  :: queue[q_h] > 0
  :: else ->
    if
    :: global_size > 0
    :: else ->
      if
      :: spinning == 0 ->
         if
         :: idle_count == 0 -> atomic { if :: spinning == 0 -> spinning = 1; spins = 1 :: else fi }
         :: else
         fi
      :: else
      fi;
      if
      :: spins
      :: else ->
         atomic {
           !locked;
           if
           :: global_queue == 0 && queue[q_h] == 0 && SOMEBODY_POLLS ->
              push_idle_p(q_h);
              start = 0;
              if :: spare != NOBODY -> asleep[spare] = 1; spare = NOBODY :: else fi
           :: else
           fi
         }
      fi
    fi
  fi;
  if
  :: start -> start = 0; give_p(q_h, spins); spins = 0
  :: else ->
#ifndef HANDOFFMUTE
     if :: need -> wake_p() :: else fi
#endif
  fi
}

proctype M(byte me) {
  byte p = NONE, q = NONE, v, n, spare = NOBODY;
  bool spins, go, start, none;
  if
  :: me < BUSY -> p = me; goto user
  :: else -> goto sleep
  fi;

find:                              /* FindRunnable() */
  atomic { if :: queue[p] > 0 -> queue[p]--; goto found :: else fi };
  if
  :: global_size > 0 ->
     atomic { !locked -> if :: global_queue > 0 -> locked = 1; goto take_global :: else fi }
  :: else
  fi;
  if
  :: !spins ->
     n = NP - idle_count;
     if
     :: 2 * spinning < n -> n = 0; need = 0; spinning++; spins = 1
     :: else -> n = 0; goto drop
     fi
  :: else
  fi;
steal:
  v = 0;
  do
  :: v == NP -> v = 0; break
  :: v < NP && v == p -> v++
  :: v < NP && v != p ->
     atomic { n = queue[v] - queue[v] / 2; queue[v] = queue[v] - n };
     if
     :: n == 0 -> v++
     :: n > 0 ->
        n--; v = 0;
        atomic { queue[p] = queue[p] + n; n = 0 };
        goto found
     fi
  od;
drop:
  atomic {
    !locked;
    if
    :: global_queue > 0 -> locked = 1; goto take_global
    :: else
    fi;
#ifdef NEEDFIRST
    if :: !spins && need -> goto needed :: else fi;
    locked = 1
  };
  atomic {
    locked = 0;
#endif
    push_idle_p(p); p = NONE
  };
  if
  :: spins ->
     spins = 0; spinning--;
#ifndef NOLOOKAGAIN
     if
     :: global_size > 0 -> go = 1
     :: else ->
        v = 0;
        do
        :: v < NP && queue[v] == 0 -> v++
        :: v < NP && queue[v] > 0 -> go = 1; break
        :: v == NP -> break
        od;
        v = 0
     fi
#endif
  :: else ->
#ifndef NEEDFIRST
     go = need
#endif
  fi;
  if
  :: go ->
     go = 0;
     atomic {
       !locked -> pop_idle_p(p);
#ifndef LOOKMUTE
       if :: p == NONE -> need = 1 :: else fi
#endif
     };
     if
     :: p != NONE -> need = 0; spinning++; spins = 1; goto find
     :: else
     fi
  :: else
  fi;
#ifdef LIMIT
  if
  :: atomic { !polls -> polls = 1 };
     go = 0;
#ifndef POLLBLIND
     if :: need -> go = (idle_count > 0) :: else fi;
#endif
     if
     :: go -> go = 0
     :: else ->
end_poll:
        atomic { broken -> broken = 0 }
     fi;
     polls = 0;
     atomic { !locked -> pop_idle_p(p) };
     if :: p != NONE -> need = 0; spinning++; spins = 1; goto find :: else fi
  :: else
  fi;
#endif
rest:                              /* StopM() */
  atomic {
    !locked;
#if defined(LIMIT) && !defined(SLEEPBLIND)
    if :: need -> pop_idle_p(p) :: else fi;
#endif
    if :: p == NONE -> asleep[me] = 1 :: else fi
  };
  if :: p != NONE -> need = 0; spinning++; spins = 1; goto find :: else fi;
sleep:
end_sleep:
  atomic {
    gift[me] != NONE -> p = gift[me]; gift[me] = NONE; spins = gift_spins[me]; gift_spins[me] = 0
  };
  goto find;

#ifdef NEEDFIRST
needed:
  need = 0; spinning++; spins = 1;
  goto find;
#endif

take_global:                       /* a share: one to run, the rest into the own queue */
  n = global_queue / NP;
  if :: n >= global_queue -> n = global_queue - 1 :: else fi;
  global_queue = global_queue - n - 1;
#ifdef HIDDEN
  global_size = global_queue;
#endif
  atomic { queue[p] = queue[p] + n; n = 0 };
  atomic { global_size = global_queue; locked = 0 };

found:
  if :: spins -> spins = 0; spinning--;
#ifndef NOCHAIN
        wake_p()
#endif
     :: else
  fi;
user:
  do
  :: atomic { budget > 0 -> budget-- }; queue[p]++; wake_p()
#if BLOCKS > 0
  :: atomic { blocks > 0 -> blocks-- };
     hand_off(p);
     p = NONE;
     if
     :: skip
     :: goto end                   /* it blocks for ever */
     fi;
     /* Back: an idle P, or the goroutine waits for one in the global queue. */
     atomic {
       !locked -> pop_idle_p(p);
       if :: p == NONE -> global_queue++; global_size++ :: else fi
     };
     if :: p == NONE -> goto rest :: else fi
#endif
  :: goto find
  :: break
  od;
  /* For ever. */
  atomic { held[me] = p; p = NONE }
end:
  false
}

/* Has no P. */
proctype Thread() {
  byte q = NONE, i, spare = NOBODY;
  bool go, none;
  do
  :: i < THREADS ->
     i++;
     atomic { !locked -> global_queue++; global_size++ };
#ifdef BATCH
     if :: idle_count > 0 -> start_m(0) :: else fi;
#endif
     wake_p()
  :: else -> break
  od
}

/* Takes Ps from those who stay in user code. */
proctype Monitor() {
  byte p = NONE, q = NONE, m, i, spare = NOBODY;
  bool go, start, none, spins;
end:
  do
  :: i == RETAKES -> break
  :: i < RETAKES ->
     i++;
     select(m : 0 .. NM - 1);
#ifdef LIMIT
     atomic { !locked -> pop_idle_m(spare) };
     if
     :: spare != NOBODY ->
        /* Refused: ReturnM(). */
        atomic { !locked -> asleep[spare] = 1; spare = NOBODY };
#ifndef RETURNMUTE
        if
        :: idle_count > 0 -> if :: need -> wake_p() :: else fi
        :: else
        fi
#endif
     :: atomic { spare != NOBODY && held[m] != NONE -> p = held[m]; held[m] = NONE }; hand_off(p)
     :: spare == NOBODY
     fi;
#else
end_held:
     atomic { held[m] != NONE -> p = held[m]; held[m] = NONE };
     hand_off(p);
#endif
     p = NONE; m = 0
  od
}

init {
  byte i;
  bool all_busy;
  atomic {
    for (i : 0 .. NP - 1) { if :: i >= BUSY -> idle[i] = 1; idle_count++ :: else fi };
    for (i : 0 .. NM - 1) { if :: i >= BUSY -> asleep[i] = 1 :: else fi; run M(i) };
    run Thread();
#if RETAKES > 0
    run Monitor()
#endif
  };
  timeout;
  assert(!locked && spinning == 0);
#ifdef LIMIT
  all_busy = !SOMEBODY_SLEEPS && !polls;
#endif
  for (i : 0 .. NP - 1) { assert(idle_count == 0 || queue[i] == 0 || all_busy) };
  assert(idle_count == 0 || global_queue == 0 || all_busy)
}
