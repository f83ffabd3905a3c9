/*
 * Runtimes: build, enter, block on, shut down.
 *
 * A multi_thread runtime runs tasks on worker threads that steal from each other; a current_thread
 * runtime runs them inside weft_block_on() only; a local runtime is a current_thread one that
 * belongs to the thread that created it, see local.h. Several may exist in one process. A runtime
 * is owned by one holder; a weft_handle is a counted reference that any thread may use to spawn on
 * it, to enter it or to block on it, also after it was shut down (spawns then give tasks that join
 * as cancelled).
 */
#ifndef WEFT_RUNTIME_H
#define WEFT_RUNTIME_H

#include <weft/base.h>
#include <weft/task.h>

WEFT_BEGIN_DECLS

typedef struct weft_runtime weft_runtime;

enum weft_flavor {
    WEFT_FLAVOR_MULTI_THREAD,
    WEFT_FLAVOR_CURRENT_THREAD,
    WEFT_FLAVOR_LOCAL, /* current_thread, driven and shut down by the creating thread alone */
};

/* What a panic does that nobody joins, also when its handle is given up later. It is reported on
 * the log in either case. */
enum weft_unhandled_panic {
    WEFT_UNHANDLED_PANIC_IGNORE,
    /* Every task is aborted and later ones are cancelled, as in a shutdown. A body of
     * weft_block_on() that is cancelled by it ends as panicked, with a message that says so;
     * weft_run() returns -EOWNERDEAD then. */
    WEFT_UNHANDLED_PANIC_SHUTDOWN,
};

/* What a hook of tasks is told. Borrowed for the call; name and site are those of the spawn. */
typedef struct weft_task_meta {
    uint64_t id;
    const char *name;      /* "" without one */
    const weft_site *site; /* static storage */
    /* Around runs: how long the task was ready before it ran. WEFT_NEVER where it is not measured:
     * without weft_config.measure_latency, and in the other hooks. */
    uint64_t latency_ns;
} weft_task_meta;

/*
 * Settings. Fill with weft_config_init(), change what you want, hand to weft_runtime_create(),
 * which refuses a value out of the range given here.
 */
typedef struct weft_config {
    enum weft_flavor flavor;
    /* Of the runtime (31 bytes are kept) and its threads (15); not blank. Copied. NULL: "weft". */
    const char *name;
    /* 1 to 1024. Default: the CPUs the process may use, cgroup quota included. A current_thread or
     * local runtime has 1 whatever of these this is. WEFT_WORKERS. */
    unsigned workers;
    /* Threads for blocking jobs: 1 to 65536; 512. WEFT_BLOCKING_THREADS. */
    unsigned blocking_threads_max;
    /* An idle one of them ends after this; 10 s. */
    uint64_t blocking_keep_alive_ns;
    /* Default stack of a task: 1 to 1 GiB, rounded up; 64 KiB. WEFT_STACK_BYTES. */
    size_t stack_bytes;
    /* Ready waits until a task is made to yield: 1 to 65535; 128. WEFT_BUDGET. */
    unsigned budget;
    /* Tasks run until timers and sockets are looked at: at least 1; 61. */
    unsigned event_interval;
    /* Tasks run until the global queue comes first: at least 1; 31. */
    unsigned global_queue_interval;
    /* True: a task just woken by a task is queued like any other, instead of run next. */
    bool disable_next_slot;
    /* Default true. Without I/O sockets, without time timers are refused with -EPERM. */
    bool enable_io, enable_time;
    /* When a task keeps its worker this long, and up to twice as long where all had run shortly
     * before, another worker is added while it does; after ten times as long it is named in the
     * log. At least 1 ms; 10 ms. WEFT_STUCK_MS. */
    uint64_t stuck_after_ns;
    /* Workers added while others are stuck or block in place: 0 to 1024; 64. Where there are no
     * more, the tasks of a worker that blocks in place are left to those that do not. */
    unsigned extra_workers_max;
    /* How long shutdown waits for tasks to clean up after -ECANCELED until it unwinds them, which
     * runs what they have registered, and no more; the log says how many. 1 s. */
    uint64_t shutdown_grace_ns;
    /* Default true: report on the log when every task waits and nothing can wake one. A thread that
     * is in no runtime may: it counts once it has woken a task, and as long as anybody holds a
     * handle of the runtime. */
    bool detect_deadlock;
    enum weft_unhandled_panic unhandled_panic;
    /* Of random choices; 0: random, and weft_metrics.seed says which. */
    uint64_t seed;
    /* How late the kernel may make timers, to save wake-ups: the timer slack of the threads that
     * run tasks. 0: as it is, 50 us unless the process has changed it. 1: as precise as the machine
     * can be. At most 1 s. */
    uint64_t timer_slack_ns;
    /*
     * True: for tests; current_thread only. Which task runs next is chosen at random among all that
     * are ready, by the seed, as is every other choice of the runtime. So different seeds try
     * different interleavings of a program, and a seed that finds a bug finds it again: as long as
     * the program asks nobody outside, that is no other thread, no socket, no blocking job, and no
     * clock but a paused one (start_paused). weft_metrics.trace_hash tells whether two runs took
     * the same steps. Priorities count for nothing, and every run costs more.
     */
    bool deterministic;
    /* True: the clock stands still from the start, see <weft/clock.h>. current_thread only. */
    bool start_paused;
    /* Hooks, called on the thread concerned, outside any task; they may spawn, wake and enter, and
     * must not wait. What a hook enters it leaves: a guard it forgets is reported, and the runtime
     * stays referenced. start and stop: the thread of every worker, which a current_thread runtime
     * has not. park and unpark: around a worker's sleep. */
    void (*on_thread_start)(void *arg);
    void (*on_thread_stop)(void *arg);
    void (*on_thread_park)(void *arg);
    void (*on_thread_unpark)(void *arg);
    /*
     * Hooks of tasks, each NULL by default, and free of cost then. They run on the thread
     * concerned, outside any task, and may do what the hooks above may.
     *
     *   on_task_spawn       once a task, by who spawns it, before its first run
     *   on_task_terminate   once a task, however it ended, also when it never ran; before whoever
     *                       joins it hears of it
     *   on_task_run_begin   before each run slice: from one wait to the next
     *   on_task_run_end     after it. The last one comes before on_task_terminate
     *
     * Blocking jobs have no run slices; the body of weft_block_on() is no task. With hooks around
     * runs every run costs a switch more, since they are called on the worker's own stack; the
     * other two use the stack of who spawns and of the task that ends.
     *
     * A hook that panics, also one of a thread: the panic ends there, is reported on the log, and
     * counts as a panic that nobody joins (unhandled_panic). What it was called for goes on.
     *
     * Once the runtime is shut down what a hook spawns ends inside the spawn, where its own hooks
     * are called: one that spawns anew at each end must not do so for ever.
     */
    void (*on_task_spawn)(const weft_task_meta *task, void *arg);
    void (*on_task_terminate)(const weft_task_meta *task, void *arg);
    void (*on_task_run_begin)(const weft_task_meta *task, void *arg);
    void (*on_task_run_end)(const weft_task_meta *task, void *arg);
    /* Of all hooks. */
    void *hook_arg;
    /* True: weft_task_meta.latency_ns is measured, for a clock read when a task becomes ready and
     * one when it runs, and some memory a task. */
    bool measure_latency;
    uint32_t reserved[16]; /* zero */
} weft_config;

/* Fills in defaults, then the environment variables named above. A variable that does not parse, or
 * is out of range, is reported on the log and ignored. Any thread; never suspends. */
WEFT_API void weft_config_init(weft_config *c);

/*
 * Creates a runtime and starts its workers.
 *
 *   config   borrowed; NULL: defaults
 *
 * Returns 0, or nothing exists and it is
 *   -EINVAL   a setting is out of range; the log names it
 *   -EAGAIN   no thread to be had; the log says what that may be for
 *   -ENOMEM, -EMFILE, -ENFILE   memory or descriptors ran out
 *   -ENOTSUP  this machine runs with shadow stacks on
 *
 * Context: any thread, also inside a task. Does not suspend.
 */
WEFT_API WEFT_MUST_CHECK int weft_runtime_create(const weft_config *config, weft_runtime **ret_rt);

/*
 * Shuts a runtime down and gives it up. Every task is aborted: one that never ran does not run, one
 * that waits gets -ECANCELED and cleans up, and after shutdown_grace_ns, counted from the first of
 * several calls, it is unwound. Blocking jobs that have started are waited for, others are
 * cancelled. Spawns meanwhile give tasks that are cancelled at once.
 *
 *   rt           taken with 0 and -ETIMEDOUT; but a local runtime stays the caller's with
 *                -ETIMEDOUT: call again
 *   timeout_ns   how long to wait; WEFT_NEVER: until all has ended; 0: not at all
 *
 * Returns 0 when everything has ended, threads included; the runtime's own memory and descriptors
 * go then too, or with the last handle to it or to a task of it. Or it is
 *   -ETIMEDOUT   tasks or jobs that do not end were left behind on threads that go on by
 *                themselves, and what they use is freed when they end
 *   -EAGAIN, -ENOMEM   likewise, but there is no thread or no memory to go on: call again
 *   -EPERM       timeout_ns is not 0, and the caller is a task, a body of weft_block_on(), a
 *                hook, or at the end of a thread of the runtime's (in the destructor of a
 *                thread-local); or a local runtime, and the caller is one of these or another
 *                thread
 *   -EINVAL      rt is NULL
 *
 * Context: any thread; blocks it.
 */
WEFT_API int weft_runtime_shutdown(weft_runtime *rt, uint64_t timeout_ns);
/* weft_runtime_shutdown(rt, WEFT_NEVER). NULL does nothing. */
WEFT_API int weft_runtime_destroy(weft_runtime *rt);

/*
 * Runs body(arg) to its end and yields its outcome. On a multi_thread runtime the body runs on the
 * calling thread; on a current_thread runtime this is what drives the runtime, and of several
 * callers one does, for all (the bodies may move between them). Other tasks are not waited for.
 *
 *   ret_outcome   NULL: dropped
 *
 * Returns 0 with the outcome, or the body did not run and it is
 *   -EPERM     the caller is itself a task or a body of weft_block_on(), a forked child, or not the
 *              thread of a local runtime
 *   -EINVAL    rt or body is NULL
 *   -ENOMEM
 *   -ESHUTDOWN the runtime is shut down
 *
 * Context: any thread that runs no task; blocks it. pthread_cancel() of it takes effect after the
 * return.
 */
WEFT_API WEFT_MUST_CHECK int weft_block_on(weft_runtime *rt, weft_task_fn body, void *arg,
                                           weft_outcome *ret_outcome);

/*
 * Creates the default runtime, runs main_fn(arg) as its first task, waits until it and all tasks
 * have ended, and shuts the runtime down.
 *
 * Returns what main_fn returned; -EOWNERDEAD when it panicked (reported on the log); -ECANCELED
 * when it was cancelled; or an error of weft_runtime_create() or weft_block_on().
 *
 * Context: any thread that runs no task; blocks it.
 */
WEFT_API int weft_run(int (*main_fn)(void *arg), void *arg);
/* The same with settings; config NULL: defaults. */
WEFT_API int weft_run_with(const weft_config *config, int (*main_fn)(void *arg), void *arg);

/* Ends weft_run(): aborts every task of the caller's runtime and refuses new ones, as shutdown
 * does. Returns 0, or -EPERM outside a runtime and in a forked child. Any thread inside a runtime;
 * never suspends. */
WEFT_API int weft_stop(void);

/* ---- handles ---- */

/* A reference, returned. Any thread. */
WEFT_API weft_handle *weft_runtime_handle(weft_runtime *rt);
/* The runtime of the caller: 0; -EPERM outside one, which the try form does not report as misuse;
 * -EINVAL when ret_handle is NULL (logged). */
WEFT_API WEFT_MUST_CHECK int weft_handle_current(weft_handle **ret_handle);
WEFT_API WEFT_MUST_CHECK int weft_handle_try_current(weft_handle **ret_handle);
WEFT_API weft_handle *weft_handle_ref(weft_handle *h);
WEFT_API void weft_handle_unref(weft_handle *h); /* NULL does nothing */
/* Equal for handles of one runtime, different for different ones. */
WEFT_API uint64_t weft_handle_runtime_id(const weft_handle *h);
WEFT_API const char *weft_handle_runtime_name(const weft_handle *h); /* lives as long as h */

/* As weft_block_on(), except that on a current_thread runtime it does not drive it: the body runs
 * on the calling thread, and what it waits for of the runtime (tasks, timers, sockets) needs
 * somebody in weft_block_on(). */
WEFT_API WEFT_MUST_CHECK int weft_handle_block_on(weft_handle *h, weft_task_fn body, void *arg,
                                                  weft_outcome *ret_outcome);

/* Makes a runtime the caller's, so that it may spawn, and wait by parking its thread. Guards are
 * left on the thread that entered, in reverse order; a panic that ends in a callback around them
 * leaves them. In the caller's memory. */
typedef struct weft_enter_guard {
    void *opaque[4];
} weft_enter_guard;
/* 0, or -EINVAL for NULL and for a guard that the thread has entered and not left, -EPERM inside a
 * task, a blocking job or a body of weft_block_on(), and for a parent's runtime in a forked child.
 * h is referenced until the guard is left. Any thread; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_enter(weft_handle *h, weft_enter_guard *g);
/* 0; -EINVAL when g is not the innermost guard of this thread: then g and those inside it are left
 * all the same. -EPERM inside a task, and in a hook for a guard that was entered around it. */
WEFT_API int weft_leave(weft_enter_guard *g);

/*
 * Runs fn(arg), which may block, on the calling thread while another thread takes over the other
 * tasks of its worker. For calls that block now and then; weft_spawn_blocking() suits those that do
 * always. Inside, the thread may even drive another runtime. Budget and aborts of a task do not
 * apply inside, nor do deadlines and cancellation scopes around the call. A panic in fn goes on in
 * the task. What fn enters it leaves: a guard it forgets is reported, and the runtime stays
 * referenced.
 *
 * Returns 0 with fn's value, or fn did not run and it is
 *   -EPERM    on a current_thread runtime, in a local set and while driving one, in a hook of a
 *             worker, in a polled future, in a forked child
 *   -EINVAL   fn is NULL
 * Outside a runtime, on blocking threads and in the body of a multi_thread weft_block_on() it just
 * calls fn.
 */
WEFT_API WEFT_MUST_CHECK int weft_block_in_place(weft_task_fn fn, void *arg, void **ret_value);

/* The index of the worker the caller runs on: 0 in a current_thread runtime, 0 to workers - 1 in a
 * multi_thread one, above that on workers added while others are stuck; -1 elsewhere. It may differ
 * after each wait. */
WEFT_API int weft_worker_index(void);

/* True for the error of a wait or a spawn that the end of its runtime caused, and for no other. */
static inline bool weft_error_is_shutdown(int rc)
{
    return rc == -108; /* -ESHUTDOWN */
}

typedef struct weft_metrics {
    uint64_t seed;          /* of random choices */
    uint64_t trace_hash;    /* with weft_config.deterministic: of what ran so far, in its order */
    unsigned workers;       /* configured */
    unsigned workers_extra; /* added at this moment because others are stuck */
    unsigned blocking_threads, blocking_threads_idle;
    /* spawned and not ended; blocking jobs included, and the body of weft_block_on() on a
     * current_thread runtime, where it is a fiber. May lag behind a join */
    uint64_t alive_tasks;
    uint64_t spawned_tasks;                  /* since the start */
    uint64_t polls;                          /* run slices */
    uint64_t urgent_polls, background_polls; /* those of tasks of these classes among them */
    uint64_t forced_yields;                  /* made to yield for their budget */
    uint64_t steals;                         /* tasks taken from another worker */
    uint64_t overflows;                      /* times a local queue spilled */
    uint64_t remote_schedules;               /* tasks made runnable from outside the workers */
    uint64_t parks;                          /* times a worker went to sleep */
    uint64_t stuck_reports;                  /* tasks named for sticking */
    uint64_t global_queue_depth, blocking_queue_depth;
    uint64_t urgent_queue_depth, background_queue_depth, pinned_queue_depth;
    uint64_t fds_registered, fds_deregistered, io_events;
} weft_metrics;
/* A snapshot: each number is right, together they need not agree. h NULL: the caller's runtime. 0,
 * or -EPERM (outside a runtime; h is the parent's, in a forked child), -EINVAL. Readable after
 * shutdown. Any thread; never suspends. */
WEFT_API int weft_metrics_get(weft_handle *h, weft_metrics *ret_metrics);

/*
 * Writes what every task of a runtime is doing to fd, as text:
 *
 *     task 17 "session" (fiber) waits for 1200 ms on mpsc recv, spawned at main.c:40 in serve
 *         #0 weft__sched_park+0x234 (libweft.so.0+0x1f29c)
 *         #1 weft_mpsc_recv+0x5a (libweft.so.0+0x2318a)
 *         #2 next_order+0x17 (server+0x1187)
 *     task 18 (fiber) waits for 1200 ms on mpsc recv, spawned at main.c:40 in serve
 *         as task 17
 *     task 19 (fiber, background) runs on worker 1, spawned at main.c:52 in main
 *         #0 ...
 *
 * The waiting time is as exact as its worker looks at the clock, mostly to a millisecond or two.
 * Under the line stands the call chain of a fiber, innermost call first. Functions that are static
 * or hidden are named where the file of the program or library is there, as it was loaded, and not
 * stripped; it is read for that. addr2line and gdb take the place in brackets, or without a name.
 * Two of one chain refer to the first. Of a future there is no chain, of threads (blocking jobs,
 * bodies of weft_block_on() on their caller's thread) neither.
 *
 * The tasks go on meanwhile: one that waits is held for the few microseconds in which its chain is
 * read, and one that runs is asked for its chain by a signal to its worker, SIGURG, unless the
 * program has a handler for that. One in a system call that every signal ends (a sleep, poll(),
 * ...) is not asked: the place of the call is told, and that this is all that is known. Other calls
 * go on after the signal, but those with a time limit (SO_RCVTIMEO) may fail with EINTR; calls of
 * weft do not. One that does not answer in 50 ms is said not to. On valgrind, whose idea of where a
 * thread stands a signal spoils, none is asked. Tasks that begin or end meanwhile may be in it or
 * not; each of the others is in it once.
 *
 *   h       whose tasks; NULL: those of the caller's runtime
 *   fd      written to with the thread blocked until it takes all; one that is non-blocking, and
 *           takes nothing for a second, or gives an error, does not get the rest
 *
 * Returns how many tasks there are, also where fd has not taken all of it, or
 *   -EPERM   h is NULL and the caller is in no runtime; in a forked child it is the parent's
 *
 * Any thread, also while workers are stuck; in tasks too. Never suspends. Not for signal handlers:
 * see weft_dump_on_signal().
 */
WEFT_API int weft_dump(weft_handle *h, int fd);

typedef struct weft_dump_options {
    uint64_t task;       /* the task with this id alone; 0: all */
    bool without_traces; /* the lines alone: a tenth of the time */
} weft_dump_options;
/* The same; options NULL: all that weft_dump() writes. A task may so write its own chain, or a
 * watchdog that of the task it watches. */
WEFT_API int weft_dump_with(weft_handle *h, int fd, const weft_dump_options *options);

/*
 * From now on the signal `signo` makes the process write a dump of each of its runtimes to fd, from
 * a thread of its own, whatever the workers do: `kill -USR1 PID`.
 *
 *   signo   not one that the program has a handler for; every thread that blocks it may go on doing
 *           so
 *   fd      borrowed, until it is switched off; -1 switches off, and gives the signal its default
 *           action back
 *
 * Returns 0, or
 *   -EBUSY            the program handles or ignores signo, or another signal is on
 *   -EINVAL           there is no such signal, or it cannot be handled; or fd is -1 and it was not
 *                     on
 *   -ENOMEM, -EAGAIN  no thread to be had
 *
 * Again with another fd: from now on there. Once it returns the former fd is not written to any
 * more; for that the thread waits until a dump that is being written is done. A forked child asks
 * for its own. Any thread; never suspends. Local sets are in none of it: weft_local_set_dump().
 */
WEFT_API WEFT_MUST_CHECK int weft_dump_on_signal(int signo, int fd);

WEFT_END_DECLS

#endif
