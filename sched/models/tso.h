/* x86's memory model (total store order) for Promela.
 *
 * A plain store waits in a queue of its thread and reaches memory later, in order. A load sees the
 * thread's own waiting stores first. A locked instruction empties the queue before it takes effect.
 *
 * Define before including: NT threads, NA addresses, SBN places in a queue (2 or 3).
 *
 *   st(t, a, v)     plain store by thread t
 *   ld(t, a, x)     plain load into x
 *   flush(t)        what mfence and every locked instruction do first
 *   membarrier(t)   membarrier(2), private expedited: the caller's queue, then those of the others, one
 *                   after the other and not at one instant. Needs a local byte mb.
 *
 * A process Drain(t) for each thread lets a waiting store reach memory at any later moment. */
typedef Queue { byte n; byte a[SBN]; byte v[SBN] }
Queue sb[NT];
byte mem[NA];

inline drain_one(t_d) {
  mem[sb[t_d].a[0]] = sb[t_d].v[0];
  sb[t_d].a[0] = sb[t_d].a[1]; sb[t_d].v[0] = sb[t_d].v[1];
#if SBN > 2
  sb[t_d].a[1] = sb[t_d].a[2]; sb[t_d].v[1] = sb[t_d].v[2];
#endif
  sb[t_d].n--; sb[t_d].a[sb[t_d].n] = 0; sb[t_d].v[sb[t_d].n] = 0
}

inline st(t_s, addr_s, val_s) {
  atomic {
    sb[t_s].n < SBN;
    d_step { sb[t_s].a[sb[t_s].n] = addr_s; sb[t_s].v[sb[t_s].n] = val_s; sb[t_s].n++ }
  }
}

inline ld(t_l, addr_l, x_l) {
  d_step {
    x_l = mem[addr_l];
    if :: sb[t_l].n > 0 && sb[t_l].a[0] == addr_l -> x_l = sb[t_l].v[0] :: else fi;
    if :: sb[t_l].n > 1 && sb[t_l].a[1] == addr_l -> x_l = sb[t_l].v[1] :: else fi
#if SBN > 2
    ; if :: sb[t_l].n > 2 && sb[t_l].a[2] == addr_l -> x_l = sb[t_l].v[2] :: else fi
#endif
  }
}

inline flush(t_f) {
  d_step { do :: sb[t_f].n > 0 -> drain_one(t_f) :: else -> break od }
}

inline membarrier(t_b) {
  flush(t_b); mb = 0;
  do :: mb < NT -> flush(mb); mb++ :: else -> mb = 0; break od
}

proctype Drain(byte t) {
end: do :: d_step { sb[t].n > 0 -> drain_one(t) } od
}
