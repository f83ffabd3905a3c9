/*
 * A panic ends the task, not the process. The joiner learns the message and the place, may take the
 * payload, and may raise the panic again.
 */
#include <weft/panic.h>
#include <weft/runtime.h>
#include <weft/task.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void say(void *text)
{
    printf("cleanup: %s\n", (const char *)text);
}

static int divide(int a, int b)
{
    weft_assert(b != 0);
    return a / b;
}

static void *divide_by_zero(void *arg)
{
    WEFT_DEFER(say, "runs although the task panics");
    printf("result: %d\n", divide(7, *(int *)arg));
    return NULL;
}

static void *complain(void *arg)
{
    char *letter = strdup("a letter of complaint");
    (void)arg;
    weft_assert(letter != NULL);
    weft_panic_payload(letter, free); /* free: should nobody take it */
}

/* Joins a task that panics and panics with the same. */
static void *middleman(void *arg)
{
    weft_task *task;
    weft_outcome outcome;
    weft_assert(weft_spawn(complain, arg, &task) == 0);
    weft_assert(weft_join(task, &outcome) == 0);
    printf("middleman: not my problem\n");
    weft_panic_resume(outcome.panic);
}

static int main_task(void *arg)
{
    weft_task *task;
    weft_outcome outcome;
    void *letter;
    int zero = 0;
    (void)arg;

    if (weft_spawn(divide_by_zero, &zero, &task) < 0 || weft_join(task, &outcome) < 0)
        return 1;
    if (outcome.kind == WEFT_OUTCOME_PANICKED) {
        const weft_site *site = weft_panic_site(outcome.panic);
        printf("caught: %s, in %s()\n", weft_panic_message(outcome.panic), site->func);
    }
    weft_outcome_fini(&outcome);

    if (weft_spawn(middleman, NULL, &task) < 0 || weft_join(task, &outcome) < 0)
        return 1;
    if (outcome.kind == WEFT_OUTCOME_PANICKED &&
        weft_panic_take_payload(outcome.panic, &letter) == 0) {
        printf("caught: %s\n", (char *)letter);
        free(letter);
    }
    weft_outcome_fini(&outcome);

    printf("the process lives on\n");
    return 0;
}

int main(void)
{
    return weft_run(main_task, NULL) == 0 ? 0 : 1;
}
