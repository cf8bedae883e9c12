//! An operator in this process, whose requests to the API server can be counted, lost and held.

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
use kube::client::Body;
use tokio::{sync::oneshot, task::JoinHandle};
use tower::{BoxError, Layer, Service};
use vncpassword_alicloud as ecs;
use vncpassword_alicloud::{Clock, Endpoint, Rates, Region, connect::CloudSettings};
use vncpassword_emulator::{AccessKey, Instance};
use vncpassword_kube_client as kube_client;
use vncpassword_kube_client::{Deadlines, Retries};
use vncpassword_operator::{
    commands::{Environment, StartError, listen, run},
    runtime::{Lease, Shutdown, Stop},
    settings::{Ambient, ControllerSettings, Settings},
};

use crate::{World, barrier, observe::object_at};

/// A running operator.
pub struct Operator {
    requests: Requests,
    address: SocketAddr,
    stop: Stop,
    task: JoinHandle<Result<(), StartError>>,
}

/// How an operator starts. Made of its settings, all else is as in production.
pub struct Setup {
    pub settings: Settings,
    /// Its environment.
    pub variables: Variables,
    /// Faults from its first request on.
    pub requests: Requests,
    pub clock: Clock,
    /// How long the minute is in which the cloud counts calls.
    pub minute: Duration,
}

impl From<Settings> for Setup {
    fn from(settings: Settings) -> Self {
        Self {
            settings,
            variables: access_key(AccessKey::DEFAULT_ID, AccessKey::DEFAULT_SECRET),
            requests: Requests::default(),
            clock: Clock::default(),
            minute: Duration::from_mins(1),
        }
    }
}

/// Requests to the API server: method and path, without watches and lists.
#[derive(Clone, Default)]
pub struct Requests {
    noted: Arc<Mutex<Vec<(Method, String)>>>,
    /// Whether the API server is out of reach.
    cut: Arc<AtomicBool>,
    faults: Arc<Mutex<Vec<Fault>>>,
    /// All requests to these paths are lost, lists and watches as well.
    lost_paths: Arc<Mutex<Vec<String>>>,
}

/// Which requests a fault hits: reads or writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// What becomes of the next requests of that kind whose path ends so.
struct Fault {
    access: Access,
    suffix: String,
    remaining: usize,
    effect: Effect,
}

enum Effect {
    LoseRequest,
    LoseReply,
    HoldRequest(Option<Holding>),
    HoldReply(Option<Holding>),
}

/// The operator's side of a [`Held`].
struct Holding {
    arrived: oneshot::Sender<()>,
    end: oneshot::Receiver<bool>,
}

/// A request, or the reply to one, that is held.
#[must_use]
pub struct Held {
    arrived: oneshot::Receiver<()>,
    end: oneshot::Sender<bool>,
}

impl Held {
    /// Waits until there is one to hold: a request that was made, or a reply that has come.
    pub async fn arrived(&mut self) {
        let arrived = tokio::time::timeout(crate::world::PATIENCE, &mut self.arrived).await;
        arrived.expect("no such request in time").unwrap();
    }

    /// Lets it pass.
    pub fn release(self) {
        self.end.send(true).ok();
    }

    /// Loses it.
    pub fn lose(self) {
        self.end.send(false).ok();
    }
}

impl Holding {
    fn pair() -> (Held, Self) {
        let (arrived_sender, arrived) = oneshot::channel();
        let (end_sender, end) = oneshot::channel();
        (Held { arrived, end: end_sender }, Self { arrived: arrived_sender, end })
    }

    /// Holds on; whether it passes in the end.
    async fn passes(self) -> bool {
        self.arrived.send(()).ok();
        self.end.await.unwrap_or(true)
    }
}

impl Requests {
    pub fn all(&self) -> Vec<(Method, String)> {
        self.noted.lock().unwrap().clone()
    }

    /// The same without those that barriers cause, and without Events, which are sent beside.
    pub fn own(&self) -> Vec<(Method, String)> {
        let mut requests = self.all();
        requests.retain(|(_, path)| !path.contains(barrier::SENTINEL) && !path.ends_with("/events"));
        requests
    }

    /// How many of these changed anything.
    pub(crate) fn writes(&self) -> usize {
        self.own().iter().filter(|(method, _)| method != Method::GET).count()
    }

    /// How many there were of that method whose path ends so.
    pub fn count(&self, method: &Method, suffix: &str) -> usize {
        self.all().iter().filter(|(other, path)| other == method && path.ends_with(suffix)).count()
    }

    /// The next requests of that kind whose path ends so never reach the API server.
    pub fn lose_requests(&self, access: Access, suffix: &str, times: usize) {
        self.inject(access, suffix, times, Effect::LoseRequest);
    }

    /// The next requests of that kind whose path ends so reach the API server, but their replies are lost.
    pub fn lose_replies(&self, access: Access, suffix: &str, times: usize) {
        self.inject(access, suffix, times, Effect::LoseReply);
    }

    /// The next request of that kind whose path ends so is held before it reaches the API server.
    pub fn hold_request(&self, access: Access, suffix: &str) -> Held {
        let (held, holding) = Holding::pair();
        self.inject(access, suffix, 1, Effect::HoldRequest(Some(holding)));
        held
    }

    /// The next request of that kind whose path ends so reaches the API server, and its reply is held.
    pub fn hold_reply(&self, access: Access, suffix: &str) -> Held {
        let (held, holding) = Holding::pair();
        self.inject(access, suffix, 1, Effect::HoldReply(Some(holding)));
        held
    }

    /// No request whose path ends so reaches the API server, lists and watches included.
    pub fn lose_all(&self, suffix: &str) {
        self.lost_paths.lock().unwrap().push(suffix.to_owned());
    }

    /// Ends the faults; what is held stays held.
    pub fn clear_faults(&self) {
        self.faults.lock().unwrap().clear();
        self.lost_paths.lock().unwrap().clear();
    }

    fn inject(&self, access: Access, suffix: &str, times: usize, effect: Effect) {
        let fault = Fault { access, suffix: suffix.to_owned(), remaining: times, effect };
        self.faults.lock().unwrap().push(fault);
    }

    /// What becomes of a request.
    fn fault_of(&self, method: &Method, path: &str) -> Option<Effect> {
        let access = if *method == Method::GET { Access::Read } else { Access::Write };
        let mut faults = self.faults.lock().unwrap();
        let fault = faults
            .iter_mut()
            .find(|fault| fault.remaining > 0 && fault.access == access && path.ends_with(&fault.suffix))?;
        fault.remaining -= 1;
        Some(match &mut fault.effect {
            Effect::LoseRequest => Effect::LoseRequest,
            Effect::LoseReply => Effect::LoseReply,
            Effect::HoldRequest(holding) => Effect::HoldRequest(holding.take()),
            Effect::HoldReply(holding) => Effect::HoldReply(holding.take()),
        })
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
    S: Service<Request<Body>, Response: Send + 'static, Error = BoxError, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let query = request.uri().query().unwrap_or_default();
        // Nor the one with which each process asks which cluster it is in.
        let cluster = request.uri().path() == "/api/v1/namespaces/kube-system";
        let counts = !cluster && !query.contains("limit=") && !query.contains("watch=");
        let path = request.uri().path();
        let is_lost = self.requests.lost_paths.lock().unwrap().iter().any(|lost| path.ends_with(lost));
        let fault = if is_lost {
            Some(Effect::LoseRequest)
        } else if counts {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let fault = self.requests.fault_of(&method, &path);
            self.requests.noted.lock().unwrap().push((method, path));
            fault
        } else {
            None
        };
        // A future that is not polled makes no request.
        let (reply, cut) = (self.inner.call(request), Arc::clone(&self.requests.cut));
        Box::pin(async move {
            // As in a network that loses packets: nothing comes, not even an error.
            while cut.load(Relaxed) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let lost = || Err("lost in a test".into());
            match fault {
                None => reply.await,
                Some(Effect::LoseRequest) => lost(),
                Some(Effect::LoseReply) => reply.await.and_then(|_| lost()),
                Some(Effect::HoldRequest(holding)) => {
                    if passes(holding).await {
                        reply.await
                    } else {
                        lost()
                    }
                }
                Some(Effect::HoldReply(holding)) => {
                    let reply = reply.await;
                    if passes(holding).await { reply } else { lost() }
                }
            }
        })
    }
}

async fn passes(holding: Option<Holding>) -> bool {
    match holding {
        Some(holding) => holding.passes().await,
        None => true,
    }
}

/// The settings that tests start from: like the defaults, for one namespace and the emulator.
pub fn settings(namespace: &str, emulator: &str) -> Settings {
    let emulator = Endpoint::parse(emulator).unwrap();
    Settings {
        controller: ControllerSettings {
            region: Some(Region::parse("cn-hangzhou").unwrap()),
            settle: Duration::from_secs(16 * 60),
            allow_reboot: false,
            rates: Rates::default(),
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
        lease_name: vncpassword_core::api::LEASE.to_owned(),
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
    /// Starts one, by default with the emulator's well-known key.
    pub fn start(config: kube::Config, setup: impl Into<Setup>) -> Self {
        let Setup { settings, variables, requests, clock, minute } = setup.into();
        let client = kube_client::builder(config, Deadlines::default(), Retries::Never)
            .unwrap()
            .with_layer(&requests)
            .build();
        let listener = listen(settings.http_addr).unwrap();
        let address = listener.local_addr().unwrap();
        let lookup = move |name: &str| variables.0.get(name).map(Into::into);
        let environment = Environment { client, listener, clock, minute, lookup };
        let (stop, shutdown) = Shutdown::new();
        let task = tokio::spawn(run(settings, environment, shutdown));
        Self { requests, address, stop, task }
    }

    /// Where its probes and its metrics are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value of a metric, named with its labels as they are written; none where it is not there.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let reply = reqwest::get(format!("http://{}/metrics", self.address)).await.unwrap();
        let text = reply.text().await.unwrap();
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.next().map(|value| value.parse().unwrap())
    }

    /// Waits until it has handled every change of objects and Secrets that was made before, and works on nothing: what it
    /// does because of them is done. What waits for a time still waits.
    ///
    /// One watch brings its events in the order of the changes. So an object of the barrier's own is changed, then the Secret
    /// that it names, and each time the operator's status of it is awaited; then its queues are idle.
    pub async fn settled(&self, world: &World) {
        barrier::pass(world, self.address).await;
    }

    /// The same as [`Operator::settled`], and Events that were handed in before are there: they are sent in turn, two at a
    /// time, and those about the barrier's own object are awaited.
    pub async fn told(&self, world: &World) {
        self.settled(world).await;
        barrier::told(world).await;
    }

    /// Waits until it has handled the instance polls that were made before under its own identity in the usual region, and is
    /// settled then. Such polls are made one at a time, so the one for a new object of that name is made after them.
    pub async fn polls_handled(&self, world: &World, name: &str) {
        object_at(world, name, Instance::default()).await;
        world.until_ready(name).await;
        self.settled(world).await;
    }

    /// How often it has passed over an object.
    pub async fn passes(&self) -> f64 {
        let passes = |result: &str| {
            format!("vncpassword_operator_reconciles_total{{kind=\"VncPassword\",result=\"{result}\"}}")
        };
        let (ok, error) = (self.metric(&passes("ok")).await, self.metric(&passes("error")).await);
        ok.unwrap_or_default() + error.unwrap_or_default()
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
