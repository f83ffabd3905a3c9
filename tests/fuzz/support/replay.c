/*
 * Runs a fuzz target without libFuzzer: each file of the directory given, then inputs from a seed.
 *
 *   fuzz_x [corpus directory] [inputs] [seed]
 */
#include "fuzz.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 4096

static void run_file(const char *dir, const char *name)
{
    static uint8_t data[1 << 16];
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    FUZZ_CHECK(f != NULL);
    size_t size = fread(data, 1, sizeof data, f);
    fclose(f);
    printf("%s: %zu bytes\n", path, size);
    fflush(stdout);
    (void)LLVMFuzzerTestOneInput(data, size);
}

static unsigned run_corpus(const char *dir)
{
    DIR *d = opendir(dir);
    if (d == NULL)
        return 0; /* a target without findings has none */
    unsigned count = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') {
            run_file(dir, e->d_name);
            count++;
        }
    closedir(d);
    return count;
}

static uint64_t random_next(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

int main(int argc, char **argv)
{
    unsigned files = argc > 1 ? run_corpus(argv[1]) : 0;
    unsigned inputs = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 5000;
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : UINT64_C(88172645463325252);
    const char *under = getenv("WEFT_TEST_UNDER");
    if (under && under[0] != '\0') /* each costs so much more; libFuzzer tries more under ASan */
        inputs /= strcmp(under, "memcheck") == 0 || strcmp(under, "aarch64") == 0 ? 50 : 10;
    printf("%u files; %u inputs from seed %" PRIu64 "\n", files, inputs, seed);
    fflush(stdout);
    for (unsigned i = 0; i < inputs; i++) {
        uint8_t data[INPUT_MAX];
        /* Mostly short: a long input spends most of its time in states seen before. */
        size_t size = (size_t)(random_next(&seed) % (i % 16 ? 200 : INPUT_MAX));
        for (size_t k = 0; k < size; k++)
            data[k] = (uint8_t)(random_next(&seed) >> 24);
        (void)LLVMFuzzerTestOneInput(data, size);
    }
    return 0;
}
