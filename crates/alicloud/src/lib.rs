//! Client of the ECS and STS APIs of Alibaba Cloud. It knows neither Kubernetes nor VNC password rotation.
//!
//! # How a call works
//!
//! 1. [`connect`] builds the clients from flags and environment: [`Client`] for ECS, [`Sts`] for STS, and the
//!    [`Identity`] of the program.
//! 2. The caller asks the [`Limiter`] for a permit. If the rate does not allow a call yet, the caller gets the time
//!    to come back. Nothing blocks.
//! 3. The caller calls a method of [`Client`]: one method per API action, one attempt per call.
//! 4. [`identity`] provides the credentials. Its circuit breaker stops calls with credentials that the cloud refused.
//!    Behind it, [`credentials::Cache`] asks the [`credentials::Provider`] and renews what expires.
//! 5. `rpc` signs the call ([`signature`]), sends it (`transport`) and reads the reply (`reply`, then `wire`).
//! 6. Every failure is an [`Error`]. Its variants differ in what is known about the outcome.
//! 7. The caller reports the outcome to the [`Limiter`], which adapts the rate.
//!
//! # Modules
//!
//! A module depends only on modules above it in this table.
//!
//! | module | content |
//! |---|---|
//! | [`api`] | results of the API actions, as types |
//! | [`clock`] | the local clock and the cloud's clock |
//! | [`codes`] | error codes that the client acts on |
//! | [`endpoint`] | regions, networks and their hosts |
//! | `redact` | keeps secrets out of logs and errors |
//! | `variables` | environment variables |
//! | `access_key` | access keys, secrets and temporary credentials |
//! | `role`, `session_name` | names of RAM roles and of their sessions |
//! | `provider_error` | failures of credential providers |
//! | [`error`] | every way in which a call can fail |
//! | [`rate_limit`] | finds the rate that the API allows and shares it fairly |
//! | [`observer`] | reports each call, for metrics |
//! | `transport` | sends one HTTP request and reads one reply of bounded size |
//! | `reply` | parses a reply: accepted, refused or unreadable |
//! | `wire` | converts the JSON of an accepted reply to the types of [`api`] |
//! | [`signature`] | the ACS3-HMAC-SHA256 signature |
//! | `rpc` | one call of either API: sign, send, read |
//! | [`sts`] | the STS client |
//! | [`credentials`] | the credential providers and the cache |
//! | [`identity`] | an identity: its credentials, account and circuit breaker |
//! | [`client`] | the ECS client |
//! | [`mod@connect`] | flags, settings, and the clients built from them |

mod access_key;
pub mod api;
pub mod client;
pub mod clock;
pub mod codes;
pub mod connect;
pub mod credentials;
pub mod endpoint;
pub mod error;
pub mod identity;
pub mod observer;
mod provider_error;
pub mod rate_limit;
mod redact;
mod reply;
mod role;
mod rpc;
mod session_name;
pub mod signature;
pub mod sts;
#[cfg(test)]
mod test_server;
mod transport;
mod variables;
mod wire;

pub use access_key::Credentials;
pub use api::{Instance, InstanceStatus, RegionInfo, RequestId, WITHHELD};
pub use client::{Client, Config};
pub use clock::{Clock, Dated};
pub use endpoint::{Endpoint, InvalidEndpoint, InvalidRegion, Network, Region};
pub use error::{BuildError, Error, UNRECOGNIZED_CODE, Unreadable};
pub use identity::{AccountStatus, Identity};
pub use observer::{CallObserver, CallRecord};
pub use provider_error::{FailureKind, ProviderError};
pub use rate_limit::{Action, Limiter, RateLimitKey, Rates, Requester};
pub use rpc::{CALL_SPANS, Rpc};
pub use sts::Sts;
