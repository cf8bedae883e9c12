//! Errors of calls, distinguished by what is known about the outcome.

use std::time::Duration;

use super::{
    access_key::Unusable,
    api::RequestId,
    codes::Subject,
    provider_error::{FailureKind, ProviderError},
};

/// An error of the HTTP client without its URL, so it contains no secret.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Replaces a `Code` that is not shown, because it does not have the form of a code or contains data that was
/// sent. It is classified by the HTTP status, like any unknown code.
pub const UNRECOGNIZED_CODE: &str = "UnrecognizedCode";

/// Why a call failed.
///
/// No variant contains the URL (`VncPassword` is part of the query), the server's message, or any part of the
/// reply except `Code` and `RequestId`. `action` is the name of the API action, such as `DescribeRegions`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server returned an error code.
    #[error("{action} was answered with {code} (HTTP {http_status})")]
    Api {
        /// The API action.
        action: &'static str,
        /// `Code` of the reply, 1 to 128 of `[A-Za-z0-9._-]`, or [`UNRECOGNIZED_CODE`].
        code: String,
        /// `RequestId` of the reply; `None` also if it is malformed or contains data that was sent.
        request_id: Option<RequestId>,
        /// HTTP status of the reply. Match on `code` first: the status of a code differs between products.
        http_status: u16,
        /// How long the server asks to wait: the header `x-acs-retry-after` of throttled replies. 1 s to 1 h.
        retry_after: Option<Duration>,
    },
    /// No complete reply within the time limit. The outcome is unknown.
    #[error("{action} was not answered in time")]
    Timeout {
        /// The API action.
        action: &'static str,
    },
    /// The connection failed. Nothing was sent.
    #[error("{action} was not sent: no connection")]
    NotSent {
        /// The API action.
        action: &'static str,
        /// Why the connection failed.
        #[source]
        cause: Cause,
    },
    /// The connection broke after the request was sent at least in part. The outcome is unknown.
    #[error("{action} was sent, then the connection broke")]
    Interrupted {
        /// The API action.
        action: &'static str,
        /// Why the connection broke.
        #[source]
        cause: Cause,
    },
    /// The reply is not a reply of the API. The outcome is unknown.
    #[error("{action} was answered with what the API does not say (HTTP {http_status}): {kind}")]
    UnreadableReply {
        /// The API action.
        action: &'static str,
        /// HTTP status of the reply.
        http_status: u16,
        /// What is wrong with the body.
        kind: Unreadable,
        /// How long the server asks to wait, as in [`Error::Api`].
        retry_after: Option<Duration>,
    },
    /// The call was not made: an argument is invalid, or the system has no random numbers.
    #[error("{action} was not called: {problem}")]
    Invalid {
        /// The API action.
        action: &'static str,
        /// What is wrong, in our own words.
        problem: &'static str,
    },
    /// The API refused these credentials a moment ago, and new ones as well: the call was not made.
    #[error("{action} was not called: the credentials were refused with {code}, and rest for a while")]
    CircuitOpen {
        /// The API action.
        action: &'static str,
        /// `Code` of that refusal.
        code: String,
        /// HTTP status of that refusal.
        http_status: u16,
    },
    /// No credentials are configured. The call was not made.
    #[error("no credentials are configured")]
    NoCredentials,
    /// The provider failed. The call was not made.
    #[error(transparent)]
    Credentials(#[from] ProviderError),
}

/// What is wrong with a reply that is not a reply of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The body is empty.
    #[error("an empty body")]
    Empty,
    /// A web page, as proxies and load balancers send.
    #[error("a web page")]
    Html,
    /// XML other than an error of the API or the expected reply.
    #[error("XML other than the API's")]
    Xml,
    /// The beginning of a JSON document.
    #[error("truncated JSON")]
    Truncated,
    /// The body is longer than the maximum for this action.
    #[error("an overlong body")]
    TooLarge,
    /// Not a JSON object.
    #[error("no JSON")]
    NotJson,
    /// JSON that does not match the documentation, or a success whose `RequestId` is malformed (JSON or XML).
    #[error("JSON of another shape")]
    WrongShape,
    /// JSON or XML without this field.
    #[error("no {0}")]
    MissingField(&'static str),
    /// Unusable credentials.
    #[error(transparent)]
    Credentials(#[from] Unusable),
    /// A redirect. It is not followed, because the query may contain a password.
    #[error("a redirect")]
    Redirect,
}

/// The HTTP client cannot be built, for example because the system has no root certificates.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be built")]
pub struct BuildError(#[source] pub(super) reqwest::Error);

impl Error {
    /// Whether the call was not made. If so, nothing new is known about the API.
    #[must_use]
    pub fn was_not_made(&self) -> bool {
        match self {
            Self::CircuitOpen { .. } | Self::NoCredentials | Self::Credentials(_) | Self::Invalid { .. } => {
                true
            }
            Self::Api { .. }
            | Self::Timeout { .. }
            | Self::NotSent { .. }
            | Self::Interrupted { .. }
            | Self::UnreadableReply { .. } => false,
        }
    }

    /// Whether the API or the credential provider refused the identity: its credentials, its permissions, or
    /// its access to the instance.
    ///
    /// False for errors that concern every identity, such as an unknown region or an instance locked for
    /// security, and for errors that say nothing about the identity.
    #[must_use]
    pub fn refuses_identity(&self) -> bool {
        match self {
            Self::Api { .. } => matches!(self.subject(), Subject::Credentials | Subject::Identity),
            Self::Credentials(error) => error.kind == FailureKind::Refused,
            Self::NoCredentials | Self::CircuitOpen { .. } => true,
            Self::Timeout { .. }
            | Self::NotSent { .. }
            | Self::Interrupted { .. }
            | Self::UnreadableReply { .. }
            | Self::Invalid { .. } => false,
        }
    }

    /// The kind of a failed STS call. Every code refuses the identity, except those about throttling, server
    /// errors, date and nonce.
    pub(super) fn failure_kind(&self) -> FailureKind {
        match self.subject() {
            _ if !matches!(self, Self::Api { .. }) => {
                if self.refuses_identity() {
                    FailureKind::Refused
                } else {
                    FailureKind::Unanswered
                }
            }
            Subject::RateLimit => FailureKind::Throttled,
            Subject::Credentials | Subject::Identity | Subject::Request | Subject::Unknown => {
                FailureKind::Refused
            }
            Subject::Server | Subject::Signature => FailureKind::Unanswered,
        }
    }

    /// Whether the API refused the credentials themselves: the key or the token.
    #[must_use]
    pub fn refuses_credentials(&self) -> bool {
        self.subject() == Subject::Credentials
    }

    /// The subject of the code; `Unknown` without a code.
    fn subject(&self) -> Subject {
        match self {
            Self::Api { code, http_status, retry_after, .. } => {
                Subject::of(code, *http_status, retry_after.is_some())
            }
            _ => Subject::Unknown,
        }
    }

    /// Whether the call, or the request for credentials, was throttled.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        match self {
            Self::Api { .. } => self.subject() == Subject::RateLimit,
            Self::Credentials(error) => error.kind == FailureKind::Throttled,
            Self::NoCredentials
            | Self::CircuitOpen { .. }
            | Self::Timeout { .. }
            | Self::NotSent { .. }
            | Self::Interrupted { .. }
            | Self::UnreadableReply { .. }
            | Self::Invalid { .. } => false,
        }
    }

    /// How long the server asks to wait, if it does.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api { retry_after, .. } | Self::UnreadableReply { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_was_not_made_if_nothing_was_attempted() {
        let action = "RebootInstance";
        let cause = || Cause::from("x");
        let (code, http_status) = ("InvalidAccessKeyId.NotFound".to_owned(), 404);
        let problem = "broken";
        let table = [
            (Error::CircuitOpen { action, code: code.clone(), http_status }, true),
            (Error::NoCredentials, true),
            (Error::Credentials(ProviderError::new("oidc", FailureKind::Refused, problem)), true),
            (Error::Invalid { action, problem }, true),
            (Error::Api { action, code, request_id: None, http_status, retry_after: None }, false),
            (Error::Timeout { action }, false),
            (Error::NotSent { action, cause: cause() }, false),
            (Error::Interrupted { action, cause: cause() }, false),
            (
                Error::UnreadableReply { action, http_status, kind: Unreadable::Empty, retry_after: None },
                false,
            ),
        ];
        for (error, expected) in table {
            assert_eq!(error.was_not_made(), expected, "{error}");
        }
    }

    fn api(code: &str, http_status: u16) -> Error {
        let (action, code) = ("ModifyInstanceVncPasswd", code.to_owned());
        Error::Api { action, code, request_id: None, http_status, retry_after: None }
    }

    #[test]
    fn only_errors_about_the_identity_refuse_it() {
        let action = "ModifyInstanceVncPasswd";
        let provider = |failure| Error::Credentials(ProviderError::new("oidc", failure, "broken"));
        let rest =
            Error::CircuitOpen { action, code: "InvalidAccessKeyId.NotFound".to_owned(), http_status: 404 };
        let table = [
            (api("InvalidAccessKeyId.NotFound", 404), true),
            (api("InvalidSecurityToken.Expired", 400), true),
            (api("SignatureDoesNotMatch", 400), true),
            (api("NoSuchResource", 404), true),
            (api("InvalidInstanceId.NotFound", 404), true),
            (api("Forbidden", 403), true),
            (api("Forbidden.RAM", 403), true),
            (api("NoPermission", 403), true),
            (api("UnauthorizedOperation", 403), true),
            (rest, true),
            (Error::NoCredentials, true),
            (provider(FailureKind::Refused), true),
            (provider(FailureKind::Unanswered), false),
            (api("InvalidRegionId.NotFound", 404), false),
            (api("InstanceLockedForSecurity", 403), false),
            (api("IncorrectInstanceStatus", 403), false),
            (api("IncorrectVncPassword.Malformed", 400), false),
            (api("Throttling.User", 400), false),
            (api("ServiceUnavailable", 503), false),
            (api("SignatureNonceUsed", 400), false),
            (api("InvalidTimeStamp.Expired", 400), false),
            (api("SomethingNew", 403), false),
            (api("SomethingNew", 404), false),
            (api(UNRECOGNIZED_CODE, 403), false),
            (api(UNRECOGNIZED_CODE, 500), false),
            (Error::Timeout { action }, false),
            (Error::NotSent { action, cause: Cause::from("x") }, false),
            (Error::Interrupted { action, cause: Cause::from("x") }, false),
            (
                Error::UnreadableReply {
                    action,
                    http_status: 403,
                    kind: Unreadable::Html,
                    retry_after: None,
                },
                false,
            ),
            (Error::Invalid { action, problem: "broken" }, false),
        ];
        for (error, expected) in table {
            assert_eq!(error.refuses_identity(), expected, "{error}");
        }
    }

    #[test]
    fn an_sts_error_is_a_refusal_unless_it_is_temporary() {
        let action = "AssumeRole";
        let throttled = |http_status, retry_after| Error::Api {
            action,
            code: "SomethingNew".to_owned(),
            request_id: None,
            http_status,
            retry_after,
        };
        let table = [
            (api("InvalidAccessKeyId.NotFound", 404), FailureKind::Refused),
            (api("NoPermission", 403), FailureKind::Refused),
            (api("EntityNotExist.Role", 404), FailureKind::Refused),
            (api("AuthenticationFail.OIDCToken.Expired", 400), FailureKind::Refused),
            (api(UNRECOGNIZED_CODE, 400), FailureKind::Refused),
            (api(UNRECOGNIZED_CODE, 500), FailureKind::Unanswered),
            (api("Throttling.User", 400), FailureKind::Throttled),
            (throttled(429, None), FailureKind::Throttled),
            (throttled(400, Some(Duration::from_secs(1))), FailureKind::Throttled),
            (api("InternalError", 500), FailureKind::Unanswered),
            (api("SignatureNonceUsed", 400), FailureKind::Unanswered),
            (Error::Timeout { action }, FailureKind::Unanswered),
            (Error::NotSent { action, cause: Cause::from("x") }, FailureKind::Unanswered),
            (Error::Interrupted { action, cause: Cause::from("x") }, FailureKind::Unanswered),
            (
                Error::UnreadableReply {
                    action,
                    http_status: 200,
                    kind: Unreadable::Html,
                    retry_after: None,
                },
                FailureKind::Unanswered,
            ),
            (Error::Invalid { action, problem: "broken" }, FailureKind::Unanswered),
        ];
        for (error, expected) in table {
            assert_eq!(error.failure_kind(), expected, "{error}");
        }
    }
}
