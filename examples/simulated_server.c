/*
 * A server and its clients, tried in a simulation: connections are lost at any point, and still
 * each deposit must count once.
 *
 *     simulated_server             a thousand worlds: the server holds
 *     simulated_server forgetful   one that forgets what it has done: some world finds out
 *
 * A client that was not answered asks again, with the same number; the server remembers the last
 * number of each client. Nothing in server and client knows of the simulation.
 */
#include <weft/weft.h>

#include <stdio.h>
#include <string.h>

#define CLIENTS 3
#define DEPOSITS 5
#define ADDRESS "10.0.0.1:4000"

struct deposit {
    uint32_t client, number;
    int64_t amount;
};

/* ---- the server ---- */

static struct {
    weft_tcp_listener *listener;
    weft_mutex lock;
    int64_t balance;
    uint32_t last[CLIENTS]; /* numbers of the last deposits */
    bool is_forgetful;
} bank;

static int book(const struct deposit *d)
{
    int rc = weft_mutex_lock(&bank.lock);
    if (rc < 0)
        return rc;
    WEFT_LOCK_GUARD(&bank.lock);
    if (d->number > bank.last[d->client] || bank.is_forgetful)
        bank.balance += d->amount;
    bank.last[d->client] = d->number;
    return 0;
}

static void *serve_client(void *arg)
{
    weft_tcp *conn = arg;
    weft_stream *stream = weft_tcp_stream(conn);
    struct deposit d;
    while (weft_read_exact(stream, &d, sizeof d, NULL) == 0 && book(&d) == 0)
        if (weft_write_all(stream, &d.number, sizeof d.number, NULL) < 0)
            break;
    (void)weft_tcp_close(conn);
    return NULL;
}

static void *serve(void *arg)
{
    WEFT_SCOPE(s) {
        for (weft_tcp *conn; weft_tcp_accept(bank.listener, &conn) == 0;)
            if (weft_scope_spawn(s, serve_client, conn) < 0)
                (void)weft_tcp_close(conn);
    }
    return arg;
}

/* ---- a client ---- */

/* Sends it and waits for the answer, on a connection of its own. */
static int ask(const struct deposit *d)
{
    weft_tcp *conn;
    uint32_t answer;
    int rc = weft_tcp_connect(ADDRESS, &conn);
    if (rc < 0)
        return rc;
    rc = weft_write_all(weft_tcp_stream(conn), d, sizeof *d, NULL);
    if (rc == 0)
        rc = weft_read_exact(weft_tcp_stream(conn), &answer, sizeof answer, NULL);
    (void)weft_tcp_close(conn);
    return rc;
}

static void *client(void *arg)
{
    struct deposit d = {.client = (uint32_t)(uintptr_t)arg, .amount = 100};
    for (d.number = 1; d.number <= DEPOSITS; d.number++)
        for (int rc = -1; rc < 0;) {
            WEFT_TIMEOUT(5 * WEFT_SEC)
                rc = ask(&d);
            if (rc < 0 && weft_sleep(WEFT_SEC) < 0)
                return NULL; /* the simulation ends */
        }
    return NULL;
}

/* ---- the scenario ---- */

static int scenario(void *arg)
{
    weft_task *server;
    weft_outcome o;
    memset(&bank, 0, sizeof bank);
    bank.is_forgetful = arg != NULL;
    int rc = weft_tcp_listen(ADDRESS, &bank.listener);
    if (rc == 0)
        rc = weft_spawn(serve, NULL, &server);
    if (rc < 0)
        return rc;
    WEFT_SCOPE_INTO(s, &rc) {
        for (uintptr_t i = 0; i < CLIENTS; i++)
            (void)weft_scope_spawn(s, client, (void *)i); /* leaving the scope says whether */
    }
    (void)weft_tcp_listener_close(bank.listener); /* ends the server */
    if (weft_join(server, &o) == 0)
        weft_outcome_fini(&o);
    weft_sim_check(bank.balance == CLIENTS * DEPOSITS * 100);
    return rc;
}

int main(int argc, char **argv)
{
    static char forgetful[] = "forgetful";
    bool is_forgetful = argc > 1 && strcmp(argv[1], forgetful) == 0;
    uint64_t lost = 0, virtual_ns = 0;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        weft_sim_config c;
        weft_sim_result r;
        weft_sim_config_draw(&c, seed); /* which faults this world has, and how often */
        int rc = weft_sim_run(&c, scenario, is_forgetful ? forgetful : NULL, &r);
        if (rc < 0)
            return 1;
        if (r.end != WEFT_SIM_DONE || r.rc < 0) {
            printf("seed %llu: %s\n", (unsigned long long)seed, r.why);
            return 1;
        }
        lost += r.resets + r.refused + r.accept_errors;
        virtual_ns += r.time_ns;
    }
    printf("1000 worlds, %llu faults, %llu minutes: every deposit counted once\n",
           (unsigned long long)lost, (unsigned long long)(virtual_ns / (60 * WEFT_SEC)));
    return 0;
}
