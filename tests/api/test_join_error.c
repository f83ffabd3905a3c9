/* How a task may end other than by a value, and what the joiner learns: JE of BEHAVIOURS. */
#include "harness.h"
#include "sync.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static void *panic_with_words(void *arg)
{
    weft_panic("the answer is %d", *(int *)arg);
}

static atomic_int payload_drops;

static void drop_payload(void *payload)
{
    EXPECT_EQ(*(int *)payload, 42);
    atomic_fetch_add(&payload_drops, 1);
}

static void *panic_with_payload(void *arg)
{
    weft_panic_payload(arg, drop_payload);
}

static void *fail_assertion(void *arg)
{
    weft_assert(arg != NULL);
    return NULL;
}

static int answer = 42;

static void je_01_panic_is_caught(struct test_env *env)
{
    weft_outcome o;
    (void)env;
    CHECK_EQ(weft_join(SPAWN(panic_with_words, &answer), &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    CHECK(o.panic != NULL);
    CHECK_EQ(strcmp(weft_panic_message(o.panic), "the answer is 42"), 0);
    CHECK(strstr(weft_panic_site(o.panic)->file, "test_join_error.c") != NULL);
    CHECK_EQ(strcmp(weft_panic_site(o.panic)->func, "panic_with_words"), 0);
    void *const *frames = NULL;
    size_t count = weft_panic_backtrace(o.panic, &frames);
#if __has_include(<execinfo.h>)
    CHECK(count > 0);
#endif
    CHECK(frames != NULL);
    if (count > 0) /* from the place of the panic outwards */
        EXPECT((uintptr_t)frames[0] - (uintptr_t)panic_with_words < 4096);
    weft_outcome_fini(&o);
    weft_outcome_fini(&o); /* may be called twice */

    CHECK_EQ(weft_join(SPAWN(fail_assertion, NULL), &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    CHECK(strstr(weft_panic_message(o.panic), "arg != NULL") != NULL);
    weft_outcome_fini(&o);
}

static void a_panic_nobody_joins_is_reported_with_places(struct test_env *env)
{
    (void)env;
    weft_task_detach(SPAWN(panic_with_words, &answer));
    CHECK_SOON(test_log_count("panic nobody joins") == 1);
#if __has_include(<execinfo.h>)
    CHECK_SOON(test_log_count("    #1 ") == 1);
    char line[256];
    CHECK(test_log_find("    #0 ", line, sizeof line));
    EXPECT(strstr(line, "join_error+0x") != NULL); /* the program and an offset */
#endif
    test_log_clear();
}

static void *panic_at_length(void *arg)
{
    weft_panic("%s", (const char *)arg);
}

static void je_01_long_message_is_cut(struct test_env *env)
{
    static char text[2000];
    weft_outcome o;
    (void)env;
    memset(text, 'x', sizeof(text) - 1);
    CHECK_EQ(weft_join(SPAWN(panic_at_length, text), &o), 0);
    CHECK_EQ(strlen(weft_panic_message(o.panic)), 511);
    weft_outcome_fini(&o);
}

static void je_02_payload_is_taken_once(struct test_env *env)
{
    weft_outcome o;
    void *payload = NULL;
    (void)env;
    atomic_store(&payload_drops, 0);
    CHECK_EQ(weft_join(SPAWN(panic_with_payload, &answer), &o), 0);
    CHECK_EQ(strcmp(weft_panic_message(o.panic), ""), 0);
    CHECK_EQ(weft_panic_take_payload(o.panic, &payload), 0);
    CHECK(payload == &answer);
    payload = NULL;
    CHECK_EQ(weft_panic_take_payload(o.panic, &payload), -ENOENT);
    CHECK(payload == NULL);
    weft_outcome_fini(&o);
    CHECK_EQ(atomic_load(&payload_drops), 0); /* it is ours */

    CHECK_EQ(weft_join(SPAWN(panic_with_payload, &answer), &o), 0);
    weft_outcome_fini(&o);
    CHECK_EQ(atomic_load(&payload_drops), 1);

    weft_task *t = SPAWN(panic_with_payload, &answer);
    weft_task_detach(t);
    CHECK_SOON(atomic_load(&payload_drops) == 2);

    CHECK_EQ(weft_join(SPAWN(panic_with_words, &answer), &o), 0);
    CHECK_EQ(weft_panic_take_payload(o.panic, &payload), -ENOENT); /* a message is no payload */
    weft_outcome_fini(&o);
    CHECK_EQ(weft_panic_take_payload(NULL, &payload), -EINVAL); /* as of a cancelled outcome */
}

static void *raise_again(void *arg)
{
    weft_outcome o;
    CHECK_EQ(weft_join(SPAWN(panic_with_payload, arg), &o), 0);
    weft_panic_resume(o.panic);
}

static void je_03_payload_is_raised_again(struct test_env *env)
{
    weft_outcome o;
    void *payload = NULL;
    (void)env;
    atomic_store(&payload_drops, 0);
    CHECK_EQ(weft_join(SPAWN(raise_again, &answer), &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    CHECK_EQ(weft_panic_take_payload(o.panic, &payload), 0);
    CHECK(payload == &answer);
    weft_outcome_fini(&o);
    CHECK_EQ(atomic_load(&payload_drops), 0);
}

static void describe(weft_task *t, char *text, size_t cap, char *id, size_t id_cap)
{
    weft_outcome o;
    (void)snprintf(id, id_cap, "%llu", (unsigned long long)weft_task_id(t));
    CHECK_EQ(weft_join(t, &o), 0);
    int n = weft_outcome_describe(&o, text, cap);
    CHECK_EQ(n, strlen(text));
    CHECK_EQ(weft_outcome_describe(&o, NULL, 0), n);
    weft_outcome_fini(&o);
}

static void je_04_description_names_the_task(struct test_env *env)
{
    char words[300], payload[300], cancelled[300], id[32];
    (void)env;
    describe(SPAWN(panic_with_words, &answer), words, sizeof(words), id, sizeof(id));
    CHECK(strstr(words, id) != NULL);
    CHECK(strstr(words, "the answer is 42") != NULL);
    describe(SPAWN(panic_with_payload, &answer), payload, sizeof(payload), id, sizeof(id));
    CHECK(strstr(payload, id) != NULL);
    CHECK(strstr(payload, "panic") != NULL);
    CHECK(strstr(payload, "42") == NULL || strstr(id, "42") != NULL);
    weft_task *t = SPAWN(test_forever, NULL);
    CHECK_EQ(weft_abort(t), 0);
    describe(t, cancelled, sizeof(cancelled), id, sizeof(id));
    CHECK(strstr(cancelled, id) != NULL);
    CHECK(strstr(cancelled, "cancel") != NULL);
    CHECK(strstr(cancelled, "panic") == NULL);
}

static void je_05_outcome_has_the_task_id(struct test_env *env)
{
    weft_outcome o;
    weft_task_fn body[] = {panic_with_words, test_noop, test_forever};
    (void)env;
    for (int i = 0; i < 3; i++) {
        weft_task *t = SPAWN(body[i], &answer);
        uint64_t id = weft_task_id(t);
        if (i == 2)
            CHECK_EQ(weft_abort(t), 0);
        CHECK_EQ(weft_join(t, &o), 0);
        CHECK_EQ(o.task_id, id);
        if (o.panic != NULL)
            CHECK_EQ(weft_panic_task_id(o.panic), id);
        weft_outcome_fini(&o);
    }
}

static void je_06_panic_ends_block_on(struct test_env *env)
{
    weft_outcome o;
    void *payload = NULL;
    CHECK_EQ(weft_block_on(env->rt, panic_with_payload, &answer, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    CHECK_EQ(weft_panic_task_id(o.panic), 0);
    CHECK_EQ(weft_panic_take_payload(o.panic, &payload), 0);
    CHECK(payload == &answer);
    weft_outcome_fini(&o);
    CHECK(test_block_on(env->rt, test_noop, env) == env); /* the runtime is none the worse */
}

static void *raise_again_after_block_on(void *rt)
{
    weft_outcome o;
    CHECK_EQ(weft_block_on(rt, panic_with_payload, &answer, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    weft_panic_resume(o.panic);
}

static void *block_on_in_place(void *rt)
{
    EXPECT_EQ(weft_block_in_place(raise_again_after_block_on, rt, NULL), 1); /* it goes on here */
    return NULL;
}

/* Where there is a task to catch it: the caller, in place, is one of another runtime. */
static void je_06_panic_of_block_on_is_raised_again(struct test_env *env)
{
    weft_runtime *other = test_runtime_create(TEST_MT1);
    weft_handle *h = weft_runtime_handle(other);
    weft_outcome o;
    void *payload = NULL;
    int rc = -EAGAIN;
    atomic_store(&payload_drops, 0);
    weft_task *t = SPAWN_ON(h, block_on_in_place, env->rt);
    uint64_t id = weft_task_id(t);
    CHECK_SOON((rc = weft_try_join(t, &o)) != -EAGAIN);
    CHECK_EQ(rc, 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    CHECK_EQ(o.task_id, id);
    CHECK_EQ(weft_panic_take_payload(o.panic, &payload), 0);
    CHECK(payload == &answer);
    weft_outcome_fini(&o);
    CHECK_EQ(atomic_load(&payload_drops), 0);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    weft_handle_unref(h);
}

static int run_panics(void *arg)
{
    weft_panic("main fails: %d", *(int *)arg);
}

static void je_06_panic_ends_weft_run(struct test_env *env)
{
    (void)env;
    CHECK_EQ(weft_run(run_panics, &answer), -EOWNERDEAD);
    CHECK(test_log_count("main fails: 42") >= 1);
}

static atomic_int cleanups;

static void see_panic(void *arg)
{
    EXPECT(weft_self_is_panicking() == (arg != NULL));
    atomic_fetch_add(&cleanups, 1);
}

static void *panic_over_cleanups(void *arg)
{
    WEFT_DEFER(see_panic, arg);
    {
        WEFT_DEFER(see_panic, NULL); /* left normally: no panic yet */
        EXPECT(!weft_self_is_panicking());
    }
    WEFT_DEFER(see_panic, arg);
    weft_panic("over cleanups");
}

static void je_07_cleanups_see_the_panic(struct test_env *env)
{
    atomic_store(&cleanups, 0);
    CHECK_EQ(test_join_kind(SPAWN_ON(env->handle, panic_over_cleanups, env)),
             WEFT_OUTCOME_PANICKED);
    CHECK_EQ(atomic_load(&cleanups), 3);
    CHECK(!weft_self_is_panicking());
}

static void je_08_errors_of_outcomes_are_not_shutdown(struct test_env *env)
{
    weft_outcome o;
    (void)env;
    CHECK_EQ(weft_join(SPAWN(panic_with_words, &answer), &o), 0);
    CHECK_EQ(weft_outcome_error(&o), -EOWNERDEAD);
    CHECK(!weft_error_is_shutdown(weft_outcome_error(&o)));
    weft_outcome_fini(&o);
    weft_task *t = SPAWN(test_forever, NULL);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(weft_join(t, &o), 0);
    CHECK_EQ(weft_outcome_error(&o), -ECANCELED);
    CHECK(!weft_error_is_shutdown(weft_outcome_error(&o)));
    weft_outcome_fini(&o);
    CHECK_EQ(weft_join(SPAWN(test_noop, NULL), &o), 0);
    CHECK_EQ(weft_outcome_error(&o), 0);
    weft_outcome_fini(&o);
}

static void panic_nobody_joins_is_reported(struct test_env *env)
{
    char line[400];
    weft_spawn_options o = {.name = "unlucky", .runtime = env->handle};
    test_log_clear();
    CHECK_EQ(weft_spawn_with(&o, panic_with_words, &answer, NULL), 0);
    CHECK_SOON(test_log_count("the answer is 42") > 0);
    CHECK(test_log_find("the answer is 42", line, sizeof(line)));
    CHECK(strstr(line, "unlucky") != NULL);
    CHECK_SOON(test_log_count("test_join_error.c") > 0);
}

static void *wait_for_end(void *arg)
{
    EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    return arg;
}

static void panic_nobody_joins_shuts_down_if_asked(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    weft_outcome o;
    (void)env;
    for (int flavour = TEST_CT; flavour <= TEST_MT4; flavour++) {
        test_config(&c, (enum test_flavour)flavour);
        c.unhandled_panic = WEFT_UNHANDLED_PANIC_SHUTDOWN;
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        weft_handle *h = weft_runtime_handle(rt);
        weft_spawn_options so = {.runtime = h};
        CHECK_EQ(weft_spawn_with(&so, panic_with_words, &answer, NULL), 0);
        int rc = weft_block_on(rt, wait_for_end, NULL, &o);
        if (rc == 0) { /* the panic came after block_on had begun: its body ends by one as well */
            CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
            weft_outcome_fini(&o);
        } else {
            CHECK_EQ(rc, -ESHUTDOWN);
        }
        CHECK_EQ(weft_runtime_destroy(rt), 0);
        weft_handle_unref(h);
    }
}

TEST_MAIN(IN_TASK(je_01_panic_is_caught), IN_TASK(je_01_long_message_is_cut),
          IN_TASK(je_02_payload_is_taken_once), IN_TASK(je_03_payload_is_raised_again),
          IN_TASK(je_04_description_names_the_task), IN_TASK(je_05_outcome_has_the_task_id),
          ON_MAIN(je_06_panic_ends_block_on), ON_MAIN(je_06_panic_of_block_on_is_raised_again),
          PLAIN(je_06_panic_ends_weft_run), IN_TASK(je_07_cleanups_see_the_panic),
          IN_TASK(je_08_errors_of_outcomes_are_not_shutdown),
          IN_TASK(a_panic_nobody_joins_is_reported_with_places),
          IN_TASK(panic_nobody_joins_is_reported), PLAIN(panic_nobody_joins_shuts_down_if_asked))
