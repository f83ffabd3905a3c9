/*
 * Waits for the first of several things: a message, a tick, or the end of patience.
 *
 * A sensor sends measurements and falls silent after a while. The reader takes what comes, says
 * every 200 ms that it is still there, and gives up when nothing has come for a second.
 */
#include <weft/interval.h>
#include <weft/mpsc.h>
#include <weft/runtime.h>
#include <weft/select.h>
#include <weft/task.h>
#include <weft/time.h>

#include <stdio.h>

#define PATIENCE WEFT_SEC

static void *measure(void *arg)
{
    weft_mpsc_sender *tx = arg;
    for (int i = 1; i <= 5; i++) {
        if (weft_sleep(20 * WEFT_MS) < 0 || weft_mpsc_send(tx, &i) < 0)
            break;
    }
    (void)weft_sleep(WEFT_NEVER); /* silent, until it is aborted */
    weft_mpsc_sender_unref(tx);
    return NULL;
}

static void give_up(void *tx)
{
    weft_mpsc_sender_unref(tx);
}

static int read_until_silent(weft_mpsc_receiver *rx, weft_interval *every_200ms)
{
    int value;
    /* A weft_case_sleep() would begin anew in each select, so the ticks would prolong it. */
    weft_case c[] = {weft_case_mpsc_recv(rx, &value), weft_case_tick(every_200ms, NULL),
                     weft_case_sleep_until(weft_now() + PATIENCE)};
    for (;;) {
        int which = weft_select(c, 3);
        switch (which) {
        case 0:
            if (c[0].rc < 0)
                return c[0].rc; /* all senders are gone */
            printf("measured %d\n", value);
            c[2] = weft_case_sleep_until(weft_now() + PATIENCE);
            break;
        case 1:
            printf("still reading\n");
            break;
        case 2:
            printf("nothing for a second\n");
            return 0;
        default:
            return which; /* -ECANCELED and the like */
        }
    }
}

static int main_task(void *arg)
{
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    weft_interval every_200ms;
    weft_task *sensor;
    (void)arg;
    weft_spawn_options options = {.drop_arg = give_up}; /* aborted before it ran */
    int rc = weft_mpsc_create(sizeof(int), 16, NULL, &tx, &rx);
    if (rc < 0)
        return rc;
    rc = weft_spawn_with(&options, measure, tx, &sensor);
    if (rc < 0) {
        weft_mpsc_sender_unref(tx);
        goto out;
    }
    rc = weft_interval_init_at(&every_200ms, weft_now() + 200 * WEFT_MS, 200 * WEFT_MS);
    if (rc == 0) {
        rc = read_until_silent(rx, &every_200ms);
        weft_interval_fini(&every_200ms);
    }
    weft_task_abort_detach(sensor);
out:
    weft_mpsc_receiver_unref(rx);
    return rc;
}

int main(void)
{
    return weft_run(main_task, NULL) == 0 ? 0 : 1;
}
