//! The ECS client: one method per API action, one signed attempt per call.

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

/// The maximum number of ids in one `DescribeInstances` call.
pub const MAX_DESCRIBED: usize = 100;

/// The maximum length of a reply with a list, in bytes.
const LONG_REPLY: usize = 4 << 20;

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The network of the endpoint. Default: [`Network::Public`].
    pub network: Network,
    /// Replaces the endpoints of all regions. Default: none.
    pub endpoint: Option<Endpoint>,
    /// The time limit for name resolution, TCP and TLS. Default: 2 s. Keep it shorter than `timeout`:
    /// otherwise a failed connection looks like a call of unknown outcome.
    pub connect_timeout: Duration,
    /// The time limit for a whole call, from the request for credentials to the end of the reply. Default: 4
    /// s. The leader election relies on it: renew deadline + `timeout` must be less than the lease duration.
    pub timeout: Duration,
    /// The product in the header `User-Agent`. Default: this library.
    pub user_agent: &'static str,
    /// Observes the calls. Default: nothing.
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

/// A client of the ECS API. Cheap to clone: clones share connections and the clock.
///
/// Each method makes one attempt with its own nonce. It never retries: that is the decision of the caller.
/// Source of actions and parameters: the ECS API reference, version 2014-05-26.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    rpc: Rpc,
    network: Network,
    endpoint: Option<Endpoint>,
    timeout: Duration,
}

/// A call of an action in a region.
struct ActionCall<'a> {
    action: &'static str,
    region: &'a Region,
    /// All parameters except `RegionId`.
    parameters: &'a [(&'a str, &'a str)],
    /// The time of the signature, by the cloud's clock; `None`: now.
    signed_at: Option<Timestamp>,
    /// The maximum length of the reply in bytes.
    limit: usize,
    /// A secret besides the credentials that logs and errors must not show.
    secret: &'a str,
}

impl Client {
    /// Builds a client with this clock. Opens no connection.
    ///
    /// # Errors
    /// [`BuildError`] if there are no root certificates.
    pub fn new(config: Config, clock: Clock) -> Result<Self, BuildError> {
        let Config { network, endpoint, connect_timeout, timeout, user_agent, observer } = config;
        let rpc = Rpc { transport: Transport::new(connect_timeout, user_agent)?, clock, observer };
        Ok(Self(Arc::new(Inner { rpc, network, endpoint, timeout })))
    }

    /// The connections and the clock that it uses.
    #[must_use]
    pub fn rpc(&self) -> &Rpc {
        &self.0.rpc
    }

    /// The clock that dates the signatures.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.rpc.clock
    }

    /// Sets the VNC password of an instance (`ModifyInstanceVncPasswd`).
    ///
    /// `password`: six letters and digits; the API refuses any other. `signed_at`: the cloud's time before
    /// the password was read from its Secret ([`Clock::dated`]). If the process is paused after that, the
    /// signature is too old when it is sent, and the cloud refuses it. A correction of the clock in the
    /// meantime never makes the signature younger.
    ///
    /// # Errors
    /// Any of [`Error`]. After `Timeout`, `Interrupted` and `UnreadableReply` the password may be set, or may
    /// become set while the signature is valid (about 15 minutes).
    pub async fn modify_instance_vnc_passwd(
        &self,
        identity: &Identity,
        region: &Region,
        instance_id: &str,
        password: &str,
        signed_at: Timestamp,
    ) -> Result<RequestId, Error> {
        let call = ActionCall {
            action: "ModifyInstanceVncPasswd",
            region,
            parameters: &[("InstanceId", instance_id), ("VncPassword", password)],
            signed_at: Some(signed_at),
            limit: SHORT_REPLY,
            secret: password,
        };
        self.0.call(identity, &call).await.map(|accepted| accepted.request_id)
    }

    /// Restarts an instance (`RebootInstance`). The instance must be running and not locked.
    ///
    /// The instance shuts down cleanly: `ForceStop` is never sent, because it would lose unsaved data.
    /// Accepted means that the restart has begun. A new start time shows that it is complete.
    ///
    /// `signed_at`: the cloud's time before the restart was decided. If the process is paused after that, the
    /// cloud refuses the call, because the restart may have been requested again in the meantime.
    ///
    /// # Errors
    /// Any of [`Error`]. After `Timeout`, `Interrupted` and `UnreadableReply` the restart may have begun, or
    /// may begin while the signature is valid (about 15 minutes).
    pub async fn reboot_instance(
        &self,
        identity: &Identity,
        region: &Region,
        instance_id: &str,
        signed_at: Timestamp,
    ) -> Result<RequestId, Error> {
        let call = ActionCall {
            action: "RebootInstance",
            region,
            parameters: &[("InstanceId", instance_id)],
            signed_at: Some(signed_at),
            limit: SHORT_REPLY,
            secret: "",
        };
        self.0.call(identity, &call).await.map(|accepted| accepted.request_id)
    }

    /// Describes instances (`DescribeInstances`).
    ///
    /// An instance that is missing in the result does not exist, is in another region, or the identity may
    /// not see it: without permission the API returns an empty list.
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
        // A page holds as many instances as there can be ids, so the first page is the only one.
        let parameters = [("InstanceIds", ids.as_str()), ("MaxResults", "100")];
        let reply = self.0.list(identity, action, region, &parameters).await?;
        reply.read::<wire::DescribeInstances<'_>>().map(Into::into)
    }

    /// Finds the instances that have all these tags (`DescribeInstances`). Returns one page of at most 100
    /// instances, and the token of the next page if there is one. A tag without a value matches any value.
    ///
    /// # Errors
    /// Any of [`Error`]. Without permission the API may return an empty list.
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

    /// Checks whether the identity may describe instances (`DescribeInstances` with `DryRun`). An empty list
    /// would not show that.
    ///
    /// # Errors
    /// Any of [`Error`]; without the right it is `Api` with a code such as `Forbidden.RAM`.
    pub async fn may_describe_instances(&self, identity: &Identity, region: &Region) -> Result<(), Error> {
        let parameters = [("DryRun", "true"), ("MaxResults", "10")];
        match self.0.list(identity, "DescribeInstances", region, &parameters).await {
            // The API reports success as an error.
            Err(Error::Api { code, .. }) if code == "DryRunOperation" => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// Lists the regions (`DescribeRegions`), as seen from `region`.
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
    /// Calls a read-only action: long reply, signed now, no secret besides the credentials.
    async fn list(
        &self,
        identity: &Identity,
        action: &'static str,
        region: &Region,
        parameters: &[(&str, &str)],
    ) -> Result<Accepted, Error> {
        let call = ActionCall { action, region, parameters, signed_at: None, limit: LONG_REPLY, secret: "" };
        self.call(identity, &call).await
    }

    /// One attempt: credentials, signature, request and reply, all within the time limit.
    async fn call(&self, identity: &Identity, action_call: &ActionCall<'_>) -> Result<Accepted, Error> {
        let &ActionCall { action, region, signed_at, limit, secret, .. } = action_call;
        let deadline = Instant::now() + self.timeout;
        // Half of the time is reserved for the call: a call that is cut off has an unknown outcome.
        let call_credentials =
            identity.credentials_for_call(action, Instant::now() + self.timeout / 2).await?;
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint,
            None => &Endpoint::of(region, self.network),
        };
        let mut parameters = Vec::with_capacity(action_call.parameters.len() + 1);
        parameters.push(("RegionId", region.as_str()));
        parameters.extend_from_slice(action_call.parameters);
        let parameters = &parameters;
        let call = Call { action, version: VERSION, endpoint, parameters, signed_at, limit, secret };
        let result = self.rpc.call(&call, call_credentials.get(), deadline).await;
        call_credentials.record(&result);
        result
    }
}

#[cfg(test)]
mod tests;
