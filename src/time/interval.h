/*
 * When the next tick of an interval is due: the arithmetic, without a clock.
 */
#ifndef WEFT_TIME_INTERVAL_H
#define WEFT_TIME_INTERVAL_H

#include <weft/interval.h>

/* The tick due at scheduled_ns was taken at now_ns, which is no earlier. Saturates at WEFT_NEVER.
 * */
uint64_t weft__interval_next_tick(enum weft_missed_tick missed, uint64_t scheduled_ns,
                                  uint64_t now_ns, uint64_t period_ns);

#endif
