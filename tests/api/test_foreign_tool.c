/* ctest: parallel not-under=address,thread (they define what is defined here) */
/* A program under ThreadSanitizer with a weft that was built without: it is told so, once. */
#include "harness.h"

/* What the tool's run-time defines. */
void __tsan_init(void);
void __tsan_init(void)
{
}

static void it_is_named_once(struct test_env *env)
{
    (void)env;
    weft_runtime *rt = test_runtime_create(TEST_CT);
    EXPECT_LOGGED("ThreadSanitizer");
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    rt = test_runtime_create(TEST_MT1);
    EXPECT_EQ(test_log_count("Sanitizer"), 0);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

TEST_MAIN(PLAIN(it_is_named_once))
