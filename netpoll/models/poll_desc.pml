/* What the netpoller knows of a descriptor (netpoll/poll_desc.cc), one direction of it: no event, deadline or
 * close is slept through, nobody is woken twice for one wait, and what is late does no harm.
 *
 * The owner reads: it resets the word, looks whether there is data, and waits if there is none. The peer sends
 * BYTES, of which each makes an edge, and hangs up. The poller takes what edges there are and delivers them, any
 * time later; so does a second thread that looks at the poller without waiting. The user sets a deadline, moves
 * it, and closes. The timer fires when its time has come, and its callback runs any time later. Then the record
 * serves another descriptor. Words and bits are changed by locked instructions; the rest is under the record's
 * lock, one atomic block each.
 *
 * Sizes:     BYTES
 * Variants:  DEADLINE  a deadline is set
 *            MOVED     (DEADLINE) ... and moved
 *            CLOSE     somebody closes
 *            REUSE     (CLOSE) ... and the record goes on to another descriptor, late events and timers and all
 *            DRAINED   a read that has emptied the queue waits before it asks again, but once hung up
 * Harmless:  NOTAG     (REUSE) events are delivered to whoever has the record
 *            NORESET   the owner forgets no event before it looks
 * Mistakes, each of which the search must find:
 *   RESETLATE  the owner forgets events after it has looked
 *   NOLOOK     (DEADLINE or CLOSE) the owner does not look at the bits once it has published itself
 *   BITLATE    (DEADLINE or CLOSE) the bit is set after the waiter was looked for
 *   PLAINWAKE  the waiter is taken by a look and a store
 *   BLIND      (DEADLINE, MOVED) that the timer has fired is taken for the deadline
 *   COUNTLATE  who waits counts itself once it is published
 *   HUPLATE    (DRAINED) hanging up is noted after the word was made ready */
#ifndef BYTES
#define BYTES 2
#endif

#define NIL 0
#define READY 1
#define WAITER 2

byte word;
bool expired, closing, hung_up;    /* info_ */
byte tag;
bool token;                        /* the Waiter's */
byte waiting;                      /* waiting_ */
bool in_doubt;                     /* it was below zero */

byte data;                         /* unread bytes */
bool end_of_stream;
bool edge, hup_edge;               /* what epoll has to tell */
bool registered = 1;

#define NEVER 9
byte hour;                          /* the clock */
bool locked;                       /* the record's lock */
byte deadline = NEVER, armed = NEVER;
byte timer_at = NEVER;             /* NEVER: not pending */
byte got;
bool owner_done, put_back;

/* Wake(): hit is whether there is somebody to unpark. */
inline wake(to, hit) {
#ifdef PLAINWAKE
  hit = (word == WAITER);
  if :: word != READY -> word = to :: else fi
#else
  atomic {
    hit = (word == WAITER);
    if :: word != READY -> word = to :: else fi
  }
#endif
}
inline unpark() { token = 1 }
inline uncount() { atomic { if :: waiting == 0 -> in_doubt = 1 :: else -> waiting-- fi } }

inline arrives() { if :: registered -> edge = 1 :: else fi }

proctype Peer() {
  byte i;
  do
  :: i < BYTES -> atomic { i++; data++; arrives() }
  :: else -> break
  od
#ifdef DRAINED
  ; atomic { end_of_stream = 1; hup_edge = 1; arrives() }
#endif
}

/* Two threads that look at epoll. */
proctype Poller() {
  bool hit, hup;
  byte t;
end:
  do
  :: atomic { edge -> edge = 0; hup = hup_edge; hup_edge = 0; t = tag };
     /* What is on its way has the tag that the record had then. */
     /* Deliver() */
#ifndef NOTAG
     if :: t != tag -> goto done :: else fi;
#endif
#ifndef HUPLATE
     if :: hup -> hung_up = 1 :: else fi;
#endif
     wake(READY, hit);
#ifdef HUPLATE
     if :: hup -> hung_up = 1 :: else fi;
#endif
     if :: hit -> unpark(); uncount() :: else fi;
done:
     hit = 0; hup = 0; t = 0
  od
}

/* Wait(): r is 0 for an event, 1 for the deadline, 2 for the close. */
inline wait(r) {
  do
  :: word == READY -> word = NIL; r = 0; break
  :: else ->
     if
     :: closing -> r = 2; break
     :: !closing && expired -> r = 1; break
     :: else
     fi;
#ifndef COUNTLATE
     waiting++;
#endif
     atomic { if :: word == NIL -> word = WAITER; mine = 1 :: else -> mine = 0 fi };
#ifdef COUNTLATE
     if :: mine -> waiting++ :: else fi;
#endif
     if
     :: !mine ->
#ifndef COUNTLATE
        uncount();
#endif
        goto again
     :: else
     fi;
#ifndef NOLOOK
     r = 0;
     if :: closing -> r = 2 :: !closing && expired -> r = 1 :: else fi;
     if
     :: r != 0 ->
        atomic { if :: word == WAITER -> word = NIL; mine = 1 :: else -> mine = 0 fi };
        if
        :: mine -> uncount(); break
        :: else -> goto again
        fi
     :: else
     fi;
#endif
     do
     :: word != WAITER -> break
     :: word == WAITER -> atomic { token -> token = 0 }
     od;
again:
     r = 0; mine = 0
  od;
  mine = 0
}

/* The one who closes, or the deadline, ends it before it has so many. */
#if defined(DEADLINE) || defined(CLOSE)
#define WANTED (BYTES + 1)
#else
#define WANTED BYTES
#endif

proctype Owner() {
  byte r;
  bool mine, drained, must_wait;
start:
  do
  :: must_wait ->
     must_wait = 0;
     wait(r);
     if :: r != 0 -> break :: else fi
  :: !must_wait && drained ->
     drained = 0;
     must_wait = !hung_up
  :: !must_wait && !drained ->
     if :: closing || expired -> break :: else fi;
#if !defined(NORESET) && !defined(RESETLATE)
     if :: word == READY -> word = NIL :: else fi;
#endif
     /* The system call. */
     atomic {
       if
       :: data > 0 ->
          data--; got++; r = 0;
#ifdef DRAINED
          drained = (data == 0)
#else
          if :: got == WANTED -> r = 4 :: else fi
#endif
       :: data == 0 && end_of_stream -> r = 4
       :: data == 0 && !end_of_stream -> must_wait = 1
       fi
     };
#ifdef RESETLATE
     if :: word == READY -> word = NIL :: else fi;
#endif
     if :: r == 4 -> break :: else fi
  od;
  atomic { r = 0; drained = 0; must_wait = 0; owner_done = 1 };
#ifdef REUSE
  /* Another descriptor's, of which nobody closes the first. */
end:
  atomic { put_back -> put_back = 0; owner_done = 0; goto start }
#endif
}

/* Under the lock. */
inline rearm() {
  if
  :: (expired || deadline == NEVER) ->
     if :: armed != NEVER -> timer_at = NEVER :: else fi;
     armed = NEVER
  :: !expired && deadline < armed -> timer_at = deadline; armed = deadline
  :: else
  fi
}
inline give_up(which, hit) {
#ifdef BITLATE
  wake(NIL, hit); which = 1
#else
  which = 1; wake(NIL, hit)
#endif
}
inline finish(hit) {
  locked = 0;
  if :: hit -> uncount(); unpark(); hit = 0 :: else fi
}

#ifdef DEADLINE
proctype User() {
  byte n;
  bool hit;
  do
#ifdef MOVED
  :: n < 2 ->
#else
  :: n < 1 ->
#endif
     n++;
     atomic { !locked -> locked = 1 };
     if
     :: closing -> locked = 0
     :: else ->
        deadline = n;
        if
        :: deadline <= hour -> give_up(expired, hit)
        :: else -> expired = 0
        fi;
        atomic { rearm() };
        finish(hit)
     fi
  :: else -> break
  od
}

proctype Clock() { do :: hour < 2 -> hour++ :: else -> break od }

proctype Timer() {
  bool hit;
end:
  do
  :: atomic { timer_at <= hour -> timer_at = NEVER };
     /* OnTimer(), any time later */
     atomic { !locked -> locked = 1 };
     if
     :: armed > hour -> locked = 0
     :: else ->
        armed = NEVER;
#ifdef BLIND
        if :: !expired ->
#else
        if :: deadline <= hour && !expired ->
#endif
           assert(deadline <= hour);
           give_up(expired, hit)
        :: else
        fi;
        atomic { rearm() };
        finish(hit)
     fi
  od
}
#endif

#ifdef CLOSE
proctype Closer() {
  bool hit;
  atomic { !locked -> locked = 1 };
  deadline = NEVER;
  give_up(closing, hit);
  atomic { rearm() };
  finish(hit);
#ifdef REUSE
  owner_done;
  atomic { registered = 0; edge = 0; hup_edge = 0 };
  /* Put() */
  word = NIL; tag++;
  atomic { !locked -> locked = 1 };
  atomic { closing = 0; expired = 0; hung_up = 0 };
  locked = 0;
  /* The next one has as much to read as its owner wants. */
  atomic { data = 0; got = WANTED - 1; registered = 1; put_back = 1 };
  atomic { data = 1; arrives() }
#endif
}
#endif

init {
  atomic {
    run Peer(); run Poller(); run Poller(); run Owner();
#ifdef DEADLINE
    run User(); run Clock(); run Timer(); run Timer();
#endif
#ifdef CLOSE
    run Closer()
#endif
  };
  timeout;
  assert(owner_done && waiting == 0 && !in_doubt)
}
