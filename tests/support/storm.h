/*
 * A storm: random programs of tasks that spawn, join, abort, time out, panic, shield, hold permits
 * and block, at random, and an account of everything that must come out even in the end.
 */
#ifndef WEFT_TESTS_STORM_H
#define WEFT_TESTS_STORM_H

#include "harness.h"

/* Lets it blow for a while on a runtime of its own, waits until it is calm, and checks the
 * account. */
void storm_until_calm(enum test_flavour flavour, uint64_t duration_ns, uint64_t seed);

/* Shuts the runtime down in the middle of it, after a while, and checks the account. */
void storm_cut_short(enum test_flavour flavour, uint64_t duration_ns, uint64_t seed);

#endif
