/*
 * Permits as values. Plain arithmetic: what is in a permit is nobody else's.
 */
#include "base/base.h"

#include <weft/semaphore.h>

#include <errno.h>

int weft_permit_acquire(weft_semaphore *s, size_t n, weft_permit *ret_permit)
{
    if (ret_permit == NULL)
        return weft__misuse("weft_permit_acquire", -EINVAL, "ret_permit is NULL", WEFT__CALLER);
    int rc = weft_semaphore_acquire_many(s, n);
    if (rc == 0)
        *ret_permit = (weft_permit){s, n};
    return rc;
}

int weft_permit_try_acquire(weft_semaphore *s, size_t n, weft_permit *ret_permit)
{
    if (ret_permit == NULL)
        return weft__misuse("weft_permit_try_acquire", -EINVAL, "ret_permit is NULL", WEFT__CALLER);
    int rc = weft_semaphore_try_acquire_many(s, n);
    if (rc == 0)
        *ret_permit = (weft_permit){s, n};
    return rc;
}

int weft_permit_blocking_acquire(weft_semaphore *s, size_t n, weft_permit *ret_permit)
{
    if (ret_permit == NULL)
        return weft__misuse("weft_permit_blocking_acquire", -EINVAL, "ret_permit is NULL",
                            WEFT__CALLER);
    int rc = weft_semaphore_blocking_acquire_many(s, n);
    if (rc == 0)
        *ret_permit = (weft_permit){s, n};
    return rc;
}

int weft_permit_split(weft_permit *p, size_t n, weft_permit *ret_part)
{
    if (p == NULL || ret_part == NULL)
        return weft__misuse("weft_permit_split", -EINVAL,
                            "the permit is NULL, or no place for the part", WEFT__CALLER);
    if (n > p->count)
        return -EINVAL;
    p->count -= n;
    *ret_part = (weft_permit){p->semaphore, n};
    return 0;
}

int weft_permit_merge(weft_permit *p, weft_permit *from)
{
    if (p == NULL || from == NULL)
        return weft__misuse("weft_permit_merge", -EINVAL, "a permit is NULL", WEFT__CALLER);
    if (from->count == 0 || from == p)
        return 0;
    if (p->count == 0)
        p->semaphore = from->semaphore;
    if (p->semaphore != from->semaphore)
        return weft__misuse("weft_permit_merge", -EINVAL, "the permits are of two semaphores",
                            WEFT__CALLER);
    p->count += from->count;
    from->count = 0;
    return 0;
}

void weft_permit_release(weft_permit *p)
{
    if (p == NULL)
        return;
    size_t n = p->count;
    p->count = 0;
    if (n > 0)
        weft_semaphore_release(p->semaphore, n);
}

void weft_permit_forget(weft_permit *p)
{
    if (!weft__is_null("weft_permit_forget", p, WEFT__CALLER))
        p->count = 0;
}

void weft__permit_guard(void *permit)
{
    weft_permit_release(permit);
}
