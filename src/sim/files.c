/*
 * Descriptors of the simulation: the table, epoll and eventfd.
 *
 * Epoll is edge-triggered as Linux does it: a change puts the file into the ready list of whoever
 * watches it, and what is reported is what the file says when it is taken out. Numbers are given
 * out lowest first, so that one that was closed is soon another file.
 */
#include "sim/world.h"

#include <errno.h>

#define FILES_MAX 65536

/* ---- the table ---- */

static int grow(struct weft__sim *s)
{
    unsigned count = s->file_count ? 2 * s->file_count : 64;
    if (count > FILES_MAX)
        return -EMFILE;
    struct weft__sim_file **files = weft__calloc(count, sizeof(struct weft__sim_file *));
    if (files == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < s->file_count; i++)
        files[i] = s->files[i];
    weft__free(s->files);
    s->files = files;
    s->file_count = count;
    return 0;
}

int weft__sim_file_create(struct weft__sim *s, enum weft__sim_kind kind,
                          struct weft__sim_file **ret)
{
    unsigned i = s->file_low;
    while (i < s->file_count && s->files[i] != NULL)
        i++;
    if (i == s->file_count) {
        int rc = grow(s);
        if (rc < 0)
            return rc;
    }
    struct weft__sim_file *f = weft__calloc(1, sizeof(*f));
    if (f == NULL)
        return -ENOMEM;
    f->fd = WEFT__VIRTUAL_FD + (int)i;
    f->kind = kind;
    weft__list_init(&f->ready);
    weft__list_init(&f->node);
    s->files[i] = f;
    s->file_low = i + 1;
    *ret = f;
    return 0;
}

struct weft__sim_file *weft__sim_file_of(struct weft__sim *s, int fd)
{
    unsigned i = (unsigned)(fd - WEFT__VIRTUAL_FD);
    return fd >= WEFT__VIRTUAL_FD && i < s->file_count ? s->files[i] : NULL;
}

static void forget(struct weft__sim *s, struct weft__sim_file *f)
{
    unsigned at = (unsigned)(f->fd - WEFT__VIRTUAL_FD);
    s->files[at] = NULL;
    if (at < s->file_low)
        s->file_low = at;
    weft__list_remove(&f->node);
    /* Those that it watched are watched by nobody. */
    for (unsigned i = 0; f->kind == WEFT__SIM_EPOLL && i < s->file_count; i++)
        if (s->files[i] != NULL && s->files[i]->watcher == f) {
            s->files[i]->watcher = NULL;
            weft__list_remove(&s->files[i]->node);
        }
    weft__free(f);
}

void weft__sim_file_destroy(struct weft__sim *s, struct weft__sim_file *f)
{
    weft__sim_socket_close(s, f);
    forget(s, f);
}

void weft__sim_files_free(struct weft__sim *s)
{
    for (unsigned i = 0; i < s->file_count; i++) {
        struct weft__sim_file *f = s->files[i];
        if (f == NULL)
            continue;
        s->result.fds_left += f->kind >= WEFT__SIM_SOCKET;
        weft__sim_socket_free(f);
        forget(s, f);
    }
    weft__free(s->files);
}

/* ---- edges ---- */

static uint32_t poll_file(const struct weft__sim_file *f)
{
    if (f->kind == WEFT__SIM_EVENTFD)
        return EPOLLOUT | (f->count ? EPOLLIN : 0);
    return weft__sim_socket_poll(f);
}

static void wake_poller(struct weft__sim *s, const struct weft__sim_file *epoll)
{
    for (unsigned i = 0; i < s->thread_count; i++)
        if (s->threads[i]->state == WEFT__SIM_WAITS && s->threads[i]->polls == epoll) {
            weft__sim_wake(s, s->threads[i]);
            return;
        }
}

void weft__sim_file_edge(struct weft__sim *s, struct weft__sim_file *f)
{
    if (f == NULL || f->watcher == NULL || !weft__list_is_empty(&f->node))
        return;
    weft__list_push_back(&f->watcher->ready, &f->node);
    wake_poller(s, f->watcher);
}

/* ---- epoll ---- */

int weft__sim_epoll_create(void)
{
    struct weft__sim_file *f;
    int rc = weft__sim_file_create(weft__sim_here(), WEFT__SIM_EPOLL, &f);
    return rc < 0 ? rc : f->fd;
}

int weft__sim_epoll_ctl(int epfd, int op, int fd, const struct epoll_event *event)
{
    struct weft__sim *s = weft__sim_here();
    weft__sim_point(s);
    struct weft__sim_file *epoll = weft__sim_file_of(s, epfd), *f = weft__sim_file_of(s, fd);
    if (fd < WEFT__VIRTUAL_FD)
        return -EPERM; /* a real one: what it reports would come from outside */
    if (epoll == NULL || f == NULL)
        return -EBADF;
    if (op == EPOLL_CTL_DEL) {
        if (f->watcher != epoll)
            return -ENOENT;
        f->watcher = NULL;
        weft__list_remove(&f->node);
        return 0;
    }
    if (f->watcher != NULL && op == EPOLL_CTL_ADD)
        return f->watcher == epoll ? -EEXIST : -EPERM;
    if (f->watcher == NULL && op == EPOLL_CTL_MOD)
        return -ENOENT;
    f->watcher = epoll;
    f->watched = event->events | EPOLLERR | EPOLLHUP;
    f->key = event->data.u64;
    if (poll_file(f) & f->watched)
        weft__sim_file_edge(s, f);
    return 0;
}

/* Takes what is ready, or some of it: the kernel hands out no more than fits, and others come in
 * between. */
static int collect(struct weft__sim *s, struct weft__sim_file *epoll, struct epoll_event *events,
                   int max)
{
    int count = 0;
    if (weft__sim_chance(s, s->config.short_ppm))
        max = 1 + (int)weft__sim_below(s, (uint64_t)max);
    struct weft__node *n;
    while (count < max && (n = weft__list_pop_front(&epoll->ready)) != NULL) {
        struct weft__sim_file *f = WEFT__CONTAINER_OF(n, struct weft__sim_file, node);
        uint32_t bits = poll_file(f) & f->watched;
        if (bits != 0)
            events[count++] = (struct epoll_event){.events = bits, .data = {.u64 = f->key}};
    }
    return count;
}

int weft__sim_epoll_wait(int epfd, struct epoll_event *events, int max, uint64_t timeout_ns)
{
    struct weft__sim *s = weft__sim_here();
    weft__sim_point(s);
    struct weft__sim_file *epoll = weft__sim_file_of(s, epfd);
    if (epoll == NULL)
        return -EBADF;
    uint64_t until_ns = weft__add_sat(s->now_ns, timeout_ns);
    for (;;) {
        int count = collect(s, epoll, events, max);
        if (count > 0 || timeout_ns == 0 || weft__sim_chance(s, s->config.spurious_ppm))
            return count;
        s->running->polls = epoll;
        if (weft__sim_wait(s, until_ns) == -ETIMEDOUT)
            return 0;
    }
}

/* ---- eventfd, and what any file has ---- */

int weft__sim_eventfd(void)
{
    struct weft__sim_file *f;
    int rc = weft__sim_file_create(weft__sim_here(), WEFT__SIM_EVENTFD, &f);
    return rc < 0 ? rc : f->fd;
}

int weft__sim_close(int fd)
{
    struct weft__sim *s = weft__sim_here();
    weft__sim_point(s);
    struct weft__sim_file *f = weft__sim_file_of(s, fd);
    if (f == NULL)
        return -EBADF;
    weft__sim_file_destroy(s, f);
    return 0;
}
