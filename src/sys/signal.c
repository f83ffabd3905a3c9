/*
 * Signals that weft takes for itself, where the program leaves them alone.
 */
#include "sys/error.h"
#include "sys/sys.h"
#include "sys/table.h"
#include "sys/virtual.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define SIGNALS 65 /* of Linux: 1 to 64 */

/* What to call; read by the handler. */
static weft__aptr taken[SIGNALS];

static void handle(int signo, siginfo_t *info, void *ucontext)
{
    int saved = errno; /* a handler does not suspend: the address is the same at its end */
    const struct weft__virtual *left = weft__virtual_leave();
    (void)info;
    /* acquire pairs with the release in take */
    void (*fn)(int, const void *) =
        (void (*)(int, const void *))(uintptr_t)weft__aptr_load_acquire(&taken[signo]);
    fn(signo, ucontext); /* stored before there was this handler, and never taken out */
    weft__virtual_return(left);
    errno = saved;
}

static bool is_free(const struct sigaction *a)
{
    return !(a->sa_flags & SA_SIGINFO) && a->sa_handler == SIG_DFL;
}

static bool has_our_handler(const struct sigaction *a)
{
    return (a->sa_flags & SA_SIGINFO) && a->sa_sigaction == handle;
}

int weft__sys_signal_take(int signo, void (*fn)(int signo, const void *ucontext))
{
    struct sigaction now;
    if (signo <= 0 || signo >= SIGNALS)
        return -EINVAL;
    int rc = weft__sys_sigaction(signo, NULL, &now);
    if (rc < 0)
        return rc;
    if (has_our_handler(&now))
        return weft__aptr_load_relaxed(&taken[signo]) == (void *)(uintptr_t)fn ? 0 : -EBUSY;
    if (!is_free(&now))
        return -EBUSY;
    /* release: what fn uses is ready */
    weft__aptr_store_release(&taken[signo], (void *)(uintptr_t)fn);
    struct sigaction a = {.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    a.sa_sigaction = handle;
    sigemptyset(&a.sa_mask);
    return weft__sys_sigaction(signo, &a, NULL);
}

void weft__sys_signal_give_back(int signo)
{
    struct sigaction now, none = {.sa_flags = 0};
    none.sa_handler = SIG_DFL;
    if (weft__sys_sigaction(signo, NULL, &now) == 0 && has_our_handler(&now))
        (void)weft__sys_sigaction(signo, &none, NULL); /* as valid as the call before */
}

bool weft__sys_signal_is_ours(int signo)
{
    struct sigaction now;
    return weft__sys_sigaction(signo, NULL, &now) == 0 && (is_free(&now) || has_our_handler(&now));
}

static void change_mask(int how, int signo)
{
    sigset_t set;
    if (weft__virtual_is_here())
        return; /* simulated threads have none */
    sigemptyset(&set);
    sigaddset(&set, signo);
    (void)pthread_sigmask(how, &set, NULL); /* fails for a bad `how` only */
}

void weft__sys_signal_block(int signo)
{
    change_mask(SIG_BLOCK, signo);
}

void weft__sys_signal_unblock(int signo)
{
    change_mask(SIG_UNBLOCK, signo);
}

int weft__sys_signal_thread(int thread_id, int signo)
{
    return weft__sys_table.tgkill(getpid(), thread_id, signo) == 0 ? 0 : weft__sys_error();
}
