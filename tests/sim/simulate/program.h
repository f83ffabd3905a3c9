/*
 * Random programs for the simulation: tasks that spawn, abort, time out, select, panic, and use
 * channels, locks, scopes, sets, timers and the network at random, and an account of everything
 * that must come out even.
 */
#ifndef WEFT_TESTS_SIMULATE_PROGRAM_H
#define WEFT_TESTS_SIMULATE_PROGRAM_H

#include <weft/weft.h>

/* Runs the program of this seed, in the world of this seed. True when everything held; else what
 * did not is in ret_why. ret_result may be NULL. */
bool program_run(uint64_t seed, weft_sim_result *ret_result, char *ret_why, size_t cap);

#endif
