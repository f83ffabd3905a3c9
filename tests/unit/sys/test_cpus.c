/*
 * How many CPUs this process may use: affinity, and quotas of control groups, from text fixtures.
 */
#include "sys/cpus.h"
#include "sys/sys.h"
#include "sys/table.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A machine with version 2 alone; the fields between options and "-" vary in number. */
static const char mountinfo_v2[] =
    "22 29 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
    "29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 master:2 - cgroup2 cgroup2 rw,nsdelegate\n";
/* A hybrid machine: version 1 controllers, version 2 for systemd alone. */
static const char mountinfo_hybrid[] =
    "32 25 0:28 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw\n"
    "33 25 0:29 / /sys/fs/cgroup/cpuset rw shared:11 - cgroup cgroup rw,cpuset\n"
    "34 25 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct";
/* A container on version 1: the mount shows its own group as the root. */
static const char mountinfo_container[] =
    "800 700 0:30 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n";

static const char cgroup_v2[] = "0::/user.slice/user-0.slice\n";
static const char cgroup_hybrid[] =
    "5:cpu,cpuacct:/build\n3:cpuset:/\n1:name=systemd:/init\n0::/init\n";

static void the_mount_of_version_2_is_found(void **state)
{
    (void)state;
    struct weft__cgroup_mount m;
    assert_true(weft__cgroup_find_mount(mountinfo_v2, NULL, &m));
    assert_string_equal(m.point, "/sys/fs/cgroup");
    assert_string_equal(m.root, "/");
    assert_false(weft__cgroup_find_mount(mountinfo_v2, "cpu", &m));
}

static void the_mount_of_a_version_1_controller_is_found(void **state)
{
    (void)state;
    struct weft__cgroup_mount m;
    assert_true(weft__cgroup_find_mount(mountinfo_hybrid, "cpu", &m));
    assert_string_equal(m.point, "/sys/fs/cgroup/cpu,cpuacct");
    assert_true(weft__cgroup_find_mount(mountinfo_hybrid, NULL, &m));
    assert_string_equal(m.point, "/sys/fs/cgroup/unified");
    assert_false(weft__cgroup_find_mount(mountinfo_hybrid, "cpua", &m));
}

static void escapes_in_mount_paths_are_undone(void **state)
{
    (void)state;
    struct weft__cgroup_mount m;
    assert_true(weft__cgroup_find_mount("1 2 0:3 / /my\\040dir rw - cgroup2 none rw", NULL, &m));
    assert_string_equal(m.point, "/my dir");
    /* A backslash without three digits behind it stands for itself. */
    assert_true(weft__cgroup_find_mount("1 2 0:3 / /x\\04 rw - cgroup2 none rw", NULL, &m));
    assert_string_equal(m.point, "/x\\04");
}

static void broken_mount_lines_are_passed_over(void **state)
{
    (void)state;
    struct weft__cgroup_mount m;
    assert_false(weft__cgroup_find_mount("", NULL, &m));
    assert_false(weft__cgroup_find_mount("\n\n1 2 3\n1 2 0:3 / /x rw - \n", NULL, &m));
    assert_false(weft__cgroup_find_mount("1 2 0:3 / /x rw no dash cgroup2 none rw", NULL, &m));
    /* The line ends behind the dash, the type, the source. */
    assert_false(weft__cgroup_find_mount("1 2 0:3 / /x rw -", NULL, &m));
    assert_false(weft__cgroup_find_mount("1 2 0:3 / /x rw - cgroup2", NULL, &m));
    assert_false(weft__cgroup_find_mount("1 2 0:3 / /x rw - cgroup2 none", NULL, &m));
    assert_true(weft__cgroup_find_mount("1 2 3\n1 2 0:3 / /x rw - cgroup2 none rw", NULL, &m));
    /* A field of one character that is no dash. */
    assert_true(weft__cgroup_find_mount("1 2 0:3 / /x rw x - cgroup2 none rw", NULL, &m));
}

static void mount_paths_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static char line[3000];
    struct weft__cgroup_mount m;
    strcpy(line, "1 2 0:3 / ");
    memset(line + strlen(line), '/', 2000);
    strcat(line, " rw - cgroup2 none rw");
    assert_false(weft__cgroup_find_mount(line, NULL, &m));
    strcpy(line, "1 2 0:3 /");
    memset(line + strlen(line), 'r', 2000); /* the root */
    strcat(line, " /x rw - cgroup2 none rw");
    assert_false(weft__cgroup_find_mount(line, NULL, &m));
}

static void the_own_group_is_found(void **state)
{
    (void)state;
    char path[64];
    assert_true(weft__cgroup_find_path(cgroup_v2, NULL, path, sizeof(path)));
    assert_string_equal(path, "/user.slice/user-0.slice");
    assert_true(weft__cgroup_find_path(cgroup_hybrid, "cpu", path, sizeof(path)));
    assert_string_equal(path, "/build");
    assert_true(weft__cgroup_find_path(cgroup_hybrid, NULL, path, sizeof(path)));
    assert_string_equal(path, "/init");
    assert_false(weft__cgroup_find_path(cgroup_v2, "cpu", path, sizeof(path)));
    assert_false(weft__cgroup_find_path("", NULL, path, sizeof(path)));
    assert_false(weft__cgroup_find_path("nonsense\n::\n", NULL, path, sizeof(path)));
    assert_false(weft__cgroup_find_path(cgroup_v2, NULL, path, 5));
    /* Version 2 has no controllers, and the id 0. */
    assert_false(weft__cgroup_find_path("0:cpu:/a\n1::/b\n10::/c\n", NULL, path, sizeof(path)));
}

static void mount_and_path_are_joined(void **state)
{
    (void)state;
    struct weft__cgroup_mount m;
    char dir[256];
    assert_true(weft__cgroup_find_mount(mountinfo_v2, NULL, &m));
    assert_true(weft__cgroup_join(&m, "/a/b", dir, sizeof(dir)));
    assert_string_equal(dir, "/sys/fs/cgroup/a/b");
    assert_true(weft__cgroup_join(&m, "/", dir, sizeof(dir)));
    assert_string_equal(dir, "/sys/fs/cgroup");
    assert_false(weft__cgroup_join(&m, "/a/b", dir, 10));
}

static void paths_outside_the_mounted_root_give_the_mount_point(void **state)
{
    (void)state;
    struct weft__cgroup_mount m;
    char dir[256];
    assert_true(weft__cgroup_find_mount(mountinfo_container, "cpu", &m));
    assert_true(weft__cgroup_join(&m, "/docker/abc/sub", dir, sizeof(dir)));
    assert_string_equal(dir, "/sys/fs/cgroup/cpu/sub");
    assert_true(weft__cgroup_join(&m, "/docker/abc", dir, sizeof(dir)));
    assert_string_equal(dir, "/sys/fs/cgroup/cpu");
    assert_true(weft__cgroup_join(&m, "/elsewhere", dir, sizeof(dir)));
    assert_string_equal(dir, "/sys/fs/cgroup/cpu");
    assert_true(weft__cgroup_join(&m, "/docker/abcd", dir, sizeof(dir)));
    assert_string_equal(dir, "/sys/fs/cgroup/cpu");
    assert_true(weft__cgroup_find_mount(mountinfo_v2, NULL, &m));
    assert_true(weft__cgroup_join(&m, "/../other", dir, sizeof(dir)));
    assert_string_equal(dir, "/sys/fs/cgroup");
}

static void quotas_are_rounded_up_to_whole_cpus(void **state)
{
    (void)state;
    assert_int_equal(weft__cgroup_v2_cpus("200000 100000\n"), 2);
    assert_int_equal(weft__cgroup_v2_cpus("150000 100000\n"), 2);
    assert_int_equal(weft__cgroup_v2_cpus("1000 100000\n"), 1);
    assert_int_equal(weft__cgroup_v1_cpus("250000\n", "100000\n"), 3);
}

static void no_quota_and_nonsense_are_no_limit(void **state)
{
    (void)state;
    assert_int_equal(weft__cgroup_v2_cpus("max 100000\n"), 0);
    assert_int_equal(weft__cgroup_v2_cpus(""), 0);
    assert_int_equal(weft__cgroup_v2_cpus("100000"), 0);
    assert_int_equal(weft__cgroup_v2_cpus("100000 0"), 0);
    assert_int_equal(weft__cgroup_v2_cpus("-5 100000"), 0);
    assert_int_equal(weft__cgroup_v2_cpus("9223372036854775807 1"), 0);
    assert_int_equal(weft__cgroup_v1_cpus("-1\n", "100000\n"), 0);
}

static void the_affinity_mask_counts(void **state)
{
    (void)state;
    cpu_set_t saved, one;
    assert_int_equal(sched_getaffinity(0, sizeof(saved), &saved), 0);
    unsigned all = weft__sys_cpu_count();
    assert_in_range(all, 1, CPU_COUNT(&saved));
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &saved)) {
            CPU_SET(cpu, &one);
            break;
        }
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(weft__sys_cpu_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof(saved), &saved), 0);
}

/* A machine with 3,000 possible CPUs: the first, shorter mask is refused. */
static int big_machine(pid_t pid, size_t bytes, cpu_set_t *set)
{
    (void)pid;
    if (bytes < 3000 / 8) {
        errno = EINVAL;
        return -1;
    }
    CPU_ZERO_S(bytes, set);
    for (int cpu = 0; cpu < 2500; cpu++)
        CPU_SET_S(cpu, bytes, set);
    return 0;
}
static int no_files(const char *path, int flags)
{
    (void)path, (void)flags;
    errno = ENOENT;
    return -1;
}
static int no_affinity(pid_t pid, size_t bytes, cpu_set_t *set)
{
    (void)pid, (void)bytes, (void)set;
    errno = ENOSYS;
    return -1;
}

static void machines_larger_than_the_usual_mask_are_counted(void **state)
{
    (void)state;
    struct weft__sys_table saved = weft__sys_table;
    weft__sys_table.sched_getaffinity = big_machine;
    weft__sys_table.open = no_files;
    unsigned count = weft__sys_cpu_count();
    weft__sys_table = saved;
    assert_int_equal(count, 2500);
}

static void without_any_information_there_is_one(void **state)
{
    (void)state;
    struct weft__sys_table saved = weft__sys_table;
    weft__sys_table.sched_getaffinity = no_affinity;
    weft__sys_table.open = no_files;
    unsigned count = weft__sys_cpu_count();
    weft__sys_table = saved;
    assert_int_equal(count, 1);
}

/* The files that there are. */
struct fixture {
    const char *path, *text;
};
static const struct fixture *fixtures;
static char served[64];
static size_t served_at;
static int open_fixture(const char *path, int flags)
{
    for (const struct fixture *f = fixtures; f->path != NULL; f++)
        if (strcmp(path, f->path) == 0) {
            assert_in_range(strlen(f->text), 0, sizeof(served) - 1);
            strcpy(served, f->text);
            served_at = 0;
            return 1000;
        }
    return no_files(path, flags);
}
static ssize_t read_fixture(int fd, void *buf, size_t len)
{
    assert_int_equal(fd, 1000);
    size_t left = strlen(served) - served_at;
    size_t n = left < len ? left : len;
    n = n > 3 ? 3 : n; /* short reads */
    memcpy(buf, served + served_at, n);
    served_at += n;
    return (ssize_t)n;
}
static int close_fixture(int fd)
{
    assert_int_equal(fd, 1000);
    return 0;
}

/* With these files, on a machine of 2,500 CPUs. */
static unsigned count_with(const struct fixture *files)
{
    struct weft__sys_table saved = weft__sys_table;
    fixtures = files;
    weft__sys_table.sched_getaffinity = big_machine;
    weft__sys_table.open = open_fixture;
    weft__sys_table.read = read_fixture;
    weft__sys_table.close = close_fixture;
    unsigned count = weft__sys_cpu_count();
    weft__sys_table = saved;
    return count;
}
#define COUNT_WITH(...) count_with((const struct fixture[]){__VA_ARGS__, {NULL, NULL}})
#define MOUNT_V2                                                                                   \
    {                                                                                              \
        "/proc/self/mountinfo", "1 2 0:3 / /cg rw - cgroup2 none rw\n"                             \
    }
#define MOUNT_V1                                                                                   \
    {                                                                                              \
        "/proc/self/mountinfo", "1 2 0:3 / /cg rw - cgroup none rw,cpu\n"                          \
    }

static void the_smallest_quota_up_to_the_root_counts(void **state)
{
    (void)state;
    /* A group with a quota of 3 CPUs inside one of 1.5, and the other way round. */
    assert_int_equal(COUNT_WITH(MOUNT_V2, {"/proc/self/cgroup", "0::/a/b\n"},
                                {"/cg/a/cpu.max", "150000 100000\n"},
                                {"/cg/a/b/cpu.max", "300000 100000\n"}),
                     2);
    assert_int_equal(COUNT_WITH(MOUNT_V2, {"/proc/self/cgroup", "0::/a/b\n"},
                                {"/cg/a/cpu.max", "500000 100000\n"},
                                {"/cg/a/b/cpu.max", "300000 100000\n"}),
                     3);
    assert_int_equal(COUNT_WITH(MOUNT_V1, {"/proc/self/cgroup", "3:cpu:/a\n"},
                                {"/cg/a/cpu.cfs_quota_us", "350000\n"},
                                {"/cg/a/cpu.cfs_period_us", "100000\n"}),
                     4);
    /* More than there are is no limit. */
    assert_int_equal(COUNT_WITH(MOUNT_V2, {"/proc/self/cgroup", "0::/a\n"},
                                {"/cg/a/cpu.max", "900000000 100000\n"}),
                     2500);
}

static void groups_that_are_not_told_are_no_limit(void **state)
{
    (void)state;
    static char long_path[64] = "0::/";
    memset(long_path + 4, 'p', 59);
    assert_int_equal(COUNT_WITH(MOUNT_V2, {"/cg/cpu.max", "100000 100000\n"}), 2500);
    assert_int_equal(COUNT_WITH(MOUNT_V2, {"/proc/self/cgroup", ""}), 2500);
    assert_int_equal(COUNT_WITH(MOUNT_V2, {"/proc/self/cgroup", "7:cpu:/a\n"}), 2500);
    assert_int_equal(COUNT_WITH(MOUNT_V2, {"/proc/self/cgroup", long_path}), 2500);
    /* A path that does not fit; a mount point that is no path. */
    assert_int_equal(COUNT_WITH({"/proc/self/mountinfo", "1 2 0:3 / cg rw - cgroup2 none rw\n"},
                                {"/proc/self/cgroup", "0::/a\n"}),
                     2500);
    /* A quota without its period. */
    assert_int_equal(COUNT_WITH(MOUNT_V1, {"/proc/self/cgroup", "3:cpu:/a\n"},
                                {"/cg/a/cpu.cfs_quota_us", "350000\n"}),
                     2500);
    assert_int_equal(COUNT_WITH(MOUNT_V1, {"/proc/self/cgroup", "3:cpu:/a\n"},
                                {"/cg/a/cpu.cfs_period_us", "350000\n"}),
                     2500);
}

/* A mask that is never long enough: the search ends. */
static int endless_machine(pid_t pid, size_t bytes, cpu_set_t *set)
{
    (void)pid, (void)bytes, (void)set;
    errno = EINVAL;
    return -1;
}

static void a_mask_of_any_size_refused_counts_nothing(void **state)
{
    (void)state;
    struct weft__sys_table saved = weft__sys_table;
    weft__sys_table.sched_getaffinity = endless_machine;
    weft__sys_table.open = no_files;
    unsigned count = weft__sys_cpu_count();
    weft__sys_table = saved;
    assert_int_equal(count, 1);
}

/* Without an affinity the quota is all there is. */
static void a_quota_counts_without_affinity(void **state)
{
    (void)state;
    struct weft__sys_table saved = weft__sys_table;
    fixtures = (const struct fixture[]){MOUNT_V2,
                                        {"/proc/self/cgroup", "0::/\n"},
                                        {"/cg/cpu.max", "200000 100000\n"},
                                        {NULL, NULL}};
    weft__sys_table.sched_getaffinity = no_affinity;
    weft__sys_table.open = open_fixture;
    weft__sys_table.read = read_fixture;
    weft__sys_table.close = close_fixture;
    unsigned count = weft__sys_cpu_count();
    weft__sys_table = saved;
    assert_int_equal(count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mount_of_version_2_is_found),
        cmocka_unit_test(the_mount_of_a_version_1_controller_is_found),
        cmocka_unit_test(escapes_in_mount_paths_are_undone),
        cmocka_unit_test(broken_mount_lines_are_passed_over),
        cmocka_unit_test(mount_paths_that_do_not_fit_are_refused),
        cmocka_unit_test(the_own_group_is_found),
        cmocka_unit_test(mount_and_path_are_joined),
        cmocka_unit_test(paths_outside_the_mounted_root_give_the_mount_point),
        cmocka_unit_test(quotas_are_rounded_up_to_whole_cpus),
        cmocka_unit_test(no_quota_and_nonsense_are_no_limit),
        cmocka_unit_test(the_affinity_mask_counts),
        cmocka_unit_test(machines_larger_than_the_usual_mask_are_counted),
        cmocka_unit_test(without_any_information_there_is_one),
        cmocka_unit_test(the_smallest_quota_up_to_the_root_counts),
        cmocka_unit_test(groups_that_are_not_told_are_no_limit),
        cmocka_unit_test(a_mask_of_any_size_refused_counts_nothing),
        cmocka_unit_test(a_quota_counts_without_affinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
