//! HTTP requests of the providers: one attempt, a reply of bounded size, and errors without the URL.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::FailureKind;
use crate::{
    error::{Error, Unreadable},
    rpc::{Rpc, SHORT_REPLY},
    transport::Outgoing,
};

/// Why there is no reply. The subject of the sentence is the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error("cannot be reached")]
    NoConnection,
    #[error("does not answer in time")]
    Timeout,
    #[error("breaks the connection")]
    Interrupted,
    #[error("answers with HTTP status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("answers with {0}")]
    Unreadable(Unreadable),
    #[error("does not answer with Code Success")]
    Refused,
}

impl FetchError {
    /// Whether there is no server.
    pub(super) fn is_absence(self) -> bool {
        matches!(self, Self::NoConnection | Self::Timeout)
    }

    pub(super) fn failure_kind(self) -> FailureKind {
        match self {
            // Both are temporary.
            Self::Status(StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
                FailureKind::Unanswered
            }
            Self::Status(status) if status.is_client_error() => FailureKind::Refused,
            Self::Refused => FailureKind::Refused,
            Self::NoConnection
            | Self::Timeout
            | Self::Interrupted
            | Self::Status(_)
            | Self::Unreadable(_) => FailureKind::Unanswered,
        }
    }
}

/// The body of a reply with status 200. `time_limit`: the time limit.
pub(super) async fn fetch(
    rpc: &Rpc,
    method: Method,
    url: &str,
    headers: HeaderMap,
    time_limit: Duration,
) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    let request = Outgoing { method, url, headers, body: Zeroizing::default(), limit: SHORT_REPLY };
    let received = rpc
        .send_without_clock("credentials", request, Instant::now() + time_limit)
        .await
        .map_err(|error| match error {
            Error::NotSent { .. } => FetchError::NoConnection,
            Error::Timeout { .. } => FetchError::Timeout,
            _ => FetchError::Interrupted,
        })?;
    match received.status {
        StatusCode::OK => received.body.map_err(FetchError::Unreadable),
        status if status.is_redirection() => Err(FetchError::Unreadable(Unreadable::Redirect)),
        status => Err(FetchError::Status(status)),
    }
}
