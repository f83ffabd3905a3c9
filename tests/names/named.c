/*
 * What tests/names/test_names.py looks at: a dump, and the report of a panic, from functions that
 * are static or hidden, in the program and in a library.
 */
#include <weft/weft.h>

#include <stdlib.h>
#include <unistd.h>

#define KEPT __attribute__((noinline))
#define NO_TAIL_CALL __asm__ volatile("" ::: "memory")

int named_call(int (*fn)(void *arg), void *arg); /* of the library */

static weft_notify never = WEFT_NOTIFY_INIT;

static KEPT int wait_in_static(void *arg)
{
    int rc = weft_notify_wait(arg);
    NO_TAIL_CALL;
    return rc;
}

static KEPT void *waits(void *arg)
{
    (void)named_call(wait_in_static, arg); /* until the end */
    NO_TAIL_CALL;
    return NULL;
}

static KEPT int panic_in_static(void *arg)
{
    if (arg == NULL)
        weft_panic("as asked for");
    NO_TAIL_CALL;
    return 0;
}

static KEPT void *panics(void *arg)
{
    (void)named_call(panic_in_static, arg);
    NO_TAIL_CALL;
    return NULL;
}

static int run(void *arg)
{
    (void)arg;
    if (weft_spawn(waits, &never, NULL) < 0 || weft_spawn(panics, NULL, NULL) < 0)
        return 1;
    if (weft_yield() < 0 || weft_yield() < 0) /* one worker: both have run */
        return 1;
    _exit(weft_dump(NULL, STDOUT_FILENO) > 0 ? 0 : 1); /* one waits for ever */
}

int main(void)
{
    weft_config config;
    weft_config_init(&config);
    config.shutdown_grace_ns = 0;
    config.workers = 1;
    return weft_run_with(&config, run, NULL);
}
