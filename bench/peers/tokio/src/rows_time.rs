//! Timeouts, sleeping, how late timers fire.

use crate::harness::*;
use std::time::{Duration, Instant};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

const FIVE_SECONDS: Duration = Duration::from_secs(5);

/// Around a future that is ready: no timer is armed.
pub async fn timeout_ready(n: usize) -> usize {
    let mut count = 0;
    for _ in 0..n {
        count += timeout(FIVE_SECONDS, async { 1 }).await.unwrap();
    }
    check_equal(count, n);
    n
}

/// Around a future that is pending once: its timer is armed and disarmed.
pub async fn timeout_yield(n: usize) -> usize {
    let mut count = 0;
    for _ in 0..n {
        timeout(FIVE_SECONDS, yield_now()).await.unwrap();
        count += 1;
    }
    check_equal(count, n);
    n
}

/// n tasks that sleep up to a second.
pub fn timers(row: &str, threads: &str, n: usize) {
    let rt = runtime(threads);
    let (cpu, wall) = (cpu_ns(), Instant::now());
    let spawning = rt.spawn(async move {
        let mut random = Random::new();
        let mut tasks = Vec::with_capacity(n);
        let start = Instant::now();
        for _ in 0..n {
            let duration = micros(random.below(1_000_000));
            tasks.push(tokio::spawn(async move { sleep(duration).await }));
        }
        let spawn_ns = since_ns(start) / n as f64;
        let mut woken = 0;
        for task in tasks {
            task.await.unwrap();
            woken += 1;
        }
        check_equal(woken, n);
        spawn_ns
    });
    let spawn_ns = rt.block_on(spawning).unwrap();
    let wall_ms = since_ns(wall) / 1e6;
    let cpu = (cpu_ns() - cpu) / n as f64;
    let hwm = status_bytes("VmHWM") / n as f64;
    let extra = format!(
        "cpu_ns={cpu:.1} wall_ms={wall_ms:.1} spawn_ns={spawn_ns:.1} hwm_bytes_per_task={hwm:.1}"
    );
    report(row, threads, n, n, vec![cpu], &extra);
}

/// n tasks that sleep 1 to 100 ms: how late do they wake?
pub fn lateness(row: &str, threads: &str, n: usize) {
    let rt = runtime(threads);
    let spawning = rt.spawn(async move {
        let mut random = Random::new();
        let mut tasks = Vec::with_capacity(n);
        for _ in 0..n {
            let duration = micros(1000 + random.below(99_000));
            tasks.push(tokio::spawn(async move {
                let start = Instant::now();
                sleep(duration).await;
                since_ns(start) - duration.as_nanos() as f64
            }));
        }
        let mut late = Vec::with_capacity(n);
        for task in tasks {
            late.push(task.await.unwrap());
        }
        late
    });
    let mut late = rt.block_on(spawning).unwrap();
    check_equal(late.iter().filter(|&&ns| ns >= 0.0).count(), n);
    late.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let extra = format!(
        "p50_us={:.1} p99_us={:.1} max_us={:.1}",
        late[n / 2] / 1e3,
        late[n * 99 / 100] / 1e3,
        late[n - 1] / 1e3
    );
    let v = vec![late[0], late[n / 2], late[n - 1]];
    report(row, threads, n, n, v, &extra);
}
