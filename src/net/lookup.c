/*
 * Look-ups: getaddrinfo() on a thread of the blocking pool.
 *
 * The job owns a block of its own, never the caller's frame: an aborted caller detaches the job,
 * which ends in its own time, and the destructors free the block.
 */
#include "net/lookup.h"

#include "base/base.h"
#include "net/addr.h"
#include "sys/sys.h"
#include "task/spawn.h"
#include "task/task.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>

struct lookup {
    char host[WEFT__HOST_MAX + 1];
    uint16_t port;
    int rc; /* number of addresses, or an error */
    weft_addr addrs[WEFT__LOOKUP_MAX];
};

/* `error` is of what went wrong underneath. A resolver that cannot open its files, or a socket, has
 * no such name, or no server that answers, or an error of the system; none of which would be
 * true. */
static int error_of(int gai, int error)
{
    if (error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ENOBUFS)
        return error;
    switch (gai) {
    case EAI_NONAME:
#ifdef EAI_NODATA
    case EAI_NODATA:
#endif
#ifdef EAI_ADDRFAMILY
    case EAI_ADDRFAMILY:
#endif
        return -ENOENT;
    case EAI_AGAIN:
        return -EHOSTUNREACH;
    case EAI_MEMORY:
        return -ENOMEM;
    default:
        return -EIO;
    }
}

static void *run_lookup(void *arg)
{
    struct lookup *l = arg;
    /* SOCK_STREAM: each address once, not once a protocol. */
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    int error;
    int gai = weft__sys_getaddrinfo(l->host, &hints, &list, &error);
    if (gai != 0) {
        l->rc = error_of(gai, error);
        return l;
    }
    int count = 0;
    for (struct addrinfo *i = list; i != NULL && count < WEFT__LOOKUP_MAX; i = i->ai_next) {
        if (weft_addr_from_sockaddr(i->ai_addr, i->ai_addrlen, &l->addrs[count]) < 0)
            continue; /* neither IPv4 nor IPv6 */
        weft_addr_set_port(&l->addrs[count], l->port);
        count++;
    }
    freeaddrinfo(list);
    l->rc = count > 0 ? count : -ENOENT;
    return l;
}

static void drop_lookup(void *arg)
{
    weft__free(arg);
}

static void detach(void *arg)
{
    weft_task **task = arg;
    weft_task_abort_detach(*task); /* aborted: need not start any more */
}

static int look_up_name(const char *call, const void *caller, const char *host, uint16_t port,
                        weft_addr *addrs, size_t cap)
{
    int rc = weft__wait_begin(call, caller); /* before a server is asked in vain */
    if (rc < 0)
        return rc;
    struct lookup *l = weft__malloc(sizeof(*l));
    if (l == NULL)
        return -ENOMEM;
    memcpy(l->host, host, strlen(host) + 1);
    l->port = port;
    const weft_spawn_options options = {
        .name = "lookup",
        .drop_arg = drop_lookup,
        .drop_result = drop_lookup,
    };
    weft_task *task;
    rc = weft__spawn_begun(WEFT__TASK_BLOCKING, &options, run_lookup, l, &task, WEFT_SITE);
    if (rc < 0) {
        weft__free(l);
        rc = weft__spawn_result(rc);
        return rc == -EAGAIN ? -ENOMEM : rc; /* no thread; only try_ calls return -EAGAIN */
    }
    weft_outcome o;
    {
        WEFT_DEFER(detach, &task);
        rc = weft_join(task, &o);
        if (rc == 0)
            task = NULL;
    }
    if (rc < 0)
        return rc;
    if (o.kind != WEFT_OUTCOME_VALUE) {
        weft_outcome_fini(&o);
        return -ESHUTDOWN; /* nobody else cancels the job */
    }
    l = o.value;
    rc = l->rc > 0 && (size_t)l->rc > cap ? (int)cap : l->rc;
    if (rc > 0)
        memcpy(addrs, l->addrs, (size_t)rc * sizeof(*addrs));
    weft__free(l);
    return rc;
}

int weft__lookup(const char *call, const void *caller, const char *text, weft_addr *addrs,
                 size_t cap)
{
    char host[WEFT__HOST_MAX + 1];
    uint16_t port;
    bool bracketed;
    if (addrs == NULL || cap == 0)
        return weft__misuse(call, -EINVAL, "no room for an address", caller);
    int rc = weft_addr_parse(text, &addrs[0]);
    if (rc == 0)
        return 1;
    if (rc != -EINVAL)
        return rc;
    rc = weft__addr_split(text, host, &port, &bracketed);
    if (rc < 0 || bracketed || !weft__addr_name_is_valid(host))
        return weft__misuse(call, -EINVAL, "the address does not parse as \"host:port\"", caller);
    return look_up_name(call, caller, host, port, addrs, cap);
}

int weft_lookup(const char *text, weft_addr *addrs, size_t cap)
{
    return weft__lookup("weft_lookup", WEFT__CALLER, text, addrs, cap);
}
