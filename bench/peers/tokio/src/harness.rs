//! Clocks, the check of a result, the repetition and the line of a row, as weft-bench has them.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

#[repr(C)]
struct Timespec {
    sec: i64,
    nsec: i64,
}

extern "C" {
    fn clock_gettime(id: i32, ts: *mut Timespec) -> i32;
}

const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;

pub fn cpu_ns() -> f64 {
    let mut t = Timespec { sec: 0, nsec: 0 };
    unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    t.sec as f64 * 1e9 + t.nsec as f64
}

pub fn since_ns(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64
}

/// A value of /proc/self/status in bytes.
pub fn status_bytes(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(key)).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024.0
}

/// xorshift64, the same numbers as in weft-bench.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Random(0x9E3779B97F4A7C15)
    }
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % end
    }
}

/// By how much results are taken to be: BENCH_WRONG shows that a row checks its result.
static WRONG: AtomicU64 = AtomicU64::new(0);

pub fn init() {
    WRONG.store(std::env::var("BENCH_WRONG").is_ok() as u64, Relaxed);
}

pub fn check_equal(is: usize, must_be: usize) {
    let must_be = must_be as u64 + WRONG.load(Relaxed);
    if is as u64 != must_be {
        eprintln!("wrong result: {} instead of {}", is, must_be);
        std::process::exit(1);
    }
}

/// 0 + 1 + ... + (n - 1)
pub fn sum_below(n: usize) -> usize {
    n * n.wrapping_sub(1) / 2
}

/// "ct" (current_thread), or a number of workers.
pub fn runtime(threads: &str) -> Runtime {
    let mut builder = match threads {
        "ct" => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads != "ct" {
        builder.worker_threads(threads.parse().expect("threads: ct or a number"));
    }
    builder.enable_all().build().unwrap()
}

pub fn reps() -> usize {
    let reps = std::env::var("REPS").ok().and_then(|s| s.parse().ok());
    reps.unwrap_or(7).clamp(1, 99)
}

pub fn report(row: &str, threads: &str, n: usize, ops: usize, mut v: Vec<f64>, extra: &str) {
    v.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let (median, min, max) = (v[v.len() / 2], v[0], v[v.len() - 1]);
    println!("{row} tokio {threads} {n} {median:.1} {min:.1} {max:.1} ops={ops} {extra}");
}

/// One warm-up and REPS repetitions of `once`, which returns operations done and their time.
pub fn repeat(row: &str, threads: &str, n: usize, mut once: impl FnMut() -> (usize, f64)) {
    let (mut v, mut cpu, mut wall) = (vec![], 0.0, Instant::now());
    let (mut ops, _) = once();
    for rep in 0..reps() {
        if rep == 0 {
            cpu = cpu_ns();
            wall = Instant::now();
        }
        let (done, ns) = once();
        ops = done;
        v.push(ns / ops as f64);
    }
    assert!(ops > 0);
    let (cpu, wall) = (cpu_ns() - cpu, since_ns(wall));
    let cpu_per_op = cpu / ops as f64 / reps() as f64;
    let extra = format!("cpu_ns={:.1} cores={:.2}", cpu_per_op, cpu / wall);
    report(row, threads, n, ops, v, &extra);
}

/// `body` runs in a task, on a worker, and returns how many operations it did.
pub fn run<F, Fut>(row: &str, threads: &str, n: usize, body: F)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = usize> + Send + 'static,
{
    let rt = runtime(threads);
    repeat(row, threads, n, || {
        let body = body(n);
        let task = rt.spawn(async move {
            let start = Instant::now();
            let ops = body.await;
            (ops, since_ns(start))
        });
        rt.block_on(task).unwrap()
    });
}

pub fn micros(us: u64) -> Duration {
    Duration::from_micros(us)
}
