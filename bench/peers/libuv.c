/*
 * What libuv has that is near to rows of weft-bench. It has callbacks and no tasks, so each row has
 * a name of its own:
 *
 *   idle_callback         a callback once each turn of the loop       (near yield_many)
 *   work_callback         a job for the thread pool, then its callback  (near spawn_blocking)
 *   work_callback_batch   64 of them in flight                          (near spawn_blocking_batch)
 *   timer_start_stop      a timer armed and disarmed                    (near timeout_yield)
 *   timer_callbacks       n timers that fire within a second            (near timers_polled)
 *
 *   libuv <row> 1 <n>
 *   libuv tcp_echo <threads> <port>
 *
 * An echo server with several threads is a loop in each, which share the port (SO_REUSEPORT).
 */
#include "peer.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include <uv.h>

#define IN_FLIGHT 64
#define BUF_BYTES 16384
#define YIELDERS 200 /* of the row: n is rounded as there */

#define CHECK(cond) ((cond) ? (void)0 : fail(__LINE__, #cond))
static void fail(int line, const char *cond)
{
    fprintf(stderr, "libuv.c:%d: failed: %s\n", line, cond);
    exit(1);
}

static uv_loop_t loop;

static void run_loop(void)
{
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
}

static void close_and_run(uv_handle_t *handle)
{
    uv_close(handle, NULL);
    run_loop();
}

/* ---- callbacks in turn ---- */

static long turns_left, turns;

static void count_turn(uv_idle_t *idle)
{
    turns++;
    if (--turns_left == 0)
        uv_idle_stop(idle);
}

static long idle_callback(long n)
{
    uv_idle_t idle;
    n = n / YIELDERS * YIELDERS;
    turns = 0;
    turns_left = n;
    uv_idle_init(&loop, &idle);
    uv_idle_start(&idle, count_turn);
    run_loop();
    close_and_run((uv_handle_t *)&idle);
    peer_check_equal((uint64_t)turns, (uint64_t)n);
    return n;
}

/* ---- the thread pool ---- */

struct job {
    uv_work_t work;
    uint64_t value, result;
};

static struct job jobs[IN_FLIGHT];
static long jobs_left;
static int in_flight;
static uint64_t jobs_sum;

static void do_job(uv_work_t *work)
{
    struct job *j = (struct job *)work;
    j->result = j->value;
}

static void job_done(uv_work_t *work, int status);

static void queue_job(struct job *j, uint64_t value)
{
    j->value = value;
    CHECK(uv_queue_work(&loop, &j->work, do_job, job_done) == 0);
}

static void job_done(uv_work_t *work, int status)
{
    struct job *j = (struct job *)work;
    CHECK(status == 0);
    jobs_sum += j->result;
    if (--jobs_left > 0)
        queue_job(j, j->value + 1);
}

static long work_callback(long n)
{
    jobs_sum = 0;
    jobs_left = n;
    queue_job(&jobs[0], 0);
    run_loop();
    peer_check_equal(jobs_sum, peer_sum_below(n));
    return n;
}

static void batch_done(uv_work_t *work, int status);

static void queue_batch(void)
{
    in_flight = IN_FLIGHT;
    for (uint64_t i = 0; i < IN_FLIGHT; i++) {
        jobs[i].value = i;
        CHECK(uv_queue_work(&loop, &jobs[i].work, do_job, batch_done) == 0);
    }
}

/* As the row does: the next ones when all are back. */
static void batch_done(uv_work_t *work, int status)
{
    CHECK(status == 0);
    jobs_sum += ((struct job *)work)->result;
    if (--in_flight == 0 && (jobs_left -= IN_FLIGHT) > 0)
        queue_batch();
}

static long work_callback_batch(long n)
{
    long rounds = n / IN_FLIGHT;
    jobs_sum = 0;
    jobs_left = rounds * IN_FLIGHT;
    if (rounds > 0)
        queue_batch();
    run_loop();
    peer_check_equal(jobs_sum, (uint64_t)rounds * peer_sum_below(IN_FLIGHT));
    return rounds * IN_FLIGHT;
}

/* ---- timers ---- */

static void never(uv_timer_t *timer)
{
    (void)timer;
    CHECK(!"the timer was stopped");
}

static long timer_start_stop(long n)
{
    uv_timer_t timer;
    uint64_t count = 0;
    uv_timer_init(&loop, &timer);
    for (long i = 0; i < n; i++) {
        CHECK(uv_timer_start(&timer, never, 5000, 0) == 0);
        count += uv_is_active((uv_handle_t *)&timer) != 0;
        CHECK(uv_timer_stop(&timer) == 0);
    }
    close_and_run((uv_handle_t *)&timer);
    peer_check_equal(count, (uint64_t)n);
    return n;
}

static long fired;

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

static void fire(uv_timer_t *timer)
{
    fired++;
    uv_close((uv_handle_t *)timer, free_handle);
}

static void timer_callbacks(const struct peer_run *r)
{
    double cpu = peer_cpu_ns(), wall = peer_wall_ns();
    uint64_t random = PEER_SEED;
    uv_update_time(&loop);
    for (long i = 0; i < r->n; i++) {
        uv_timer_t *timer = malloc(sizeof *timer);
        CHECK(timer != NULL);
        uv_timer_init(&loop, timer);
        uv_timer_start(timer, fire, peer_random(&random) % 1000000 / 1000, 0);
    }
    double spawn_ns = (peer_wall_ns() - wall) / (double)r->n;
    run_loop();
    peer_check_equal((uint64_t)fired, (uint64_t)r->n);
    wall = peer_wall_ns() - wall;
    cpu = (peer_cpu_ns() - cpu) / (double)r->n;
    char extra[160];
    snprintf(extra, sizeof extra, "cpu_ns=%.1f wall_ms=%.1f spawn_ns=%.1f hwm_bytes_per_task=%.1f",
             cpu, wall / 1e6, spawn_ns, peer_status_bytes("VmHWM") / (double)r->n);
    peer_report(r, r->n, &cpu, 1, extra);
}

/* ---- the echo server ---- */

struct conn {
    uv_tcp_t tcp;
    uv_write_t write;
    char buf[BUF_BYTES];
};

static void give_buf(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    (void)size;
    *buf = uv_buf_init(((struct conn *)handle)->buf, BUF_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf);

static void on_written(uv_write_t *write, int status)
{
    if (uv_is_closing((uv_handle_t *)write->handle))
        return;
    if (status == 0)
        uv_read_start(write->handle, give_buf, on_read);
    else
        uv_close((uv_handle_t *)write->handle, free_handle);
}

/* What the socket takes at once needs no request; otherwise the buffer is in use until the
 * callback, and reading pauses. */
static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct conn *c = (struct conn *)stream;
    if (count < 0) {
        uv_close((uv_handle_t *)stream, free_handle);
        return;
    }
    uv_buf_t out = uv_buf_init(buf->base, (unsigned)count);
    int written = uv_try_write(stream, &out, 1);
    if (written == count)
        return;
    if (written > 0)
        out = uv_buf_init(out.base + written, (unsigned)(count - written));
    uv_read_stop(stream);
    if (uv_write(&c->write, stream, &out, 1, on_written) != 0)
        uv_close((uv_handle_t *)stream, free_handle);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct conn *c = malloc(sizeof *c);
    CHECK(status == 0 && c != NULL);
    uv_tcp_init(listener->loop, &c->tcp);
    CHECK(uv_accept(listener, (uv_stream_t *)&c->tcp) == 0);
    uv_tcp_nodelay(&c->tcp, 1);
    uv_read_start((uv_stream_t *)&c->tcp, give_buf, on_read);
}

static int port;

static void *serve(void *arg)
{
    (void)arg;
    uv_loop_t own;
    uv_tcp_t listener;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in addr;
    CHECK(fd >= 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0);
    CHECK(uv_ip4_addr("127.0.0.1", port, &addr) == 0);
    CHECK(uv_loop_init(&own) == 0 && uv_tcp_init(&own, &listener) == 0);
    CHECK(uv_tcp_open(&listener, fd) == 0);
    CHECK(uv_tcp_bind(&listener, (const struct sockaddr *)&addr, 0) == 0);
    CHECK(uv_listen((uv_stream_t *)&listener, 1024, on_connection) == 0);
    uv_run(&own, UV_RUN_DEFAULT);
    return NULL;
}

static void tcp_echo(int threads)
{
    for (int i = 1; i < threads; i++) {
        pthread_t t;
        CHECK(pthread_create(&t, NULL, serve, NULL) == 0);
    }
    (void)serve(NULL);
}

static const struct {
    const char *name;
    long (*op)(long n);
} rows[] = {
    {"idle_callback", idle_callback},
    {"work_callback", work_callback},
    {"work_callback_batch", work_callback_batch},
    {"timer_start_stop", timer_start_stop},
};

int main(int argc, char **argv)
{
    struct peer_run r = peer_arguments("libuv", argc, argv);
    if (strcmp(r.row, "tcp_echo") == 0) {
        port = (int)r.n;
        signal(SIGPIPE, SIG_IGN); /* libuv leaves it to its users */
        tcp_echo(atoi(r.threads));
        return 1;
    }
    if (atoi(r.threads) != 1)
        return peer_no_row(&r);
    CHECK(uv_loop_init(&loop) == 0);
    if (strcmp(r.row, "timer_callbacks") == 0) {
        timer_callbacks(&r);
        return 0;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(r.row, rows[i].name) == 0) {
            peer_repeat(&r, rows[i].op);
            return 0;
        }
    return peer_no_row(&r);
}
