//! The rows of weft-bench on Tokio: the same work, in the words of Tokio.
//!
//!     tokio-bench <row> <threads> <n>       threads: workers, or ct (current_thread)
//!     tokio-bench tcp_echo <threads> <port>
//!
//! A task of Tokio is a future without a stack, so the rows timers and idle_mem are those of polled
//! tasks, too.

mod harness;
mod rows_sync;
mod rows_task;
mod rows_time;
mod tcp_echo;

use harness::run;

fn main() {
    harness::init();
    let args: Vec<String> = std::env::args().collect();
    let n = args
        .get(3)
        .and_then(|n| n.parse::<usize>().ok())
        .unwrap_or(0);
    if args.len() != 4 || n == 0 {
        eprintln!("usage: tokio-bench <row> <threads>|ct <n>");
        std::process::exit(2);
    }
    let (row, th) = (args[1].as_str(), args[2].as_str());
    match row {
        "spawn_join_seq" => run(row, th, n, rows_task::spawn_join_seq),
        "spawn_many" => run(row, th, n, rows_task::spawn_many),
        "spawn_many_join" => run(row, th, n, rows_task::spawn_many_join),
        "spawn_many_remote" => rows_task::spawn_many_remote(row, th, n),
        "block_on_join" => rows_task::block_on_join(row, th, n),
        "chained_spawn" => run(row, th, n, rows_task::chained_spawn),
        "yield_many" => run(row, th, n, |n| rows_task::yields(n, 200)),
        "ctx_switch" => run(row, th, n, |n| rows_task::yields(n, 2)),
        "ping_pong" => run(row, th, n, rows_task::ping_pong),
        "join_set" => run(row, th, n, rows_task::join_set),
        "spawn_blocking" => run(row, th, n, rows_task::spawn_blocking),
        "spawn_blocking_batch" => run(row, th, n, rows_task::spawn_blocking_batch),
        "idle_mem" | "idle_mem_polled" => rows_task::idle_mem(row, th, n),
        "mpsc_spsc" => run(row, th, n, |n| rows_sync::mpsc(n, 1)),
        "mpsc_4p" => run(row, th, n, |n| rows_sync::mpsc(n, 4)),
        "mpsc_rendezvous" => run(row, th, n, rows_sync::mpsc_rendezvous),
        "mutex_uncontended" => run(row, th, n, rows_sync::mutex_uncontended),
        "mutex_contended" => run(row, th, n, |n| rows_sync::mutex(n, false)),
        "mutex_yield" => run(row, th, n, |n| rows_sync::mutex(n, true)),
        "sem_contended" => run(row, th, n, |n| rows_sync::semaphore(n, 1)),
        "sem4_contended" => run(row, th, n, |n| rows_sync::semaphore(n, 4)),
        "select2" => run(row, th, n, rows_sync::select2),
        "timeout_ready" => run(row, th, n, rows_time::timeout_ready),
        "timeout_yield" => run(row, th, n, rows_time::timeout_yield),
        "timers" | "timers_polled" => rows_time::timers(row, th, n),
        "lateness" => rows_time::lateness(row, th, n),
        "tcp_echo" => tcp_echo::serve(th, n as u16),
        _ => {
            eprintln!("there is no row '{row}' for tokio");
            std::process::exit(3);
        }
    }
}
