//! Why a command ends early, told so that the reader knows what to do, and the exit codes.

use std::{fmt, io};

use kube::config::KubeconfigError;

use vncpassword_core::api::GROUP;

/// The work was done.
pub const DONE: u8 = 0;
/// Something failed, or is wrong.
pub const FAILED: u8 = 1;
/// The command was not understood.
pub const USAGE: u8 = 2;
/// The time given with `--timeout` was up.
pub const TIMED_OUT: u8 = 3;

/// What was asked of the API server, for messages: the verb as in RBAC, the resource, where, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doing {
    /// Such as `list`.
    pub verb: &'static str,
    /// Such as `vncpasswords`.
    pub resource: &'static str,
    /// The resource's group; empty: the core.
    pub group: &'static str,
    /// Absent: in no namespace, or in all.
    pub namespace: Option<String>,
    /// Absent: all of them.
    pub name: Option<String>,
}

impl Doing {
    /// Of the kinds of this group.
    #[must_use]
    pub fn ours(verb: &'static str, resource: &'static str) -> Self {
        Self { verb, resource, group: GROUP, namespace: None, name: None }
    }

    /// Of the core's kinds.
    #[must_use]
    pub fn core(verb: &'static str, resource: &'static str) -> Self {
        Self { verb, resource, group: "", namespace: None, name: None }
    }

    /// Of another group's kinds.
    #[must_use]
    pub fn of(verb: &'static str, resource: &'static str, group: &'static str) -> Self {
        Self { verb, resource, group, namespace: None, name: None }
    }

    /// In this namespace.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// To this one.
    #[must_use]
    pub fn to(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The resource as `kubectl auth can-i` takes it.
    fn qualified(&self) -> String {
        if self.group.is_empty() {
            return self.resource.to_owned();
        }
        format!("{}.{}", self.resource, self.group)
    }

    fn place(&self) -> String {
        self.namespace.as_deref().map_or_else(String::new, |namespace| format!(" in namespace {namespace}"))
    }

    /// What it was about, such as `VncPassword db-1 in namespace prod`.
    #[must_use]
    pub fn object(&self) -> String {
        let Some(name) = &self.name else { return format!("{}{}", self.resource, self.place()) };
        let kind = match self.resource {
            "vncpasswords" => "VncPassword",
            "clustervncpasswords" => "ClusterVncPassword",
            "secrets" => "Secret",
            other => other,
        };
        format!("{kind} {name}{}", self.place())
    }
}

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command was not understood.
    #[error("{0}")]
    Usage(String),
    /// The kubeconfig cannot be used.
    #[error(
        "no cluster can be told from the kubeconfig: {0}; name one with --kubeconfig and --context, or set KUBECONFIG"
    )]
    Kubeconfig(#[source] KubeconfigError),
    /// The client cannot be made of it.
    #[error("no connection can be made with this kubeconfig: {}", root(.0))]
    Client(#[source] Box<kube::Error>),
    /// The caller lacks a right.
    #[error("{}", forbidden(.doing, .said))]
    Forbidden {
        /// What was tried.
        doing: Doing,
        /// What the API server said.
        said: String,
    },
    /// The API server does not know who calls.
    #[error(
        "the API server did not take the credentials of the kubeconfig: {0}; log in again, or choose with --context or --user"
    )]
    Unauthorized(String),
    /// The object does not exist.
    #[error("there is no {}; see kubectl vncpassword status{}", .0.object(), if .0.namespace.is_some() { " -A" } else { " --fleets" })]
    NotFound(Doing),
    /// The kinds are not installed.
    #[error(
        "this cluster does not know {0}: the kinds are not installed; install the operator's chart, or apply the files in \
         crds/ (kubectl apply --server-side -f crds/)"
    )]
    KindsMissing(String),
    /// The API server cannot be reached.
    #[error("cannot {} {}: the API server does not answer: {said}; check the network, --context and --server", .doing.verb, .doing.object())]
    Unreachable {
        /// What was tried.
        doing: Doing,
        /// Why not.
        said: String,
    },
    /// The API server refused, or its reply cannot be read.
    #[error("cannot {} {}: {said}", .doing.verb, .doing.object())]
    Server {
        /// What was tried.
        doing: Doing,
        /// Why not.
        said: String,
    },
    /// Something else failed; the text says all.
    #[error("{0}")]
    Failed(String),
    /// What is wrong was said already.
    #[error("")]
    AlreadyReported(u8),
    /// The time was up.
    #[error("{0}")]
    TimedOut(String),
    /// The answer cannot be written.
    #[error("the answer cannot be written: {0}")]
    Output(#[source] io::Error),
}

impl Error {
    /// What the program ends with.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::TimedOut(_) => TIMED_OUT,
            Self::AlreadyReported(code) => *code,
            // Whoever reads has seen enough, as of `| head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => DONE,
            _ => FAILED,
        }
    }

    /// What the person is told; `None`: nothing more.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        match self {
            Self::AlreadyReported(_) => None,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            other => Some(other.to_string()),
        }
    }

    /// Puts an error of the client into words.
    #[must_use]
    pub fn of(doing: Doing, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Self::Unauthorized(status.message),
                403 => Self::Forbidden { doing, said: status.message },
                // A kind that is not there has no details that name an object.
                404 if doing.group == GROUP
                    && status.details.is_none_or(|details| details.name.is_empty()) =>
                {
                    Self::KindsMissing(doing.qualified())
                }
                404 => Self::NotFound(doing),
                _ => Self::Server { doing, said: status.message },
            },
            kube::Error::Auth(error) => Self::Unauthorized(root(&error)),
            error @ (kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_)) => {
                Self::Unreachable { doing, said: root(&error) }
            }
            error => Self::Server { doing, said: root(&error) },
        }
    }
}

fn forbidden(doing: &Doing, said: &str) -> String {
    let Doing { verb, namespace, .. } = doing;
    let flag = match namespace {
        Some(namespace) => format!(" -n {namespace}"),
        // Without it the answer would be about the namespace of the context.
        None if matches!(doing.resource, "vncpasswords" | "secrets") => " -A".to_owned(),
        None => String::new(),
    };
    let resource = doing.qualified();
    format!(
        "you may not {verb} {}: the right to {verb} {resource}{} is missing; have it granted, and check with: kubectl auth \
         can-i {verb} {resource}{flag} (the API server said: {said})",
        doing.object(),
        doing.place()
    )
}

/// The innermost cause: the outer ones only repeat which layer it went through.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Several of them, named until there are too many.
#[must_use]
pub fn some_of<T: fmt::Display>(all: &[T], most: usize) -> String {
    let named: Vec<String> = all.iter().take(most).map(ToString::to_string).collect();
    match all.len().saturating_sub(most) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, name: Option<&str>) -> kube::Error {
        let details = name.map(|name| serde_json::json!({"name": name}));
        let status = serde_json::json!({"code": code, "message": "said", "details": details});
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn each_message_says_what_happened_to_what_and_what_to_do() {
        let doing = || Doing::ours("list", "vncpasswords").within("prod");
        let message = |error| Error::of(doing(), error).to_string();
        assert_eq!(
            message(api(403, None)),
            "you may not list vncpasswords in namespace prod: the right to list vncpasswords.vncpassword.dev in namespace prod is \
             missing; have it granted, and check with: kubectl auth can-i list vncpasswords.vncpassword.dev -n prod (the \
             API server said: said)"
        );
        let everywhere = Error::of(Doing::ours("list", "vncpasswords"), api(403, None)).to_string();
        assert!(everywhere.contains("can-i list vncpasswords.vncpassword.dev -A ("), "{everywhere}");
        assert!(message(api(404, None)).contains("the kinds are not installed"));
        let missing = Error::of(doing().to("db-1"), api(404, Some("db-1"))).to_string();
        assert_eq!(
            missing,
            "there is no VncPassword db-1 in namespace prod; see kubectl vncpassword status -A"
        );
        assert_eq!(message(api(500, None)), "cannot list vncpasswords in namespace prod: said");
        assert!(message(api(401, None)).contains("log in again"));
    }

    #[test]
    fn exit_codes_are_those_of_the_documents() {
        assert_eq!(Error::Usage(String::new()).code(), 2);
        assert_eq!(Error::TimedOut(String::new()).code(), 3);
        assert_eq!(Error::Failed(String::new()).code(), 1);
        let pipe = Error::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!((pipe.code(), pipe.message()), (0, None));
    }
}
