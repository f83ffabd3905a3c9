/*
 * The log: one line at a time, to stderr or to the program's own sink.
 *
 * The sink is a pair (function, argument) that any thread may replace while others log, so it is
 * read under a sequence count: odd while it is being written. A reader never waits for ever: a
 * child forked in the middle of a replacement sees the count odd until it ends, and logs to stderr.
 *
 * This directory stands below src/atomic, hence the compiler's builtins instead of the shim.
 */
#include "base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1000
#define READ_TRIES 1000

static const char prefix[] = "weft: ";
#define PREFIX_BYTES (sizeof(prefix) - 1)

static uint32_t sink_seq;   /* odd while a writer is inside; written by compare-exchange */
static weft_log_fn sink_fn; /* written by the thread that made sink_seq odd, read by all */
static void *sink_arg;      /* the same */

void weft_log_set(weft_log_fn fn, void *arg)
{
    uint32_t seq = __atomic_load_n(&sink_seq, __ATOMIC_RELAXED);
    for (;;) {
        seq &= ~UINT32_C(1);
        /* acquire pairs with the release of the last writer: our stores come after its own. */
        if (__atomic_compare_exchange_n(&sink_seq, &seq, seq + 1, true, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            break;
    }
    /* release: a reader that sees one of these also sees the count odd, or a later one. */
    __atomic_store_n(&sink_fn, fn, __ATOMIC_RELEASE);
    __atomic_store_n(&sink_arg, arg, __ATOMIC_RELEASE);
    __atomic_store_n(&sink_seq, seq + 2, __ATOMIC_RELEASE);
}

/* NULL: the default sink. */
static weft_log_fn read_sink(void **ret_arg)
{
    for (int i = 0; i < READ_TRIES; i++) {
        uint32_t before = __atomic_load_n(&sink_seq, __ATOMIC_ACQUIRE);
        weft_log_fn fn = __atomic_load_n(&sink_fn, __ATOMIC_ACQUIRE);
        void *arg = __atomic_load_n(&sink_arg, __ATOMIC_ACQUIRE);
        if (before % 2 == 0 && __atomic_load_n(&sink_seq, __ATOMIC_RELAXED) == before) {
            *ret_arg = arg;
            return fn;
        }
    }
    *ret_arg = NULL;
    return NULL;
}

/* In one write, so that lines of several threads do not mix; short only on a full pipe. */
static void write_stderr(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nobody to tell */
        text += n;
        len -= (size_t)n;
    }
}

void weft__log(enum weft_log_level level, const char *fmt, ...)
{
    /* errno belongs to the caller; nothing in here suspends, so this is still its thread. */
    int saved = errno;
    char text[PREFIX_BYTES + LINE_MAX_BYTES + 1];
    char *line = text + PREFIX_BYTES;

    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, LINE_MAX_BYTES, fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : (size_t)n;
    if (len >= LINE_MAX_BYTES) {
        len = LINE_MAX_BYTES - 1;
        memcpy(line + len - 3, "...", 3);
    }
    line[len] = '\0';

    void *arg;
    weft_log_fn fn = read_sink(&arg);
    if (fn != NULL) {
        fn(level, line, arg);
    } else {
        memcpy(text, prefix, PREFIX_BYTES);
        line[len] = '\n';
        write_stderr(text, PREFIX_BYTES + len + 1);
    }
    errno = saved;
}
