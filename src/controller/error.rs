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
    /// The API server's answer is no Secret. What it is instead is not said: it may hold the password.
    #[error("cannot read Secret {secret}: the answer of the API server is no Secret")]
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
    /// The status could not be written for conflicts with other writers, several times in a row.
    #[error("cannot write the status of VncPassword {object}: others keep changing the object")]
    Contended {
        /// The object.
        object: Key,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
}
