/*
 * What the tests of forked children share: places to fork in, and what a child must be able to do.
 */
#ifndef WEFT_TESTS_FORK_COMMON_H
#define WEFT_TESTS_FORK_COMMON_H

#include "harness.h"
#include "program.h"

#include <weft/net.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- what a new runtime must be able to do ---- */

static inline void *echo_once(void *arg)
{
    weft_tcp *conn;
    char c;
    if (weft_tcp_accept(arg, &conn) < 0)
        return NULL;
    if (weft_tcp_read(conn, &c, 1) != 1 || weft_tcp_write(conn, &c, 1) != 1)
        c = 0; /* the other side notices */
    weft_tcp_close(conn);
    return NULL;
}

static inline void *give_back(void *arg)
{
    return arg;
}

/* Timers, tasks, jobs and sockets. */
static inline int use_all(void *arg)
{
    weft_tcp_listener *l;
    weft_tcp *conn;
    weft_addr addr;
    weft_task *server, *job;
    weft_outcome o;
    char c = 'w';
    (void)arg;
    if (weft_sleep(WEFT_MS) != 0 || weft_tcp_listen("127.0.0.1:0", &l) != 0 ||
        weft_tcp_listener_local_addr(l, &addr) != 0 || weft_spawn(echo_once, l, &server) != 0 ||
        weft_tcp_connect_addr(NULL, &addr, &conn) != 0)
        return 11;
    if (weft_tcp_write(conn, &c, 1) != 1 || weft_tcp_read(conn, &c, 1) != 1 || c != 'w')
        return 12;
    weft_tcp_close(conn);
    if (weft_join(server, &o) != 0 || weft_tcp_listener_close(l) != 0)
        return 13;
    if (weft_spawn_blocking(give_back, &c, &job) != 0 || weft_join(job, &o) != 0 || o.value != &c)
        return 14;
    return 0;
}

static inline int use_new_runtimes(void)
{
    weft_config c;
    for (int f = TEST_CT; f <= TEST_MT4; f++) {
        test_config(&c, (enum test_flavour)f);
        int rc = weft_run_with(&c, use_all, NULL);
        if (rc != 0)
            return rc < 0 ? 10 : rc;
    }
    return 0;
}

static inline weft_runtime *create(enum test_flavour flavour)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, flavour);
    if (weft_runtime_create(&c, &rt) != 0)
        _exit(90);
    return rt;
}

/* ---- places to fork in ---- */

enum where { IN_A_BODY, IN_A_TASK, IN_A_JOB, PLACES };

/* Runs fn(arg) to its end there. */
static inline bool run_in(weft_runtime *rt, enum where where, weft_task_fn fn, void *arg)
{
    if (where == IN_A_BODY)
        return weft_block_on(rt, fn, arg, NULL) == 0;
    weft_handle *h = weft_runtime_handle(rt);
    weft_spawn_options opts = {.runtime = h, .name = "forker"};
    weft_task *t;
    weft_outcome o;
    int rc = where == IN_A_TASK ? weft_spawn_with(&opts, fn, arg, &t)
                                : weft_spawn_blocking_with(&opts, fn, arg, &t);
    weft_handle_unref(h);
    if (rc < 0)
        return false;
    while ((rc = weft_try_join(t, &o)) == -EAGAIN)
        if (weft_block_on(rt, test_noop, NULL, NULL) != 0) /* somebody must drive */
            return false;
    return rc == 0;
}

/* A child forked in each place on each runtime ends with this status. */
static inline int expect_everywhere(weft_task_fn fn, int status)
{
    for (int f = TEST_CT; f <= TEST_MT4; f++) {
        weft_runtime *rt = create((enum test_flavour)f);
        for (int where = IN_A_BODY; where < PLACES; where++) {
            int got = -1;
            if (!run_in(rt, (enum where)where, fn, &got))
                return 30;
            if (got != status)
                return got == 0 ? 31 : got;
        }
        if (weft_runtime_destroy(rt) != 0)
            return 32;
    }
    return 0;
}

/* ---- parts ---- */

static inline void never_cancelled(weft_future *f)
{
    (void)f;
}

static inline unsigned count_of(const char *text, const char *part)
{
    unsigned n = 0;
    for (; (text = strstr(text, part)) != NULL; text++)
        n++;
    return n;
}

/* So many children have returned to weft, and were ended there. None was by a check of its own that
 * failed: a panic ends a child with the same status, and the same line. */
static inline void expect_returned(const char *said, unsigned children)
{
    EXPECT_EQ(count_of(said, "a forked child has returned from"), children);
    EXPECT_EQ(count_of(said, ": failed: "), 0);
}

#endif
