/*
 * A computation beside a task that ticks, on one worker: done in chunks with a yield between, it
 * delays the other by no more than a chunk. (A computation that cannot be cut belongs into
 * weft_spawn_blocking(). One that just goes on delays nobody either: weft adds a worker and names
 * the task in the log.)
 */
#include <weft/runtime.h>
#include <weft/task.h>
#include <weft/time.h>

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#define LIMIT 400000
#define CHUNK 500

static atomic_bool computed;

/* Ticks every 5 ms until the computation has ended; returns the number of ticks. */
static void *tick(void *arg)
{
    intptr_t ticks = 0;
    (void)arg;
    while (!atomic_load(&computed) && weft_sleep(5 * WEFT_MS) == 0)
        ticks++;
    return (void *)ticks;
}

static int is_prime(int n)
{
    for (int d = 2; d * d <= n; d++)
        if (n % d == 0)
            return 0;
    return n >= 2;
}

/* Counts primes, giving its turn up after each chunk. */
static void *count_primes(void *arg)
{
    intptr_t primes = 0;
    (void)arg;
    for (int n = 0; n < LIMIT; n++) {
        primes += is_prime(n);
        if (n % CHUNK == 0 && weft_yield() < 0)
            break; /* aborted */
    }
    atomic_store(&computed, true);
    return (void *)primes;
}

static int main_task(void *arg)
{
    weft_task *ticker, *counter;
    weft_outcome ticks, primes;
    (void)arg;
    if (weft_spawn(tick, NULL, &ticker) < 0 || weft_spawn(count_primes, NULL, &counter) < 0 ||
        weft_join(counter, &primes) < 0 || weft_join(ticker, &ticks) < 0)
        return 1;
    printf("%d primes below %d\n", (int)(intptr_t)primes.value, LIMIT);
    printf("%d ticks meanwhile\n", (int)(intptr_t)ticks.value);
    return 0;
}

int main(void)
{
    weft_config config;
    weft_config_init(&config);
    config.workers = 1;
    return weft_run_with(&config, main_task, NULL) == 0 ? 0 : 1;
}
