/*
 * The log: one line at a time, to stderr or to the program's own sink.
 *
 * The sink is a pair (function, argument) that any thread may replace while others log. There are
 * two places for it: a writer fills the one that is not in use and then counts up, and the lowest
 * bit of the count says which is in use. A reader that finds the count unchanged afterwards has
 * read one pair; it tries again only when a writer was faster, so no reader waits, and in a child
 * that was forked in the middle of a replacement no writer does either.
 *
 * This directory stands below src/atomic, hence the compiler's builtins instead of the shim.
 */
#include "base/base.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1000

static const char prefix[] = "weft: ";
#define PREFIX_BYTES (sizeof(prefix) - 1)

struct sink {
    weft_log_fn fn; /* NULL: stderr */
    void *arg;
};

static struct sink sinks[2]; /* written by the holder of writer, read by all */
static uint32_t sink_count;  /* the same; its lowest bit picks the sink in use */
static pid_t writer;         /* the process of who replaces a sink; 0: nobody does */

/* A child forked in the middle of a replacement takes over from the thread that it lacks: what that
 * one had filled in is not in use. */
static void become_writer(void)
{
    pid_t self = getpid(), holder = 0;
    while (!__atomic_compare_exchange_n(&writer, &holder, self, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
        if (holder == self) {
            sched_yield(); /* another thread replaces it too: three stores */
            holder = 0;
        }
}

void weft_log_set(weft_log_fn fn, void *arg)
{
    become_writer();
    uint32_t count = __atomic_load_n(&sink_count, __ATOMIC_RELAXED) + 1;
    /* release: a reader that sees one of these sees, in its second look, the count that took this
     * place out of use. */
    __atomic_store_n(&sinks[count % 2].fn, fn, __ATOMIC_RELEASE);
    __atomic_store_n(&sinks[count % 2].arg, arg, __ATOMIC_RELEASE);
    __atomic_store_n(&sink_count, count, __ATOMIC_RELEASE);
    __atomic_store_n(&writer, 0, __ATOMIC_RELEASE);
}

static struct sink read_sink(void)
{
    for (;;) {
        uint32_t count = __atomic_load_n(&sink_count, __ATOMIC_ACQUIRE);
        struct sink sink;
        sink.fn = __atomic_load_n(&sinks[count % 2].fn, __ATOMIC_ACQUIRE);
        sink.arg = __atomic_load_n(&sinks[count % 2].arg, __ATOMIC_ACQUIRE);
        if (__atomic_load_n(&sink_count, __ATOMIC_RELAXED) == count)
            return sink;
    }
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
    /* of a name or a message of the user's: it would end the line */
    for (size_t i = 0; i < len; i++)
        if (line[i] == '\n')
            line[i] = ' ';

    struct sink sink = read_sink();
    if (sink.fn != NULL) {
        sink.fn(level, line, sink.arg);
    } else {
        memcpy(text, prefix, PREFIX_BYTES);
        line[len] = '\n';
        write_stderr(text, PREFIX_BYTES + len + 1);
    }
    errno = saved;
}
