//! What can go wrong on the Kubernetes side: each variant names the step, and the object through its key.

use super::object::Key;

/// A step that failed. None of these texts holds contents of a Secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret could not be read.
    #[error("cannot read Secret {secret}")]
    ReadSecret {
        /// The Secret.
        secret: Key,
        /// What the API server or the connection said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The Secret could not be written.
    #[error("cannot write Secret {secret}")]
    WriteSecret {
        /// The Secret.
        secret: Key,
        /// What the API server or the connection said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server's answer is no Secret. What it is instead is not said: it may hold the password.
    #[error("the answer of the API server about Secret {secret} is no Secret")]
    UnreadableSecret {
        /// The Secret.
        secret: Key,
    },
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
    /// The status or the Secret could not be written for conflicts with other writers, several times in a row.
    #[error("cannot write what VncPassword {object} asks for: others keep changing it or its Secret")]
    Contended {
        /// The object.
        object: Key,
    },
    /// A `VncPassword` of a fleet could not be read or written.
    #[error("cannot read or write VncPassword {object} of its fleet")]
    WriteChild {
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
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
}
