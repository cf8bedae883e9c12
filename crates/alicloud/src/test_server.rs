//! A server of raw bytes for tests. It does what real servers should not do.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the server does after it has read a request.
#[derive(Clone)]
pub(crate) enum Act {
    /// Sends these bytes and waits for the next request on the connection.
    Send(String),
    /// Sends these bytes, which need not be text.
    Bytes(Vec<u8>),
    /// Sends these bytes and resets the connection.
    Reset(String),
    /// Sends these bytes and nothing more.
    Hang(String),
    /// Sends a body that never ends.
    Flood,
}

/// A local server that plays its acts in order over all connections, and records head and body of each
/// request.
pub(crate) struct Server {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<(String, String)>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            requests: Arc::default(),
            connections: Arc::default(),
        };
        let acts = Arc::new(Mutex::new(acts.into_iter().collect::<Vec<_>>().into_iter()));
        let (requests, connections) = (Arc::clone(&server.requests), Arc::clone(&server.connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (acts, requests) = (Arc::clone(&acts), Arc::clone(&requests));
                tokio::spawn(async move {
                    play(stream, || acts.lock().unwrap().next(), &requests).await;
                });
            }
        });
        server
    }

    /// The URL to call.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The heads of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(head, _)| head.clone()).collect()
    }

    /// The bodies of the requests so far.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(_, body)| body.clone()).collect()
    }

    /// The connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn play(
    mut stream: TcpStream,
    mut next: impl FnMut() -> Option<Act>,
    requests: &Mutex<Vec<(String, String)>>,
) {
    while let Some(head) = read_head(&mut stream).await {
        let body = read_body(&mut stream, &head).await;
        requests.lock().unwrap().push((head, body));
        match next() {
            Some(Act::Send(bytes)) => stream.write_all(bytes.as_bytes()).await.unwrap(),
            Some(Act::Bytes(bytes)) => stream.write_all(&bytes).await.unwrap(),
            Some(Act::Reset(bytes)) => {
                stream.write_all(bytes.as_bytes()).await.unwrap();
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
            Some(Act::Hang(bytes)) => {
                stream.write_all(bytes.as_bytes()).await.unwrap();
                std::future::pending::<()>().await;
            }
            Some(Act::Flood) => {
                let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
                let mut more =
                    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                while more.is_ok() {
                    more = stream.write_all(chunk.as_bytes()).await;
                }
                return;
            }
            None => return,
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(stream.read_u8().await.ok()?));
    }
    Some(head)
}

async fn read_body(stream: &mut TcpStream, head: &str) -> String {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

/// A whole reply; each line of `headers` ends in CRLF.
pub(crate) fn http(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} Reason\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}
