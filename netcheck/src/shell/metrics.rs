//! `/metrics` over HTTP, for Prometheus: the last result, to whoever asks. No client waits for another, and none stays.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::AbortHandle;

/// A client has so long for its request and for the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at the same time; when there is one more, the oldest is closed.
const CONNECTIONS: usize = 16;
/// The head of a request is not longer.
const HEAD: usize = 8192;

/// The text that is served.
type Metrics = Arc<Mutex<String>>;

/// Serves from a thread of its own.
pub(crate) fn serve(address: SocketAddr, metrics: Metrics) -> io::Result<()> {
    let listener = std::net::TcpListener::bind(address)?;
    start(listener, metrics, PATIENCE)
}

fn start(listener: std::net::TcpListener, metrics: Metrics, patience: Duration) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener)?
    };
    std::thread::Builder::new().name("metrics".to_owned()).spawn(move || runtime.block_on(accept(&listener, &metrics, patience)))?;
    Ok(())
}

async fn accept(listener: &TcpListener, metrics: &Metrics, patience: Duration) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // There are no more descriptors, and there will be.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let metrics = Arc::clone(metrics);
        // A client that went away, or is too slow, is not an error.
        open.push_back(tokio::spawn(async move { drop(tokio::time::timeout(patience, answer(stream, &metrics)).await) }).abort_handle());
    }
}

async fn answer(mut stream: TcpStream, metrics: &Metrics) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = HEAD.saturating_sub(head.len());
        if left == 0 || stream.read_buf(&mut (&mut head).limit(left)).await? == 0 {
            break;
        }
    }
    let known = head.starts_with(b"GET /metrics ") || head.starts_with(b"GET /metrics?");
    let body = if known { metrics.lock().unwrap_or_else(PoisonError::into_inner).clone() } else { String::new() };
    let status = if known { "200 OK" } else { "404 Not Found" };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    const FOREVER: Duration = Duration::from_hours(1);

    fn server(patience: Duration) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        start(listener, Arc::new(Mutex::new("netcheck_pairs 7\n".to_owned())), patience).unwrap();
        address
    }

    fn sent(address: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn answered(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        // Closed or reset, it has ended.
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn metrics_are_served_and_nothing_else() {
        let address = server(FOREVER);
        let cases = [("GET /metrics", "200 OK"), ("GET /metrics?a=b", "200 OK"), ("GET /", "404 Not Found"), ("POST /metrics", "404 Not Found")];
        for (request, status) in cases {
            let answer = answered(sent(address, &format!("{request} HTTP/1.1\r\nhost: a\r\n\r\n")));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {answer}");
            assert_eq!(answer.ends_with("\r\n\r\nnetcheck_pairs 7\n"), status == "200 OK", "{request}: {answer}");
        }
        let endless = answered(sent(address, &"a".repeat(HEAD)));
        assert!(endless.starts_with("HTTP/1.1 404 "), "{endless}");
    }

    #[test]
    fn slow_clients_hold_nobody_up() {
        let address = server(FOREVER);
        let slow: Vec<TcpStream> = (0..2 * CONNECTIONS).map(|_| sent(address, "GET /metrics HTTP/1.1\r\n")).collect();
        let answer = answered(sent(address, "GET /metrics HTTP/1.1\r\n\r\n"));
        assert!(answer.ends_with("netcheck_pairs 7\n"), "{answer}");
        // The oldest had to go.
        let first = slow.into_iter().next().unwrap();
        assert_eq!(answered(first), "");
    }

    #[test]
    fn a_client_has_its_time_and_no_more() {
        let address = server(Duration::from_millis(1));
        assert_eq!(answered(sent(address, "")), "");
    }
}
