/*
 * What fuzz targets share: bytes of the input, wakers without tasks, failing.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <weft/weft.h>

#include <stddef.h>
#include <stdint.h>

/* The target: returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_in {
    const uint8_t *at, *end;
};

static inline struct fuzz_in fuzz_in(const uint8_t *data, size_t size)
{
    return (struct fuzz_in){data, data + size};
}
static inline bool fuzz_more(const struct fuzz_in *in)
{
    return in->at < in->end;
}
/* 0 past the end. */
static inline uint8_t fuzz_u8(struct fuzz_in *in)
{
    return in->at < in->end ? *in->at++ : 0;
}
/* Less than n, which is 1 to 256. */
static inline unsigned fuzz_below(struct fuzz_in *in, unsigned n)
{
    return fuzz_u8(in) % n;
}

/* Ends the process with the place; in every build. */
#define FUZZ_CHECK(cond) ((cond) ? (void)0 : fuzz_fail(#cond, __FILE__, __LINE__))
_Noreturn void fuzz_fail(const char *what, const char *file, int line);

#define FUZZ_WAKERS 32
/* A waker, i below FUZZ_WAKERS, the same one each time. */
weft_waker *fuzz_waker(unsigned i);
/* Whether it was woken since the last call. */
bool fuzz_was_woken(unsigned i);

#endif
