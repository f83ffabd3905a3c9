/*
 * One value from one task to another: the task computes and sends, the caller waits for the value,
 * and learns too when the task ends without sending.
 */
#include <weft/weft.h>

#include <stdio.h>
#include <string.h>

struct order {
    long n; /* negative: nothing can be computed */
    weft_oneshot_sender *tx;
};

static void *compute(void *arg)
{
    struct order *o = arg;
    if (o->n < 0) {
        weft_oneshot_sender_destroy(o->tx); /* given up without sending */
        return NULL;
    }
    long sum = 0;
    for (long i = 1; i <= o->n; i++)
        sum += i;
    if (weft_oneshot_send(o->tx, &sum) < 0)
        puts("nobody waits for it any more");
    return NULL;
}

static int ask(long n)
{
    struct order order = {.n = n};
    weft_oneshot_receiver *rx;
    const weft_spawn_options copied = {.arg_bytes = sizeof order};
    long sum;
    int rc = weft_oneshot_create(sizeof sum, NULL, &order.tx, &rx);
    if (rc < 0)
        return rc;
    rc = weft_spawn_with(&copied, compute, &order, NULL);
    if (rc < 0)
        weft_oneshot_sender_destroy(order.tx);
    else
        rc = weft_oneshot_recv(rx, &sum);
    if (rc == 0)
        printf("1 + ... + %ld = %ld\n", n, sum);
    else
        printf("no result for %ld: %s\n", n, strerror(-rc));
    weft_oneshot_receiver_destroy(rx);
    return 0;
}

static int run(void *arg)
{
    (void)arg;
    int rc = ask(1000);
    return rc < 0 ? rc : ask(-1);
}

int main(void)
{
    return weft_run(run, NULL) < 0;
}
