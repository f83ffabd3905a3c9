//! An echo server, a task a connection.

use crate::harness::runtime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn echo(mut conn: TcpStream) {
    let mut buf = vec![0u8; 16384];
    while let Ok(k) = conn.read(&mut buf).await {
        if k == 0 || conn.write_all(&buf[..k]).await.is_err() {
            break;
        }
    }
}

pub fn serve(threads: &str, port: u16) {
    let rt = runtime(threads);
    // In a task: the thread of block_on() is no worker.
    let accepting = rt.spawn(async move {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        loop {
            let (conn, _) = listener.accept().await.unwrap();
            conn.set_nodelay(true).unwrap();
            tokio::spawn(echo(conn));
        }
    });
    rt.block_on(accepting).unwrap()
}
