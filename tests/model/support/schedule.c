/*
 * Schedules as strings, and back.
 *
 * "a12b3~1": a is chosen at twelve points, then b at three; what b reads at the last one is the
 * second of what it may read, the first being the newest store.
 */
#include "model_internal.h"

#include <stdio.h>
#include <stdlib.h>

void model__schedule_print(const struct model__step *step, size_t steps, char *buf, size_t cap)
{
    size_t used = 0;
    for (size_t i = 0; i < steps && used + 24 < cap;) {
        size_t n = 1;
        while (i + n < steps && step[i + n].who == step[i].who && step[i + n - 1].read == 0)
            n++;
        used += (size_t)snprintf(buf + used, cap - used, "%c%zu", 'a' + step[i].who, n);
        i += n;
        if (step[i - 1].read)
            used += (size_t)snprintf(buf + used, cap - used, "~%u", step[i - 1].read);
    }
    buf[used] = '\0';
}

size_t model__schedule_parse(const char *text, struct model__step *schedule, size_t cap)
{
    size_t steps = 0;
    while (*text >= 'a' && *text < 'a' + MODEL_THREADS_MAX) {
        uint8_t who = (uint8_t)(*text - 'a');
        char *end;
        size_t n = strtoul(text + 1, &end, 10);
        while (n-- > 0 && steps < cap)
            schedule[steps++] = (struct model__step){.who = who};
        text = end;
        if (*text == '~' && steps > 0) {
            schedule[steps - 1].read = (uint8_t)strtoul(text + 1, &end, 10);
            text = end;
        }
    }
    return steps;
}
