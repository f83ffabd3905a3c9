/*
 * How many CPUs this process may use: the affinity mask, lowered by the quotas of the control group
 * it is in and of every group above that one.
 */
#include "sys/cpus.h"

#include "base/base.h"
#include "sys/sys.h"
#include "sys/error.h"
#include "sys/table.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 2048
#define AFFINITY_CPUS_MAX (1 << 16)

/* Copies the text up to `end` into ret, undoing the \ooo of mountinfo; false when it does not
 * fit. */
static bool copy_path(const char *text, const char *end, char *ret, size_t cap)
{
    size_t n = 0;
    while (text < end) {
        if (n + 1 >= cap)
            return false;
        if (text[0] == '\\' && end - text >= 4) {
            ret[n++] = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
            text += 4;
        } else {
            ret[n++] = *text++;
        }
    }
    ret[n] = '\0';
    return n > 0;
}

/* True when the word stands in the list, which ends at `end`. */
static bool list_has(const char *list, const char *end, const char *word)
{
    size_t len = strlen(word);
    while (list < end) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        const char *stop = comma == NULL ? end : comma;
        if ((size_t)(stop - list) == len && memcmp(list, word, len) == 0)
            return true;
        list = stop + 1;
    }
    return false;
}

/* Splits off the next word of [*at, end); false at the end. */
static bool next_word(const char **at, const char *end, const char **ret_start,
                      const char **ret_end)
{
    while (*at < end && **at == ' ')
        (*at)++;
    if (*at >= end)
        return false;
    *ret_start = *at;
    while (*at < end && **at != ' ')
        (*at)++;
    *ret_end = *at;
    return true;
}

/* One line: id parent major:minor ROOT POINT options [fields...] - TYPE source SUPER-OPTIONS */
static bool parse_mount(const char *at, const char *end, const char *controller,
                        struct weft__cgroup_mount *ret)
{
    const char *start[6], *stop[6];
    for (int i = 0; i < 6; i++)
        if (!next_word(&at, end, &start[i], &stop[i]))
            return false;
    const char *word, *word_end;
    do {
        if (!next_word(&at, end, &word, &word_end))
            return false;
    } while (word_end - word != 1 || *word != '-');
    const char *type, *type_end, *options, *options_end;
    if (!next_word(&at, end, &type, &type_end) || !next_word(&at, end, &word, &word_end) ||
        !next_word(&at, end, &options, &options_end))
        return false;

    const char *wanted = controller == NULL ? "cgroup2" : "cgroup";
    if (!list_has(type, type_end, wanted))
        return false;
    if (controller != NULL && !list_has(options, options_end, controller))
        return false;
    return copy_path(start[3], stop[3], ret->root, sizeof(ret->root)) &&
           copy_path(start[4], stop[4], ret->point, sizeof(ret->point));
}

bool weft__cgroup_find_mount(const char *mountinfo, const char *controller,
                             struct weft__cgroup_mount *ret)
{
    while (*mountinfo != '\0') {
        const char *end = strchrnul(mountinfo, '\n');
        if (parse_mount(mountinfo, end, controller, ret))
            return true;
        mountinfo = *end == '\0' ? end : end + 1;
    }
    return false;
}

bool weft__cgroup_find_path(const char *cgroup, const char *controller, char *ret, size_t cap)
{
    /* One line: ID:controllers:/path; version 2 is the one with id 0 and no controllers. */
    while (*cgroup != '\0') {
        const char *end = strchrnul(cgroup, '\n');
        const char *list = memchr(cgroup, ':', (size_t)(end - cgroup));
        const char *path = list == NULL ? NULL : memchr(list + 1, ':', (size_t)(end - list - 1));
        if (path != NULL) {
            bool found = controller == NULL
                             ? list - cgroup == 1 && *cgroup == '0' && path == list + 1
                             : list_has(list + 1, path, controller);
            if (found) {
                size_t len = (size_t)(end - (path + 1));
                if (len + 1 > cap)
                    return false;
                memcpy(ret, path + 1, len);
                ret[len] = '\0';
                return true;
            }
        }
        cgroup = *end == '\0' ? end : end + 1;
    }
    return false;
}

bool weft__cgroup_join(const struct weft__cgroup_mount *mount, const char *path, char *ret,
                       size_t cap)
{
    size_t root_len = strlen(mount->root);
    if (root_len == 1)
        root_len = 0; /* "/": every path is below it */
    const char *below = path;
    bool inside = strncmp(path, mount->root, root_len) == 0 &&
                  (path[root_len] == '/' || path[root_len] == '\0') && strncmp(path, "/..", 3) != 0;
    below = inside ? path + root_len : "";
    if (strcmp(below, "/") == 0)
        below = "";
    int n = snprintf(ret, cap, "%s%s", mount->point, below);
    return (size_t)n < cap;
}

static unsigned quota_cpus(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    long long cpus = quota / period + (quota % period != 0);
    return cpus > AFFINITY_CPUS_MAX ? 0 : (unsigned)cpus;
}

unsigned weft__cgroup_v2_cpus(const char *cpu_max)
{
    char *end;
    long long quota = strtoll(cpu_max, &end, 10);
    if (end == cpu_max)
        return 0; /* "max" */
    return quota_cpus(quota, strtoll(end, NULL, 10));
}

unsigned weft__cgroup_v1_cpus(const char *quota_us, const char *period_us)
{
    return quota_cpus(strtoll(quota_us, NULL, 10), strtoll(period_us, NULL, 10));
}

/* On the heap: together too much for a stack. */
struct scratch {
    char text[1 << 18]; /* untouched pages cost nothing */
    struct weft__cgroup_mount mount;
    char own[PATH_BYTES], dir[PATH_BYTES], file[PATH_BYTES + 32];
};

static bool read_quota(struct scratch *s, const char *name, char *buf, size_t cap)
{
    snprintf(s->file, sizeof(s->file), "%s/%s", s->dir, name);
    return weft__sys_read_file(s->file, buf, cap) > 0;
}

static unsigned group_cpus(struct scratch *s, bool v2)
{
    char first[64], second[64];
    if (v2)
        return read_quota(s, "cpu.max", first, sizeof(first)) ? weft__cgroup_v2_cpus(first) : 0;
    return read_quota(s, "cpu.cfs_quota_us", first, sizeof(first)) &&
                   read_quota(s, "cpu.cfs_period_us", second, sizeof(second))
               ? weft__cgroup_v1_cpus(first, second)
               : 0;
}

/* The smallest quota from the own group up to the mount point; 0: none. */
static unsigned hierarchy_cpus(struct scratch *s, bool v2)
{
    const char *controller = v2 ? NULL : "cpu";
    if (weft__sys_read_file("/proc/self/mountinfo", s->text, sizeof(s->text)) <= 0 ||
        !weft__cgroup_find_mount(s->text, controller, &s->mount))
        return 0;
    if (weft__sys_read_file("/proc/self/cgroup", s->text, sizeof(s->text)) <= 0 ||
        !weft__cgroup_find_path(s->text, controller, s->own, sizeof(s->own)) ||
        !weft__cgroup_join(&s->mount, s->own, s->dir, sizeof(s->dir)))
        return 0;

    unsigned least = 0;
    size_t point_len = strlen(s->mount.point);
    for (;;) {
        unsigned cpus = group_cpus(s, v2);
        if (cpus != 0 && (least == 0 || cpus < least))
            least = cpus;
        char *slash = strrchr(s->dir, '/');
        if (slash == NULL || (size_t)(slash - s->dir) < point_len)
            return least;
        *slash = '\0';
    }
}

unsigned weft__sys_affinity_count(void)
{
    /* The kernel refuses a mask shorter than its own with EINVAL. */
    for (int cpus = CPU_SETSIZE; cpus <= AFFINITY_CPUS_MAX; cpus *= 4) {
        size_t bytes = CPU_ALLOC_SIZE(cpus);
        cpu_set_t *set = weft__calloc(1, bytes);
        if (set == NULL)
            return 0;
        int rc = weft__sys_table.sched_getaffinity(0, bytes, set) == 0 ? 0 : weft__sys_error();
        int count = rc == 0 ? CPU_COUNT_S(bytes, set) : 0;
        weft__free(set);
        if (rc != -EINVAL)
            return (unsigned)count;
    }
    return 0;
}

unsigned weft__sys_cpu_count(void)
{
    unsigned count = weft__sys_affinity_count();
    struct scratch *s = weft__malloc(sizeof(*s));
    if (s != NULL) {
        for (int v2 = 0; v2 <= 1; v2++) {
            unsigned cpus = hierarchy_cpus(s, v2 != 0);
            if (cpus != 0 && (count == 0 || cpus < count))
                count = cpus;
        }
        weft__free(s);
    }
    return count == 0 ? 1 : count;
}
