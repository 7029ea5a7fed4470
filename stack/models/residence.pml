/* Who has which slot: residence.h.  NG goroutines, NS slots, NMS threads that run them.
 *
 * What is to hold: nobody's bytes are touched by two at a time; who runs finds its own bytes, at the
 * addresses that they are good for; and no wake-up is lost: each goroutine runs once for each.
 *
 * Switches that go with the protocol:
 *   REFUSE      a copier may find that what it wants to copy has to stay, any time
 *   PINNED      goroutine 0 has to stay, always
 *   EVICTOR     somebody empties slots meanwhile, as a P that goes away does
 * and wrong turns, each of which must break something:
 *   STALE       evict by looking and storing, without the compare-exchange
 *   NOWANT      a runner that finds its goroutine being copied takes it for rested
 *   HOMEFIXED   home stays where the goroutine first ran, though a move has made its bytes good for
 *               another slot
 *   NOLOOK      the runner does not look at the owner word again after it has left word  (REFUSE)
 *   LOOKFIRST   a copier that gives up looks for word before it gives the slot back      (REFUSE)
 *   JUSTGO      the runner's second look finds RES, and it runs without taking back its word (REFUSE)
 */
#ifndef NG
#define NG 3
#endif
#ifndef NS
#define NS 2
#endif
#ifndef NMS
#define NMS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

/* owner words */
#define FREE 0
#define RES(g) ((g) + 1)
#define RUN(g) ((g) + 1 + NG)
#define IS_RES(o) (o > FREE && o <= NG)
/* rest[g] */
#define HOT 0
#define WANTED 1
#define RESTED 2
/* status[g] */
#define PARKED 0
#define RUNNABLE 1
#define TAKEN 2

byte owner[NS], home[NG], rest[NG], status[NG], runs[NG];
byte first_home[NG]; /* read by HOMEFIXED only */
byte in[NS];         /* ghost: who runs on the slot, or moves bytes there */
byte bytes[NS];      /* ghost: whose bytes lie there, g + 1 */
bool block[NG];      /* ghost: the block is complete */

/* The slot s is ours and o's bytes lie in it. ok: they have left. */
inline evict(s, o, ok) {
  in[s]++;
  assert(in[s] == 1 && bytes[s] == o + 1);
  if
#ifdef REFUSE
  :: in[s]--; ok = 0
#endif
#ifdef PINNED
  :: o == 0 -> in[s]--; ok = 0
  :: o != 0 -> block[o] = 1; in[s]--; ok = 1
#else
  :: block[o] = 1; in[s]--; ok = 1
#endif
  fi;
  if
  :: ok ->
     atomic {
       assert(rest[o] != RESTED);
       if
       :: rest[o] == WANTED -> rest[o] = RESTED; assert(status[o] == TAKEN); status[o] = RUNNABLE
       :: else -> rest[o] = RESTED
       fi
     }
  :: else ->
#ifdef LOOKFIRST
     atomic {
       if
       :: rest[o] == WANTED -> rest[o] = HOT; status[o] = RUNNABLE
       :: else
       fi
     };
     owner[s] = RES(o)
#else
     owner[s] = RES(o);
     atomic {
       if
       :: rest[o] == WANTED -> rest[o] = HOT; assert(status[o] == TAKEN); status[o] = RUNNABLE
       :: else
       fi
     }
#endif
  fi
}

/* Tries to have slot s for g. */
inline claim(s, g, ok) {
  ok = 0;
  was = owner[s];
  if
  :: was == FREE -> atomic { if :: owner[s] == FREE -> owner[s] = RUN(g); ok = 1 :: else fi }
  :: IS_RES(was) ->
#ifdef STALE
     owner[s] = RUN(g); ok = 1;
#else
     atomic { if :: owner[s] == was -> owner[s] = RUN(g); ok = 1 :: else fi };
#endif
     if :: ok -> evict(s, (was - 1), ok) :: else fi
  :: else -> skip
  fi
}

proctype M() {
  byte g, s, was, tries;
  bool ok;
end:
  do
  :: atomic {
       if
#if NG > 2
       :: status[2] == RUNNABLE -> g = 2
#endif
       :: status[1] == RUNNABLE -> g = 1
       :: status[0] == RUNNABLE -> g = 0
       fi;
       status[g] = TAKEN;
       s = home[g]
     };
enter:
     atomic { ok = (owner[s] == RES(g)); if :: ok -> owner[s] = RUN(g) :: else fi };
     if
     :: ok -> goto go
     :: else
     fi;
     atomic {
       if
       :: rest[g] == HOT ->
#ifndef NOWANT
          rest[g] = WANTED;
#endif
          ok = 1
       :: else -> assert(rest[g] == RESTED); ok = 0
       fi
     };
#ifndef NOWANT
     if
     :: ok ->
#ifdef NOLOOK
        goto next;
#endif
        if
        :: owner[s] != RES(g) -> goto next
        :: else
        fi;
#ifdef JUSTGO
        goto enter;
#endif
        atomic { ok = (rest[g] == WANTED); if :: ok -> rest[g] = HOT :: else fi };
        if
        :: ok -> goto enter
        :: else -> goto next
        fi
     :: else
     fi;
#endif
     /* It rests: home if nobody runs there, else the next. */
#ifdef HOMEFIXED
     s = first_home[g];
#endif
     tries = 0;
     do
     :: claim(s, g, ok);
        if
        :: ok -> break
        :: !ok && tries == NS - 1 ->
           /* none to be had: try later */
           status[g] = RUNNABLE;
           goto next
        :: else -> tries++; s = (s + 1) % NS
        fi
     od;
     in[s]++;
     assert(in[s] == 1 && block[g]);
     bytes[s] = g + 1;
     block[g] = 0;
     in[s]--;
#ifdef HOMEFIXED
     if :: tries > 0 -> home[g] = s :: else fi;
#else
     home[g] = s;
#endif
     rest[g] = HOT;
go:
     in[s]++;
     assert(in[s] == 1 && bytes[s] == g + 1 && home[g] == s);
     runs[g]++;
     in[s]--;
     /* Park: first the slot, then what a waker looks at. */
     owner[s] = RES(g);
     status[g] = PARKED;
next: skip;
     d_step { g = 0; s = 0; was = 0; ok = 0; tries = 0 }
  od
}

proctype Waker(byte g) {
  byte r;
  do
  :: r < ROUNDS -> atomic { status[g] == PARKED && runs[g] == r -> status[g] = RUNNABLE }; r++
  :: else -> break
  od
}

#ifdef EVICTOR
proctype Evictor() {
  byte s, was, r;
  bool ok;
end:
  do
  :: r < 2 ->
     r++;
     select(s : 0 .. NS - 1);
     ok = 0;
     was = owner[s];
     if
     :: IS_RES(was) ->
        atomic { if :: owner[s] == was -> owner[s] = RUN(NG); ok = 1 :: else fi };
        if :: ok -> evict(s, (was - 1), ok) :: else fi;
        if :: ok -> bytes[s] = 0; owner[s] = FREE :: else fi
     :: else
     fi
  :: else -> break
  od
}
#endif

init {
  byte i;
  atomic {
    /* The first is hot in slot 0, where all are at home. */
    owner[0] = RES(0);
    bytes[0] = 1;
    for (i : 1 .. NG - 1) { rest[i] = RESTED; block[i] = 1 }
    for (i : 0 .. NG - 1) { run Waker(i) }
    for (i : 0 .. NMS - 1) { run M() }
#ifdef EVICTOR
    run Evictor()
#endif
  };
  timeout;
  for (i : 0 .. NG - 1) { assert(runs[i] == ROUNDS) }
}
