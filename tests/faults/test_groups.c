/* Groups of tasks, and what tasks talk through, while calls fail: what is allocated when they are
 * made, and when they grow. */
#include "scene.h"

#include <weft/arc.h>
#include <weft/broadcast.h>
#include <weft/cancel.h>
#include <weft/delay_queue.h>
#include <weft/iter.h>
#include <weft/join_map.h>
#include <weft/join_queue.h>
#include <weft/join_set.h>
#include <weft/local.h>
#include <weft/mpsc.h>
#include <weft/oneshot.h>
#include <weft/queue.h>
#include <weft/task_local.h>
#include <weft/task_tracker.h>
#include <weft/watch.h>

#include <errno.h>
#include <stdatomic.h>

/* ---- groups ---- */

#define MEMBERS 12

static void *end_soon(void *arg)
{
    (void)weft_yield(); /* aborted or not it ends next */
    return arg;
}

/* Every fourth one ends only when it is aborted. */
static weft_task_fn member(int i)
{
    return i % 4 ? end_soon : test_forever;
}

static void take(int rc, weft_outcome *o)
{
    if (CAME(rc, 0))
        weft_outcome_fini(o);
}

static void in_a_set(void)
{
    weft_join_set *set;
    weft_abort_handle *abort;
    weft_outcome o;
    size_t n = 0;
    if (!CAME(weft_join_set_create(&set), 0))
        return;
    for (int i = 0; i < MEMBERS; i++) {
        if (!CAME(weft_join_set_spawn(set, member(i), NULL, &abort), 0))
            continue;
        weft_abort_handle_unref(abort);
        n++;
    }
    EXPECT_EQ(weft_join_set_len(set), n);
    for (size_t i = 0; i < n / 2; i++)
        take(weft_join_set_join_next(set, &o), &o);
    EXPECT_EQ(weft_join_set_len(set), n - n / 2);
    weft_join_set_destroy(set);
}

static atomic_int keys;

static void drop_key(void *key)
{
    (void)key;
    atomic_fetch_sub(&keys, 1);
}

static void in_a_map(void)
{
    const weft_join_map_options o = {.key_bytes = sizeof(int), .drop_key = drop_key};
    weft_join_map *map;
    atomic_store(&keys, 0);
    if (!CAME(weft_join_map_create(&o, &map), 0))
        return;
    for (int i = 0; i < 3 * MEMBERS; i++) {
        int key = i % (2 * MEMBERS); /* some are replaced */
        if (CAME(weft_join_map_spawn(map, &key, member(i), NULL, NULL), 0))
            atomic_fetch_add(&keys, 1);
    }
    EXPECT_EQ(weft_join_map_len(map), atomic_load(&keys));
    weft_join_map_destroy(map);
    EXPECT_EQ(atomic_load(&keys), 0);
}

static void in_a_queue(void)
{
    weft_join_queue *queue;
    weft_outcome o;
    size_t n = 0;
    if (!CAME(weft_join_queue_create(&queue), 0))
        return;
    for (int i = 0; i < 2 * MEMBERS; i++)
        n += CAME(weft_join_queue_spawn(queue, end_soon, NULL, NULL), 0);
    for (size_t i = 0; i < n / 2; i++)
        take(weft_join_queue_join_next(queue, &o), &o);
    weft_join_queue_destroy(queue);
}

static void on_a_tracker(void)
{
    weft_task_tracker *t;
    if (!CAME(weft_task_tracker_create(&t), 0))
        return;
    for (int i = 0; i < MEMBERS; i++)
        (void)CAME(weft_task_tracker_spawn(t, end_soon, NULL, NULL), 0);
    (void)weft_task_tracker_close(t);
    (void)CAME(weft_task_tracker_wait(t), 0);
    EXPECT_EQ(weft_task_tracker_len(t), 0);
    weft_task_tracker_unref(t);
}

static void *group_tasks(void *arg)
{
    in_a_set();
    in_a_map();
    in_a_queue();
    on_a_tracker();
    return arg;
}

static void groups(enum test_flavour flavour)
{
    scene_in_runtime(flavour, group_tasks, NULL);
}
SCENE(groups)

/* ---- local sets ---- */

static void *spawn_beside(void *arg)
{
    weft_task *t[MEMBERS];
    int n = 0;
    for (int i = 0; i < MEMBERS; i++)
        n += CAME(weft_spawn_local(end_soon, NULL, &t[n]), 0);
    for (int i = 0; i < n; i++)
        scene_join(t[i]);
    /* The set aborts it. */
    (void)CAME(weft_spawn_local(test_forever, NULL, NULL), 0);
    return arg;
}

static void *drive_a_set(void *arg)
{
    WEFT_PINNED {
        weft_local_set *set;
        weft_outcome o;
        if (!CAME(weft_local_set_create(NULL, &set), 0))
            break;
        if (CAME(weft_local_set_run_until(set, spawn_beside, NULL, &o), 0))
            weft_outcome_fini(&o);
        EXPECT_EQ(weft_local_set_destroy(set), 0);
    }
    return arg;
}

static void local_sets(enum test_flavour flavour)
{
    scene_in_runtime(flavour, drive_a_set, NULL);
}
SCENE(local_sets)

/* ---- channels: each value is received or dropped, once ---- */

static atomic_int values;

static void drop_value(void *value)
{
    (void)value;
    atomic_fetch_sub(&values, 1);
}

static int copy_value(void *to, const void *from)
{
    *(int *)to = *(const int *)from;
    atomic_fetch_add(&values, 1);
    return 0;
}

/* A value was made, and sent with this result. */
static bool sent(int rc)
{
    bool is_sent = CAME(rc, 0);
    atomic_fetch_add(&values, is_sent);
    return is_sent;
}

static void received(int rc)
{
    if (CAME(rc, 0))
        drop_value(NULL);
}

static void through_mpsc(size_t capacity)
{
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    int v = 0, n = 0;
    int rc = capacity ? weft_mpsc_create(sizeof v, capacity, drop_value, &tx, &rx)
                      : weft_mpsc_create_unbounded(sizeof v, drop_value, &tx, &rx);
    if (!CAME(rc, 0))
        return;
    for (int i = 0; i < 100; i++)
        n += sent(weft_mpsc_send(tx, &v));
    for (int i = 0; i < n / 2; i++)
        received(weft_mpsc_recv(rx, &v));
    weft_mpsc_sender_unref(tx);
    weft_mpsc_receiver_unref(rx);
}

static void through_a_queue(size_t capacity)
{
    const weft_queue_options o = {capacity, sizeof(int), drop_value};
    weft_queue *q;
    int v = 0, n = 0;
    if (!CAME(weft_queue_create(&o, &q), 0))
        return;
    for (int i = 0; i < 100; i++)
        n += sent(weft_queue_send(q, &v));
    for (int i = 0; i < n / 2; i++)
        received(weft_queue_recv(q, &v));
    weft_queue_unref(q);
}

static void through_oneshot(void)
{
    weft_oneshot_sender *tx;
    weft_oneshot_receiver *rx;
    int v = 0;
    if (!CAME(weft_oneshot_create(sizeof v, drop_value, &tx, &rx), 0))
        return;
    if (sent(weft_oneshot_send(tx, &v)))
        received(weft_oneshot_recv(rx, &v));
    weft_oneshot_receiver_destroy(rx);
}

static void through_broadcast(void)
{
    const weft_broadcast_options o = {16, sizeof(int), copy_value, drop_value};
    weft_broadcast_sender *tx;
    weft_broadcast_receiver *rx, *late;
    int v = 0;
    if (!CAME(weft_broadcast_create(&o, &tx, &rx), 0))
        return;
    bool has_late = CAME(weft_broadcast_subscribe(tx, &late), 0);
    for (int i = 0; i < 8; i++) {
        int rc = weft_broadcast_send(tx, &v);
        (void)sent(rc < 0 ? rc : 0);
    }
    for (int i = 0; i < 4; i++)
        received(weft_broadcast_recv(rx, &v, NULL));
    weft_broadcast_sender_unref(tx);
    weft_broadcast_receiver_destroy(rx);
    if (has_late)
        weft_broadcast_receiver_destroy(late);
}

static void through_watch(void)
{
    const weft_watch_options o = {sizeof(int), copy_value, drop_value};
    weft_watch_sender *tx;
    weft_watch_receiver *rx, *other;
    int v = 0;
    if (!sent(weft_watch_create(&o, &v, &tx, &rx)))
        return;
    (void)sent(weft_watch_send(tx, &v));
    if (CAME(weft_watch_receiver_clone(rx, &other), 0))
        weft_watch_receiver_destroy(other);
    received(weft_watch_get(rx, &v));
    weft_watch_sender_unref(tx);
    weft_watch_receiver_destroy(rx);
}

static void through_delays(void)
{
    weft_delay_queue *q;
    int v = 0, n = 0;
    if (!CAME(weft_delay_queue_create(sizeof v, drop_value, &q), 0))
        return;
    for (int i = 0; i < 100; i++)
        n += sent(weft_delay_queue_insert(q, &v, i % 2 ? 0 : WEFT_SEC, NULL));
    (void)CAME(weft_delay_queue_compact(q), 0);
    for (int i = 0; i < n / 4; i++)
        received(weft_delay_queue_next(q, &v, NULL));
    weft_delay_queue_unref(q);
}

static void *channel_all(void *arg)
{
    through_mpsc(100);
    through_mpsc(0);
    through_a_queue(100);
    through_a_queue(WEFT_QUEUE_UNBOUNDED);
    through_oneshot();
    through_broadcast();
    through_watch();
    through_delays();
    return arg;
}

static void channels(enum test_flavour flavour)
{
    atomic_store(&values, 0);
    scene_in_runtime(flavour, channel_all, NULL);
    EXPECT_EQ(atomic_load(&values), 0);
}
SCENE(channels)

/* ---- the rest: tokens, boxes, locals, iterators ---- */

static void *wait_in_scope(void *arg)
{
    WEFT_CANCEL_SCOPE(arg)
        (void)CAME(weft_sleep(WEFT_NEVER), -ECANCELED);
    return NULL;
}

static void cancel_a_tree(void)
{
    weft_cancel_token *root, *child;
    weft_task *t;
    if (!CAME(weft_cancel_token_create(&root), 0))
        return;
    if (CAME(weft_cancel_token_child(root, &child), 0)) {
        bool is_there = CAME(weft_spawn(wait_in_scope, child, &t), 0);
        weft_cancel_token_cancel(root);
        if (is_there)
            scene_join(t);
        weft_cancel_token_unref(child);
    }
    weft_cancel_token_unref(root);
}

static const weft_task_local box_key = {
    .name = "box",
    .inherit = WEFT_INHERIT_COPY,
    .copy = weft_arc_ref,
    .drop = weft_arc_unref,
};

static void *has_the_box(void *arg)
{
    void *value;
    EXPECT(weft_task_local_try_get(&box_key, &value) == 0 && value == arg);
    return NULL;
}

static void inherit_a_box(void)
{
    void *box = weft_arc_create(sizeof(int), drop_value);
    weft_task *t;
    if (!sent(box ? 0 : -ENOMEM))
        return;
    weft_arc_weak *weak = weft_arc_downgrade(box);
    WEFT_TASK_LOCAL(&box_key, box)
        if (CAME(weft_spawn(has_the_box, box, &t), 0))
            scene_join(t);
    weft_arc_unref(box);
    EXPECT(weft_arc_upgrade(weak) == NULL);
    weft_arc_weak_unref(weak);
}

static int emit_some(weft_iter_out *out, void *arg)
{
    int rc = 0;
    (void)arg;
    for (int i = 0; rc == 0 && i < 10; i++) {
        rc = weft_iter_emit(out, &i);
        atomic_fetch_add(&values, rc == 0);
    }
    return rc;
}

static void iterate(void)
{
    weft_iter *it = weft_iter_generate(sizeof(int), drop_value, emit_some, NULL);
    int v;
    if (!CAME(it ? 0 : -ENOMEM, 0))
        return;
    for (int i = 0; i < 5; i++) {
        int rc = weft_iter_next(it, &v);
        if (!CAME(rc < 0 ? rc : 0, 0) || rc == 0)
            break;
        drop_value(&v);
    }
    weft_iter_destroy(it);
}

static void *use_the_rest(void *arg)
{
    cancel_a_tree();
    inherit_a_box();
    iterate();
    return arg;
}

static void the_rest(enum test_flavour flavour)
{
    atomic_store(&values, 0);
    scene_in_runtime(flavour, use_the_rest, NULL);
    EXPECT_EQ(atomic_load(&values), 0);
}
SCENE(the_rest)

SCENE_MAIN(SCENE_TESTS(groups), SCENE_TESTS(local_sets), SCENE_TESTS(channels),
           SCENE_TESTS(the_rest))
