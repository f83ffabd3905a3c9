/*
 * The rows of weft-bench on Boost.Fiber.
 *
 *   boost-fiber <row> <threads> <n>
 *
 * With 1 thread: the round-robin scheduler it comes with, and pooled stacks of 16 KiB, its fastest
 * way. With more: algo::work_stealing, and fixed-size stacks, as the pool is for one thread.
 * It has no semaphore, no select and no I/O. A buffered_channel of 2^k holds 2^k - 1 messages.
 */
#include "peer.h"

#include <boost/fiber/algo/work_stealing.hpp>
#include <boost/fiber/all.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <thread>
#include <vector>

namespace bf = boost::fibers;

static constexpr long BATCH = 10000; /* fibers alive at a time in the spawn_many rows */
static constexpr long DEPTH = 1000;  /* length of a chain, and number of pairs in ping_pong */
static constexpr long TASKS = 8;     /* that want a mutex */
static constexpr std::size_t STACK_BYTES = 16384;

static bf::pooled_fixedsize_stack *pool; /* NULL with more than one thread */

template <class F> static bf::fiber spawn(F &&body)
{
    if (pool)
        return bf::fiber(bf::launch::post, std::allocator_arg, *pool, std::forward<F>(body));
    return bf::fiber(bf::launch::post, std::allocator_arg, bf::fixedsize_stack(STACK_BYTES),
                     std::forward<F>(body));
}

/* Joining a fiber gives no value, so it is passed in a variable of the one that joins. */
static long spawn_join_seq(long n)
{
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) {
        uint64_t value = 0;
        spawn([&value, i] { value = (uint64_t)i; }).join();
        sum += value;
    }
    peer_check_equal(sum, peer_sum_below(n));
    return n;
}

/* The last of so many steps signals. */
struct countdown {
    explicit countdown(long count) : left(count)
    {
    }
    void step()
    {
        if (left.fetch_sub(1) == 1)
            done.set_value();
    }
    void wait()
    {
        done.get_future().get();
        peer_check_equal((uint64_t)left.load(), 0);
    }
    std::atomic<long> left;
    bf::promise<void> done;
};

static long spawn_many(long n)
{
    long batch = std::min(n, BATCH), rounds = n / batch;
    for (long r = 0; r < rounds; r++) {
        auto c = std::make_shared<countdown>(batch);
        for (long i = 0; i < batch; i++)
            spawn([c] { c->step(); }).detach();
        c->wait();
    }
    return rounds * batch;
}

static long spawn_many_join(long n)
{
    long batch = std::min(n, BATCH), rounds = n / batch;
    std::vector<bf::fiber> fibers;
    std::vector<uint64_t> values((std::size_t)batch);
    fibers.reserve((std::size_t)batch);
    uint64_t sum = 0;
    for (long r = 0; r < rounds; r++) {
        for (long i = 0; i < batch; i++)
            fibers.push_back(spawn([&values, i] { values[(std::size_t)i] = (uint64_t)i; }));
        for (long i = 0; i < batch; i++) {
            fibers[(std::size_t)i].join();
            sum += values[(std::size_t)i];
        }
        fibers.clear();
    }
    peer_check_equal(sum, (uint64_t)rounds * peer_sum_below(batch));
    return rounds * batch;
}

static void chain(bf::promise<long> done, long left, long depth)
{
    if (left == 0) {
        done.set_value(depth);
        return;
    }
    spawn([done = std::move(done), left, depth]() mutable {
        chain(std::move(done), left - 1, depth + 1);
    }).detach();
}

static long chained_spawn(long n)
{
    long depth = std::min(n, DEPTH), rounds = n / depth;
    for (long r = 0; r < rounds; r++) {
        bf::promise<long> done;
        auto reached = done.get_future();
        chain(std::move(done), depth, 0);
        peer_check_equal((uint64_t)reached.get(), (uint64_t)depth);
    }
    return rounds * depth;
}

static long yields(long n, long count)
{
    long each = n / count;
    std::vector<bf::fiber> fibers;
    std::atomic<long> sum{0};
    for (long i = 0; i < count; i++)
        fibers.push_back(spawn([&sum, each] {
            long yielded = 0;
            for (; yielded < each; yielded++)
                boost::this_fiber::yield();
            sum += yielded;
        }));
    for (auto &f : fibers)
        f.join();
    peer_check_equal((uint64_t)sum.load(), (uint64_t)(each * count));
    return each * count;
}

static long yield_many(long n)
{
    return yields(n, 200);
}

static long ctx_switch(long n)
{
    return yields(n, 2);
}

/* Spawns a partner, sends to it, waits for its answer. */
static void ask(const std::shared_ptr<countdown> &c)
{
    bf::promise<void> there, back;
    auto there_future = there.get_future();
    auto back_future = back.get_future();
    spawn([there_future = std::move(there_future), back = std::move(back)]() mutable {
        there_future.get();
        back.set_value();
    }).detach();
    there.set_value();
    back_future.get();
    c->step();
}

static long ping_pong(long n)
{
    long pairs = std::min(n, DEPTH), rounds = n / pairs;
    for (long r = 0; r < rounds; r++) {
        auto c = std::make_shared<countdown>(pairs);
        spawn([c, pairs] {
            for (long i = 0; i < pairs; i++)
                spawn([c] { ask(c); }).detach();
        }).detach();
        c->wait();
    }
    return rounds * pairs;
}

static long mpsc(long n, int producers)
{
    bf::buffered_channel<uint64_t> channel(1024);
    long each = n / producers;
    std::atomic<int> left{producers};
    std::vector<bf::fiber> fibers;
    uint64_t sum = 0;
    for (int i = 0; i < producers; i++)
        fibers.push_back(spawn([&channel, &left, each] {
            for (long k = 0; k < each; k++)
                channel.push((uint64_t)k);
            if (left.fetch_sub(1) == 1)
                channel.close();
        }));
    fibers.push_back(spawn([&channel, &sum] {
        uint64_t v;
        while (channel.pop(v) == bf::channel_op_status::success)
            sum += v + 1; /* counts them, too */
    }));
    for (auto &f : fibers)
        f.join();
    peer_check_equal(sum, (uint64_t)producers * peer_sum_below(each + 1));
    return each * producers;
}

static long mpsc_spsc(long n)
{
    return mpsc(n, 1);
}

static long mpsc_4p(long n)
{
    return mpsc(n, 4);
}

static long mpsc_rendezvous(long n)
{
    bf::buffered_channel<uint64_t> there(2), back(2); /* each holds one */
    uint64_t sum = 0;
    auto asking = spawn([&] {
        for (long i = 0; i < n; i++) {
            uint64_t v = 0;
            there.push((uint64_t)i);
            back.pop(v);
            sum += v;
        }
        there.close();
    });
    auto answering = spawn([&] {
        uint64_t v;
        while (there.pop(v) == bf::channel_op_status::success)
            back.push(v);
    });
    asking.join();
    answering.join();
    peer_check_equal(sum, peer_sum_below(n));
    return n;
}

static long mutex_uncontended(long n)
{
    bf::mutex mutex;
    volatile uint64_t count = 0;
    for (long i = 0; i < n; i++) {
        mutex.lock();
        count = count + 1;
        mutex.unlock();
    }
    peer_check_equal(count, (uint64_t)n);
    return n;
}

static long with_mutex(long n, bool yields)
{
    bf::mutex mutex;
    long each = n / TASKS;
    uint64_t count = 0;
    std::vector<bf::fiber> fibers;
    for (int i = 0; i < TASKS; i++)
        fibers.push_back(spawn([&, each, yields] {
            for (long k = 0; k < each; k++) {
                std::lock_guard<bf::mutex> section(mutex);
                count++;
                if (yields)
                    boost::this_fiber::yield();
            }
        }));
    for (auto &f : fibers)
        f.join();
    peer_check_equal(count, (uint64_t)(each * TASKS));
    return each * TASKS;
}

static long mutex_contended(long n)
{
    return with_mutex(n, false);
}

static long mutex_yield(long n)
{
    return with_mutex(n, true);
}

/* n fibers that sleep up to a second. */
static void timers(const struct peer_run *r)
{
    double cpu = peer_cpu_ns(), wall = peer_wall_ns();
    uint64_t random = PEER_SEED;
    std::atomic<long> woken{0};
    auto c = std::make_shared<countdown>(r->n);
    for (long i = 0; i < r->n; i++) {
        std::chrono::microseconds duration((long)(peer_random(&random) % 1000000));
        spawn([c, duration, &woken] {
            boost::this_fiber::sleep_for(duration);
            woken++;
            c->step();
        }).detach();
    }
    double spawn_ns = (peer_wall_ns() - wall) / (double)r->n;
    c->wait();
    peer_check_equal((uint64_t)woken.load(), (uint64_t)r->n);
    wall = peer_wall_ns() - wall;
    cpu = (peer_cpu_ns() - cpu) / (double)r->n;
    char extra[160];
    snprintf(extra, sizeof extra, "cpu_ns=%.1f wall_ms=%.1f spawn_ns=%.1f hwm_bytes_per_task=%.1f",
             cpu, wall / 1e6, spawn_ns, peer_status_bytes("VmHWM") / (double)r->n);
    peer_report(r, r->n, &cpu, 1, extra);
}

/* n fibers that sleep 1 to 100 ms: how late do they wake? */
static void lateness(const struct peer_run *r)
{
    auto n = (std::size_t)r->n;
    uint64_t random = PEER_SEED;
    std::vector<double> late(n);
    std::vector<bf::fiber> fibers;
    for (std::size_t i = 0; i < n; i++) {
        std::chrono::microseconds duration((long)(1000 + peer_random(&random) % 99000));
        fibers.push_back(spawn([&late, i, duration] {
            double start = peer_wall_ns();
            boost::this_fiber::sleep_for(duration);
            late[i] = peer_wall_ns() - start - (double)duration.count() * 1e3;
        }));
    }
    for (auto &f : fibers)
        f.join();
    peer_check_equal(
        (uint64_t)std::count_if(late.begin(), late.end(), [](double ns) { return ns >= 0; }), n);
    std::sort(late.begin(), late.end());
    double v[] = {late[0], late[n / 2], late[n - 1]};
    char extra[128];
    snprintf(extra, sizeof extra, "p50_us=%.1f p99_us=%.1f max_us=%.1f", v[1] / 1e3,
             late[n * 99 / 100] / 1e3, v[2] / 1e3);
    peer_report(r, r->n, v, 3, extra);
}

/* n fibers that wait: their memory. */
static void idle_mem(const struct peer_run *r)
{
    static bf::mutex mutex;
    static bf::condition_variable never;
    static std::atomic<long> parked{0};
    double rss = peer_status_bytes("VmRSS"), cpu = peer_cpu_ns(), start = peer_wall_ns();
    for (long i = 0; i < r->n; i++)
        spawn([] {
            std::unique_lock<bf::mutex> lock(mutex);
            parked++;
            never.wait(lock);
        }).detach();
    double spawn_ns = (peer_wall_ns() - start) / (double)r->n;
    while (parked < r->n)
        boost::this_fiber::yield();
    double parked_ns = (peer_wall_ns() - start) / (double)r->n;
    boost::this_fiber::sleep_for(std::chrono::milliseconds(50));
    peer_check_equal((uint64_t)parked.load(), (uint64_t)r->n);
    rss = (peer_status_bytes("VmRSS") - rss) / (double)r->n;
    cpu = (peer_cpu_ns() - cpu) / (double)r->n;
    char extra[128];
    snprintf(extra, sizeof extra, "rss_bytes_per_task=%.1f spawn_ns=%.1f cpu_ns=%.1f", rss,
             spawn_ns, cpu);
    peer_report(r, r->n, &parked_ns, 1, extra);
}

static const struct {
    const char *name;
    long (*op)(long n);
    void (*whole)(const struct peer_run *r);
} rows[] = {
    {"spawn_join_seq", spawn_join_seq, NULL},
    {"spawn_many", spawn_many, NULL},
    {"spawn_many_join", spawn_many_join, NULL},
    {"chained_spawn", chained_spawn, NULL},
    {"yield_many", yield_many, NULL},
    {"ctx_switch", ctx_switch, NULL},
    {"ping_pong", ping_pong, NULL},
    {"mpsc_spsc", mpsc_spsc, NULL},
    {"mpsc_4p", mpsc_4p, NULL},
    {"mpsc_rendezvous", mpsc_rendezvous, NULL},
    {"mutex_uncontended", mutex_uncontended, NULL},
    {"mutex_contended", mutex_contended, NULL},
    {"mutex_yield", mutex_yield, NULL},
    {"timers", NULL, timers},
    {"lateness", NULL, lateness},
    {"idle_mem", NULL, idle_mem},
};

/* A thread steals from a scheduler without looking whether it is there yet, so all are installed
 * before any of them runs a fiber. */
static pthread_barrier_t installed;

static void install_work_stealing(unsigned threads)
{
    bf::use_scheduling_algorithm<bf::algo::work_stealing>(threads, true);
    pthread_barrier_wait(&installed);
}

static void work_forever(unsigned threads)
{
    install_work_stealing(threads);
    bf::mutex mutex;
    bf::condition_variable never;
    std::unique_lock<bf::mutex> lock(mutex);
    never.wait(lock, [] { return false; });
}

static int run(const struct peer_run *r)
{
    for (const auto &row : rows)
        if (strcmp(row.name, r->row) == 0) {
            if (row.op)
                peer_repeat(r, row.op);
            else
                row.whole(r);
            return 0;
        }
    return peer_no_row(r);
}

int main(int argc, char **argv)
{
    struct peer_run r = peer_arguments("boost", argc, argv);
    unsigned threads = (unsigned)atoi(r.threads);
    if (threads == 1) {
        pool = new bf::pooled_fixedsize_stack(STACK_BYTES, 512);
    } else {
        pthread_barrier_init(&installed, NULL, threads);
        for (unsigned i = 1; i < threads; i++)
            std::thread(work_forever, threads).detach();
        install_work_stealing(threads);
    }
    int status = run(&r);
    fflush(stdout);
    _Exit(status); /* the fibers that wait, and the other threads, have no end */
}
