"""What is compared: the rows, what is near to them, what a library has no such thing for."""
from collections import namedtuple

# fair_n is no multiple of anything, so that rounding shows; up_to: work comes in batches of so many or, if n is less,
# of n; else n is rounded down to a multiple of unit. gib: needs as much memory, and is left out without.
Row = namedtuple('Row', 'name n fair_n unit up_to what gib')


def row(name, n, fair_n, what, unit=1, up_to=None, gib=0):
    return Row(name, n, fair_n, unit, up_to, what, gib)


ROWS = [
    row('spawn_join_seq', 100000, 1237, 'spawn a task, join it, one after another'),
    row('spawn_many', 100000, 12345, 'spawn 10,000 detached tasks, wait until all have ended', up_to=10000),
    row('spawn_many_join', 100000, 12345, 'spawn 10,000 tasks, join each', up_to=10000),
    row('spawn_many_remote', 50000, 12345, 'the same from a thread that is no worker', up_to=10000),
    row('block_on_join', 20000, 1237, 'spawn and join one after another, by the body of block_on'),
    row('chained_spawn', 100000, 2345, 'each task spawns the next one, 1,000 long', up_to=1000),
    row('yield_many', 400000, 1237, '200 tasks yield', unit=200),
    row('ctx_switch', 200000, 1237, 'two tasks yield to each other', unit=2),
    row('ping_pong', 50000, 2345, '1,000 pairs of tasks exchange a oneshot each way', up_to=1000),
    row('join_set', 100000, 1237, 'spawn into a set and join from it, 100 at a time', unit=100),
    row('mpsc_spsc', 500000, 4567, 'bounded channel of 1,024, 1 producer'),
    row('mpsc_4p', 500000, 4567, 'the same, 4 producers', unit=4),
    row('mpsc_rendezvous', 100000, 1237, 'there and back over two channels of capacity 1'),
    row('mutex_uncontended', 1000000, 4567, 'lock and unlock'),
    row('mutex_contended', 500000, 4567, '8 tasks count under a mutex', unit=8),
    row('mutex_yield', 200000, 1237, 'the same with a yield in the section', unit=8),
    row('sem_contended', 500000, 4567, '8 tasks, 1 permit', unit=8),
    row('sem4_contended', 500000, 4567, '8 tasks, 4 permits', unit=8),
    row('select2', 500000, 4567, 'select over two channels', unit=2),
    row('timeout_ready', 200000, 1237, 'a timeout around what is ready'),
    row('timeout_yield', 100000, 1237, 'a timeout around what is pending once'),
    row('spawn_blocking', 5000, 123, 'a job for the blocking pool, there and back'),
    row('spawn_blocking_batch', 20000, 345, '64 of them in flight', unit=64),
    row('timers', 100000, 1237, 'a task that sleeps up to a second: processor time'),
    row('timers_polled', 100000, 1237, 'the same, a task without a stack'),
    row('timers_million', 1000000, 1237, 'a million of them', gib=6),
    row('timers_polled_million', 1000000, 1237, 'a million without stacks', gib=2),
    row('lateness', 2000, 123, 'sleeps of 1 to 100 ms: how late'),
    row('idle_mem', 100000, 1237, 'spawn a task that waits for ever'),
    row('idle_mem_polled', 100000, 1237, 'the same, a task without a stack'),
]
# n is what is measured: not a tenth of it for --quick.
WHOLE = ('timers', 'timers_polled', 'timers_million', 'timers_polled_million', 'lateness', 'idle_mem', 'idle_mem_polled')
# What the programs call a row, if something else: they are told n anyway.
PROGRAM_ROWS = {'timers_million': 'timers', 'timers_polled_million': 'timers_polled'}

# Near things: {row: {peer: its name for it}}.
NEAR = {
    'timeout_yield': {'go': 'timer_yield', 'libuv': 'timer_start_stop'},
    'spawn_blocking': {'go': 'locked_thread', 'libuv': 'work_callback'},
    'spawn_blocking_batch': {'libuv': 'work_callback_batch'},
    'yield_many': {'libuv': 'idle_callback'},
    'timers_polled': {'libuv': 'timer_callbacks'},
    'timers_polled_million': {'libuv': 'timer_callbacks'},
}
NEAR_WHAT = {
    'timer_yield': 'a timer armed, a yield, which it could not end, the timer disarmed',
    'timer_start_stop': 'a timer armed and disarmed, nothing between',
    'locked_thread': 'a job for a goroutine tied to a thread of its own; Go has no pool',
    'work_callback': 'uv_queue_work() and its callback; nobody waits in a task',
    'work_callback_batch': 'the same, 64 in flight',
    'idle_callback': 'a callback each turn of the loop',
    'timer_callbacks': 'a timer whose callback is called; there is no task',
}

# What a library has no such thing for, and why.
ABSENT = {
    'tokio': {},
    'go': {
        'spawn_many_remote': 'every thread of a Go program belongs to the runtime',
        'block_on_join': 'the same; main() is a goroutine, as in spawn_join_seq',
        'join_set': 'no such thing in the standard library',
        'timeout_ready': 'nothing puts a time limit around any wait; one selects on a timer',
        'timeout_yield': 'the same',
        'spawn_blocking': 'no pool: a goroutine may block',
        'spawn_blocking_batch': 'the same',
        'timers_polled': 'a goroutine has a stack',
        'timers_polled_million': 'the same',
        'idle_mem_polled': 'the same',
    },
    'boost': {
        'spawn_many_remote': 'a fiber is made on the thread that runs it',
        'block_on_join': 'main() is a fiber, as in spawn_join_seq',
        'join_set': 'no such thing',
        'sem_contended': 'no semaphore',
        'sem4_contended': 'no semaphore',
        'select2': 'no select',
        'timeout_ready': 'no time limit around any wait; single calls have one of their own',
        'timeout_yield': 'the same',
        'spawn_blocking': 'no pool',
        'spawn_blocking_batch': 'no pool',
        'timers_million': 'its stacks would take 9 to 13 GiB',
        'timers_polled': 'a fiber has a stack',
        'timers_polled_million': 'the same',
        'idle_mem_polled': 'the same',
    },
    'libuv': {r.name: 'callbacks, no tasks' for r in ROWS},
}
LIBUV_THREADS = ('1',)  # a loop is one thread's

CELLS = [(64, 64), (1000, 64), (64, 4096), (1000, 4096)]  # connections, bytes


def has_row(peer, name, threads):
    if peer == 'libuv' and threads not in LIBUV_THREADS:
        return False
    return name not in ABSENT.get(peer, {})


def name_for(peer, name, threads):
    """What the peer calls the row, and whether that is only near; (None, False) where it has nothing."""
    if has_row(peer, name, threads):
        return PROGRAM_ROWS.get(name, name), False
    near = NEAR.get(name, {}).get(peer)
    if near and not (peer == 'libuv' and threads not in LIBUV_THREADS):
        return near, True
    return None, False


def expected_ops(r, n):
    if r.up_to:
        batch = min(n, r.up_to)
        return n // batch * batch
    return n // r.unit * r.unit
