/*
 * What is broken in place of functions that are inline, so that no linker can replace them.
 */
#ifndef SIM_BUGS_H
#define SIM_BUGS_H

#include "task/state.h"

bool broken_confirm_parked(struct weft__task *t);

#endif
