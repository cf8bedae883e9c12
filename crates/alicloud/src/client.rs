//! The client: one method per API action, one signed attempt per call, every outcome told apart.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    api::{Instance, RegionInfo, RequestId},
    clock::Clock,
    endpoint::{Endpoint, Network, Region},
    error::{BuildError, Error},
    identity::Identity,
    observer::CallObserver,
    rpc::{Accepted, Call, Rpc, SHORT_REPLY},
    transport::{Transport, USER_AGENT},
    wire,
};

/// Version of the ECS API.
const VERSION: &str = "2014-05-26";

/// Most ids that one `DescribeInstances` call takes.
pub const MAX_DESCRIBED: usize = 100;

/// Longest reply to an action that lists something, in bytes.
const LONG_REPLY: usize = 4 << 20;

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
    /// The product in the header `User-Agent`. Default: this library.
    pub user_agent: &'static str,
    /// What observes the calls. Default: nothing.
    pub observer: CallObserver,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network: Network::default(),
            endpoint: None,
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(4),
            user_agent: USER_AGENT,
            observer: CallObserver::default(),
        }
    }
}

/// A client of the ECS API. Cheap to clone; clones share connections and the learned clock skew.
///
/// Each method makes one attempt, with a nonce of its own, and repeats nothing: when to try again is the caller's
/// decision. Source of actions and parameters: the ECS API reference, version 2014-05-26.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    rpc: Rpc,
    network: Network,
    endpoint: Option<Endpoint>,
    timeout: Duration,
}

/// What is asked of a region.
struct Ask<'a> {
    action: &'static str,
    region: &'a Region,
    /// All but `RegionId`.
    parameters: &'a [(&'a str, &'a str)],
    /// The cloud's time as of which the call is signed; `None`: that of the call.
    signed_at: Option<Timestamp>,
    /// Longest reply in bytes.
    limit: usize,
    /// What must not be shown, besides the credentials.
    secret: &'a str,
}

impl Client {
    /// Builds a client that takes the time from this clock; connects to nobody yet.
    ///
    /// # Errors
    /// [`BuildError`] if there are no root certificates.
    pub fn new(config: Config, clock: Clock) -> Result<Self, BuildError> {
        let Config { network, endpoint, connect_timeout, timeout, user_agent, observer } = config;
        let rpc = Rpc { transport: Transport::new(connect_timeout, user_agent)?, clock, observer };
        Ok(Self(Arc::new(Inner { rpc, network, endpoint, timeout })))
    }

    /// What it calls with: connections, and what was learned of the time.
    #[must_use]
    pub fn rpc(&self) -> &Rpc {
        &self.0.rpc
    }

    /// The clock that dates the calls.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.rpc.clock
    }

    /// Sets the VNC password of an instance (`ModifyInstanceVncPasswd`).
    ///
    /// `password`: six letters and digits; the API refuses any other. `signed_at` is the cloud's time from before the password was read from its Secret ([`Clock::dated`]): should the
    /// process be paused in between, the signature is too old by the time it is sent, and the cloud refuses it. What is
    /// learned of the cloud's clock in between never makes it younger.
    ///
    /// # Errors
    /// Any of [`Error`]. After `Timeout`, `Interrupted` and `UnreadableReply` the password may have been set, or may
    /// be within the validity of the signature (about 15 minutes).
    pub async fn modify_instance_vnc_passwd(
        &self,
        identity: &Identity,
        region: &Region,
        instance_id: &str,
        password: &str,
        signed_at: Timestamp,
    ) -> Result<RequestId, Error> {
        let call = Ask {
            action: "ModifyInstanceVncPasswd",
            region,
            parameters: &[("InstanceId", instance_id), ("VncPassword", password)],
            signed_at: Some(signed_at),
            limit: SHORT_REPLY,
            secret: password,
        };
        self.0.call(identity, &call).await.map(|accepted| accepted.request_id)
    }

    /// Restarts an instance (`RebootInstance`), which must be Running and not locked.
    ///
    /// It shuts down in good order, never with `ForceStop`: that would lose what is not on the disk yet. Accepted means
    /// begun: that it is over can only be seen, by another start time.
    ///
    /// `password`: six letters and digits; the API refuses any other. `signed_at` is the cloud's time from before it was decided on: a process that was paused in between is refused, since
    /// the restart may have been asked for again meanwhile.
    ///
    /// # Errors
    /// Any of [`Error`]. After `Timeout`, `Interrupted` and `UnreadableReply` the restart may have begun, or may begin
    /// within the validity of the signature (about 15 minutes).
    pub async fn reboot_instance(
        &self,
        identity: &Identity,
        region: &Region,
        instance_id: &str,
        signed_at: Timestamp,
    ) -> Result<RequestId, Error> {
        let call = Ask {
            action: "RebootInstance",
            region,
            parameters: &[("InstanceId", instance_id)],
            signed_at: Some(signed_at),
            limit: SHORT_REPLY,
            secret: "",
        };
        self.0.call(identity, &call).await.map(|accepted| accepted.request_id)
    }

    /// Looks at instances (`DescribeInstances`).
    ///
    /// An instance that is missing in the answer may be gone, or in another region, or the identity may lack the right
    /// to see it: without permission the API answers with an empty list.
    ///
    /// # Errors
    /// Any of [`Error`]; `Invalid` unless there are 1 to [`MAX_DESCRIBED`] ids.
    pub async fn describe_instances(
        &self,
        identity: &Identity,
        region: &Region,
        ids: &[String],
    ) -> Result<Vec<Instance>, Error> {
        let action = "DescribeInstances";
        if !(1..=MAX_DESCRIBED).contains(&ids.len()) {
            return Err(Error::Invalid { action, problem: "it takes 1 to 100 instance ids" });
        }
        let ids = serde_json::Value::from(ids).to_string();
        // As many a page as there can be ids: the first page is the only one.
        let parameters = [("InstanceIds", ids.as_str()), ("MaxResults", "100")];
        let reply = self.0.list(identity, action, region, &parameters).await?;
        reply.read::<wire::DescribeInstances<'_>>().map(Into::into)
    }

    /// Finds the instances that carry all these tags (`DescribeInstances`), a page of at most 100 at a time: the page, and
    /// the token of the next one where there is one. A tag without a value is a tag with any.
    ///
    /// # Errors
    /// Any of [`Error`]. Without permission the API may answer with an empty list.
    pub async fn find_instances(
        &self,
        identity: &Identity,
        region: &Region,
        tags: &[(&str, Option<&str>)],
        token: Option<&str>,
    ) -> Result<(Vec<Instance>, Option<String>), Error> {
        let names: Vec<_> =
            (1..=tags.len()).map(|n| (format!("Tag.{n}.Key"), format!("Tag.{n}.Value"))).collect();
        let mut parameters = vec![("MaxResults", "100")];
        parameters.extend(token.map(|token| ("NextToken", token)));
        for ((key_name, value_name), (key, value)) in names.iter().zip(tags) {
            parameters.push((key_name, *key));
            parameters.extend(value.map(|value| (value_name.as_str(), value)));
        }
        let reply = self.0.list(identity, "DescribeInstances", region, &parameters).await?;
        let reply = reply.read::<wire::DescribeInstances<'_>>()?;
        let next = Some(reply.next_token.clone()).filter(|token| !token.is_empty());
        Ok((reply.into(), next))
    }

    /// Asks whether the identity may look at instances (`DescribeInstances` with `DryRun`): an empty list would not tell.
    ///
    /// # Errors
    /// Any of [`Error`]; without the right it is `Api` with a code such as `Forbidden.RAM`.
    pub async fn may_describe_instances(&self, identity: &Identity, region: &Region) -> Result<(), Error> {
        let parameters = [("DryRun", "true"), ("MaxResults", "10")];
        match self.0.list(identity, "DescribeInstances", region, &parameters).await {
            // It is by an error that the API says yes.
            Err(Error::Api { code, .. }) if code == "DryRunOperation" => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// Lists the regions (`DescribeRegions`), as seen from one of them.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn describe_regions(
        &self,
        identity: &Identity,
        region: &Region,
    ) -> Result<Vec<RegionInfo>, Error> {
        let reply = self.0.list(identity, "DescribeRegions", region, &[]).await?;
        reply.read::<wire::DescribeRegions>().map(Into::into)
    }
}

impl Inner {
    /// Calls an action that only looks: a long reply, signed as of now, with no secret but the credentials.
    async fn list(
        &self,
        identity: &Identity,
        action: &'static str,
        region: &Region,
        parameters: &[(&str, &str)],
    ) -> Result<Accepted, Error> {
        let ask = Ask { action, region, parameters, signed_at: None, limit: LONG_REPLY, secret: "" };
        self.call(identity, &ask).await
    }

    /// One attempt: credentials, signature, request, reply, all before the total time-out.
    async fn call(&self, identity: &Identity, ask: &Ask<'_>) -> Result<Accepted, Error> {
        let &Ask { action, region, signed_at, limit, secret, .. } = ask;
        let deadline = Instant::now() + self.timeout;
        // What is left must do for the call: one that is cut short has an outcome that nobody knows.
        let admitted = identity.admit(action, Instant::now() + self.timeout / 2).await?;
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint,
            None => &Endpoint::of(region, self.network),
        };
        let mut parameters = Vec::with_capacity(ask.parameters.len() + 1);
        parameters.push(("RegionId", region.as_str()));
        parameters.extend_from_slice(ask.parameters);
        let parameters = &parameters;
        let call = Call { action, version: VERSION, endpoint, parameters, signed_at, limit, secret };
        let result = self.rpc.call(&call, admitted.credentials(), deadline).await;
        admitted.learn(&result);
        result
    }
}

#[cfg(test)]
mod tests;
