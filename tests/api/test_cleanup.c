/* WEFT_DEFER, shields, unwinding, WEFT_NO_WAIT: the blocks a body is made of. */
#include "harness.h"
#include "sync.h"

#include <weft/cancel.h>

#include <errno.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* What happened, a letter each. */
struct trace {
    char text[64];
    size_t len;
    struct gate has_started, gate;
};

struct letter {
    struct trace *trace;
    char c;
};

static void trace_init(struct trace *t)
{
    memset(t, 0, sizeof(*t));
    gate_init(&t->has_started);
    gate_init(&t->gate);
}

static void trace_fini(struct trace *t)
{
    gate_fini(&t->has_started);
    gate_fini(&t->gate);
}

static void put(struct trace *t, char c)
{
    if (t->len + 1 < sizeof(t->text))
        t->text[t->len++] = c;
}

static void note(void *arg)
{
    struct letter *l = arg;
    put(l->trace, l->c);
}

static void note_and_panic(void *arg)
{
    note(arg);
    weft_panic("handler %c fails", ((struct letter *)arg)->c);
}

static void note_and_wait(void *arg)
{
    EXPECT_EQ(weft_sleep(WEFT_MS), 0); /* aborts and deadlines are held back here */
    EXPECT_EQ(weft_yield(), 0);
    note(arg);
}

#define DEFER_NOTE(trace_, c_) WEFT_DEFER(note, (&(struct letter){(trace_), (c_)}))

#define EXPECT_TRACE(t, s)                                                                         \
    ((strcmp((t)->text, (s)) == 0)                                                                 \
         ? (void)0                                                                                 \
         : test_record(__FILE__, __LINE__, "trace is \"%s\", not \"%s\"", (t)->text, (s)))

/* ---- leaving a block ---- */

static int leave_in_all_ways(struct trace *t, int how)
{
    DEFER_NOTE(t, 'a');
    for (;;) {
        DEFER_NOTE(t, 'b');
        DEFER_NOTE(t, 'c');
        if (how == 0)
            return 1;
        if (how == 1)
            break;
        if (how == 2)
            goto out;
        how = 1; /* continue */
    }
    put(t, '.');
out:
    put(t, ';');
    return 0;
}

static void handlers_run_last_to_first_however_the_block_is_left(struct test_env *env)
{
    static const char *const expected[] = {"cba", "cb.;a", "cb;a", "cbcb.;a"};
    (void)env;
    for (int how = 0; how < 4; how++) {
        struct trace t;
        trace_init(&t);
        (void)leave_in_all_ways(&t, how);
        EXPECT_TRACE(&t, expected[how]);
        trace_fini(&t);
    }
}

/* ---- panics ---- */

static void *panic_deep_inside(void *arg)
{
    struct trace *t = arg;
    DEFER_NOTE(t, 'a');
    {
        DEFER_NOTE(t, 'x');
    }
    DEFER_NOTE(t, 'b');
    WEFT_DEFER(note_and_wait, (&(struct letter){t, 'c'}));
    weft_panic("deep");
}

static void panic_runs_handlers_which_may_wait(struct test_env *env)
{
    struct trace t;
    (void)env;
    trace_init(&t);
    CHECK_EQ(test_join_kind(SPAWN(panic_deep_inside, &t)), WEFT_OUTCOME_PANICKED);
    EXPECT_TRACE(&t, "xcba");
    trace_fini(&t);
}

static void *panic_with_panicking_handlers(void *arg)
{
    struct trace *t = arg;
    DEFER_NOTE(t, 'a');
    WEFT_DEFER(note_and_panic, (&(struct letter){t, 'b'}));
    DEFER_NOTE(t, 'c');
    WEFT_DEFER(note_and_panic, (&(struct letter){t, 'd'}));
    if (gate_is_open(&t->gate))
        weft_panic("first");
    return t;
}

static void panic_in_a_handler_goes_on_with_the_next(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 2; i++) {
        struct trace t;
        weft_outcome o;
        trace_init(&t);
        if (i == 0)
            gate_open(&t.gate);
        CHECK_EQ(weft_join(SPAWN(panic_with_panicking_handlers, &t), &o), 0);
        CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
        EXPECT_TRACE(&t, "dcba");
        /* The first panic is what the joiner gets; the others are on the log. */
        CHECK_EQ(strcmp(weft_panic_message(o.panic), i == 0 ? "first" : "handler d fails"), 0);
        CHECK(test_log_count("handler b fails") >= 1);
        weft_outcome_fini(&o);
        test_log_clear();
        trace_fini(&t);
    }
}

static void *panic_inside_a_poll_of_ours(void *arg)
{
    struct trace *t = arg;
    DEFER_NOTE(t, 'a');
    WEFT_SHIELD {
        WEFT_TIMEOUT(WEFT_SEC)
            weft_panic("inside blocks");
    }
    return NULL;
}

/* A body on a thread is left by longjmp: its timers and what its scopes have registered lie in
 * frames that are given up, and must be gone before. */
static void *panic_while_scopes_are_armed(void *arg)
{
    weft_cancel_token *token = arg;
    WEFT_TIMEOUT(20 * WEFT_MS) {
        WEFT_CANCEL_SCOPE(token) {
            int rc = weft_sleep(WEFT_MS);       /* arms them */
            CHECK(rc == 0 || rc == -ETIMEDOUT); /* held up by the machine */
            weft_panic("inside scopes that are armed");
        }
    }
    return NULL;
}

/* A body that lies where those frames were: nobody writes there, and nothing ends its wait. */
static void *wait_where_scopes_were(void *arg)
{
    volatile unsigned char frames[4096];
    size_t written = 0;
    for (size_t i = 0; i < sizeof frames; i++)
        frames[i] = 0x5A;
    weft_cancel_token_cancel(arg);
    EXPECT_EQ(weft_sleep(30 * WEFT_MS), 0); /* the timers would have fired */
    for (size_t i = 0; i < sizeof frames; i++)
        written += frames[i] != 0x5A;
    EXPECT_EQ(written, 0);
    return NULL;
}

static void panic_of_a_body_disarms_its_scopes(struct test_env *env)
{
    weft_cancel_token *token;
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    for (int i = 0; i < 20; i++) {
        weft_outcome o;
        CHECK_EQ(weft_handle_block_on(env->handle, panic_while_scopes_are_armed, token, &o), 0);
        CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
        weft_outcome_fini(&o);
    }
    weft_outcome o;
    CHECK_EQ(weft_handle_block_on(env->handle, wait_where_scopes_were, token, &o), 0);
    EXPECT_EQ(o.kind, WEFT_OUTCOME_VALUE);
    weft_outcome_fini(&o);
    weft_cancel_token_unref(token);
}

static void panic_leaves_shields_and_timeouts(struct test_env *env)
{
    struct trace t;
    (void)env;
    trace_init(&t);
    CHECK_EQ(test_join_kind(SPAWN(panic_inside_a_poll_of_ours, &t)), WEFT_OUTCOME_PANICKED);
    EXPECT_TRACE(&t, "a");
    trace_fini(&t);
}

static void leave_timeout(void *scope)
{
    weft_timeout_leave(scope);
}

static void leave_cancel_scope(void *scope)
{
    weft_cancel_scope_leave(scope);
}

/* The first handler leaves a scope, the second waits. */
static void *panic_in_a_scope_that_a_handler_leaves(void *arg)
{
    weft_timeout inner;
    WEFT_TIMEOUT(WEFT_MS) {
        WEFT_DEFER(note_and_wait, arg);
        weft_timeout_enter(&inner, 20 * WEFT_SEC);
        WEFT_DEFER(leave_timeout, &inner);
        CHECK_EQ(weft_sleep(20 * WEFT_SEC), -ETIMEDOUT);
        weft_panic("inside");
    }
    return NULL;
}

struct in_tokens {
    struct letter *letter;
    weft_cancel_token *outer, *inner;
};

static void *panic_in_a_token_that_a_handler_leaves(void *arg)
{
    struct in_tokens *t = arg;
    weft_cancel_scope inner;
    WEFT_CANCEL_SCOPE(t->outer) {
        WEFT_DEFER(note_and_wait, t->letter);
        weft_cancel_scope_enter(&inner, t->inner);
        WEFT_DEFER(leave_cancel_scope, &inner);
        weft_panic("inside");
    }
    return NULL;
}

/* What is around the scope that was left is held back all the same, and is not told of a task that
 * ends. */
static void a_handler_that_leaves_a_scope_lets_none_back_in(struct test_env *env)
{
    struct trace t;
    struct letter l = {&t, 'w'};
    struct in_tokens in = {.letter = &l};
    (void)env;
    trace_init(&t);
    CHECK_EQ(weft_cancel_token_create(&in.outer), 0);
    CHECK_EQ(weft_cancel_token_create(&in.inner), 0);
    CHECK_EQ(test_join_kind(SPAWN(panic_in_a_scope_that_a_handler_leaves, &l)),
             WEFT_OUTCOME_PANICKED);
    CHECK_EQ(test_join_kind(SPAWN(panic_in_a_token_that_a_handler_leaves, &in)),
             WEFT_OUTCOME_PANICKED);
    EXPECT_TRACE(&t, "ww");
    weft_cancel_token_unref(in.inner);
    weft_cancel_token_unref(in.outer); /* nobody waits for it */
    trace_fini(&t);
}

/* ---- mark and rewind ---- */

static void jump_over_blocks(struct trace *t)
{
    jmp_buf env;
    DEFER_NOTE(t, 'a');
    weft_cleanup *mark = weft_cleanup_mark();
    if (setjmp(env) == 0) {
        DEFER_NOTE(t, 'b');
        {
            DEFER_NOTE(t, 'c');
            weft_cleanup_rewind(mark);
            longjmp(env, 1);
        }
    }
    put(t, '.');
}

static void rewind_runs_handlers_before_a_longjmp(struct test_env *env)
{
    struct trace t;
    (void)env;
    trace_init(&t);
    jump_over_blocks(&t);
    EXPECT_TRACE(&t, "cb.a");
    trace_fini(&t);
}

static void defer_works_outside_tasks(struct test_env *env)
{
    handlers_run_last_to_first_however_the_block_is_left(env);
    rewind_runs_handlers_before_a_longjmp(env);
}

/* ---- shields ---- */

static void *shielded(void *arg)
{
    struct trace *t = arg;
    WEFT_SHIELD {
        gate_open(&t->has_started);
        EXPECT_EQ(gate_wait(&t->gate), 0);
        EXPECT(!weft_self_is_aborted());
        WEFT_SHIELD
            EXPECT_EQ(weft_sleep(WEFT_MS), 0);
        EXPECT_EQ(weft_yield(), 0);
        put(t, 's');
    }
    EXPECT(weft_self_is_aborted());
    EXPECT_EQ(weft_yield(), -ECANCELED);
    put(t, 'e');
    return NULL;
}

static void shield_holds_an_abort_back(struct test_env *env)
{
    struct trace t;
    (void)env;
    trace_init(&t);
    weft_task *task = SPAWN(shielded, &t);
    CHECK_EQ(gate_wait(&t.has_started), 0);
    CHECK_EQ(weft_abort(task), 0);
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    CHECK(!weft_task_is_finished(task));
    gate_open(&t.gate);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_CANCELLED);
    EXPECT_TRACE(&t, "se");
    trace_fini(&t);
}

static void shield_holds_outer_deadlines_back(struct test_env *env)
{
    (void)env;
    WEFT_TIMEOUT_AS(outer, 2 * WEFT_MS) {
        WEFT_SHIELD {
            CHECK_EQ(weft_sleep(6 * WEFT_MS), 0);
            CHECK_EQ(weft_timeout_remaining(), WEFT_NEVER);
            WEFT_TIMEOUT_AS(inner, 2 * WEFT_MS) { /* its own: works */
                CHECK_EQ(weft_sleep(WEFT_NEVER), -ETIMEDOUT);
                CHECK(weft_timeout_is_expired(&inner));
            }
            CHECK_EQ(weft_sleep(WEFT_MS), 0);
        }
        CHECK(!weft_timeout_is_expired(&outer));
        CHECK_EQ(weft_sleep(WEFT_NEVER), -ETIMEDOUT);
        CHECK(weft_timeout_is_expired(&outer));
    }
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
}

static int leave_shield(int how)
{
    WEFT_SHIELD {
        if (how == 0)
            return 1;
        if (how == 1)
            break;
        if (how == 2)
            goto out;
    }
out:
    return 2;
}

static void *leave_shields(void *arg)
{
    struct trace *t = arg;
    gate_open(&t->has_started);
    EXPECT_EQ(gate_wait(&t->gate), -ECANCELED);
    for (int how = 0; how < 4; how++) {
        EXPECT_EQ(leave_shield(how), how == 0 ? 1 : 2);
        EXPECT_EQ(weft_yield(), -ECANCELED); /* the shield is really gone */
    }
    return NULL;
}

static void shield_may_be_left_by_return_break_and_goto(struct test_env *env)
{
    struct trace t;
    (void)env;
    trace_init(&t);
    weft_task *task = SPAWN(leave_shields, &t);
    CHECK_EQ(gate_wait(&t.has_started), 0);
    CHECK_EQ(weft_abort(task), 0);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_CANCELLED);
    trace_fini(&t);
}

/* ---- unwinding ---- */

static void *wait_unwound(void *arg)
{
    struct trace *t = arg;
    DEFER_NOTE(t, 'a');
    WEFT_DEFER(note_and_wait, (&(struct letter){t, 'b'}));
    gate_open(&t->has_started);
    (void)gate_wait(&t->gate);
    put(t, '!'); /* must not be reached */
    return NULL;
}

static weft_task *spawn_unwinding(weft_task_fn fn, void *arg)
{
    weft_spawn_options o = {.on_abort = WEFT_ON_ABORT_UNWIND};
    weft_task *task;
    CHECK_EQ(weft_spawn_with(&o, fn, arg, &task), 0);
    return task;
}

static void unwinding_abort_drops_the_stack(struct test_env *env)
{
    struct trace t;
    (void)env;
    trace_init(&t);
    weft_task *task = spawn_unwinding(wait_unwound, &t);
    CHECK_EQ(gate_wait(&t.has_started), 0);
    CHECK_EQ(weft_abort(task), 0);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_CANCELLED);
    EXPECT_TRACE(&t, "ba");
    CHECK_EQ(sema_waiters(&t.gate.sema), 0); /* the wait was cancelled, too */
    trace_fini(&t);
}

static void *wait_unwound_in_shield(void *arg)
{
    struct trace *t = arg;
    DEFER_NOTE(t, 'a');
    WEFT_SHIELD {
        gate_open(&t->has_started);
        EXPECT_EQ(gate_wait(&t->gate), 0);
        put(t, 's');
    }
    (void)weft_yield();
    put(t, '!');
    return NULL;
}

static void unwinding_respects_shields(struct test_env *env)
{
    struct trace t;
    (void)env;
    trace_init(&t);
    weft_task *task = spawn_unwinding(wait_unwound_in_shield, &t);
    CHECK_EQ(gate_wait(&t.has_started), 0);
    CHECK_EQ(weft_abort(task), 0);
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    gate_open(&t.gate);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_CANCELLED);
    EXPECT_TRACE(&t, "sa");
    trace_fini(&t);
}

static void *wait_unwound_with_bad_handler(void *arg)
{
    struct trace *t = arg;
    DEFER_NOTE(t, 'a');
    WEFT_DEFER(note_and_panic, (&(struct letter){t, 'b'}));
    DEFER_NOTE(t, 'c');
    gate_open(&t->has_started);
    (void)gate_wait(&t->gate);
    put(t, '!');
    return NULL;
}

static void panic_while_unwinding_is_what_join_reports(struct test_env *env)
{
    struct trace t;
    (void)env;
    trace_init(&t);
    weft_task *task = spawn_unwinding(wait_unwound_with_bad_handler, &t);
    CHECK_EQ(gate_wait(&t.has_started), 0);
    CHECK_EQ(weft_abort(task), 0);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_PANICKED);
    EXPECT_TRACE(&t, "cba");
    trace_fini(&t);
}

static atomic_int drops;

static void count_drop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&drops, 1);
}

/* drop_arg is for a body that never runs; drop_result for a value: an unwound body has neither. */
static void unwound_body_drops_nothing_by_itself(struct test_env *env)
{
    struct trace t;
    weft_task *task;
    weft_spawn_options o = {
        .on_abort = WEFT_ON_ABORT_UNWIND, .drop_arg = count_drop, .drop_result = count_drop};
    (void)env;
    trace_init(&t);
    atomic_store(&drops, 0);
    CHECK_EQ(weft_spawn_with(&o, wait_unwound, &t, &task), 0);
    CHECK_EQ(gate_wait(&t.has_started), 0);
    CHECK_EQ(weft_abort(task), 0);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(atomic_load(&drops), 0);
    trace_fini(&t);
}

/* ---- WEFT_NO_WAIT ---- */

static void no_wait_refuses_and_reports(struct test_env *env)
{
    struct gate g;
    weft_task *task = SPAWN(test_noop, env);
    gate_init(&g);
    WEFT_NO_WAIT {
        test_log_clear();
        EXPECT_EQ(gate_wait(&g), -EPERM);
        EXPECT_LOGGED("weft_await");
        EXPECT_EQ(weft_sleep(WEFT_MS), -EPERM);
        EXPECT_LOGGED("weft_sleep");
        EXPECT_EQ(weft_yield(), -EPERM);
        EXPECT_LOGGED("weft_yield");
        EXPECT_EQ(weft_join(task, NULL), -EPERM);
        EXPECT_LOGGED("weft_join");
        WEFT_NO_WAIT
            EXPECT_EQ(weft_yield(), -EPERM);
        EXPECT_EQ(weft_yield(), -EPERM); /* the outer one still holds */
    }
    CHECK_EQ(weft_yield(), 0);
    CHECK(test_join_value(task) == env);
    gate_fini(&g);
}

static void *panic_in_no_wait(void *arg)
{
    WEFT_DEFER(note_and_wait, arg);
    WEFT_NO_WAIT
        weft_panic("inside");
    return NULL;
}

static void handlers_of_a_panic_in_no_wait_may_wait(struct test_env *env)
{
    struct trace t;
    struct letter l = {&t, 'w'};
    (void)env;
    trace_init(&t);
    CHECK_EQ(test_join_kind(SPAWN(panic_in_no_wait, &l)), WEFT_OUTCOME_PANICKED);
    EXPECT_TRACE(&t, "w");
    trace_fini(&t);
}

static void *return_it(void *arg)
{
    return arg;
}

static void note_refusal(void *arg)
{
    EXPECT_EQ(weft_sleep(WEFT_MS), -EPERM);
    note(arg);
}

/* A destructor, with a handler of its own. */
static void wait_and_panic(void *arg)
{
    struct letter *l = arg;
    WEFT_DEFER(note_refusal, l);
    weft_panic("in a destructor");
}

static void *give_up_in_no_wait(void *arg)
{
    weft_spawn_options o = {.drop_result = wait_and_panic};
    weft_task *task;
    CHECK_EQ(weft_spawn_with(&o, return_it, arg, &task), 0);
    CHECK_SOON(weft_task_is_finished(task));
    WEFT_NO_WAIT
        weft_task_detach(task);
    return NULL;
}

/* The block is around the handler then, not the other way round. */
static void handlers_of_a_panic_that_ends_in_no_wait_may_not_wait(struct test_env *env)
{
    struct trace t;
    struct letter l = {&t, 'r'};
    (void)env;
    trace_init(&t);
    CHECK_EQ(test_join_kind(SPAWN(give_up_in_no_wait, &l)), WEFT_OUTCOME_VALUE);
    EXPECT_TRACE(&t, "r");
    trace_fini(&t);
}

/* ---- more blocks inside one another than 16 bits count ---- */

/* ThreadSanitizer keeps calls on a stack of its own, which is full before that. */
static unsigned deep(void)
{
    return test_is_under("thread") ? 10000 : 65536;
}

static int wait_deep_in_shields(unsigned depth)
{
    int rc = 0;
    WEFT_SHIELD
        rc = depth > 1 ? wait_deep_in_shields(depth - 1) : weft_yield();
    return rc;
}

static int wait_deep_in_no_wait(unsigned depth)
{
    int rc = 0;
    WEFT_NO_WAIT
        rc = depth > 1 ? wait_deep_in_no_wait(depth - 1) : weft_yield();
    return rc;
}

static void *be_aborted_deep_inside(void *arg)
{
    (void)arg;
    EXPECT_EQ(wait_deep_in_no_wait(deep()), -EPERM);
    while (!weft_self_is_aborted())
        (void)weft_yield(); /* 0 until it is */
    EXPECT_EQ(wait_deep_in_shields(deep()), 0);
    EXPECT_EQ(weft_yield(), -ECANCELED);
    return NULL;
}

static void blocks_nest_as_deep_as_the_stack(struct test_env *env)
{
    (void)env;
    weft_task *t;
    CHECK_EQ(weft_spawn_with(&(weft_spawn_options){.stack_bytes = (size_t)128 << 20},
                             be_aborted_deep_inside, NULL, &t),
             0);
    CHECK_SOON(test_log_count("inside WEFT_NO_WAIT") == 1);
    EXPECT_LOGGED("inside WEFT_NO_WAIT");
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
}

TEST_MAIN(IN_TASK(blocks_nest_as_deep_as_the_stack),
          IN_TASK(handlers_run_last_to_first_however_the_block_is_left),
          IN_TASK(panic_runs_handlers_which_may_wait),
          IN_TASK(panic_in_a_handler_goes_on_with_the_next),
          IN_TASK(panic_leaves_shields_and_timeouts),
          IN_TASK(a_handler_that_leaves_a_scope_lets_none_back_in),
          ON_MAIN_ON(panic_of_a_body_disarms_its_scopes, TEST_MT1),
          IN_TASK(rewind_runs_handlers_before_a_longjmp), PLAIN(defer_works_outside_tasks),
          IN_TASK(shield_holds_an_abort_back), IN_TASK(shield_holds_outer_deadlines_back),
          IN_TASK(shield_may_be_left_by_return_break_and_goto),
          IN_TASK(unwinding_abort_drops_the_stack), IN_TASK(unwinding_respects_shields),
          IN_TASK(panic_while_unwinding_is_what_join_reports),
          IN_TASK(unwound_body_drops_nothing_by_itself), IN_TASK(no_wait_refuses_and_reports),
          IN_TASK(handlers_of_a_panic_in_no_wait_may_wait),
          IN_TASK(handlers_of_a_panic_that_ends_in_no_wait_may_not_wait))
