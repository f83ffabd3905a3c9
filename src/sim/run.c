/*
 * The test kit: a world, a runtime in it, and the tasks of the body; see <weft/sim.h>.
 */
#include "sim/world.h"

#include "runtime/runtime_internal.h"
#include "task/spawn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What the end of tasks may take, after the limits: they clean up, and are unwound a second
 * later. */
#define END_STEPS 2000000
#define END_NS (60 * WEFT_SEC)

#define CALLS_OF_A_STEP 32 /* in limits: a turn has a handful, one that never ends has more */

#define PPM 1000000

/* ---- settings ---- */

void weft_sim_config_init(weft_sim_config *c, uint64_t seed)
{
    if (weft__is_null("weft_sim_config_init", c, WEFT__CALLER))
        return;
    *c = (weft_sim_config){
        .seed = seed,
        .workers = 2,
        .time_max_ns = 3600 * WEFT_SEC,
        .steps_max = 10000000,
        .preempt_ppm = 250000,
        .stall_max_ns = 20 * WEFT_MS,
        .latency_min_ns = 50 * WEFT_US,
        .latency_max_ns = 500 * WEFT_US,
        .send_bytes = 65536,
        .recv_bytes = 65536,
        .event_interval = 8,
        .budget = 128,
    };
}

/* 0 for three seeds in four, else up to max; spread over the orders of magnitude. */
static unsigned draw_rate(uint64_t *rng, unsigned max)
{
    uint64_t r = weft__random_next(rng);
    if (r % 4 != 0)
        return 0;
    return (unsigned)((r >> 8) % max) >> (r >> 40) % 8;
}

static uint64_t seed_to_state(uint64_t seed, uint64_t stream)
{
    /* The finalizer of SplitMix64: near seeds are far apart, and no state is 0. */
    uint64_t x = seed * 4 + stream + UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) | 1;
}

void weft_sim_config_draw(weft_sim_config *c, uint64_t seed)
{
    static const uint64_t latencies[] = {0,           20 * WEFT_US, 200 * WEFT_US,
                                         2 * WEFT_MS, 20 * WEFT_MS, 300 * WEFT_MS};
    static const size_t sizes[] = {1, 7, 64, 1000, 4096, 65536};
    static const unsigned preempts[] = {20000, 100000, 300000, 900000};
    if (weft__is_null("weft_sim_config_draw", c, WEFT__CALLER))
        return;
    uint64_t rng = seed_to_state(seed, 2);
#define BELOW(n) (weft__random_next(&rng) % (n))
    weft_sim_config_init(c, seed);
    c->workers = 1 + (unsigned)BELOW(4);
    c->preempt_ppm = preempts[BELOW(4)];
    c->stall_ppm = draw_rate(&rng, 20000);
    c->stall_max_ns = BELOW(4) ? BELOW(2 * WEFT_MS) : BELOW(50 * WEFT_MS);
    c->spurious_ppm = draw_rate(&rng, 100000);
    unsigned at = (unsigned)BELOW(5);
    c->latency_min_ns = BELOW(2) ? latencies[at] : 0;
    c->latency_max_ns = latencies[at + 1];
    c->loss_ppm = draw_rate(&rng, 50000);
    c->short_ppm = BELOW(2) ? draw_rate(&rng, PPM) : 0;
    c->reset_ppm = draw_rate(&rng, 20000);
    c->refuse_ppm = draw_rate(&rng, 200000);
    c->accept_abort_ppm = draw_rate(&rng, 200000);
    c->accept_exhaust_ppm = draw_rate(&rng, 500000);
    c->send_bytes = sizes[2 + BELOW(4)];
    c->recv_bytes = sizes[BELOW(6)];
    c->event_interval = 1 + (unsigned)(BELOW(4) ? BELOW(8) : BELOW(61));
    c->budget = BELOW(4) ? 128 : 1 + (unsigned)BELOW(8);
    c->disable_next_slot = BELOW(4) == 0;
#undef BELOW
}

static const char *what_is_wrong(const weft_sim_config *c)
{
    const unsigned rates[] = {c->preempt_ppm,      c->stall_ppm,  c->spurious_ppm,
                              c->loss_ppm,         c->short_ppm,  c->reset_ppm,
                              c->accept_abort_ppm, c->refuse_ppm, c->accept_exhaust_ppm};
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
        if (rates[i] > PPM)
            return "a rate is above 1,000,000";
    if (c->accept_exhaust_ppm == PPM)
        return "accept_exhaust_ppm must leave some accepts alone";
    if (c->workers < 1 || c->workers > 64)
        return "workers must be 1 to 64";
    if (c->latency_min_ns > c->latency_max_ns || c->latency_max_ns > 3600 * WEFT_SEC)
        return "latencies must be at most an hour, the smallest first";
    if (c->send_bytes < 1 || c->recv_bytes < 1)
        return "buffers of connections must have a byte at least";
    if (c->stall_max_ns > 3600 * WEFT_SEC)
        return "stall_max_ns must be at most an hour";
    for (size_t i = 0; i < sizeof(c->reserved) / sizeof(c->reserved[0]); i++)
        if (c->reserved[i] != 0)
            return "reserved must be zero: fill it with weft_sim_config_init()";
    return NULL;
}

/* ---- the end ---- */

static void *end_tasks(void *arg)
{
    (void)weft__runtime_drain(arg, WEFT_NEVER);
    return NULL;
}

static void report_deadlock(struct weft__sim *s)
{
    struct weft__sched *sched = &s->runtime->sched;
    /* Without sockets the runtime has found out by itself, and named the tasks. */
    if (weft__driver_source_count(sched->core.driver) == 0)
        return;
    weft__log(
        WEFT_LOG_ERROR,
        "simulation, seed %llu: all tasks wait, and nothing is under way that could wake one:",
        (unsigned long long)s->config.seed);
    (void)weft__sched_dump(sched, 2, NULL);
}

uint64_t weft__sim_calls_of(uint64_t steps)
{
    return steps < UINT64_MAX / CALLS_OF_A_STEP ? steps * CALLS_OF_A_STEP : UINT64_MAX;
}

/* From here on limits are for the end alone. */
static void begin_end(struct weft__sim *s)
{
    s->is_ending = true;
    s->steps_max = weft__add_sat(s->result.steps, END_STEPS);
    s->calls_max = weft__add_sat(s->calls, weft__sim_calls_of(END_STEPS));
    s->time_max_ns = weft__add_sat(s->now_ns - WEFT__CLOCK_START_NS, END_NS);
}

void weft__sim_end(struct weft__sim *s, enum weft_sim_end why)
{
    begin_end(s);
    s->result.end = why;
    if (s->runtime == NULL)
        return;
    if (why == WEFT_SIM_DEADLOCK)
        report_deadlock(s);
    /* Without memory for it nothing ends, and the hub finds everything stuck. */
    if (weft__sim_thread_create(end_tasks, s->runtime, &s->ender) < 0)
        s->ender = 0;
}

/* ---- the first thread ---- */

struct start {
    struct weft__sim *world;
    int (*body)(void *arg);
    void *arg;
    int rc; /* of making the runtime */
};

static void *run_body(void *arg)
{
    struct start *start = arg;
    return (void *)(intptr_t)start->body(start->arg);
}

static int make_runtime(struct weft__sim *s, struct weft_runtime **ret)
{
    weft_config c;
    weft_config_init(&c);
    c.name = "simulation";
    c.workers = s->config.workers;
    c.seed = weft__sim_rand(s) | 1;
    /* Not what the environment says: the same seed does the same everywhere. */
    c.blocking_threads_max = 512;
    c.stuck_after_ns = 10 * WEFT_MS;
    c.event_interval = s->config.event_interval;
    c.budget = s->config.budget;
    c.disable_next_slot = s->config.disable_next_slot;
    return weft_runtime_create(&c, ret);
}

static int outcome_of(weft_task *body)
{
    weft_outcome o;
    int rc = weft_try_join(body, &o);
    if (rc < 0)
        return rc;
    rc = weft_outcome_error(&o);
    if (rc == 0)
        rc = (int)(intptr_t)o.value;
    weft_outcome_fini(&o);
    return rc;
}

/* All tasks, from the first to the last. */
static int run_tasks(struct weft__sim *s, struct weft_runtime *rt, struct start *start)
{
    static const weft_site site = {"weft_sim_run", "weft_sim_run", 0};
    static const weft_spawn_options options = {.name = "main"};
    weft_task *body;
    s->runtime = rt; /* the body may run, and fail, before the call returns */
    int rc = weft__spawn_result(weft__task_spawn(&rt->sched.core, WEFT__TASK_FIBER, &options,
                                                 run_body, start, &body, &site));
    if (rc == 0)
        (void)weft__runtime_wait_quiescent(rt, WEFT_NEVER);
    s->runtime = NULL; /* nothing lives: who ends it is here already, or does not come any more */
    if (!s->is_ending)
        begin_end(s);
    if (s->ender != 0)
        (void)weft__sim_thread_join(s->ender);
    if (rc < 0)
        return s->result.end == WEFT_SIM_DONE ? rc : 0; /* refused, since a limit was reached */
    (void)weft__runtime_drain(rt, WEFT_NEVER);
    s->result.rc = outcome_of(body);
    weft_metrics m;
    if (weft_metrics_get((weft_handle *)rt, &m) == 0)
        s->result.spawned = m.spawned_tasks;
    return 0;
}

static void *first_thread(void *arg)
{
    struct start *start = arg;
    struct weft__sim *s = start->world;
    struct weft_runtime *rt;
    start->rc = make_runtime(s, &rt);
    if (start->rc < 0)
        return NULL;
    if (!s->is_ending) /* else a limit was reached before anything ran */
        start->rc = run_tasks(s, rt, start);
    if (!s->is_ending)
        begin_end(s);
    weft__runtime_teardown(rt);
    return NULL;
}

static int run_world(struct weft__sim *s, struct start *start)
{
    void *signal_stack = NULL;
    unsigned long first;
    (void)weft__sigaltstack_init(
        &signal_stack); /* for all threads of the simulation: they share it */
    int rc = weft__sim_thread_create_first(s, first_thread, start, &first);
    if (rc == 0 && !weft__sim_run_threads(s))
        s->result.end = WEFT_SIM_STUCK;
    weft__sigaltstack_fini(signal_stack);
    return rc < 0 ? rc : start->rc;
}

int weft_sim_run(const weft_sim_config *config, int (*body)(void *arg), void *arg,
                 weft_sim_result *ret_result)
{
    static weft__a32 busy;
    if (config == NULL || body == NULL || ret_result == NULL)
        return weft__misuse("weft_sim_run", -EINVAL, "an argument is NULL", WEFT__CALLER);
    const char *wrong = what_is_wrong(config);
    if (wrong != NULL)
        return weft__misuse("weft_sim_run", -EINVAL, wrong, WEFT__CALLER);
    if (weft__sim_here() != NULL || !weft__may_block())
        return weft__misuse("weft_sim_run", -EPERM, "the caller is a task, or in a simulation",
                            WEFT__CALLER);
    if (weft__a32_swap_acquire(&busy, 1) != 0)
        return weft__misuse("weft_sim_run", -EBUSY, "another thread simulates", WEFT__CALLER);
    struct weft__sim s = {
        .config = *config,
        .result = {.end = WEFT_SIM_DONE, .rc = -ECANCELED, .seed = config->seed},
        .rng = seed_to_state(config->seed, 0),
        .user_rng = seed_to_state(config->seed, 1),
        .now_ns = WEFT__CLOCK_START_NS,
        .steps_max = config->steps_max,
        .calls_max = weft__sim_calls_of(config->steps_max),
        .time_max_ns = config->time_max_ns,
    };
    struct start start = {.world = &s, .body = body, .arg = arg};
    weft__list_init(&s.conns);
    s.port_count = 28000;
    s.port_next = (unsigned)weft__sim_below(&s, s.port_count);
    int held = weft__sys_cancel_hold(); /* its threads are fibers of this one, and hold as well */
    int rc = run_world(&s, &start);
    weft__sys_cancel_restore(held);
    s.result.time_ns = s.now_ns - WEFT__CLOCK_START_NS;
    weft__sim_threads_free(&s);
    weft__sim_files_free(&s);
    weft__sim_wire_free(&s);
    weft__a32_store_release(&busy, 0);
    if (rc == 0)
        *ret_result = s.result;
    return rc;
}

/* ---- inside ---- */

bool weft_sim_is_running(void)
{
    return weft__sim_here() != NULL;
}

uint64_t weft_sim_random(void)
{
    struct weft__sim *s = weft__sim_here();
    return s != NULL ? weft__random_next(&s->user_rng) : 0;
}

void weft_sim_trace(uint64_t value)
{
    struct weft__sim *s = weft__sim_here();
    if (s != NULL)
        weft__sim_trace(s, UINT64_C(1) << 32, value, 0);
}

uint64_t weft_sim_steps(void)
{
    struct weft__sim *s = weft__sim_here();
    return s != NULL ? s->result.steps : 0;
}

void weft_sim_fail(const char *fmt, ...)
{
    struct weft__sim *s = weft__sim_here();
    char text[sizeof(s->result.why)];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (s == NULL) {
        weft__log(WEFT_LOG_ERROR, "weft_sim_fail: %s", text);
        return;
    }
    if (s->result.end != WEFT_SIM_DONE)
        return; /* it ends for another reason, of which this may come */
    memcpy(s->result.why, text, sizeof(text));
    if (s->is_ending)
        s->result.end = WEFT_SIM_FAILED; /* all tasks have ended, and something is destroyed */
    else
        weft__sim_end(s, WEFT_SIM_FAILED);
}

void weft_sim_compute(uint64_t ns)
{
    struct weft__sim *s = weft__sim_here();
    if (s != NULL)
        /* Not without an end, which would be a wait for nothing. */
        (void)weft__sim_wait(s,
                             weft__add_sat(s->now_ns, ns < WEFT_NEVER / 2 ? ns : WEFT_NEVER / 2));
}

/* ---- links ---- */

static bool parse_ip(const char *text, struct weft__sim_ip *ret)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
        *ret = weft__sim_ip_of((const struct sockaddr *)&in);
    else if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1)
        *ret = weft__sim_ip_of((const struct sockaddr *)&in6);
    else
        return false;
    return true;
}

static int describe_link(const char *call, const char *a, const char *b, struct weft__sim_cut *ret,
                         const void *caller)
{
    if (weft__sim_here() == NULL)
        return weft__misuse(call, -EPERM, "the caller is not in a simulation", caller);
    *ret = (struct weft__sim_cut){.any = {a == NULL, b == NULL}};
    if ((a != NULL && !parse_ip(a, &ret->ip[0])) || (b != NULL && !parse_ip(b, &ret->ip[1])))
        return weft__misuse(call, -EINVAL, "no address", caller);
    return 0;
}

int weft_sim_cut(const char *a, const char *b)
{
    struct weft__sim_cut cut;
    int rc = describe_link("weft_sim_cut", a, b, &cut, WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct weft__sim_cut *c = weft__malloc(sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    *c = cut;
    c->next = weft__sim_here()->cuts;
    weft__sim_here()->cuts = c;
    return 0;
}

int weft_sim_heal(const char *a, const char *b)
{
    struct weft__sim_cut cut;
    int rc = describe_link("weft_sim_heal", a, b, &cut, WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct weft__sim *s = weft__sim_here();
    for (struct weft__sim_cut **at = &s->cuts; *at != NULL; at = &(*at)->next) {
        struct weft__sim_cut *c = *at;
        if (memcmp(c->any, cut.any, sizeof(cut.any)) != 0 ||
            memcmp(c->ip, cut.ip, sizeof(cut.ip)) != 0)
            continue;
        *at = c->next;
        weft__free(c);
        weft__sim_events_heal(s);
        return 0;
    }
    return -ENOENT;
}

int weft_sim_reset(const char *a, const char *b)
{
    struct weft__sim_cut cut;
    int rc = describe_link("weft_sim_reset", a, b, &cut, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft__sim_conns_reset(weft__sim_here(), &cut);
    return 0;
}
