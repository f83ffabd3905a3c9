/*
 * The paused clock: time for tests.
 *
 * A current_thread runtime, or a local one, can stop its clock. Then no time passes while tasks
 * run, however long that takes, and when nothing can run the clock jumps to the next timer: a test
 * of a year of retries ends at once, and its timers fire in the same order in each run. The clock
 * is that of the whole runtime: weft_now() inside it, sleeps, timers, intervals, delay queues,
 * timeout scopes.
 *
 * It does not jump while a blocking job (weft_spawn_blocking()) is unfinished, which may be about
 * to wake a task. It does jump while tasks wait for sockets: what comes over them comes in real
 * time. The end of a shutdown's grace, and reports of tasks that stick or all wait, go by real time
 * too; the grace of weft_local_set_destroy() by whichever clock ends it first.
 *
 * A runtime may also start so: weft_config.start_paused.
 *
 * In a forked child the clock of a runtime of its parent's stands or runs as it did, and can be
 * neither stopped nor moved: -EPERM, with a line in the log.
 */
#ifndef WEFT_CLOCK_H
#define WEFT_CLOCK_H

#include <weft/base.h>

WEFT_BEGIN_DECLS

/*
 * Stops the clock of the caller's runtime, and lets it run on from where it stands: after a resume
 * it has an offset from the clock outside. It never runs backwards.
 *
 * Returns 0, or nothing was done and it is misuse:
 *   -EPERM   the caller is not a task or a body of weft_block_on() on a current_thread or local
 *            runtime (a task of a local set has no clock of its own); or time is switched off in it
 *   -EINVAL  the clock stands already, or runs already
 *
 * Context: inside a current_thread runtime, on the thread that drives it. Never suspends.
 */
WEFT_API int weft_clock_pause(void);
WEFT_API int weft_clock_resume(void);

/* Whether the clock of the caller's runtime stands. False outside a runtime. Any thread; never
 * suspends. */
WEFT_API bool weft_clock_is_paused(void);

/*
 * Moves a paused clock by exactly duration_ns, in one leap: who wakes up sees the time after it, as
 * if the process had been stopped for so long. What is due fires in the order of the deadlines, and
 * what that wakes has run, to its next wait, when this returns (later may run what has a lower
 * priority than the caller, and with weft_config.deterministic any of it, as two tasks that are
 * ready run in either order). To pass time step by step instead, with every timer at its own time,
 * sleep: weft_sleep() under a paused clock.
 *
 * Returns 0, or
 *   -ECANCELED  the calling task was aborted, or a token around the call cancelled: before the
 *               call, and nothing was done, or in it, and the clock has moved all the same
 *   -EPERM      as weft_clock_pause(), and where nothing may wait; nothing was done
 *   -EINVAL     the clock is not paused, or would arrive at the end of time; nothing was done
 * Timeout scopes around the call do not end it; the next wait in one that it made expire does so.
 *
 * Context: as weft_clock_pause(). Suspends.
 */
WEFT_API int weft_clock_advance(uint64_t duration_ns);

WEFT_END_DECLS

#endif
