/*
 * The simulated world: threads, time, descriptors and a network, all on one thread of the process
 * and all from one seed.
 *
 * The world stands below weft, in the place of the kernel (src/sys/virtual.h): its threads are the
 * workers, the monitor and the blocking threads of an ordinary runtime. A thread runs until it
 * makes a call that waits, or at a point where the seed says that it is another one's turn. Time
 * is a number: it passes a little with each call, and when nobody can run it jumps to whatever
 * comes next, a deadline of a thread or an event of the network.
 *
 * Nothing in here is locked or atomic: there is one thread. docs/design/simulation.md.
 */
#ifndef WEFT_SIM_WORLD_H
#define WEFT_SIM_WORLD_H

#include "fiber/fiber.h"
#include "sys/virtual.h"
#include "task/task.h"

#include <weft/sim.h>

#include <netinet/in.h>

struct weft__sim;
struct weft__sim_file;
struct weft__sim_conn;

/* ---- threads ---- */

enum weft__sim_state { WEFT__SIM_READY, WEFT__SIM_WAITS, WEFT__SIM_ENDED };

struct weft__sim_thread {
    unsigned number; /* from 0, in the order in which they were made; its handle is one more */
    enum weft__sim_state state;
    bool is_detached;
    int result;                      /* of the wait that is over */
    unsigned weight;                 /* of the choice who is next */
    uint64_t deadline_ns;            /* while it waits */
    const weft__a32 *word;           /* futex that it waits on; NULL: none */
    struct weft__sim_file *polls;    /* epoll that it waits in; NULL: none */
    struct weft__sim_thread *joiner; /* waits for its end */
    void *(*fn)(void *);
    void *arg;
    struct weft__ctx ctx;      /* weft's context of a thread, while another one runs */
    struct weft__stack *stack; /* that it began on */
    struct weft__stack here;   /* where it left: on its own stack, or on that of a task */
    struct weft__stack *at;    /* what to switch to: stack before the first run, then &here */
};

/* ---- the network ---- */

/* An address, comparable: IPv4 is mapped into IPv6. */
struct weft__sim_ip {
    unsigned char byte[16];
};

enum weft__sim_event_kind {
    /* What goes over the wire, in order in each direction but for a reset, and is held up while the
     * link is cut. */
    WEFT__SIM_SYN,
    WEFT__SIM_REFUSED,
    WEFT__SIM_SYN_ACK,
    WEFT__SIM_HANDSHAKEN, /* the last part of the handshake: it may be accepted */
    WEFT__SIM_DATA,
    WEFT__SIM_FIN,
    WEFT__SIM_RST,
    WEFT__SIM_ACK, /* bytes have found room */
    /* What happens at one end. */
    WEFT__SIM_SHOW, /* bytes that a short read left are there */
    WEFT__SIM_ROOM, /* there is room again after a short write */
};

/* In the world's heap; or stalled: arrived, and without room at the receiver. */
struct weft__sim_event {
    uint64_t at_ns, order; /* equal times are told apart by the order in which they were made */
    enum weft__sim_event_kind kind;
    bool is_held;  /* by a cut link; at_ns is then when the sender gives up */
    unsigned side; /* that it arrives at */
    struct weft__sim_conn *conn;
    struct weft__sim_event *next; /* stalled */
    size_t len;                   /* DATA: of bytes; ACK: how many */
    size_t done;                  /* DATA: bytes that found room */
    unsigned tries;               /* SYN, HANDSHAKEN: how often the queue was full */
    char bytes[];
};

struct weft__sim_side {
    struct weft__sim_file *sock; /* NULL: not accepted yet, or closed */
    bool is_open;                /* not closed */
    struct sockaddr_storage addr;
    socklen_t addr_len;
    struct weft__sim_ip ip;

    char *rx; /* ring of what has arrived */
    size_t rx_cap, rx_at, rx_len;
    size_t hidden; /* the last of rx_len, which nobody may see before SHOW */
    bool has_fin, is_read_shut;
    struct weft__sim_event *stalled, *stalled_last;

    size_t tx_cap, in_flight; /* sent and not yet acknowledged */
    bool is_blocked;          /* until ROOM */
    bool wants_room;          /* a write, or a look, found too little of it: more is an edge */
    bool is_write_shut;
    uint64_t last_ns; /* when the last of what it sent arrives */

    bool is_dead;      /* reset, refused, given up */
    bool has_given_up; /* for want of answers: what it sent and has not arrived never does */
    int error;         /* positive; pending, taken by whoever asks */
};

struct weft__sim_conn {
    struct weft__node node; /* in the world's list */
    bool is_established;    /* as the client sees it */
    bool is_reset_planned;
    unsigned events;               /* that name it, stalled ones as well */
    struct weft__sim_conn *next;   /* in the queue of a listener */
    struct weft__sim_side side[2]; /* client, server */
};

/* ---- descriptors ---- */

enum weft__sim_kind {
    WEFT__SIM_FREE,
    WEFT__SIM_EPOLL,
    WEFT__SIM_EVENTFD,
    WEFT__SIM_SOCKET, /* neither connecting nor listening */
    WEFT__SIM_LISTENER,
    WEFT__SIM_TCP,
};

struct weft__sim_option {
    struct weft__sim_option *next;
    int level, name;
    socklen_t len;
    char value[64];
};

struct weft__sim_file {
    int fd;
    enum weft__sim_kind kind;

    /* as an epoll: those that have something to tell, in the order in which they had */
    struct weft__node ready;

    /* as what an epoll watches: one at most */
    struct weft__sim_file *watcher;
    struct weft__node node; /* in its ready list, or empty */
    uint32_t watched;
    uint64_t key;

    uint64_t count; /* eventfd */

    /* sockets */
    int family;
    bool is_bound;
    struct sockaddr_storage addr;
    socklen_t addr_len;
    struct weft__sim_option *options;
    struct weft__sim_conn *queue, *queue_last; /* of a listener */
    unsigned queue_len, backlog;               /* one more than the backlog may wait */
    struct weft__sim_conn *conn;
    unsigned side;
};

struct weft__sim_cut {
    struct weft__sim_cut *next;
    bool any[2]; /* that end is any address */
    struct weft__sim_ip ip[2];
};

/* ---- the world ---- */

struct weft__sim {
    weft_sim_config config;
    weft_sim_result result;
    uint64_t rng;      /* of the world */
    uint64_t user_rng; /* of weft_sim_random() */
    uint64_t now_ns;
    uint64_t calls, turn_began; /* calls that threads have made; by the beginning of this turn */
    /* Limits that count now: the end gets some time of its own. */
    uint64_t steps_max, calls_max, time_max_ns;

    struct weft__stack hub; /* of the loop that hands out turns */
    struct weft__sim_thread *running;
    struct weft__sim_thread **threads; /* by number, those that exist */
    unsigned thread_count, thread_cap, thread_next;
    struct weft_runtime *runtime; /* whose tasks the end would have to abort; NULL: none */
    bool is_ending;               /* a thread sees to it that everything ends */
    unsigned long ender;          /* its handle; 0: none */

    struct weft__sim_file **files; /* by descriptor */
    unsigned file_count;
    unsigned file_low; /* below it none is free */
    struct weft__sim_event **heap;
    size_t event_count, event_cap;
    uint64_t event_next;
    struct weft__node conns;
    struct weft__sim_cut *cuts;
    unsigned port_next, port_count; /* of those that are given to who asks for none */
};

/* The world of the calling thread of the process; NULL: it simulates nothing. */
struct weft__sim *weft__sim_here(void);

/* ---- kernel.c: threads and time ---- */

extern const struct weft__virtual weft__sim_kernel;

/* 64 bits; a number below n, which is not 0; true in so many of a million cases. */
uint64_t weft__sim_rand(struct weft__sim *s);
uint64_t weft__sim_below(struct weft__sim *s, uint64_t n);
bool weft__sim_chance(struct weft__sim *s, unsigned ppm);
/* Mixes what happened into the trace. */
void weft__sim_trace(struct weft__sim *s, uint64_t what, uint64_t a, uint64_t b);

/* Each call passes here: time passes, and it may be another thread's turn. */
void weft__sim_point(struct weft__sim *s);
/* The running thread waits: 0 when woken, -ETIMEDOUT at deadline_ns. */
int weft__sim_wait(struct weft__sim *s, uint64_t deadline_ns);
void weft__sim_wake(struct weft__sim *s, struct weft__sim_thread *t);
int weft__sim_thread_create_first(struct weft__sim *s, void *(*fn)(void *), void *arg,
                                  unsigned long *ret_handle);
int weft__sim_thread_create(void *(*fn)(void *), void *arg, unsigned long *ret_handle);
int weft__sim_thread_join(unsigned long handle);
int weft__sim_thread_detach(unsigned long handle);

/* Runs threads until none is left, or no more will ever happen: false then. */
bool weft__sim_run_threads(struct weft__sim *s);
/* Gives up what is left of threads. */
void weft__sim_threads_free(struct weft__sim *s);

/* ---- run.c ---- */

/* The end of the simulation is due, for this reason; for its first one. */
void weft__sim_end(struct weft__sim *s, enum weft_sim_end why);
/* What `steps` turns may cost, for limits. */
uint64_t weft__sim_calls_of(uint64_t steps);

/* ---- files.c: descriptors, epoll, eventfd ---- */

/* A new descriptor, the lowest free: -EMFILE, -ENOMEM. */
int weft__sim_file_create(struct weft__sim *s, enum weft__sim_kind kind,
                          struct weft__sim_file **ret);
/* And whatever it is in is told. */
void weft__sim_file_destroy(struct weft__sim *s, struct weft__sim_file *f);
/* NULL: not open. */
struct weft__sim_file *weft__sim_file_of(struct weft__sim *s, int fd);
/* An edge: something about the file has changed. NULL does nothing. */
void weft__sim_file_edge(struct weft__sim *s, struct weft__sim_file *f);
void weft__sim_files_free(struct weft__sim *s);

int weft__sim_epoll_create(void);
int weft__sim_epoll_ctl(int epfd, int op, int fd, const struct epoll_event *event);
int weft__sim_epoll_wait(int epfd, struct epoll_event *events, int max, uint64_t timeout_ns);
int weft__sim_eventfd(void);
int weft__sim_close(int fd);
ssize_t weft__sim_read(int fd, const struct iovec *iov, int count, int flags);
ssize_t weft__sim_write(int fd, const struct iovec *iov, int count);

/* ---- socket.c: what programs do with sockets ---- */

int weft__sim_socket(int domain, int type);
int weft__sim_bind(int fd, const struct sockaddr *addr, socklen_t len);
int weft__sim_listen(int fd, int backlog);
int weft__sim_accept(int fd, struct sockaddr *addr, socklen_t *len);
int weft__sim_connect(int fd, const struct sockaddr *addr, socklen_t len);
int weft__sim_shutdown(int fd, int how);
int weft__sim_getsockname(int fd, struct sockaddr *addr, socklen_t *len);
int weft__sim_getpeername(int fd, struct sockaddr *addr, socklen_t *len);
int weft__sim_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int weft__sim_setsockopt(int fd, int level, int name, const void *value, socklen_t len);

bool weft__sim_is_v6only(const struct weft__sim_file *f);
/* What epoll would report. */
uint32_t weft__sim_socket_poll(const struct weft__sim_file *f);
void weft__sim_socket_close(struct weft__sim *s, struct weft__sim_file *f);
/* Without the peer hearing of it. */
void weft__sim_socket_free(struct weft__sim_file *f);

/* ---- wire.c: what the network does with them ---- */

/* Of an address of one of the two families that sockets may have. */
struct weft__sim_ip weft__sim_ip_of(const struct sockaddr *addr);
bool weft__sim_ip_is_v4(const struct weft__sim_ip *ip);
/* Of all zeroes, of either kind. */
bool weft__sim_ip_is_any(const struct weft__sim_ip *ip);
/* Whether who is bound to `at` has what goes to ip: the same, or any; [::] is IPv4 as well. */
bool weft__sim_ip_covers(const struct weft__sim_ip *at, bool is_v6only,
                         const struct weft__sim_ip *ip);
/* The listener for this address, the one that is bound most closely to it, one of several by
 * chance; NULL. */
struct weft__sim_file *weft__sim_listener_of(struct weft__sim *s, const struct sockaddr *addr);
unsigned weft__sim_port_of(const struct sockaddr *addr);

struct weft__sim_conn *weft__sim_conn_create(struct weft__sim *s);
/* Both sides have ended in good order, as far as `side` knows: it is connected to nobody any
 * more. */
bool weft__sim_conn_is_over(const struct weft__sim_conn *c, unsigned side);
/* Sends something from `side` to the other one. */
int weft__sim_send(struct weft__sim *s, struct weft__sim_conn *c, unsigned side,
                   enum weft__sim_event_kind kind, const void *bytes, size_t len);
/* Something that happens at `side` in a while. */
int weft__sim_plan(struct weft__sim *s, struct weft__sim_conn *c, unsigned side,
                   enum weft__sim_event_kind kind);
/* The side is closed by its owner, who may have left bytes unread. */
void weft__sim_side_close(struct weft__sim *s, struct weft__sim_conn *c, unsigned side,
                          bool resets);
/* There is room at the side for what has stalled. */
void weft__sim_side_drained(struct weft__sim *s, struct weft__sim_conn *c, unsigned side);

/* When the next event is due; WEFT_NEVER. */
uint64_t weft__sim_event_next_ns(const struct weft__sim *s);
/* Lets what is due happen. */
void weft__sim_events_fire(struct weft__sim *s);
/* What was held up and is not any more, goes on. */
void weft__sim_events_heal(struct weft__sim *s);
/* Kills connections between addresses as `cut` describes them. */
void weft__sim_conns_reset(struct weft__sim *s, const struct weft__sim_cut *cut);
void weft__sim_wire_free(struct weft__sim *s);

#endif
