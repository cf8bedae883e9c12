//! A relay in front of the API server. It can go silent on every open connection without closing one, as a load balancer does
//! that has dropped them: TCP keepalives are still answered, and new connections work.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// What no longer passes on connections that were open.
#[derive(Clone, Copy, Default)]
enum Frozen {
    #[default]
    All,
    /// Requests pass, and what is asked for is done.
    Replies,
}

/// Ends with the test.
pub struct Relay {
    address: SocketAddr,
    /// What became of the connections that were open last.
    frozen: watch::Sender<Frozen>,
    /// How late each piece of a reply comes, in milliseconds.
    delay: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// In front of that API server.
    pub async fn to(config: &kube::Config) -> Self {
        let url = &config.cluster_url;
        let server = format!("{}:{}", url.host().unwrap(), url.port_u16().unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (frozen, _) = watch::channel(Frozen::default());
        let delay = Arc::<AtomicU64>::default();
        let (freezing, late) = (frozen.clone(), Arc::clone(&delay));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                connections.spawn(connected(client, server, freezing.subscribe(), Arc::clone(&late)));
            }
        });
        Self { address, frozen, delay, accepting }
    }

    /// The address of the API server, by way of the relay.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The same access by way of the relay.
    pub fn config(&self, mut config: kube::Config) -> kube::Config {
        config.cluster_url = self.url().parse().unwrap();
        config
    }

    /// From now on nothing passes on the connections that are open.
    pub fn freeze(&self) {
        self.frozen.send_replace(Frozen::All);
    }

    /// From now on no reply passes on the connections that are open.
    pub fn swallow_replies(&self) {
        self.frozen.send_replace(Frozen::Replies);
    }

    /// From now on each piece of a reply comes so much later.
    pub fn delay(&self, delay: Duration) {
        self.delay.store(delay.as_millis().try_into().unwrap(), Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connected(
    mut client: TcpStream,
    mut server: TcpStream,
    mut frozen: watch::Receiver<Frozen>,
    delay: Arc<AtomicU64>,
) {
    frozen.mark_unchanged();
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let none = AtomicU64::new(0);
    let mut requests = std::pin::pin!(pass(from_client, to_server, &none));
    tokio::select! {
        () = &mut requests => return,
        () = pass(from_server, to_client, &delay) => return,
        _ = frozen.changed() => {}
    }
    if matches!(*frozen.borrow(), Frozen::Replies) {
        requests.await;
    }
    // Both connections stay open.
    std::future::pending::<()>().await;
}

/// Passes on what comes, until one side ends.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: &AtomicU64) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tokio::time::sleep(Duration::from_millis(delay.load(Relaxed))).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
