/*
 * Destroying what users have put into a channel or a cell.
 */
#ifndef WEFT_SYNC_DROP_H
#define WEFT_SYNC_DROP_H

#include "task/panic.h"

/* Calls drop(value), with no lock held; NULL: nothing to do. A panic inside is reported and goes no
 * further: whoever gives up the last reference must not die of it, and the next value has its turn.
 * `where` completes "panic ...: ". */
static inline void weft__value_drop(void (*drop)(void *value), void *value, const char *where)
{
    if (drop == NULL)
        return;
    weft_panic_info *info = weft__call_contained(drop, value);
    if (info == NULL)
        return;
    weft__panic_report(info, where);
    weft_panic_free(info);
}

#endif
