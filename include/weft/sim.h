/*
 * Simulation: a test kit that runs a program on weft in a world of its own, from a seed.
 *
 * weft_sim_run() makes a runtime whose workers, clock and sockets are simulated, all on the calling
 * thread. The runtime is the real one, scheduler, timers and sockets included; what is simulated is
 * the kernel below it. Which thread goes on next, how late bytes arrive and in which pieces, which
 * connection is lost: everything is drawn from the seed, and the same seed does the same again,
 * which weft_sim_result.trace_hash tells. Time is virtual: a timeout of an hour passes when nothing
 * else is left to do, at once. So a server and its clients are tried under thousands of seeds in
 * the time that one real test takes, and the seed that fails is debugged as often as needed.
 *
 * Inside, what waits must wait through weft: a task or a blocking job that waits for a thread
 * outside, or for a real descriptor, waits for ever. Descriptors opened without weft cannot be
 * watched (-EPERM), names of hosts are resolved by the real system, time that is not asked for
 * through weft_now() is real. Thread-local variables of the program are one for all threads of the
 * simulation. Numbers of tasks and addresses in memory differ between runs: what depends on them is
 * not replayed. Of TCP there is no keepalive (a peer that is cut off and sent nothing is never
 * missed), no TIME_WAIT, and no connection of a socket to itself; buffers have the sizes of the
 * settings, whatever is set on a socket. Of other options SO_REUSEADDR, SO_REUSEPORT, IPV6_V6ONLY
 * and an SO_LINGER of 0 do what they do on Linux; the rest is kept and given back, 0 where nobody
 * has set it. Any address is the machine's own, any port may be bound, and every other host can be
 * reached.
 * weft_dump() shows parked tasks as ever, weft_dump_on_signal() says only that the runtime is
 * simulated.
 *
 * docs/guide.md has an example, docs/design/simulation.md says how it works.
 */
#ifndef WEFT_SIM_H
#define WEFT_SIM_H

#include <weft/base.h>

WEFT_BEGIN_DECLS

/*
 * Settings. Fill with weft_sim_config_init() or weft_sim_config_draw(), change what you want. Rates
 * are in a million cases; 0: never.
 */
typedef struct weft_sim_config {
    uint64_t seed;
    unsigned workers; /* of the runtime, 1 to 64; 2 */

    /* The simulation is ended when so much time has passed in it, or so many turns of threads: a
     * program that goes on for ever is found by that, also one that makes calls of weft and never
     * waits (32 of them count as a turn). 1 hour; 10 million. */
    uint64_t time_max_ns, steps_max;

    /* Switches of threads. */
    unsigned preempt_ppm; /* at each call of weft's to the kernel; 250,000 */
    /* True: also while a task runs, at any call of weft that asks for the time, wakes a thread or
     * uses a socket. What the task holds then, a pthread mutex for one, must not be wanted by other
     * tasks: they would wait for ever. False: tasks are left at their waits alone. */
    bool preempts_tasks;
    unsigned stall_ppm;    /* a thread gets no CPU for a while; 0 */
    uint64_t stall_max_ns; /* for how long at most; 20 ms */
    unsigned spurious_ppm; /* waits of threads that end for nothing; 0 */

    /* The network. */
    uint64_t latency_min_ns, latency_max_ns; /* of each segment, one way; 50 us to 500 us */
    unsigned loss_ppm;   /* segments that arrive by retransmission only, 200 ms or more later */
    unsigned short_ppm;  /* reads and writes that move fewer bytes than they could */
    unsigned reset_ppm;  /* segments at which the connection is lost: both sides -ECONNRESET */
    unsigned refuse_ppm; /* connects that are refused although somebody listens */
    unsigned accept_abort_ppm; /* accepts whose peer is gone (ECONNABORTED) */
    unsigned
        accept_exhaust_ppm; /* accepts that find no descriptor or memory (EMFILE, ENFILE, ...) */
    size_t send_bytes, recv_bytes; /* buffers of a connection, at least 1; 64 KiB each */

    /* The runtime. */
    unsigned event_interval; /* as weft_config; 8 */
    unsigned budget;         /* as weft_config; 128 */
    bool disable_next_slot;  /* as weft_config */
    uint32_t reserved[16];   /* zero */
} weft_sim_config;

enum weft_sim_end {
    WEFT_SIM_DONE,       /* the body and all tasks have ended */
    WEFT_SIM_DEADLOCK,   /* every task waited, and nothing was left that could wake one */
    WEFT_SIM_TIME_LIMIT, /* time_max_ns */
    WEFT_SIM_STEP_LIMIT, /* steps_max */
    WEFT_SIM_FAILED,     /* weft_sim_fail() */
    WEFT_SIM_STUCK,      /* the same as one of those above, and then tasks did not end although they
                          * were aborted, or unwound, or a runtime that the body had made was not
                          * shut down: what they held is lost */
};

typedef struct weft_sim_result {
    enum weft_sim_end end;
    int rc;              /* what the body returned; -EOWNERDEAD: it panicked; -ECANCELED: aborted */
    uint64_t trace_hash; /* of everything that happened, bytes on the wire included */
    uint64_t seed;
    uint64_t time_ns; /* that passed in the simulation */
    uint64_t steps;   /* turns of threads */
    uint64_t threads; /* made */
    uint64_t spawned; /* tasks */
    uint64_t connections, refused, resets, accept_errors;
    uint64_t segments, bytes; /* delivered */
    uint64_t lost, held;      /* segments that were late by retransmission, or held by a cut link */
    unsigned fds_left;        /* sockets that nobody closed */
    char why[128];            /* of WEFT_SIM_FAILED */
    uint64_t reserved[8];
} weft_sim_result;

/* Fills in a calm world: the numbers above, and no faults. Any thread; never suspends. */
WEFT_API void weft_sim_config_init(weft_sim_config *c, uint64_t seed);
/* Draws all of it from the seed: how many workers, which faults occur and how often, sizes of
 * buffers, latencies. Most seeds have some faults, none has all. preempts_tasks is false. */
WEFT_API void weft_sim_config_draw(weft_sim_config *c, uint64_t seed);

/*
 * Runs body(arg) as the first task of a simulated runtime, until it and all tasks have ended, or
 * until the simulation ends for another reason: then every task is aborted, as at a shutdown.
 *
 *   config       borrowed
 *   body         its descriptors, threads, time and sockets are simulated as long as they are used
 *                through weft
 *   ret_result   written when 0 is returned
 *
 * Returns 0: the simulation took place, *ret_result says how it ended. Otherwise nothing ran:
 *   -EINVAL   a setting is out of range, or an argument NULL
 *   -EPERM    the caller is a task, or in a simulation
 *   -EBUSY    another thread of the process simulates
 *   -ENOMEM, and other errors of weft_runtime_create()
 *
 * Context: any thread that runs no task; blocks it. One simulation at a time in a process, and
 * nothing else of weft beside it: what is shared in a process would make runs differ.
 */
WEFT_API WEFT_MUST_CHECK int weft_sim_run(const weft_sim_config *config, int (*body)(void *arg),
                                          void *arg, weft_sim_result *ret_result);

/* ---- inside a simulation ---- */

/* Whether the caller is in one. Any thread; never suspends. */
WEFT_API bool weft_sim_is_running(void);

/* 64 random bits that depend on the seed and on how often this was called, and on nothing else.
 * 0 outside a simulation. Never suspends. */
WEFT_API uint64_t weft_sim_random(void);

/* Mixes a value into the trace hash: for what a run has computed, so that replays compare it.
 * Nothing outside a simulation. Never suspends. */
WEFT_API void weft_sim_trace(uint64_t value);

/* Turns of threads so far, to measure by what does not depend on latencies. 0 outside a simulation.
 * Never suspends. */
WEFT_API uint64_t weft_sim_steps(void);

/*
 * An invariant does not hold: ends the simulation with WEFT_SIM_FAILED and this text, of which 127
 * bytes are kept. The first one counts. Returns: the caller goes on until it waits next, and is
 * aborted there. Outside a simulation it is one line in the log. Never suspends.
 */
WEFT_API void weft_sim_fail(const char *fmt, ...) WEFT_PRINTF(1, 2);

#define WEFT__SIM_STRING_(x) #x
#define WEFT__SIM_STRING(x) WEFT__SIM_STRING_(x)
/* weft_sim_fail() unless cond holds; yields whether it does. */
#define weft_sim_check(cond)                                                                       \
    ((cond) ? true                                                                                 \
            : (weft_sim_fail("%s", __FILE__ ":" WEFT__SIM_STRING(__LINE__) ": " #cond), false))

/*
 * The caller computes for so long: its thread does nothing else meanwhile, as if a loop had taken
 * that time. A task that does it keeps its worker, which the runtime notices as it does in earnest.
 * Outside a simulation it does nothing.
 *
 * Context: inside a simulation, also in tasks and blocking jobs. It is no wait of weft: aborts and
 * deadlines do not end it.
 */
WEFT_API void weft_sim_compute(uint64_t ns);

/*
 * The network between two addresses, without ports ("10.0.0.1", "fd00::1"); NULL: any.
 *
 * A task speaks from 10.0.0.1 (fd00::1), or from 127.0.0.1 (::1) to that net, unless it binds to
 * another address before it connects (weft_tcp_connect_options.local), which may be any: so one
 * program plays several hosts. Listeners on 0.0.0.0 (::) listen on all of them.
 *
 *   cut     from now on nothing passes, in either direction; connects and writes that are not
 *           answered end with -ETIMEDOUT, after 127 s and 15 min as on Linux
 *   heal    undoes a cut with the same arguments: what was sent meanwhile arrives
 *   reset   every connection between them is lost: both sides get -ECONNRESET
 *
 * Return 0; -EINVAL for what is no address; -EPERM outside a simulation; -ENOMEM; -ENOENT: no such
 * cut to heal. Never suspend.
 */
WEFT_API int weft_sim_cut(const char *a, const char *b);
WEFT_API int weft_sim_heal(const char *a, const char *b);
WEFT_API int weft_sim_reset(const char *a, const char *b);

WEFT_END_DECLS

#endif
