//! Channels, mutex, semaphore, select.

use crate::harness::*;
use std::sync::Arc;
use tokio::sync::mpsc::{channel, Receiver, Sender};
use tokio::sync::{Mutex, Semaphore};

const TASKS: usize = 8; // that want a mutex or a semaphore

async fn produce(tx: Sender<u64>, count: usize) {
    for i in 0..count {
        tx.send(i as u64).await.unwrap();
    }
}

/// One receiver, and so many senders, over a channel of 1,024.
pub async fn mpsc(n: usize, producers: usize) -> usize {
    let (tx, mut rx) = channel::<u64>(1024);
    let each = n / producers;
    for _ in 0..producers {
        tokio::spawn(produce(tx.clone(), each));
    }
    drop(tx);
    let consuming = tokio::spawn(async move {
        let mut sum = 0;
        while let Some(v) = rx.recv().await {
            sum += v as usize + 1; // counts them, too
        }
        sum
    });
    check_equal(consuming.await.unwrap(), producers * sum_below(each + 1));
    each * producers
}

async fn ask(tx: Sender<u64>, mut rx: Receiver<u64>, count: usize) {
    let mut sum = 0;
    for i in 0..count {
        tx.send(i as u64).await.unwrap();
        sum += rx.recv().await.unwrap() as usize;
    }
    check_equal(sum, sum_below(count));
}

async fn answer(tx: Sender<u64>, mut rx: Receiver<u64>) {
    while let Some(v) = rx.recv().await {
        if tx.send(v).await.is_err() {
            break;
        }
    }
}

/// Round trips of two tasks over two channels of capacity 1.
pub async fn mpsc_rendezvous(n: usize) -> usize {
    let (there_tx, there_rx) = channel(1);
    let (back_tx, back_rx) = channel(1);
    let asking = tokio::spawn(ask(there_tx, back_rx, n));
    let answering = tokio::spawn(answer(back_tx, there_rx));
    asking.await.unwrap();
    answering.await.unwrap();
    n
}

pub async fn mutex_uncontended(n: usize) -> usize {
    let count = Mutex::new(0);
    for _ in 0..n {
        *count.lock().await += 1;
    }
    check_equal(count.into_inner(), n);
    n
}

/// A counter under a mutex; with a yield inside the section, so that the others queue.
pub async fn mutex(n: usize, yields: bool) -> usize {
    let each = n / TASKS;
    let count = Arc::new(Mutex::new(0));
    let mut tasks = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        let count = count.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..each {
                let mut count = count.lock().await;
                *count += 1;
                if yields {
                    tokio::task::yield_now().await;
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    check_equal(*count.lock().await, each * TASKS);
    each * TASKS
}

pub async fn semaphore(n: usize, permits: usize) -> usize {
    let each = n / TASKS;
    let semaphore = Arc::new(Semaphore::new(permits));
    let mut tasks = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        let semaphore = semaphore.clone();
        tasks.push(tokio::spawn(async move {
            let mut acquired = 0;
            while acquired < each {
                drop(semaphore.acquire().await.unwrap());
                acquired += 1;
            }
            acquired
        }));
    }
    let mut acquired = 0;
    for task in tasks {
        acquired += task.await.unwrap();
    }
    check_equal(acquired, each * TASKS);
    check_equal(semaphore.available_permits(), permits);
    each * TASKS
}

/// Two tasks send n/2 messages each through channels of 1,024, a third selects from both.
pub async fn select2(n: usize) -> usize {
    let (tx1, mut rx1) = channel::<u64>(1024);
    let (tx2, mut rx2) = channel::<u64>(1024);
    tokio::spawn(produce(tx1, n / 2));
    tokio::spawn(produce(tx2, n / 2));
    let receiving = tokio::spawn(async move {
        let mut sum = 0;
        loop {
            tokio::select! {
                Some(v) = rx1.recv() => sum += v as usize + 1, // counts them, too
                Some(v) = rx2.recv() => sum += v as usize + 1,
                else => break,
            }
        }
        sum
    });
    check_equal(receiving.await.unwrap(), 2 * sum_below(n / 2 + 1));
    n / 2 * 2
}
