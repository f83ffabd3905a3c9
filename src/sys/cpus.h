/*
 * How many CPUs this process may use: the parsing, apart from the reading, for tests.
 */
#ifndef WEFT_SYS_CPUS_H
#define WEFT_SYS_CPUS_H

#include <stdbool.h>
#include <stddef.h>

/* Where a hierarchy of control groups is mounted: the group that is its root, and the directory. */
struct weft__cgroup_mount {
    char root[512];
    char point[512];
};

/*
 * Finds the mount of version 2 (controller NULL), or the one of version 1 that has the controller,
 * in the text of /proc/self/mountinfo. False when there is none, or its paths do not fit.
 */
bool weft__cgroup_find_mount(const char *mountinfo, const char *controller,
                             struct weft__cgroup_mount *ret);

/* Finds the path of the own group in the text of /proc/self/cgroup; controller as above. */
bool weft__cgroup_find_path(const char *cgroup, const char *controller, char *ret, size_t cap);

/*
 * Joins mount and path into the directory of the own group. A path outside the root of the mount
 * (a container that sees its own group only) gives the mount point. False when it does not fit.
 */
bool weft__cgroup_join(const struct weft__cgroup_mount *mount, const char *path, char *ret,
                       size_t cap);

/* CPUs granted by the text of cpu.max (version 2), rounded up; 0: no limit, or not understood. */
unsigned weft__cgroup_v2_cpus(const char *cpu_max);

/* The same from cpu.cfs_quota_us and cpu.cfs_period_us (version 1). */
unsigned weft__cgroup_v1_cpus(const char *quota_us, const char *period_us);

#endif
