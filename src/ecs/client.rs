//! The client: one method per API action, one signed attempt per call, every outcome told apart.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, header};
use jiff::Timestamp;
use rand::{TryRng, rngs::SysRng};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::{
    api::{Instance, RegionInfo, RequestId},
    credentials::{Cache, Credentials, Provider, ProviderError, Secret},
    endpoint::{Endpoint, Network, Region},
    error::{BuildError, Error},
    mask::mask,
    reply::{self, Refusal, Reply},
    signature::{self, Nonce, Signed},
    skew::Skew,
    transport::{Received, Transport},
    wire,
};
use crate::rotation::Password;

/// Version of the ECS API.
const VERSION: &str = "2014-05-26";

/// Most ids that one `DescribeInstances` call takes.
pub const MAX_DESCRIBED: usize = 100;

/// Longest reply to an action that answers with a `RequestId` only, in bytes.
const SHORT_REPLY: usize = 64 << 10;
/// Longest reply to an action that lists something, in bytes.
const LONG_REPLY: usize = 4 << 20;

/// Longest wait that a server can ask for; a garbled header must not stop us for days.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Which of a region's hosts is called. Default: [`Network::Public`].
    pub network: Network,
    /// Replaces the hosts of every region. Default: none.
    pub endpoint: Option<Endpoint>,
    /// Time for name resolution, TCP and TLS. Default: 2 s. Shorter than `timeout`, or else a connection that does
    /// not come about looks like a call of unknown outcome.
    pub connect_timeout: Duration,
    /// Time for a whole call, from asking for credentials to the end of the reply. Default: 4 s. A leader relies on it:
    /// renew deadline + this must be less than the lease duration.
    pub timeout: Duration,
    /// The local clock. Default: [`Timestamp::now`].
    pub clock: fn() -> Timestamp,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network: Network::default(),
            endpoint: None,
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(4),
            clock: Timestamp::now,
        }
    }
}

/// A client of the ECS API. Cheap to clone; clones share connections, credentials and the learned clock skew.
///
/// Each method makes one attempt, with a nonce of its own, and repeats nothing: when to try again is the caller's
/// decision. Source of actions and parameters: the ECS API reference, version 2014-05-26.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    transport: Transport,
    credentials: Cache,
    skew: Skew,
    network: Network,
    endpoint: Option<Endpoint>,
    timeout: Duration,
    clock: fn() -> Timestamp,
}

/// One call of an action.
struct Call<'a> {
    action: &'static str,
    region: &'a Region,
    /// All but `RegionId`.
    parameters: &'a [(&'a str, &'a str)],
    /// Local time as of which the call is signed.
    signed_at: Timestamp,
    /// Longest reply in bytes.
    limit: usize,
    /// What must not show up in a log, besides the credentials.
    secret: &'a str,
}

impl Client {
    /// Builds a client; connects to nobody yet and asks for no credentials.
    ///
    /// # Errors
    /// [`BuildError`] if there are no root certificates.
    pub fn new(config: Config, credentials: Arc<dyn Provider>) -> Result<Self, BuildError> {
        let Config { network, endpoint, connect_timeout, timeout, clock } = config;
        Ok(Self(Arc::new(Inner {
            transport: Transport::new(connect_timeout)?,
            credentials: Cache::new(credentials),
            skew: Skew::default(),
            network,
            endpoint,
            timeout,
            clock,
        })))
    }

    /// Sets the VNC password of an instance (`ModifyInstanceVncPasswd`).
    ///
    /// `signed_at` is the local time from before the password was read from its Secret: should the process be paused
    /// in between, the signature is too old by the time it is sent, and the cloud refuses it. The learned clock skew
    /// is added here.
    ///
    /// # Errors
    /// Any of [`Error`]. After `Timeout`, `Interrupted` and `UnreadableReply` the password may have been set, or may
    /// be within the validity of the signature (about 15 minutes).
    pub async fn modify_instance_vnc_passwd(
        &self,
        region: &Region,
        instance_id: &str,
        password: &Password,
        signed_at: Timestamp,
    ) -> Result<RequestId, Error> {
        let call = Call {
            action: "ModifyInstanceVncPasswd",
            region,
            parameters: &[("InstanceId", instance_id), ("VncPassword", password.expose())],
            signed_at,
            limit: SHORT_REPLY,
            secret: password.expose(),
        };
        self.0.call(&call).await.map(|accepted| accepted.request_id)
    }

    /// Restarts an instance (`RebootInstance`), which must be Running and not locked.
    ///
    /// It shuts down in good order, never with `ForceStop`: that would lose what is not on the disk yet. Accepted means
    /// begun: that it is over can only be seen, by another start time.
    ///
    /// `signed_at` is the local time from before it was decided on: a process that was paused in between is refused, since
    /// the restart may have been asked for again meanwhile.
    ///
    /// # Errors
    /// Any of [`Error`]. After `Timeout`, `Interrupted` and `UnreadableReply` the restart may have begun, or may begin
    /// within the validity of the signature (about 15 minutes).
    pub async fn reboot_instance(
        &self,
        region: &Region,
        instance_id: &str,
        signed_at: Timestamp,
    ) -> Result<RequestId, Error> {
        let call = Call {
            action: "RebootInstance",
            region,
            parameters: &[("InstanceId", instance_id)],
            signed_at,
            limit: SHORT_REPLY,
            secret: "",
        };
        self.0.call(&call).await.map(|accepted| accepted.request_id)
    }

    /// Looks at instances (`DescribeInstances`).
    ///
    /// An instance that is missing in the answer may be gone, or in another region, or the identity may lack the right
    /// to see it: without permission the API answers with an empty list.
    ///
    /// # Errors
    /// Any of [`Error`]; `Invalid` unless there are 1 to [`MAX_DESCRIBED`] ids.
    pub async fn describe_instances(&self, region: &Region, ids: &[String]) -> Result<Vec<Instance>, Error> {
        let action = "DescribeInstances";
        if !(1..=MAX_DESCRIBED).contains(&ids.len()) {
            return Err(Error::Invalid { action, problem: "it takes 1 to 100 instance ids" });
        }
        let ids = serde_json::Value::from(ids).to_string();
        // As many a page as there can be ids: the first page is the only one.
        let parameters = [("InstanceIds", ids.as_str()), ("MaxResults", "100")];
        let reply = self.0.list(action, region, &parameters).await?;
        reply.read::<wire::DescribeInstances<'_>>().map(Into::into)
    }

    /// Lists the regions (`DescribeRegions`), as seen from one of them.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn describe_regions(&self, region: &Region) -> Result<Vec<RegionInfo>, Error> {
        let reply = self.0.list("DescribeRegions", region, &[]).await?;
        reply.read::<wire::DescribeRegions>().map(Into::into)
    }

    /// Drops the cached credentials: the next call asks the provider again.
    pub fn forget_credentials(&self) {
        self.0.credentials.forget();
    }
}

/// An accepted call.
struct Accepted {
    action: &'static str,
    request_id: RequestId,
    http_status: u16,
    body: Vec<u8>,
}

impl Accepted {
    /// Reads what the action answers beside its `RequestId`.
    fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        let Self { action, http_status, .. } = *self;
        reply::json(&self.body).map_err(|kind| Error::UnreadableReply { action, http_status, kind })
    }
}

impl Inner {
    /// Calls an action that only looks: a long reply, signed as of now, with no secret but the credentials.
    async fn list(
        &self,
        action: &'static str,
        region: &Region,
        parameters: &[(&str, &str)],
    ) -> Result<Accepted, Error> {
        let signed_at = (self.clock)();
        self.call(&Call { action, region, parameters, signed_at, limit: LONG_REPLY, secret: "" }).await
    }

    /// One attempt: credentials, signature, request, reply, all before the total time-out.
    async fn call(&self, call: &Call<'_>) -> Result<Accepted, Error> {
        let action = call.action;
        let deadline = Instant::now() + self.timeout;
        let credentials = self.credentials_by(deadline).await?;
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint,
            None => &Endpoint::of(call.region, self.network),
        };
        let signed = self.sign(call, &credentials, endpoint.authority())?;
        let url = endpoint.url(&signed.query);
        let reply = self.transport.post(action, &url, signed.headers, call.limit);
        let received = timeout_at(deadline, reply).await.map_err(|_| Error::Timeout { action })??;
        if let Some(date) = received.headers.get(header::DATE) {
            self.skew.learn(date.as_bytes(), (self.clock)());
        }
        judge(call, &credentials, received)
    }

    async fn credentials_by(&self, deadline: Instant) -> Result<Arc<Credentials>, Error> {
        let late =
            |_| ProviderError { provider: self.credentials.provider(), problem: "no answer in time".into() };
        timeout_at(deadline, self.credentials.get()).await.map_err(late)??.ok_or(Error::NoCredentials)
    }

    fn sign(&self, call: &Call<'_>, credentials: &Credentials, host: &str) -> Result<Signed, Error> {
        let action = call.action;
        let mut parameters = Vec::with_capacity(call.parameters.len() + 1);
        parameters.push(("RegionId", call.region.as_str()));
        parameters.extend_from_slice(call.parameters);
        let request = signature::Request { action, version: VERSION, host, parameters: &parameters };
        let mut nonce = [0; 16];
        SysRng
            .try_fill_bytes(&mut nonce)
            .map_err(|_| Error::Invalid { action, problem: "the system gives no random numbers" })?;
        let date = self.skew.server_time(call.signed_at);
        signature::sign(&request, credentials, date, Nonce::from(nonce))
            .map_err(|_| Error::Invalid { action, problem: "the endpoint's host cannot stand in a header" })
    }
}

/// Turns a reply into the outcome of its call.
fn judge(call: &Call<'_>, credentials: &Credentials, received: Received) -> Result<Accepted, Error> {
    let Received { status, headers, body } = received;
    let (action, http_status) = (call.action, status.as_u16());
    let unreadable = |kind| Error::UnreadableReply { action, http_status, kind };
    let body = body.map_err(unreadable)?;
    match reply::read(action, status, &body).map_err(unreadable)? {
        Reply::Accepted(request_id) => Ok(Accepted { action, request_id, http_status, body }),
        Reply::Refused(refusal) => {
            log(call, credentials, &refusal);
            let Refusal { code, request_id, message: _ } = refusal;
            Err(Error::Api { action, code, request_id, http_status, retry_after: retry_after(&headers) })
        }
    }
}

/// Writes the server's message to the debug log, the only place that ever sees it, unless it holds a secret.
fn log(call: &Call<'_>, credentials: &Credentials, refusal: &Refusal) {
    let secrets = [
        call.secret,
        credentials.access_key_id(),
        credentials.access_key_secret().expose(),
        credentials.security_token().map_or("", Secret::expose),
    ];
    debug!(
        action = call.action,
        region = %call.region,
        code = refusal.code,
        request_id = refusal.request_id.as_ref().map(RequestId::as_str),
        message = ?mask(&refusal.message, &secrets),
        "refused"
    );
}

/// Reads `x-acs-retry-after`, a number of milliseconds: at least a second, since what says less would be asked again
/// and again.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = headers.get("x-acs-retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_millis(milliseconds).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests;
