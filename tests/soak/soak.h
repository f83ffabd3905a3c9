/*
 * The soak: random work of every kind, for as long as asked, and an account of what it leaves.
 *
 *   soak.c    arguments, runtimes, episodes, the verdict
 *   plays.c   tasks: trees of them, locks, scopes, timers, jobs, and who keeps a worker
 *   talk.c    channels, select and TCP
 *   gauge.c   what the process holds, and how long tasks waited for their turn
 *
 * Work comes in episodes of some seconds. All of an episode has ended when it is over: then the
 * runtime must hold nothing, and what was made must have been destroyed.
 */
#ifndef WEFT_TESTS_SOAK_H
#define WEFT_TESTS_SOAK_H

#include <weft/weft.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- checks and numbers ---- */

/* Reports, counts, and goes on. Any thread. */
#define EXPECT(cond) ((cond) ? (void)0 : soak_failed(__FILE__, __LINE__, #cond))
void soak_failed(const char *file, int line, const char *what);
/* A failure in words. */
void soak_violated(const char *fmt, ...) WEFT_PRINTF(1, 2);

uint64_t soak_random(uint64_t *state);
static inline uint64_t soak_below(uint64_t *state, uint64_t limit)
{
    return soak_random(state) % limit;
}

/* What a wait may return when anybody may be aborted and the runtime goes on. */
static inline bool soak_is_usual(long rc)
{
    return rc >= 0 || rc == -125 /* ECANCELED */ || rc == -110 /* ETIMEDOUT */;
}

/* Which promise to break, to see that it is noticed. */
enum soak_break {
    SOAK_BREAK_NOTHING,
    SOAK_BREAK_MEMORY,
    SOAK_BREAK_DESCRIPTORS,
    SOAK_BREAK_MAPPINGS,
    SOAK_BREAK_THREADS,
    SOAK_BREAK_LATENCY,
    SOAK_BREAK_VALUES,
};

/* All that happens, counted by whoever does it. */
struct soak_account {
    enum soak_break broken;                 /* set before anything runs */
    atomic_ulong plays, aborted, panicked;  /* plays that ended, and how */
    atomic_ulong values_made, values_freed; /* equal when nothing runs */
    atomic_ulong conns_open, conns_closed;  /* the same; both sides counted */
    atomic_ulong bytes, resets, half_closes, timeouts, jobs, selects, log_lines;
};
extern struct soak_account soak;

/* ---- values: blocks that are made once and must be freed once ---- */

void *soak_value_make(uint64_t content);
uint64_t soak_value_content(const void *value);
void soak_value_free(void *value); /* NULL does nothing */
/* For channels, whose elements are pointers to values. */
void soak_value_drop(void *elem);

/* ---- plays: bodies of tasks that end within about a second, or when aborted ---- */

struct soak_play {
    const char *name;
    unsigned weight; /* how often, compared with others */
    int (*fn)(uint64_t *seed);
    bool is_for_workers; /* it keeps its thread: for runtimes that have others */
};

extern const struct soak_play soak_plays[];
extern const size_t soak_play_count;

int soak_play_tree(uint64_t *seed);
int soak_play_locks(uint64_t *seed);
int soak_play_scope(uint64_t *seed);
int soak_play_timers(uint64_t *seed);
int soak_play_jobs(uint64_t *seed);
int soak_play_stuck(uint64_t *seed);
int soak_play_mpsc(uint64_t *seed);
int soak_play_broadcast(uint64_t *seed);
int soak_play_select(uint64_t *seed);
int soak_play_tcp(uint64_t *seed);

/* A server on loopback, for soak_play_tcp(), from the first call to its abort. */
int soak_server_start(weft_task **ret_task);

/* ---- gauges ---- */

struct soak_gauge {
    size_t heap_bytes; /* in use, by malloc's own count */
    size_t rss_bytes;
    unsigned descriptors, mappings, threads;
};
void soak_gauge_read(struct soak_gauge *g);
/* Once no more than so many threads are left, or after ten seconds. */
void soak_gauge_read_at_rest(struct soak_gauge *g, unsigned threads);
/* True when no more is held than before; otherwise each number that grew is a violation. */
bool soak_gauge_is_back(const struct soak_gauge *before, const struct soak_gauge *after);

/* Tasks that find out how long a runnable task waits; until they are aborted. */
void *soak_probe(void *arg);
/* A task was ready for so long before it ran. Any thread. */
void soak_waited(uint64_t latency_ns, const char *what);
/* The longest since the last call. */
uint64_t soak_waited_max_take(void);

/* The machine may be slow: a thread that knows nothing of weft finds out by how much it wakes up
 * late, and this much a task may wait beyond its second. */
void soak_clock_start(void);
void soak_clock_stop(void);
uint64_t soak_clock_late_ns(void); /* the latest of some seconds */

#endif
