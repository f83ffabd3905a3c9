//! Spawning, joining, switching between tasks, waking, the blocking pool, memory.

use crate::harness::*;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, Notify};
use tokio::task::yield_now;

const BATCH: usize = 10_000; // tasks alive at a time in the spawn_many rows
const DEPTH: usize = 1_000; // length of a chain, and number of pairs in ping_pong
const IN_FLIGHT: usize = 64; // jobs in the blocking pool

/// Spawn a task that does nothing, and join it.
pub async fn spawn_join_seq(n: usize) -> usize {
    let mut sum = 0;
    for i in 0..n {
        sum += tokio::spawn(async move { i }).await.unwrap();
    }
    check_equal(sum, sum_below(n));
    n
}

/// The last of so many steps signals.
struct Countdown {
    left: AtomicUsize,
    done: Mutex<Option<oneshot::Sender<()>>>,
}

impl Countdown {
    fn new(count: usize) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (tx, rx) = oneshot::channel();
        let done = Mutex::new(Some(tx));
        let left = AtomicUsize::new(count);
        (Arc::new(Countdown { left, done }), rx)
    }
    fn step(&self) {
        if self.left.fetch_sub(1, AcqRel) == 1 {
            let _ = self.done.lock().unwrap().take().unwrap().send(());
        }
    }
}

/// Detached tasks from one task; the last to end signals.
pub async fn spawn_many(n: usize) -> usize {
    let batch = n.min(BATCH);
    let rounds = n / batch;
    for _ in 0..rounds {
        let (countdown, done) = Countdown::new(batch);
        for _ in 0..batch {
            let countdown = countdown.clone();
            tokio::spawn(async move { countdown.step() });
        }
        done.await.unwrap();
        check_equal(countdown.left.load(Relaxed), 0);
    }
    rounds * batch
}

/// Many from one task, which keeps the handles and joins them all.
pub async fn spawn_many_join(n: usize) -> usize {
    let batch = n.min(BATCH);
    let rounds = n / batch;
    let mut tasks = Vec::with_capacity(batch);
    let mut sum = 0;
    for _ in 0..rounds {
        for i in 0..batch {
            tasks.push(tokio::spawn(async move { i }));
        }
        for task in tasks.drain(..) {
            sum += task.await.unwrap();
        }
    }
    check_equal(sum, rounds * sum_below(batch));
    rounds * batch
}

/// Spawned from a thread that is no worker.
pub fn spawn_many_remote(row: &str, threads: &str, n: usize) {
    let rt = runtime(threads);
    let batch = n.min(BATCH);
    let rounds = n / batch;
    let mut tasks = Vec::with_capacity(batch);
    repeat(row, threads, n, || {
        let start = Instant::now();
        for _ in 0..rounds {
            for i in 0..batch {
                tasks.push(rt.spawn(async move { i }));
            }
            let sum = rt.block_on(async {
                let mut sum = 0;
                for task in tasks.drain(..) {
                    sum += task.await.unwrap();
                }
                sum
            });
            check_equal(sum, sum_below(batch));
        }
        (rounds * batch, since_ns(start))
    });
}

/// Spawned and awaited by the body of block_on(), which runs on the thread that called it.
pub fn block_on_join(row: &str, threads: &str, n: usize) {
    let rt = runtime(threads);
    repeat(row, threads, n, || {
        let start = Instant::now();
        let ops = rt.block_on(spawn_join_seq(n));
        (ops, since_ns(start))
    });
}

fn chain(done: oneshot::Sender<usize>, left: usize, depth: usize) {
    if left == 0 {
        done.send(depth).unwrap();
    } else {
        tokio::spawn(async move { chain(done, left - 1, depth + 1) });
    }
}

/// Each task spawns the next one and ends.
pub async fn chained_spawn(n: usize) -> usize {
    let depth = n.min(DEPTH);
    let rounds = n / depth;
    for _ in 0..rounds {
        let (tx, rx) = oneshot::channel();
        chain(tx, depth, 0);
        check_equal(rx.await.unwrap(), depth);
    }
    rounds * depth
}

/// So many tasks that yield.
pub async fn yields(n: usize, count: usize) -> usize {
    let each = n / count;
    let mut tasks = Vec::with_capacity(count);
    for _ in 0..count {
        tasks.push(tokio::spawn(async move {
            let mut yielded = 0;
            while yielded < each {
                yield_now().await;
                yielded += 1;
            }
            yielded
        }));
    }
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    check_equal(sum, each * count);
    each * count
}

/// Spawns a partner, sends to it, waits for its answer.
async fn ask(countdown: Arc<Countdown>) {
    let (there_tx, there_rx) = oneshot::channel::<()>();
    let (back_tx, back_rx) = oneshot::channel::<()>();
    tokio::spawn(async move {
        there_rx.await.unwrap();
        back_tx.send(()).unwrap();
    });
    there_tx.send(()).unwrap();
    back_rx.await.unwrap();
    countdown.step();
}

/// Pairs of tasks that exchange a oneshot each way.
pub async fn ping_pong(n: usize) -> usize {
    let pairs = n.min(DEPTH);
    let rounds = n / pairs;
    for _ in 0..rounds {
        let (countdown, done) = Countdown::new(pairs);
        let asking = countdown.clone();
        tokio::spawn(async move {
            for _ in 0..pairs {
                tokio::spawn(ask(asking.clone()));
            }
        });
        done.await.unwrap();
        check_equal(countdown.left.load(Relaxed), 0);
    }
    rounds * pairs
}

/// Spawns into a set and joins from it, 100 at a time.
pub async fn join_set(n: usize) -> usize {
    let mut set = tokio::task::JoinSet::new();
    let mut sum = 0;
    for _ in 0..n / 100 {
        for i in 0..100 {
            set.spawn(async move { i });
        }
        for _ in 0..100 {
            sum += set.join_next().await.unwrap().unwrap();
        }
    }
    check_equal(sum, n / 100 * sum_below(100));
    n / 100 * 100
}

/// One job at a time, there and back.
pub async fn spawn_blocking(n: usize) -> usize {
    let mut sum = 0;
    for i in 0..n {
        sum += tokio::task::spawn_blocking(move || i).await.unwrap();
    }
    check_equal(sum, sum_below(n));
    n
}

/// Many in flight.
pub async fn spawn_blocking_batch(n: usize) -> usize {
    let rounds = n / IN_FLIGHT;
    let mut jobs = Vec::with_capacity(IN_FLIGHT);
    let mut sum = 0;
    for _ in 0..rounds {
        for i in 0..IN_FLIGHT {
            jobs.push(tokio::task::spawn_blocking(move || i));
        }
        for job in jobs.drain(..) {
            sum += job.await.unwrap();
        }
    }
    check_equal(sum, rounds * sum_below(IN_FLIGHT));
    rounds * IN_FLIGHT
}

/// n tasks that wait: their memory.
pub fn idle_mem(row: &str, threads: &str, n: usize) {
    let rt = runtime(threads);
    rt.block_on(rt.spawn(async {})).unwrap();
    let cpu = cpu_ns();
    let spawning = rt.spawn(async move {
        let parked = Arc::new(AtomicUsize::new(0));
        let never = Arc::new(Notify::new());
        let (rss, start) = (status_bytes("VmRSS"), Instant::now());
        for _ in 0..n {
            let (parked, never) = (parked.clone(), never.clone());
            tokio::spawn(async move {
                parked.fetch_add(1, Relaxed);
                never.notified().await;
            });
        }
        let spawn_ns = since_ns(start) / n as f64;
        while parked.load(Relaxed) < n {
            yield_now().await;
        }
        let parked_ns = since_ns(start) / n as f64;
        tokio::time::sleep(Duration::from_millis(50)).await;
        check_equal(parked.load(Relaxed), n);
        let rss = (status_bytes("VmRSS") - rss) / n as f64;
        (rss, spawn_ns, parked_ns)
    });
    let (rss, spawn_ns, parked_ns) = rt.block_on(spawning).unwrap();
    let cpu = (cpu_ns() - cpu) / n as f64;
    let start = Instant::now();
    drop(rt);
    let extra = format!(
        "rss_bytes_per_task={rss:.1} spawn_ns={spawn_ns:.1} cpu_ns={cpu:.1} shutdown_ns={:.1}",
        since_ns(start) / n as f64
    );
    report(row, threads, n, n, vec![parked_ns], &extra);
}
