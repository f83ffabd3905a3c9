/*
 * A crash of a test is one, in whatever thread.
 *
 * cmocka asks for SIGSEGV and the like while a test runs. Its handler jumps to where the thread
 * that runs the tests waits for the end of one; in any other thread it calls exit(255), and not a
 * word is said. Here it asks in vain: the process is killed by the signal, after what weft or a
 * sanitizer has to report.
 *
 * This is in the place of libc's signal(): cmocka, a shared library, finds what the program has
 * before what libc has. Hence an object of each test program, and in no archive, which might not be
 * looked into.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

extern const char __executable_start, etext;

static bool is_of_the_program(sighandler_t handler)
{
    uintptr_t at = (uintptr_t)handler;
    return at >= (uintptr_t)&__executable_start && at < (uintptr_t)&etext;
}

sighandler_t signal(int signo, sighandler_t handler)
{
    if (handler != SIG_DFL && handler != SIG_IGN && !is_of_the_program(handler))
        return handler; /* "the former one": given back later, it is ignored likewise */
    struct sigaction now = {.sa_flags = SA_RESTART}, former;
    now.sa_handler = handler;
    return sigaction(signo, &now, &former) < 0 ? SIG_ERR : former.sa_handler;
}
