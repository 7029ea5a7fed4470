/* The lease of a P (sched/lease.cc): a P is used by one M at a time, none is lost, and whoever waits
 * for one gets one in the end.
 *
 * Processes: NM Ms that enter the runtime, use their P, perhaps park or nest, and leave; the monitor,
 * which revokes; with STW also a stopper of the world.
 *
 * Sizes:     NM Ms, NP Ps, ROUNDS entries of each M, REVOKES by the monitor
 * Variants:  STW        somebody stops the world       NOMONITOR  nobody else revokes
 *            LIVE       endless Ms, for liveness        BLOCK      the first M may block for ever in user code
 * Mistakes, each of which the search must find:
 *   NOMB      no membarrier between attn = 1 and the look at in_runtime
 *   NESTBUG   leaving an inner section stores 0
 *   SAVEDP    the revoker takes the P that it read before the barrier
 *   CLEAR     a revoker that has failed clears attn
 *   RESTORE   the revoker clears m->p first and puts it back on failure, instead of asking by attn
 *   UNLOCKED  (with RESTORE) the M changes its m->p without m->lock
 *   NOSKIP    (with RESTORE) ... and "puts back" the null of an M that had no P
 *   UNFAIR    (with LIVE) sleepers are served in any order */
#ifndef NM
#define NM 2
#endif
#ifndef NP
#define NP 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef REVOKES
#define REVOKES 2
#endif
#define NT (NM + 2)
#define MONITOR NM
#define STOPPER (NM + 1)

/* Addresses. A P is its number, from 1; 0 is null. */
#define IN(m) (m)                  /* m->in_runtime */
#define LP(m) (NM + (m))           /* m->p */
#define AT(m) (2 * NM + (m))       /* m->attn */
#define PD(q) (3 * NM + (q) - 1)   /* a word of P q that only its holder touches */
#define NA (3 * NM + NP)
#define SBN 3
#include "tso.inc"

bool mlock[NM];                    /* m->lock */
/* Under sched.lock; one atomic block is one critical section. */
bool idle[NP + 1];
bool want[NM];                     /* an M sleeps until it is given a P */
byte gift[NM];
bool stopping;
byte nstopped;
#if defined(LIVE) && !defined(UNFAIR)
chan sleepers = [NM] of { byte };
byte first;
#define ENQUEUE(m) sleepers!m
#else
#define ENQUEUE(m) skip
#endif

/* Seen by the checks alone. */
byte use[NP + 1];                  /* Ms that use the P at this moment */
bit  expected[NP + 1];             /* what PD must hold */
byte ended;

#ifdef LIVE
/* A lock that lets its M in before other revokers. */
bool mwait[NM];
inline lockm(t_k, m_k) {
  flush(t_k);
  if
  :: t_k == m_k -> mwait[m_k] = 1; atomic { !mlock[m_k] -> mlock[m_k] = 1; mwait[m_k] = 0 }
  :: else -> atomic { !mlock[m_k] && !mwait[m_k] -> mlock[m_k] = 1 }
  fi
}
#else
inline lockm(t_k, m_k) { flush(t_k); atomic { !mlock[m_k] -> mlock[m_k] = 1 } }
#endif
inline unlockm(t_u, m_u) { flush(t_u); mlock[m_u] = 0 }

/* A P without a holder goes to the stopper, to a sleeper, or to the idle list. */
inline give_p(t_g, q_g) {
  atomic {
    flush(t_g);
    if
    :: stopping -> nstopped++
    :: else ->
#if defined(LIVE) && !defined(UNFAIR)
      if
      :: len(sleepers) > 0 -> sleepers?first; want[first] = 0; gift[first] = q_g; first = 0
      :: else -> assert(!idle[q_g]); idle[q_g] = 1
      fi
#else
      if
#if NM > 2
      :: want[2] -> want[2] = 0; gift[2] = q_g
#endif
      :: want[1] -> want[1] = 0; gift[1] = q_g
      :: want[0] -> want[0] = 0; gift[0] = q_g
      :: else -> assert(!idle[q_g]); idle[q_g] = 1
      fi
#endif
    fi
  }
}

/* An idle P; or the goroutine is queued and the M sleeps. One critical section. */
inline get_p(m_w, q_w) {
  atomic {
    flush(m_w); q_w = 0;
    if
    :: !stopping && idle[1] -> idle[1] = 0; q_w = 1
#if NP > 1
    :: !stopping && idle[2] -> idle[2] = 0; q_w = 2
#endif
    :: else -> want[m_w] = 1; ENQUEUE(m_w)
    fi
  };
  if
  :: q_w != 0
  :: q_w == 0 -> atomic { gift[m_w] != 0 -> q_w = gift[m_w]; gift[m_w] = 0 }
  fi
}

/* The M changes its own m->p. */
inline set_mp(m_s, q_s) {
#if defined(RESTORE) && !defined(UNLOCKED)
  lockm(m_s, m_s); st(m_s, LP(m_s), q_s); unlockm(m_s, m_s)
#else
  st(m_s, LP(m_s), q_s)
#endif
}

inline use_p(m_x, q_x) {
  use[q_x]++; assert(use[q_x] == 1);
  ld(m_x, PD(q_x), x); assert(x == expected[q_x]);
  st(m_x, PD(q_x), 1 - x); expected[q_x] = 1 - expected[q_x]; x = 0;
  use[q_x]--
}

/* The outermost entry; q_e is the P for this stay in the runtime. */
inline enter(m_e, q_e) {
  st(m_e, IN(m_e), 1);
#ifndef RESTORE
  ld(m_e, AT(m_e), x); ld(m_e, LP(m_e), q_e);
  if
  :: x == 0 -> skip
  :: else ->
    lockm(m_e, m_e); ld(m_e, LP(m_e), q_e); st(m_e, AT(m_e), 0); unlockm(m_e, m_e); x = 0;
    if
    :: q_e == 0 -> get_p(m_e, q_e); set_mp(m_e, q_e)
    :: q_e != 0 && (stopping || want[0] || want[1]) ->
       set_mp(m_e, 0); give_p(m_e, q_e); get_p(m_e, q_e); set_mp(m_e, q_e)
    :: else -> skip
    fi
  fi
#else
  ld(m_e, LP(m_e), q_e);
  if
  :: q_e != 0 -> skip
  :: else ->
    lockm(m_e, m_e); ld(m_e, LP(m_e), q_e); unlockm(m_e, m_e);
    if
    :: q_e == 0 -> get_p(m_e, q_e); set_mp(m_e, q_e)
    :: else -> skip
    fi
  fi
#endif
}

proctype M(byte m) {
  byte q, x, r;
  do
  :: r < ROUNDS ->
#ifndef LIVE
     r++;
#endif
#ifdef BLOCK
     if :: m == 0 -> blocked: false :: skip fi;
#endif
     enter(m, q);
     use_p(m, q);
     if
     :: skip
     :: /* parks, and goes on with whatever P it gets */
        set_mp(m, 0); give_p(m, q); get_p(m, q); set_mp(m, q); use_p(m, q)
     :: /* an inner section */
        st(m, IN(m), 2);
#ifdef NESTBUG
        st(m, IN(m), 0);
#else
        st(m, IN(m), 1);
#endif
        use_p(m, q)
     fi;
     q = 0;
     st(m, IN(m), 0)
  :: r >= ROUNDS -> break
  od;
  /* Gives its P up for good, so that all can be counted at the end. */
  st(m, IN(m), 1); lockm(m, m); ld(m, LP(m), q); st(m, LP(m), 0); st(m, AT(m), 0); unlockm(m, m);
  if :: q != 0 -> give_p(m, q) :: else fi;
  ended++
}

inline revoke(t_r, m_r) {
  lockm(t_r, m_r);
#ifndef RESTORE
  ld(t_r, LP(m_r), q);
  st(t_r, AT(m_r), 1);
#ifndef NOMB
  membarrier(t_r);
#endif
  ld(t_r, IN(m_r), x);
  if
  :: x == 0 ->
#ifndef SAVEDP
     ld(t_r, LP(m_r), q);
#endif
     st(t_r, LP(m_r), 0); unlockm(t_r, m_r);
     if :: q != 0 -> give_p(t_r, q) :: else fi
  :: else ->
#ifdef CLEAR
     st(t_r, AT(m_r), 0);
#endif
     unlockm(t_r, m_r)
  fi;
#else
  ld(t_r, LP(m_r), q);
  if
#ifndef NOSKIP
  :: q == 0 -> unlockm(t_r, m_r)
#endif
  :: else ->
    st(t_r, LP(m_r), 0);
#ifndef NOMB
    membarrier(t_r);
#endif
    ld(t_r, IN(m_r), x);
    if
    :: x == 0 -> unlockm(t_r, m_r); if :: q != 0 -> give_p(t_r, q) :: else fi
    :: else -> st(t_r, LP(m_r), q); unlockm(t_r, m_r)
    fi
  fi;
#endif
  q = 0; x = 0
}

proctype Monitor() {
  byte q, x, mb, r, v;
end:
  do
  :: r < REVOKES ->
#ifndef LIVE
     r++;
#endif
#ifdef LIVE
     v = (v + 1) % NM;
#ifdef STW
     !stopping;                    /* it takes nothing back while the world is being stopped */
#endif
#else
     select(v : 0 .. NM - 1);
#endif
     revoke(MONITOR, v)
  :: r >= REVOKES -> break
  od
}

#ifdef STW
bool stop_ended;
proctype Stopper() {
  byte q, x, mb, v;
  atomic {
    stopping = 1;
    if :: idle[1] -> idle[1] = 0; nstopped++ :: else fi;
#if NP > 1
    if :: idle[2] -> idle[2] = 0; nstopped++ :: else fi
#endif
  };
  do
  :: nstopped == NP -> break
  :: nstopped != NP -> revoke(STOPPER, v); v = (v + 1) % NM
  od;
  assert(use[1] == 0
#if NP > 1
      && use[2] == 0
#endif
  );
  atomic { stopping = 0; nstopped = 0 };
  give_p(STOPPER, 1);
#if NP > 1
  give_p(STOPPER, 2);
#endif
  stop_ended = 1
}
#endif

init {
  byte i;
  atomic {
    for (i : 0 .. NT - 1) { run Drain(i) }
    for (i : 0 .. NM - 1) {
      if
      :: i < NP -> mem[LP(i)] = i + 1
      :: else -> mem[AT(i)] = 1
      fi;
      run M(i)
    }
#ifndef NOMONITOR
    run Monitor();
#endif
#ifdef STW
    run Stopper()
#endif
  };
#if !defined(LIVE) && !defined(BLOCK)
  ended == NM;                     /* where a P is lost, some M sleeps for ever */
#ifdef STW
  stop_ended;
#endif
  timeout;
  assert(idle[1]);
#if NP > 1
  assert(idle[2]);
#endif
#endif
}

#ifdef LIVE
#ifdef STW
ltl stops { <> stop_ended }
#else
ltl served { [] (want[1] -> <> !want[1]) }
#endif
#endif
