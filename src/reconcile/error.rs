//! Errors of requests to the API server. Each variant names the step and the object.

use std::time::Duration;

use crate::{
    runtime::random::NoRandomNumbers,
    store::{object::Key, secrets::SecretError},
};
use vncpassword_kube_client as kube_client;

/// A failed step. No text contains contents of a Secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object could not be read.
    #[error("cannot read VncPassword {object}")]
    ReadObject {
        /// The object.
        object: Key,
        /// What the API server or the connection said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The status could not be written.
    #[error("cannot write the status of VncPassword {object}")]
    WriteStatus {
        /// The object.
        object: Key,
        /// What the API server or the connection said.
        #[source]
        source: Box<kube::Error>,
    },
    /// Consecutive conflicts with other writers of the status or the Secret.
    #[error("cannot write what VncPassword {object} asks for: others keep changing it or its Secret")]
    Contended {
        /// The object.
        object: Key,
    },
    /// A reconcile did not end: an error in the operator. The backoff keeps it from running without a pause.
    #[error("VncPassword {object} comes to no end; please report this with its status")]
    Endless {
        /// The object.
        object: Key,
    },
    /// A `VncPassword` of a fleet could not be read or written.
    #[error("cannot read or write VncPassword {object} of its fleet")]
    WriteMemberObject {
        /// The object.
        object: Key,
        /// What the API server or the connection said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The status of a fleet could not be written.
    #[error("cannot write the status of ClusterVncPassword {fleet}")]
    WriteFleet {
        /// The fleet's name.
        fleet: std::sync::Arc<str>,
        /// What the API server or the connection said.
        #[source]
        source: Box<kube::Error>,
    },
    /// A request could not be put together.
    #[error("cannot put a request together")]
    Request {
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A Secret could not be read or written.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The system gives no random numbers.
    #[error(transparent)]
    NoRandomNumbers(#[from] NoRandomNumbers),
}

impl Error {
    /// How long the API server asked to wait before the next request, 30 s at most.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Secret(error) => error.retry_after(),
            Self::ReadObject { source, .. }
            | Self::WriteStatus { source, .. }
            | Self::WriteMemberObject { source, .. }
            | Self::WriteFleet { source, .. }
            | Self::Request { source } => kube_client::retry_after(source),
            Self::Contended { .. } | Self::Endless { .. } | Self::NoRandomNumbers(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn nobody_is_asked_to_publish_what_is_as_good_as_a_password() {
        let text = Error::Endless { object: Key::new("n", "a") }.to_string();
        assert!(text.ends_with("please report this with its status"), "{text}");
    }

    #[test]
    fn a_server_that_asks_to_wait_is_heard() {
        let asks = r#"{"code": 429, "details": {"retryAfterSeconds": 7}}"#;
        for (status, expected) in [(asks, Some(Duration::from_secs(7))), (r#"{"code": 429}"#, None)] {
            let status: Box<Status> = serde_json::from_str(status).unwrap();
            let error =
                Error::WriteStatus { object: Key::new("n", "a"), source: Box::new(kube::Error::Api(status)) };
            assert_eq!(error.retry_after(), expected);
        }
    }
}
