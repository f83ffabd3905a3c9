/*
 * The I/O driver interface: what the scheduler needs of it. src/io/source.h has the side that
 * sockets use.
 */
#ifndef WEFT_IO_DRIVER_H
#define WEFT_IO_DRIVER_H

#include "base/base.h"

struct weft__driver;

struct weft__driver_stats {
    uint64_t registered, deregistered, events;
};

/* -ENOMEM, -EMFILE, -ENFILE. */
int weft__driver_create(struct weft__driver **ret);
/* Nothing may wait on it or poll it any more. Sources that still exist outlive it safely: their
 * operations return -ESHUTDOWN. */
void weft__driver_destroy(struct weft__driver *d);

/*
 * Waits for events at most timeout_ns (0: just look, and that only while there is a source, or a
 * wake to see; WEFT_NEVER: until woken) and wakes the tasks concerned; takes at most max_events.
 * One caller at a time: the scheduler sees to that. Returns the number of events (0 after a wake).
 */
int weft__driver_poll(struct weft__driver *d, uint64_t timeout_ns, int max_events);
/* Makes the poll in progress, or the next one, return at once. Any thread. */
void weft__driver_wake(struct weft__driver *d);
/* Ends every wait with -ESHUTDOWN, and every later one at once. Any thread. */
void weft__driver_shutdown(struct weft__driver *d);
/* Sources registered now: while there is one, something outside may wake a task. */
uint64_t weft__driver_source_count(const struct weft__driver *d);
void weft__driver_stats(const struct weft__driver *d, struct weft__driver_stats *ret);

#endif
