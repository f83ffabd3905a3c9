/*
 * Can the simulation find bugs? Parts of weft are replaced by broken ones, one at a time, and the
 * random programs must fail within so many seeds; and hold with none of them.
 *
 * The linker puts what is here in place of functions of the library (--wrap, see
 * cmake/WeftTests.cmake), and a worker that calls what is broken in place of its own. Each breaks
 * now and then only, as bugs do.
 */
#include "bugs.h"

#include "../simulate/program.h"

#include "io/epoll.h"
#include "sched/sched.h"
#include "sync/fifo.h"
#include "time/timers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEEDS_MAX 400 /* within which each is found */
#define SEEDS_SOUND 100

enum bug {
    NO_BUG,
    WAKE_WHILE_PARKING_LOST,
    WAKE_OF_A_TASK_LOST,
    WAKE_OF_A_THREAD_LOST,
    STOLEN_TASK_LOST,
    STOLEN_TASK_RUN_TWICE,
    EDGE_LOST,
    TIMER_EARLY,
    TIMER_LEFT_ARMED,
    VALUE_LOST,
    VALUE_TWICE,
    PERMIT_LOST,
    TASK_NOT_WAITED_FOR,
    BUGS
};

static const char *const names[BUGS] = {
    "none",
    "a wake-up that meets a task on its way to sleep is lost",
    "one wake-up of a task in fifty is lost",
    "one wake-up of a thread in fifty is lost",
    "a task that is stolen alone is lost",
    "a task that is stolen is put back as well",
    "one event of a socket in ten is lost",
    "timers fire up to a millisecond early",
    "a timeout that is left stays armed",
    "a value in a queue is lost",
    "a value in a queue is there twice",
    "the second of two permits is not given back",
    "a tracker waits for all of its tasks but the last",
};

static enum bug bug;

/* True for one of n, when that bug is there. */
static bool strikes(enum bug which, unsigned n)
{
    static unsigned count;
    return bug == which && ++count % n == 0;
}

/* ---- the broken parts ---- */

bool broken_confirm_parked(struct weft__task *t)
{
    return weft__task_confirm_parked(t) || strikes(WAKE_WHILE_PARKING_LOST, 1);
}

void __real_weft__waker_wake_release(weft_waker *w);
void __wrap_weft__waker_wake_release(weft_waker *w);
void __wrap_weft__waker_wake_release(weft_waker *w)
{
    if (strikes(WAKE_OF_A_TASK_LOST, 50))
        weft__task_unref(weft__task_of_waker(w));
    else
        __real_weft__waker_wake_release(w);
}

void __real_weft__sys_futex_wake(weft__a32 *word, int count);
void __wrap_weft__sys_futex_wake(weft__a32 *word, int count);
void __wrap_weft__sys_futex_wake(weft__a32 *word, int count)
{
    if (!strikes(WAKE_OF_A_THREAD_LOST, 50))
        __real_weft__sys_futex_wake(word, count);
}

unsigned __real_weft__runq_steal_half(struct weft__runq *from, struct weft__runq *to,
                                      struct weft__task **ret_first);
unsigned __wrap_weft__runq_steal_half(struct weft__runq *from, struct weft__runq *to,
                                      struct weft__task **ret_first);
unsigned __wrap_weft__runq_steal_half(struct weft__runq *from, struct weft__runq *to,
                                      struct weft__task **ret_first)
{
    unsigned n = __real_weft__runq_steal_half(from, to, ret_first);
    if (n == 1 && strikes(STOLEN_TASK_LOST, 1))
        return 0;
    if (n > 0 && strikes(STOLEN_TASK_RUN_TWICE, 1) && !weft__runq_push(to, *ret_first))
        abort(); /* there is room */
    return n;
}

void __real_weft__source_deliver(struct weft__source *s, uint32_t generation, uint64_t in,
                                 uint64_t out);
void __wrap_weft__source_deliver(struct weft__source *s, uint32_t generation, uint64_t in,
                                 uint64_t out);
void __wrap_weft__source_deliver(struct weft__source *s, uint32_t generation, uint64_t in,
                                 uint64_t out)
{
    if (!strikes(EDGE_LOST, 10))
        __real_weft__source_deliver(s, generation, in, out);
}

struct weft__wheel_entry *__real_weft__wheel_take_due(struct weft__wheel *w, uint64_t now_ns);
struct weft__wheel_entry *__wrap_weft__wheel_take_due(struct weft__wheel *w, uint64_t now_ns);
struct weft__wheel_entry *__wrap_weft__wheel_take_due(struct weft__wheel *w, uint64_t now_ns)
{
    return __real_weft__wheel_take_due(w, now_ns + (strikes(TIMER_EARLY, 1) ? WEFT_MS : 0));
}

void __real_weft__timeout_disarm(weft_timeout *scope);
void __wrap_weft__timeout_disarm(weft_timeout *scope);
void __wrap_weft__timeout_disarm(weft_timeout *scope)
{
    if (!strikes(TIMER_LEFT_ARMED, 5))
        __real_weft__timeout_disarm(scope);
}

void __real_weft__fifo_push(struct weft__fifo *f, const void *elem);
void __wrap_weft__fifo_push(struct weft__fifo *f, const void *elem);
void __wrap_weft__fifo_push(struct weft__fifo *f, const void *elem)
{
    if (strikes(VALUE_LOST, 20))
        return;
    __real_weft__fifo_push(f, elem);
    if (bug == VALUE_TWICE && f->size > f->count && strikes(VALUE_TWICE, 5))
        __real_weft__fifo_push(f, elem);
}

void __real_weft_semaphore_release(weft_semaphore *s, size_t n);
void __wrap_weft_semaphore_release(weft_semaphore *s, size_t n);
void __wrap_weft_semaphore_release(weft_semaphore *s, size_t n)
{
    __real_weft_semaphore_release(s, n > 1 && strikes(PERMIT_LOST, 1) ? n - 1 : n);
}

int __real_weft_task_tracker_wait(weft_task_tracker *t);
int __wrap_weft_task_tracker_wait(weft_task_tracker *t);
int __wrap_weft_task_tracker_wait(weft_task_tracker *t)
{
    int rc = 0;
    if (bug != TASK_NOT_WAITED_FOR)
        return __real_weft_task_tracker_wait(t);
    while (rc == 0 && weft_task_tracker_len(t) > 1)
        rc = weft_sleep(10 * WEFT_US);
    return rc;
}

/* ---- looking for them ---- */

static void swallow(enum weft_log_level level, const char *line, void *arg)
{
    (void)level, (void)line, (void)arg;
}

/* What a child says of a seed: shared, since it may not live to say it. */
struct finding {
    uint64_t seed;
    char why[256];
};

/* The first seed of 1 to `count` that fails; 0: none. */
static uint64_t search(enum bug which, uint64_t count, struct finding *f)
{
    int status;
    f->seed = 0;
    (void)snprintf(f->why, sizeof(f->why), "it crashed");
    pid_t child = fork();
    if (child == 0) {
        bug = which;
        /* What a fault handler says of it is of no interest. */
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(2);
        weft_log_set(swallow, NULL);
        for (uint64_t seed = 1; seed <= count; seed++) {
            f->seed = seed;
            (void)alarm(20);
            if (!program_run(seed, NULL, f->why, sizeof(f->why)))
                _exit(1);
        }
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : f->seed;
}

int main(void)
{
    struct finding *f =
        mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int missed = 0;
    if (f == MAP_FAILED)
        return 2;
    uint64_t seed = search(NO_BUG, SEEDS_SOUND, f);
    if (seed != 0) {
        printf("without any bug seed %llu failed: %s\n", (unsigned long long)seed, f->why);
        missed++;
    }
    for (int which = NO_BUG + 1; which < BUGS; which++) {
        seed = search((enum bug)which, SEEDS_MAX, f);
        if (seed == 0)
            printf("%s: NOT found within %d seeds\n", names[which], SEEDS_MAX);
        else
            printf("%s: found by seed %llu: %s\n", names[which], (unsigned long long)seed, f->why);
        (void)fflush(stdout);
        missed += seed == 0;
    }
    return missed != 0;
}
