/*
 * Ten numbered messages through a channel, then its end: the receiver's loop ends by itself when
 * the last sender is gone.
 */
#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>

struct message {
    int number;
    char text[32];
};

static void *send_ten(void *arg)
{
    weft_mpsc_sender *tx = arg;
    for (int i = 1; i <= 10; i++) {
        struct message m = {.number = i};
        snprintf(m.text, sizeof m.text, "message %d", i);
        if (weft_mpsc_send(tx, &m) < 0) /* copied in; suspends while the channel is full */
            break;
    }
    weft_mpsc_sender_unref(tx);
    return NULL;
}

static int receive(void *arg)
{
    (void)arg;
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    struct message m;
    int rc = weft_mpsc_create(sizeof m, 4, NULL, &tx, &rx);
    if (rc < 0)
        return rc;
    rc = weft_spawn(send_ten, tx, NULL);
    if (rc < 0)
        weft_mpsc_sender_unref(tx);
    while (rc == 0 && (rc = weft_mpsc_recv(rx, &m)) == 0)
        printf("received %d: %s\n", m.number, m.text);
    if (rc == -EPIPE) {
        puts("end of the channel");
        rc = 0;
    }
    weft_mpsc_receiver_unref(rx);
    return rc;
}

int main(void)
{
    return weft_run(receive, NULL) < 0;
}
