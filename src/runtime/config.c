#include "runtime/runtime_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A decimal number of at most `max`, all of the text. */
static bool parse_number(const char *text, uint64_t max, uint64_t *ret)
{
    uint64_t n = 0;
    if (*text == '\0')
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        n = n * 10 + (uint64_t)(*text - '0');
        if (n > max)
            return false;
    }
    *ret = n;
    return true;
}

static uint64_t from_env(const char *name, uint64_t min, uint64_t max, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t n;
    if (text == NULL)
        return otherwise;
    if (parse_number(text, max, &n) && n >= min)
        return n;
    weft__log(WEFT_LOG_WARN, "%s=\"%.40s\" is ignored: it must be a number from %llu to %llu", name,
              text, (unsigned long long)min, (unsigned long long)max);
    return otherwise;
}

void weft_config_init(weft_config *c)
{
    if (weft__is_null("weft_config_init", c, WEFT__CALLER))
        return;
    unsigned cpus = weft__sys_cpu_count();
    memset(c, 0, sizeof *c);
    c->flavor = WEFT_FLAVOR_MULTI_THREAD;
    c->workers = (unsigned)from_env("WEFT_WORKERS", 1, 1024, cpus > 1024 ? 1024 : cpus);
    c->blocking_threads_max = (unsigned)from_env("WEFT_BLOCKING_THREADS", 1, 65536, 512);
    c->blocking_keep_alive_ns = 10 * WEFT_SEC;
    c->stack_bytes = from_env("WEFT_STACK_BYTES", 1, WEFT__STACK_MAX, WEFT__STACK_DEFAULT);
    c->budget = (unsigned)from_env("WEFT_BUDGET", 1, 65535, 128);
    c->event_interval = 61;
    c->global_queue_interval = 31;
    c->enable_io = true;
    c->enable_time = true;
    c->stuck_after_ns = from_env("WEFT_STUCK_MS", 1, 3600000, 10) * WEFT_MS;
    c->extra_workers_max = 64;
    c->shutdown_grace_ns = WEFT_SEC;
    c->detect_deadlock = true;
}

static bool is_blank(const char *text)
{
    for (; *text; text++)
        if (*text != ' ' && *text != '\t')
            return false;
    return true;
}

int weft__config_check(const weft_config *c, const void *caller)
{
    const char *why = NULL;
    char reserved[96];
    if (c->flavor != WEFT_FLAVOR_MULTI_THREAD && c->flavor != WEFT_FLAVOR_CURRENT_THREAD &&
        c->flavor != WEFT_FLAVOR_LOCAL)
        why = "config.flavor is unknown";
    else if (c->name && is_blank(c->name))
        why = "config.name is blank";
    else if (c->workers < 1 || c->workers > 1024)
        why = "config.workers must be 1 to 1024";
    else if (c->blocking_threads_max < 1 || c->blocking_threads_max > 65536)
        why = "config.blocking_threads_max must be 1 to 65536";
    else if (c->stack_bytes < 1 || c->stack_bytes > WEFT__STACK_MAX)
        why = "config.stack_bytes must be 1 to 1 GiB";
    else if (c->budget < 1 || c->budget > 65535)
        why = "config.budget must be 1 to 65535";
    else if (c->event_interval < 1)
        why = "config.event_interval must be at least 1";
    else if (c->global_queue_interval < 1)
        why = "config.global_queue_interval must be at least 1";
    else if (c->stuck_after_ns < WEFT_MS)
        why = "config.stuck_after_ns must be at least 1 ms";
    else if (c->extra_workers_max > 1024)
        why = "config.extra_workers_max must be at most 1024";
    else if (c->unhandled_panic != WEFT_UNHANDLED_PANIC_IGNORE &&
             c->unhandled_panic != WEFT_UNHANDLED_PANIC_SHUTDOWN)
        why = "config.unhandled_panic is unknown";
    else if (c->timer_slack_ns > WEFT_SEC)
        why = "config.timer_slack_ns must be at most 1 s";
    else if (c->deterministic && c->flavor == WEFT_FLAVOR_MULTI_THREAD)
        why = "config.deterministic is for current_thread runtimes";
    else if (c->start_paused && c->flavor == WEFT_FLAVOR_MULTI_THREAD)
        why = "config.start_paused is for current_thread runtimes";
    else if (c->start_paused && !c->enable_time)
        why = "config.start_paused needs config.enable_time";
    for (size_t i = 0; why == NULL && i < sizeof c->reserved / sizeof c->reserved[0]; i++)
        if (c->reserved[i] != 0) {
            (void)snprintf(reserved, sizeof reserved,
                           "config.reserved[%zu] must be zero: fill it with weft_config_init()", i);
            why = reserved;
        }
    return why ? weft__misuse("weft_runtime_create", -EINVAL, why, caller) : 0;
}
