//! An operator in this process, whose requests to the API server can be counted.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request};
use kube::client::{Body, ClientBuilder};
use tokio::task::JoinHandle;
use tower::{Layer, Service};
use vncpassword::{
    controller::{self, Ambient},
    ecs::{self, Endpoint, Rates, Region},
    emulator::AccessKey,
    runtime::{CloudSettings, Lease, Settings, Shutdown, StartError, Stop, run, without_retries},
};

/// A running operator.
pub struct Operator {
    requests: Requests,
    stop: Stop,
    task: JoinHandle<Result<(), StartError>>,
}

/// Requests to the API server: method and path, without watches and lists.
#[derive(Clone, Default)]
pub struct Requests {
    noted: Arc<Mutex<Vec<(Method, String)>>>,
    /// Whether the API server is out of reach.
    cut: Arc<AtomicBool>,
}

impl Requests {
    pub fn all(&self) -> Vec<(Method, String)> {
        self.noted.lock().unwrap().clone()
    }

    /// How many there were of that method whose path ends so.
    pub fn count(&self, method: &Method, suffix: &str) -> usize {
        self.all().iter().filter(|(other, path)| other == method && path.ends_with(suffix)).count()
    }
}

impl<S> Layer<S> for Requests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, requests: self.clone() }
    }
}

/// A client's service that notes what passes through.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response: 'static, Error: 'static, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let query = request.uri().query().unwrap_or_default();
        // Nor the one with which each process asks which cluster it is in.
        let cluster = request.uri().path() == "/api/v1/namespaces/kube-system";
        if !cluster && !query.contains("limit=") && !query.contains("watch=") {
            self.requests
                .noted
                .lock()
                .unwrap()
                .push((request.method().clone(), request.uri().path().to_owned()));
        }
        let (reply, cut) = (self.inner.call(request), Arc::clone(&self.requests.cut));
        Box::pin(async move {
            // As in a network that loses packets: nothing comes, not even an error.
            while cut.load(Relaxed) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            reply.await
        })
    }
}

/// The settings that tests start from: like the defaults, for one namespace and the emulator.
pub fn settings(namespace: &str, emulator: &str) -> Settings {
    let emulator = Endpoint::parse(emulator).unwrap();
    Settings {
        controller: controller::Config {
            region: Some(Region::parse("cn-hangzhou").unwrap()),
            settle: Duration::from_secs(16 * 60),
            allow_reboot: false,
            rates: Rates::default(),
            minute: Duration::from_secs(60),
            ambient: Ambient::Everywhere,
            lease: Lease::alone(),
            namespaces: vec![namespace.to_owned()],
            fleets: true,
            concurrency: 32,
        },
        cloud: CloudSettings {
            region: None,
            ecs: ecs::Config { endpoint: Some(emulator.clone()), ..ecs::Config::default() },
            sts: Some(emulator.clone()),
            metadata: emulator,
        },
        namespace: namespace.to_owned(),
        leader_elect: false,
        lease_name: vncpassword::runtime::LEASE.to_owned(),
        per_object_metrics: true,
        otlp: None,
        http_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
    }
}

/// The environment of an operator in this process.
#[derive(Clone, Default)]
pub struct Variables(HashMap<&'static str, String>);

impl<const N: usize> From<[(&'static str, &str); N]> for Variables {
    fn from(variables: [(&'static str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name, value.to_owned())).collect())
    }
}

/// An access key in the environment.
pub fn access_key(id: &str, secret: &str) -> Variables {
    Variables::from([
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", id),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret),
        // Not to be asked: the emulator is no metadata service, and nobody else is to be asked in its place.
        ("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true"),
    ])
}

impl Operator {
    /// Starts one with the emulator's well-known key.
    pub fn start(config: kube::Config, settings: Settings) -> Self {
        Self::start_as(config, settings, access_key(AccessKey::DEFAULT_ID, AccessKey::DEFAULT_SECRET))
    }

    /// Starts one in this environment.
    pub fn start_as(config: kube::Config, settings: Settings, variables: Variables) -> Self {
        let requests = Requests::default();
        let client = ClientBuilder::try_from(without_retries(config)).unwrap().with_layer(&requests).build();
        let (stop, shutdown) = Shutdown::new();
        let task =
            tokio::spawn(run(settings, client, move |name| variables.0.get(name).map(Into::into), shutdown));
        Self { requests, stop, task }
    }

    /// What it asked of the API server.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Cuts it off from the API server, or brings it back.
    pub fn cut_off(&self, cut: bool) {
        self.requests.cut.store(cut, Relaxed);
    }

    /// Ends it as SIGKILL does.
    pub async fn kill(self) {
        self.task.abort();
        self.task.await.ok();
    }

    /// Ends it in good order.
    pub async fn stop(self) {
        self.stop.request();
        let ended = tokio::time::timeout(Duration::from_secs(20), self.task).await;
        ended.expect("the operator did not end in time").unwrap().unwrap();
    }
}
