/*
 * Buffered readers and writers over a stream.
 *
 * The reader keeps [head, tail) of its block; lines are handed out in place. Nothing is taken from
 * it until a call succeeds, which is what makes every call safe to cancel and to repeat. One byte
 * more than the capacity is allocated, for the NUL behind a line.
 */
#include "io/bufio.h"

#include "base/base.h"
#include "io/stream.h"
#include "sys/sys.h"

#include <weft/stream.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CAPACITY_DEFAULT 8192
#define CAPACITY_MAX ((size_t)1 << 30)

struct weft_bufreader {
    struct weft__stream_target stream;
    size_t capacity;
    size_t head, tail;
    size_t looked; /* bytes from head on that are known to hold no delimiter */
    int delimiter; /* ... this one */
    bool at_end;   /* the stream has ended */
    char data[];
};

int weft_bufreader_create(weft_stream *s, size_t capacity, weft_bufreader **ret_reader)
{
    if (s == NULL || s->ops == NULL || ret_reader == NULL || capacity > CAPACITY_MAX)
        return weft__misuse("weft_bufreader_create", -EINVAL,
                            "no stream, no place for the result, or an absurd capacity",
                            WEFT__CALLER);
    if (capacity == 0)
        capacity = CAPACITY_DEFAULT;
    weft_bufreader *r = weft__malloc(sizeof(*r) + capacity + 1);
    if (r == NULL)
        return -ENOMEM;
    *r = (weft_bufreader){.stream = weft__stream_resolve(s), .capacity = capacity, .delimiter = -1};
    *ret_reader = r;
    return 0;
}

void weft_bufreader_destroy(weft_bufreader *r)
{
    weft__free(r);
}

#define REPORT_NULL(name) weft__misuse(name, -EINVAL, "a NULL argument", WEFT__CALLER)

static size_t buffered(const weft_bufreader *r)
{
    return r->tail - r->head;
}

static void take(weft_bufreader *r, size_t n)
{
    r->head += n;
    r->looked = 0;
    if (r->head == r->tail)
        r->head = r->tail = 0;
}

/* Reads once, behind what is buffered; there must be room in all. The number of bytes, 0 at the
 * end, an error. */
static ssize_t read_more(weft_bufreader *r)
{
    if (r->at_end)
        return 0;
    if (r->tail == r->capacity) {
        memmove(r->data, r->data + r->head, buffered(r));
        r->tail -= r->head;
        r->head = 0;
    }
    ssize_t n = weft__target_read(&r->stream, r->data + r->tail, r->capacity - r->tail);
    if (n > 0)
        r->tail += (size_t)n;
    else if (n == 0)
        r->at_end = true;
    return n;
}

ssize_t weft_bufreader_read(weft_bufreader *r, void *buf, size_t len)
{
    if (r == NULL || (buf == NULL && len > 0))
        return REPORT_NULL("weft_bufreader_read");
    if (len == 0)
        return 0;
    if (buffered(r) == 0) {
        ssize_t n;
        if (len >= r->capacity && !r->at_end) {
            n = weft__target_read(&r->stream, buf, len);
            r->at_end = n == 0;
            return n;
        }
        n = read_more(r);
        if (n <= 0)
            return n;
    }
    size_t n = buffered(r) < len ? buffered(r) : len;
    memcpy(buf, r->data + r->head, n);
    take(r, n);
    return (ssize_t)n;
}

int weft_bufreader_read_exact(weft_bufreader *r, void *buf, size_t len, size_t *ret_len)
{
    size_t unwanted;
    size_t *done = weft__stream_count(ret_len, &unwanted);
    ssize_t n = 1;
    if (r == NULL || (buf == NULL && len > 0)) {
        n = REPORT_NULL("weft_bufreader_read_exact");
    } else {
        while (*done < len && (n = weft_bufreader_read(r, (char *)buf + *done, len - *done)) > 0)
            *done += (size_t)n;
    }
    return n > 0 ? 0 : n == 0 ? -ENODATA : (int)n;
}

/* Reads until n bytes are there, which fit, or the stream ends. */
static ssize_t read_up_to(weft_bufreader *r, size_t n, const char **ret_data)
{
    while (buffered(r) < n) {
        ssize_t got = read_more(r);
        if (got < 0)
            return got;
        if (got == 0)
            break;
    }
    *ret_data = r->data + r->head;
    return (ssize_t)buffered(r);
}

ssize_t weft_bufreader_fill(weft_bufreader *r, const char **ret_data)
{
    if (r == NULL || ret_data == NULL)
        return REPORT_NULL("weft_bufreader_fill");
    return read_up_to(r, 1, ret_data);
}

void weft_bufreader_consume(weft_bufreader *r, size_t n)
{
    if (r != NULL)
        take(r, n < buffered(r) ? n : buffered(r));
}

ssize_t weft_bufreader_peek(weft_bufreader *r, size_t n, const char **ret_data)
{
    if (r == NULL || ret_data == NULL)
        return REPORT_NULL("weft_bufreader_peek");
    if (n > r->capacity)
        return -EMSGSIZE;
    return read_up_to(r, n, ret_data);
}

/* How long the next piece is, delimiter included. 1 with *ret_len, 0 at the end, an error. */
static int find_piece(weft_bufreader *r, char delimiter, size_t *ret_len)
{
    if (r->delimiter != (unsigned char)delimiter) {
        r->delimiter = (unsigned char)delimiter;
        r->looked = 0;
    }
    for (;;) {
        char *from = r->data + r->head;
        size_t have = buffered(r);
        char *hit = memchr(from + r->looked, delimiter, have - r->looked);
        if (hit != NULL) {
            *ret_len = (size_t)(hit - from) + 1;
            return 1;
        }
        r->looked = have;
        if (have == r->capacity)
            return -EMSGSIZE;
        ssize_t n = read_more(r);
        if (n < 0)
            return (int)n;
        if (n == 0) {
            *ret_len = have;
            return have > 0;
        }
    }
}

int weft_bufreader_read_until(weft_bufreader *r, char delimiter, const char **ret_data,
                              size_t *ret_len)
{
    if (r == NULL || ret_data == NULL || ret_len == NULL)
        return REPORT_NULL("weft_bufreader_read_until");
    size_t len = 0; /* gcc at -O3 loses sight of an error being negative */
    int rc = find_piece(r, delimiter, &len);
    if (rc <= 0)
        return rc;
    *ret_data = r->data + r->head; /* stays there until the next read */
    *ret_len = len;
    take(r, len);
    return 1;
}

int weft__bufreader_find_line(weft_bufreader *r, const char **ret_line, size_t *ret_len,
                              size_t *ret_piece)
{
    size_t len = 0; /* gcc at -O3 loses sight of an error being negative */
    int rc = find_piece(r, '\n', &len);
    if (rc <= 0)
        return rc;
    const char *line = r->data + r->head;
    *ret_line = line;
    *ret_piece = len;
    if (line[len - 1] == '\n') {
        len--;
        if (len > 0 && line[len - 1] == '\r')
            len--;
    }
    *ret_len = len;
    return 1;
}

int weft_bufreader_read_line(weft_bufreader *r, const char **ret_line, size_t *ret_len)
{
    if (r == NULL || ret_line == NULL || ret_len == NULL)
        return REPORT_NULL("weft_bufreader_read_line");
    size_t piece;
    int rc = weft__bufreader_find_line(r, ret_line, ret_len, &piece);
    if (rc <= 0)
        return rc;
    size_t at = r->head;
    take(r, piece);
    /* On the newline; or, for a last line without one, behind all that is buffered. */
    r->data[at + *ret_len] = '\0';
    return 1;
}

/* ---- writing ---- */

struct weft_bufwriter {
    struct weft__stream_target stream;
    size_t capacity;
    size_t head, tail; /* [head, tail) is to be written */
    char data[];
};

int weft_bufwriter_create(weft_stream *s, size_t capacity, weft_bufwriter **ret_writer)
{
    if (s == NULL || s->ops == NULL || ret_writer == NULL || capacity > CAPACITY_MAX)
        return weft__misuse("weft_bufwriter_create", -EINVAL,
                            "no stream, no place for the result, or an absurd capacity",
                            WEFT__CALLER);
    if (capacity == 0)
        capacity = CAPACITY_DEFAULT;
    weft_bufwriter *w = weft__malloc(sizeof(*w) + capacity + 1); /* + 1: vsnprintf's NUL */
    if (w == NULL)
        return -ENOMEM;
    *w = (weft_bufwriter){.stream = weft__stream_resolve(s), .capacity = capacity};
    *ret_writer = w;
    return 0;
}

void weft_bufwriter_destroy(weft_bufwriter *w)
{
    weft__free(w);
}

size_t weft_bufwriter_pending(const weft_bufwriter *w)
{
    return w == NULL ? 0 : w->tail - w->head;
}

/* Writes all that is buffered. What has been written is so at once: a stream may panic in the next
 * call, or an abort unwind it, and a cleanup go on with the rest. */
static int drain(weft_bufwriter *w)
{
    int rc = 0;
    while (rc == 0 && w->head < w->tail) {
        ssize_t n = weft__target_write(&w->stream, w->data + w->head, w->tail - w->head);
        if (n > 0)
            w->head += (size_t)n;
        else
            rc = n == 0 ? -EIO : (int)n;
    }
    if (w->head == w->tail)
        w->head = w->tail = 0;
    return rc;
}

int weft_bufwriter_write(weft_bufwriter *w, const void *buf, size_t len, size_t *ret_len)
{
    size_t unwanted;
    size_t *done = weft__stream_count(ret_len, &unwanted);
    int rc = 0;
    if (w == NULL || (buf == NULL && len > 0))
        rc = REPORT_NULL("weft_bufwriter_write");
    while (rc == 0 && *done < len) {
        const char *from = (const char *)buf + *done;
        size_t left = len - *done;
        size_t n = w->capacity - w->tail;
        if (w->head == w->tail && left >= w->capacity) {
            rc = weft__target_write_all(&w->stream, from, left, done);
        } else if (n == 0) {
            rc = drain(w);
        } else {
            n = n < left ? n : left;
            memcpy(w->data + w->tail, from, n);
            w->tail += n;
            *done += n;
        }
    }
    return rc;
}

/* Formats behind what is buffered. -ENOBUFS when that would fit an empty buffer. */
static int format(weft_bufwriter *w, const char *fmt, va_list ap)
{
    size_t room = w->capacity - w->tail;
    int n = vsnprintf(w->data + w->tail, room + 1, fmt, ap);
    if (n < 0 || (size_t)n > w->capacity)
        return -EMSGSIZE;
    if ((size_t)n > room)
        return -ENOBUFS;
    w->tail += (size_t)n;
    return 0;
}

int weft_bufwriter_printf(weft_bufwriter *w, const char *fmt, ...)
{
    if (w == NULL || fmt == NULL)
        return REPORT_NULL("weft_bufwriter_printf");
    va_list ap;
    va_start(ap, fmt);
    int rc = format(w, fmt, ap);
    va_end(ap);
    if (rc != -ENOBUFS)
        return rc;
    rc = drain(w);
    if (rc < 0)
        return rc;
    va_start(ap, fmt);
    rc = format(w, fmt, ap);
    va_end(ap);
    return rc;
}

int weft_bufwriter_flush(weft_bufwriter *w)
{
    if (w == NULL)
        return REPORT_NULL("weft_bufwriter_flush");
    int rc = drain(w);
    return rc < 0 ? rc : weft__target_flush(&w->stream);
}
