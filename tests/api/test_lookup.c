/* ctest: parallel */
/*
 * What a look-up makes of what the resolver says. The resolver is the test's own: it takes the
 * place of libc's for the whole program.
 */
#include "harness.h"

#include <weft/net.h>

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ANSWERS 20

static struct {
    int error;
    int count;      /* of addresses, 127.0.0.1 on */
    int foreign;    /* so many of them, the first, are of no family that we know */
    in_addr_t last; /* not 0: the last one instead */
    int freed;      /* lists that were given back */
    char host[256];
    int says; /* what errno is left as; 0: as it was */
} resolver;

static struct addrinfo answers[ANSWERS];
static struct sockaddr_in addrs[ANSWERS];

int getaddrinfo(const char *restrict host, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict ret)
{
    EXPECT_EQ(errno, 0); /* what is found there afterwards is of this call */
    EXPECT(service == NULL);
    EXPECT_EQ(hints->ai_family, AF_UNSPEC);
    EXPECT_EQ(hints->ai_socktype, SOCK_STREAM);
    (void)strncpy(resolver.host, host, sizeof(resolver.host) - 1);
    for (int i = 0; i < resolver.count; i++) {
        addrs[i].sin_family = i < resolver.foreign ? AF_UNIX : AF_INET;
        addrs[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)i);
        answers[i] = (struct addrinfo){.ai_addr = (struct sockaddr *)&addrs[i],
                                       .ai_addrlen = sizeof(addrs[i]),
                                       .ai_next = i + 1 < resolver.count ? &answers[i + 1] : NULL};
    }
    if (resolver.last != 0)
        addrs[resolver.count - 1].sin_addr.s_addr = htonl(resolver.last);
    *ret = answers;
    if (resolver.says != 0)
        errno = resolver.says;
    return resolver.error;
}

void freeaddrinfo(struct addrinfo *list)
{
    EXPECT(list == answers);
    resolver.freed++;
}

static int look_up(int error, int count, int foreign, weft_addr *ret, size_t cap)
{
    resolver.error = error;
    resolver.count = count;
    resolver.foreign = foreign;
    resolver.last = 0;
    resolver.freed = 0;
    return weft_lookup("a.name:80", ret, cap);
}

static void errors_of_the_resolver(struct test_env *env)
{
    static const struct {
        int error, rc;
    } all[] = {
#ifdef EAI_NODATA
        {EAI_NODATA, -ENOENT},
#endif
#ifdef EAI_ADDRFAMILY
        {EAI_ADDRFAMILY, -ENOENT},
#endif
        {EAI_NONAME, -ENOENT},     {EAI_AGAIN, -EHOSTUNREACH}, {EAI_MEMORY, -ENOMEM},
        {EAI_FAIL, -EIO}, /* a server refused to answer: nothing is known of the name */
        {EAI_SYSTEM, -EIO},
    };
    weft_addr a;
    (void)env;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        EXPECT_EQ(look_up(all[i].error, 1, 0, &a, 1), all[i].rc);
        EXPECT_EQ(resolver.freed, 0); /* there is no list */
    }
    EXPECT_EQ(strcmp(resolver.host, "a.name"), 0);
}

/* A resolver without descriptors cannot read its files, and calls that no such name. */
static void a_resolver_short_of_descriptors_says_nothing_of_the_name(struct test_env *env)
{
    static const int short_of[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS};
    static const int errors[] = {EAI_NONAME, EAI_AGAIN, EAI_SYSTEM};
    weft_addr a;
    weft_tcp *conn;
    (void)env;
    for (size_t i = 0; i < sizeof(short_of) / sizeof(short_of[0]); i++)
        for (size_t j = 0; j < sizeof(errors) / sizeof(errors[0]); j++) {
            resolver.says = short_of[i];
            EXPECT_EQ(look_up(errors[j], 0, 0, &a, 1), -short_of[i]);
            EXPECT_EQ(weft_tcp_connect("a.name:80", &conn), -short_of[i]);
        }
    resolver.says = ENOENT; /* a file that it can do without */
    EXPECT_EQ(look_up(EAI_NONAME, 0, 0, &a, 1), -ENOENT);
    EXPECT_EQ(look_up(EAI_AGAIN, 0, 0, &a, 1), -EHOSTUNREACH);
    EXPECT_EQ(look_up(EAI_SYSTEM, 0, 0, &a, 1), -EIO);
    resolver.says = EMFILE; /* and found the name in another */
    EXPECT_EQ(look_up(0, 1, 0, &a, 1), 1);
    resolver.says = 0;
}

static void look_up_in_vain(int want)
{
    weft_addr a;
    weft_tcp_listener *l;
    EXPECT_EQ(weft_lookup("a.name:80", &a, 1), want);
    EXPECT_EQ(weft_tcp_listen("a.name:0", &l), want);
}

static int poll_in_vain(weft_future *f, weft_waker *waker)
{
    (void)f;
    (void)waker;
    look_up_in_vain(-EPERM);
    return 0;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

static void *look_up_aborted(void *arg)
{
    (void)arg;
    EXPECT_EQ(weft_sleep(20 * WEFT_SEC), -ECANCELED);
    look_up_in_vain(-ECANCELED);
    return NULL;
}

/* Nor is it another function that the log names. */
static void who_cannot_wait_asks_nobody(struct test_env *env)
{
    static const weft_future_ops ops = {poll_in_vain, cancel_nothing, "in vain"};
    weft_future f = {&ops};
    weft_task *t;
    (void)env;
    resolver.host[0] = '\0';
    test_log_clear();
    CHECK_EQ(weft_spawn_future(NULL, &f, &t), 0);
    (void)test_join_value(t);
    WEFT_NO_WAIT
        look_up_in_vain(-EPERM);
    EXPECT_EQ(test_log_count("weft_lookup: "), 2);
    EXPECT_EQ(test_log_count("weft_tcp_listen: "), 2);
    EXPECT_EQ(test_log_count("weft_join"), 0);
    test_log_clear();
    t = SPAWN(look_up_aborted, NULL);
    CHECK_SOON(test_waits(NULL, t));
    CHECK_EQ(weft_abort(t), 0);
    EXPECT_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(weft_sleep(20 * WEFT_MS), 0); /* in which a job would have asked */
    EXPECT_EQ(strcmp(resolver.host, ""), 0);
}

static void *listen_without_io(void *arg)
{
    weft_tcp_listener *l;
    weft_tcp *conn;
    const struct sockaddr_in *taken = arg;
    weft_addr addr;
    CHECK_EQ(weft_addr_from_sockaddr(arg, sizeof(*taken), &addr), 0);
    resolver.error = resolver.foreign = 0;
    resolver.count = 3;
    EXPECT_EQ(weft_tcp_connect("a.name:80", &conn), -EPERM);
    EXPECT_LOGGED("weft_tcp_connect: I/O is switched off");
    EXPECT_EQ(weft_tcp_listen("a.name:0", &l), -EPERM);
    EXPECT_LOGGED("weft_tcp_listen: I/O is switched off");
    EXPECT_EQ(strcmp(resolver.host, ""), 0);
    EXPECT_EQ(weft_tcp_listen_addr(NULL, &addr, &l), -EPERM);
    EXPECT_LOGGED("weft_tcp_listen_addr: I/O is switched off");
    return NULL;
}

/* That is said once, of all addresses, and before one is looked up or taken. */
static void without_io_nobody_is_asked(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    struct sockaddr_in taken = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(taken);
    (void)env;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(fd, (struct sockaddr *)&taken, sizeof(taken)), 0);
    CHECK_EQ(listen(fd, 1), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&taken, &len), 0);
    resolver.host[0] = '\0';
    test_config(&c, TEST_MT1);
    c.enable_io = false;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    test_block_on(rt, listen_without_io, &taken);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    close(fd);
}

static void addresses_of_a_name(struct test_env *env)
{
    weft_addr a[ANSWERS];
    char text[WEFT_ADDR_TEXT_MAX];
    (void)env;
    /* As many as there is room for, in their order, with the port. */
    EXPECT_EQ(look_up(0, 3, 0, a, ANSWERS), 3);
    EXPECT(weft_addr_format(&a[2], text, sizeof(text)) > 0);
    EXPECT_EQ(strcmp(text, "127.0.0.3:80"), 0);
    EXPECT_EQ(look_up(0, 3, 0, a, 2), 2);
    EXPECT_EQ(resolver.freed, 1);
    /* Sixteen are enough of any name. */
    EXPECT_EQ(look_up(0, ANSWERS, 0, a, ANSWERS), 16);
    /* Families that cannot be spoken to are passed over; with no other there is no such name. */
    EXPECT_EQ(look_up(0, 3, 2, a, ANSWERS), 1);
    EXPECT(weft_addr_format(&a[0], text, sizeof(text)) > 0);
    EXPECT_EQ(strcmp(text, "127.0.0.3:80"), 0);
    EXPECT_EQ(look_up(0, 2, 2, a, ANSWERS), -ENOENT);
    EXPECT_EQ(resolver.freed, 1);
}

/* How many sockets are still to be refused, as filters of system calls do: by family, say. */
static int forbidden;

int socket(int domain, int type, int protocol)
{
    if (forbidden > 0) {
        forbidden--;
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_socket, domain, type, protocol);
}

static void what_is_forbidden_of_one_address_is_tried_with_the_next(struct test_env *env)
{
    weft_tcp_listener *l;
    weft_tcp *conn;
    weft_addr addr;
    char text[32];
    (void)env;
    CHECK_EQ(weft_tcp_listen(":0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    (void)snprintf(text, sizeof(text), "a.name:%d", weft_addr_port(&addr));
    resolver.error = resolver.foreign = 0;
    resolver.count = 2;
    resolver.last = 0;
    forbidden = 1;
    CHECK_EQ(weft_tcp_connect(text, &conn), 0);
    CHECK_EQ(forbidden, 0);
    CHECK_EQ(weft_tcp_peer_addr(conn, &addr), 0);
    CHECK_EQ(ntohl(addr.sa.v4.sin_addr.s_addr), INADDR_LOOPBACK + 1);
    CHECK_EQ(weft_tcp_close(conn), 0);
    forbidden = 2;
    CHECK_EQ(weft_tcp_connect(text, &conn), -EPERM); /* the last one's */
    CHECK_EQ(forbidden, 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

/* A scope that expires at one address ends the call: what the next would have said at once is not
 * what comes out. */
static void a_connect_that_times_out_says_so(struct test_env *env)
{
    (void)env;
    /* A queue that is full drops whoever comes; to the broadcast address there is no TCP. */
    struct sockaddr_in hole = {.sin_family = AF_INET};
    socklen_t len = sizeof(hole);
    int queued[4];
    char text[32];
    weft_tcp *conn;
    int rc = 0;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    hole.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(bind(listener, (struct sockaddr *)&hole, sizeof(hole)), 0);
    CHECK_EQ(listen(listener, 0), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&hole, &len), 0);
    for (int i = 0; i < 4; i++) {
        queued[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(queued[i], (struct sockaddr *)&hole, sizeof(hole)); /* in progress, or done */
    }
    CHECK_EQ(weft_sleep(20 * WEFT_MS), 0); /* the first of them are in the queue */
    (void)snprintf(text, sizeof(text), "a.name:%d", ntohs(hole.sin_port));
    resolver.error = resolver.foreign = 0;
    resolver.count = 2;
    resolver.last = INADDR_BROADCAST;
    WEFT_TIMEOUT(100 * WEFT_MS)
        rc = weft_tcp_connect(text, &conn);
    EXPECT_EQ(rc, -ETIMEDOUT);
    resolver.count = 1;
    rc = weft_tcp_connect(text, &conn); /* what the second one says, indeed */
    EXPECT(rc < 0 && rc != -ETIMEDOUT);
    for (int i = 0; i < 4; i++)
        close(queued[i]);
    close(listener);
}

/* From now on no thread can start: stacks would be larger than the address space. False where libc
 * bounds them. */
static pthread_attr_t saved_attr;

static void allow_threads(void)
{
    CHECK_EQ(pthread_setattr_default_np(&saved_attr), 0);
}

static bool forbid_threads(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    CHECK_EQ(pthread_getattr_default_np(&saved_attr), 0);
    CHECK_EQ(pthread_getattr_default_np(&attr), 0);
    CHECK_EQ(pthread_attr_setstacksize(&attr, (size_t)1 << (sizeof(size_t) > 4 ? 50 : 31)), 0);
    CHECK_EQ(pthread_setattr_default_np(&attr), 0);
    CHECK_EQ(pthread_attr_destroy(&attr), 0);
    int error = pthread_create(&thread, NULL, test_noop, NULL);
    if (error == EAGAIN)
        return true;
    if (error == 0)
        CHECK_EQ(pthread_join(thread, NULL), 0);
    allow_threads(); /* valgrind refuses in another way */
    return false;
}

static void without_a_thread_there_is_no_memory(struct test_env *env)
{
    weft_addr a;
    weft_tcp *conn;
    weft_tcp_listener *l;
    (void)env;
    if (!forbid_threads()) {
        print_message("threads cannot be forbidden here\n");
        return;
    }
    EXPECT_EQ(weft_lookup("a.name:80", &a, 1), -ENOMEM); /* only try_ calls say -EAGAIN */
    EXPECT_EQ(weft_tcp_connect("a.name:80", &conn), -ENOMEM);
    EXPECT_EQ(weft_tcp_listen("a.name:0", &l), -ENOMEM);
    allow_threads();
    EXPECT_EQ(look_up(0, 1, 0, &a, 1), 1);
}

TEST_MAIN(IN_TASK(errors_of_the_resolver),
          IN_TASK(a_resolver_short_of_descriptors_says_nothing_of_the_name),
          IN_TASK(who_cannot_wait_asks_nobody), PLAIN(without_io_nobody_is_asked),
          IN_TASK(addresses_of_a_name),
          IN_TASK(what_is_forbidden_of_one_address_is_tried_with_the_next),
          IN_TASK(a_connect_that_times_out_says_so), IN_TASK(without_a_thread_there_is_no_memory))
