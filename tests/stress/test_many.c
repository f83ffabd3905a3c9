/* ctest: timeout=300 not-under=address,thread,memcheck,aarch64 (ten million tasks) */
/* A million tasks alive at once, ten million spawned and joined. */
#include "harness.h"
#include "sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MILLION 1000000
#define TEN_MILLION 10000000
#define BATCH 1000

static struct gate all_go;
static atomic_long waiting, woken;

static unsigned long mem_available_mib(void)
{
    unsigned long kib = 0;
    char line[200];
    FILE *f = fopen("/proc/meminfo", "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "MemAvailable: %lu kB", &kib) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return kib >> 10;
}

/* ---- a million fibers ---- */

static void *wait_with_the_others(void *arg)
{
    atomic_fetch_add(&waiting, 1);
    CHECK_EQ(gate_wait(&all_go), 0);
    atomic_fetch_add(&woken, 1);
    return arg;
}

struct dump_job {
    int fd, count;
    atomic_bool is_done;
    uint64_t ms;
};

static void *dump_all(void *arg)
{
    struct dump_job *job = arg;
    uint64_t start = weft_now();
    job->count = weft_dump(NULL, job->fd);
    job->ms = test_elapsed_ms(start);
    atomic_store(&job->is_done, true);
    return NULL;
}

/* Every task with its call chain, while one that sleeps for a millisecond again and again sees how
 * late it is. */
static void dump_the_million(void)
{
    struct dump_job job = {.fd = open("/dev/null", O_WRONLY | O_CLOEXEC)};
    weft_task *dumper;
    uint64_t worst_ns = 0;
    CHECK(job.fd >= 0);
    CHECK_EQ(weft_spawn_blocking(dump_all, &job, &dumper), 0);
    while (!atomic_load(&job.is_done)) {
        uint64_t due_ns = weft_now() + WEFT_MS;
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
        uint64_t late_ns = weft_now() - due_ns;
        worst_ns = late_ns > worst_ns ? late_ns : worst_ns;
    }
    CHECK_EQ(test_join_kind(dumper), WEFT_OUTCOME_VALUE);
    CHECK(job.count >= MILLION);
    CHECK(job.ms < 60000);
    CHECK_EQ(close(job.fd), 0);
    print_message("dumped in %llu ms; a task beside it was late by %llu us at worst\n",
                  (unsigned long long)job.ms, (unsigned long long)(worst_ns / WEFT_US));
}

static void *hold_a_million(void *arg)
{
    weft_metrics m;
    for (int i = 0; i < MILLION; i++) {
        CHECK_EQ(weft_spawn(wait_with_the_others, arg, NULL), 0);
        if (i % BATCH == 0)
            CHECK_EQ(weft_yield(), 0);
    }
    CHECK_SOON(atomic_load(&waiting) == MILLION);
    CHECK_EQ(weft_metrics_get(NULL, &m), 0);
    CHECK(m.alive_tasks >= MILLION);
    print_message("%d tasks wait; resident: %llu MiB\n", MILLION,
                  (unsigned long long)(test_rss_bytes() >> 20));
    dump_the_million();
    gate_open(&all_go);
    CHECK_SOON(atomic_load(&woken) == MILLION);
    return NULL;
}

static void million_fibers_alive_at_once(struct test_env *env)
{
    weft_runtime *rt;
    uint64_t start = weft_now();
    (void)env;
    if (mem_available_mib() < 8192) {
        print_message("skipped: a million stacks need 8 GiB, %lu MiB are available\n",
                      mem_available_mib());
        skip();
    }
    gate_init(&all_go);
    atomic_store(&waiting, 0);
    atomic_store(&woken, 0);
    rt = test_runtime_create(TEST_MT4);
    (void)test_block_on(rt, hold_a_million, NULL);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    gate_fini(&all_go);
    print_message("%llu ms\n", (unsigned long long)test_elapsed_ms(start));
}

/* The same, and the runtime is shut down while all of them wait. */
static void *wait_cancelled(void *arg)
{
    atomic_fetch_add(&waiting, 1);
    EXPECT_EQ(gate_wait(&all_go), -ECANCELED);
    atomic_fetch_add(&woken, 1);
    return arg;
}

static void *start_many(void *arg)
{
    for (int i = 0; i < MILLION / 10; i++)
        CHECK_EQ(weft_spawn(wait_cancelled, arg, NULL), 0);
    CHECK_SOON(atomic_load(&waiting) == MILLION / 10);
    return NULL;
}

static void shutdown_of_100000_waiting_fibers(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    (void)env;
    test_config(&c, TEST_MT4);
    c.shutdown_grace_ns = 30 * WEFT_SEC;
    gate_init(&all_go);
    atomic_store(&waiting, 0);
    atomic_store(&woken, 0);
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    (void)test_block_on(rt, start_many, NULL);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    CHECK_EQ(atomic_load(&woken), MILLION / 10);
    gate_fini(&all_go);
}

/* ---- a million polled tasks ---- */

struct idle {
    weft_future future;
    struct sema_wait wait;
    bool has_begun;
};

static int poll_idle(weft_future *f, weft_waker *waker)
{
    struct idle *i = (struct idle *)f;
    if (!i->has_begun) {
        i->has_begun = true;
        atomic_fetch_add(&waiting, 1);
    }
    int rc = weft_future_poll(&i->wait.future, waker);
    if (rc != WEFT_PENDING)
        atomic_fetch_add(&woken, 1);
    return rc == -EPIPE ? 0 : rc;
}

static void cancel_idle(weft_future *f)
{
    weft_future_cancel(&((struct idle *)f)->wait.future);
}

static const weft_future_ops idle_ops = {poll_idle, cancel_idle, "idle"};

static void *hold_a_million_polled(void *arg)
{
    struct idle *idle = arg;
    uint64_t before = test_rss_bytes();
    for (int i = 0; i < MILLION; i++) {
        idle[i] = (struct idle){.future = {&idle_ops}};
        sema_wait_init(&idle[i].wait, &all_go.sema);
        CHECK_EQ(weft_spawn_future(NULL, &idle[i].future, NULL), 0);
    }
    CHECK_SOON(atomic_load(&waiting) == MILLION);
    uint64_t each = (test_rss_bytes() - before) / MILLION;
    print_message("%llu bytes for each polled task, its future of %zu bytes included\n",
                  (unsigned long long)each, sizeof(struct idle));
    CHECK(each < 1024); /* a few hundred bytes, says DESIGN */
    gate_open(&all_go);
    CHECK_SOON(atomic_load(&woken) == MILLION);
    return NULL;
}

static void million_polled_tasks_alive_at_once(struct test_env *env)
{
    struct idle *idle = malloc(MILLION * sizeof(*idle));
    (void)env;
    CHECK(idle != NULL);
    gate_init(&all_go);
    atomic_store(&waiting, 0);
    atomic_store(&woken, 0);
    weft_runtime *rt = test_runtime_create(TEST_MT4);
    (void)test_block_on(rt, hold_a_million_polled, idle);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    gate_fini(&all_go);
    free(idle);
}

/* ---- ten million ---- */

static void *join_ten_million(void *arg)
{
    static weft_task *t[BATCH];
    for (int done = 0; done < TEN_MILLION; done += BATCH) {
        for (int i = 0; i < BATCH; i++)
            t[i] = SPAWN(test_noop, arg);
        for (int i = 0; i < BATCH; i++)
            CHECK(test_join_value(t[i]) == arg);
    }
    return NULL;
}

static void ten_million_spawned_and_joined(struct test_env *env)
{
    uint64_t start = weft_now(), rss = test_rss_bytes();
    (void)join_ten_million(env);
    uint64_t ms = test_elapsed_ms(start);
    print_message("%llu ns for each\n", (unsigned long long)(ms * WEFT_MS / TEN_MILLION));
    CHECK(ms < 60000);
    CHECK(test_rss_bytes() < rss + (UINT64_C(512) << 20));
}

TEST_MAIN(PLAIN(million_fibers_alive_at_once), PLAIN(shutdown_of_100000_waiting_fibers),
          PLAIN(million_polled_tasks_alive_at_once), IN_TASK(ten_million_spawned_and_joined))
