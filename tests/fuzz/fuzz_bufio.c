/*
 * The buffered reader over a source that gives its bytes in any pieces, with errors between them,
 * against the text itself: every call says what memchr() and memcpy() say of what is left of it.
 * And the buffered writer over a sink that takes them in any pieces.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 512
#define DELIMITER ';'

/* The pieces come from the input: 0 is an error, more the most bytes of one call. */
static struct fuzz_in pieces;
static int failed; /* the error that the last call below met; 0: none */

static size_t piece(size_t most)
{
    static const int error[] = {-ECANCELED, -ETIMEDOUT, -ECONNRESET, -EINTR};
    unsigned n = fuzz_more(&pieces) ? fuzz_u8(&pieces) : 255;
    if (n < 16) {
        failed = error[n % 4];
        return 0;
    }
    n = n % 16 == 0 ? n : n % 16; /* mostly short */
    return n < most ? n : most;
}

/* ---- reading ---- */

static char text[TEXT_MAX];
static size_t length, given, taken; /* of text, by the source; and out of the reader */

static ssize_t source_read(weft_stream *s, void *buf, size_t len)
{
    (void)s;
    FUZZ_CHECK(len > 0); /* there is no such call, and its 0 would look like the end */
    size_t n = piece(len);
    if (n == 0)
        return failed;
    if (n > length - given)
        n = length - given;
    memcpy(buf, text + given, n);
    memset((char *)buf + n, '#', len - n); /* what is not given is nobody's */
    given += n;
    return (ssize_t)n;
}

static const weft_stream_ops source_ops = {.read = source_read};

static bool is_next(const void *data, size_t n)
{
    return n <= given - taken && memcmp(data, text + taken, n) == 0;
}

static void read_some(weft_bufreader *r, size_t len)
{
    char buf[256];
    ssize_t n = weft_bufreader_read(r, buf, len);
    if (n < 0) {
        FUZZ_CHECK(n == failed);
    } else {
        FUZZ_CHECK((size_t)n <= len && is_next(buf, (size_t)n));
        FUZZ_CHECK(n > 0 || len == 0 || taken == length);
        taken += (size_t)n;
    }
}

static void read_exact(weft_bufreader *r, size_t len)
{
    char buf[256];
    size_t n = len + 1;
    int rc = weft_bufreader_read_exact(r, buf, len, &n);
    FUZZ_CHECK(n <= len && is_next(buf, n));
    taken += n;
    if (rc == 0)
        FUZZ_CHECK(n == len);
    else
        FUZZ_CHECK(n < len && (rc == -ENODATA ? taken == length : rc == failed));
}

static void peek(weft_bufreader *r, size_t capacity, size_t want, size_t consume)
{
    const char *at = NULL;
    ssize_t n = want == 0 ? weft_bufreader_fill(r, &at) : weft_bufreader_peek(r, want, &at);
    want += want == 0;
    if (want > capacity) {
        FUZZ_CHECK(n == -EMSGSIZE);
    } else if (n < 0) {
        FUZZ_CHECK(n == failed);
    } else {
        /* All that was given and not taken. */
        FUZZ_CHECK((size_t)n == given - taken && is_next(at, (size_t)n));
        FUZZ_CHECK((size_t)n >= want || given == length);
    }
    size_t have = given - taken;
    weft_bufreader_consume(r, consume);
    taken += consume < have ? consume : have;
}

/* Lines lose their end and get a NUL. */
static void read_piece(weft_bufreader *r, size_t capacity, char delimiter, bool is_line)
{
    const char *at = NULL;
    size_t n = 0;
    const char *from = text + taken;
    const char *end = memchr(from, delimiter, length - taken);
    size_t whole = end != NULL ? (size_t)(end - from) + 1 : length - taken;
    int rc = is_line ? weft_bufreader_read_line(r, &at, &n)
                     : weft_bufreader_read_until(r, delimiter, &at, &n);
    if (rc == 0) {
        FUZZ_CHECK(whole == 0);
    } else if (rc < 0) {
        FUZZ_CHECK(at == NULL && n == 0);
        /* A full buffer is told by what is in it: when just the end is missing still, too. */
        FUZZ_CHECK(rc == -EMSGSIZE
                       ? given - taken == capacity && memchr(from, delimiter, capacity) == NULL
                       : rc == failed);
    } else {
        FUZZ_CHECK(rc == 1 && whole > 0 && whole <= capacity && given - taken >= whole);
        taken += whole;
        if (is_line && end != NULL)
            whole -= whole > 1 && end[-1] == '\r' ? 2 : 1;
        FUZZ_CHECK(n == whole && memcmp(at, from, n) == 0);
        FUZZ_CHECK(!is_line || at[n] == '\0');
    }
}

/* Few different bytes, so that they meet. */
static void make_text(struct fuzz_in *in)
{
    static const char byte[16] = "\n\n\n\r\r;;abcdef\0\xff";
    length = fuzz_u8(in) * 2u;
    for (size_t i = 0; i < length; i++)
        text[i] = byte[fuzz_u8(in) % 16];
    given = taken = 0;
}

static void read_all(struct fuzz_in *in)
{
    weft_stream source = {&source_ops};
    weft_bufreader *r;
    size_t capacity = 1 + fuzz_below(in, 64);
    make_text(in);
    FUZZ_CHECK(weft_bufreader_create(&source, capacity, &r) == 0);
    /* One half of what is left says what to do, the other how the source behaves. */
    pieces = *in;
    pieces.at += (in->end - in->at) / 2;
    in->end = pieces.at;
    while (fuzz_more(in)) {
        unsigned what = fuzz_below(in, 8);
        unsigned n = fuzz_below(in, 128);
        failed = 0;
        switch (what) {
        case 0:
            read_some(r, n);
            break;
        case 1:
            read_exact(r, n);
            break;
        case 2:
        case 3:
            peek(r, capacity, n % (capacity + 4), fuzz_below(in, 64));
            break;
        case 4:
            read_piece(r, capacity, n % 2 ? DELIMITER : '\xff', false);
            break;
        default:
            read_piece(r, capacity, '\n', true);
        }
    }
    weft_bufreader_destroy(r);
}

/* ---- writing ---- */

static char sunk[1 << 14];
static size_t sunk_count;
static unsigned flushes;

static ssize_t sink_write(weft_stream *s, const void *buf, size_t len)
{
    (void)s;
    FUZZ_CHECK(len > 0);
    size_t n = piece(len);
    if (n == 0)
        return failed;
    FUZZ_CHECK(sunk_count + n <= sizeof(sunk));
    memcpy(sunk + sunk_count, buf, n);
    sunk_count += n;
    return (ssize_t)n;
}

static int sink_flush(weft_stream *s)
{
    (void)s;
    flushes++;
    return 0;
}

static const weft_stream_ops sink_ops = {.write = sink_write, .flush = sink_flush};

static void write_all(struct fuzz_in *in)
{
    static char want[sizeof(sunk)];
    weft_stream sink = {&sink_ops};
    weft_bufwriter *w;
    size_t capacity = 1 + fuzz_below(in, 64), count = 0;
    sunk_count = flushes = 0;
    FUZZ_CHECK(weft_bufwriter_create(&sink, capacity, &w) == 0);
    pieces = *in;
    pieces.at += (in->end - in->at) / 2;
    in->end = pieces.at;
    while (fuzz_more(in) && count < sizeof(want) - 512) {
        unsigned what = fuzz_below(in, 4);
        size_t len = fuzz_u8(in) % 200, done = len + 1;
        unsigned before = flushes;
        failed = 0;
        int rc;
        for (size_t i = 0; i < len; i++)
            want[count + i] = (char)('a' + (count + i) % 23);
        want[count + len] = '\0';
        switch (what) {
        case 0:
            rc = weft_bufwriter_flush(w);
            FUZZ_CHECK(rc == failed);
            FUZZ_CHECK(rc < 0 || (weft_bufwriter_pending(w) == 0 && flushes == before + 1));
            break;
        case 1:
            rc = weft_bufwriter_printf(w, "%s", want + count);
            FUZZ_CHECK(rc == (len > capacity ? -EMSGSIZE : failed));
            count += rc == 0 ? len : 0;
            break;
        default:
            rc = weft_bufwriter_write(w, want + count, len, &done);
            FUZZ_CHECK(rc == failed && done <= len && (rc < 0 || done == len));
            count += done;
        }
        FUZZ_CHECK(weft_bufwriter_pending(w) <= capacity);
        FUZZ_CHECK(sunk_count + weft_bufwriter_pending(w) == count);
        FUZZ_CHECK(memcmp(sunk, want, sunk_count) == 0);
    }
    for (failed = -1; failed != 0;) {
        failed = 0;
        FUZZ_CHECK(weft_bufwriter_flush(w) == failed);
    }
    FUZZ_CHECK(sunk_count == count && memcmp(sunk, want, count) == 0);
    weft_bufwriter_destroy(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_in(data, size);
    if (fuzz_below(&in, 4) == 0)
        write_all(&in);
    else
        read_all(&in);
    return 0;
}
