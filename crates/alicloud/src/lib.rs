//! The cloud client: speaks to the ECS API of Alibaba Cloud and knows nothing of Kubernetes.
//!
//! | file | what lives there |
//! |---|---|
//! | [`client`] | [`Client`]: one method per API action, one attempt per call |
//! | [`api`] | what the actions answer, as types |
//! | [`error`] | every way a call can fail, told apart by what is known of its outcome |
//! | [`endpoint`] | regions, networks, and the hosts behind them |
//! | [`signature`] | ACS3-HMAC-SHA256, a pure function |
//! | [`credentials`] | who we are: the provider trait and the providers |
//! | [`limiter`] | adapts to what the API lets through, and shares it out fairly |
//! | `transport` | one request out, one reply of bounded size in |
//! | `reply` | from the bytes of a reply to accepted, refused or unreadable |
//! | `wire` | from the JSON of an accepted reply to the types of `api` |
//! | [`clock`] | the time: ours, and the cloud's |
//! | [`identity`] | who calls, and whether the cloud takes that |
//! | [`sts`] | the API that issues temporary credentials |
//! | `rpc` | one call, signed or not, whatever the API |
//! | [`observer`] | reports each call, for metrics |
//! | [`connect`] | how a program reaches the cloud: arguments, settings, clients |
//! | [`codes`] | error codes, as far as the client acts on them |
//! | `mask` | keeps secrets out of the debug log |

pub mod api;
pub mod client;
pub mod clock;
pub mod codes;
pub mod connect;
pub mod credentials;
pub mod endpoint;
pub mod error;
pub mod identity;
pub mod limiter;
mod mask;
pub mod observer;
mod reply;
mod rpc;
pub mod signature;
pub mod sts;
#[cfg(test)]
mod test_server;
mod transport;
mod wire;

pub use api::{Instance, InstanceStatus, RegionInfo, RequestId, WITHHELD};
pub use client::{Client, Config};
pub use clock::{Clock, Dated};
pub use credentials::{Credentials, FailureKind, ProviderError};
pub use endpoint::{Endpoint, InvalidEndpoint, InvalidRegion, Network, Region};
pub use error::{BuildError, Error, UNRECOGNIZED_CODE, Unreadable};
pub use identity::{Identity, Standing};
pub use limiter::{Action, Limiter, Rates, Requester, Route};
pub use observer::{CallObserver, CallRecord};
pub use rpc::{CALL_SPANS, Rpc};
pub use sts::Sts;
