//! Every way a call can fail, told apart by what is known of its outcome.

use std::time::Duration;

use super::{
    access_key::Unusable,
    api::RequestId,
    codes::Subject,
    provider_error::{FailureKind, ProviderError},
};

/// A cause with nothing secret in it: an error of the HTTP stack that has lost its URL.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Stands in place of a `Code` that is not shown: it does not have the form of the cloud's codes, or it
/// contains what was sent. Like any unknown code it is classified by the HTTP status.
pub const UNRECOGNIZED_CODE: &str = "UnrecognizedCode";

/// Why a call did not succeed.
///
/// No variant ever holds the URL (`VncPassword` travels in its query), the server's message, or anything else of the
/// reply but `Code` and `RequestId`. `action` is the name of the API action, such as `DescribeRegions`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with an error code: it has understood the request.
    #[error("{action} was answered with {code} (HTTP {http_status})")]
    Api {
        /// The API action.
        action: &'static str,
        /// `Code` of the reply, 1 to 128 of `[A-Za-z0-9._-]`, or [`UNRECOGNIZED_CODE`].
        code: String,
        /// `RequestId` of the reply; `None` also if it does not have its form or contains what was sent.
        request_id: Option<RequestId>,
        /// Status of the reply. Match on `code` first: the status of one code varies by product.
        http_status: u16,
        /// How long the server asks to wait: header `x-acs-retry-after`, sent when throttling. From a second to an hour.
        retry_after: Option<Duration>,
    },
    /// No complete reply within the total time-out. Outcome unknown.
    #[error("{action} was not answered in time")]
    Timeout {
        /// The API action.
        action: &'static str,
    },
    /// No connection came about, so nothing was sent and nothing has happened.
    #[error("{action} was not sent: no connection")]
    NotSent {
        /// The API action.
        action: &'static str,
        /// What kept the connection from being made.
        #[source]
        cause: Cause,
    },
    /// The connection broke after the request, or a part of it, was sent. Outcome unknown.
    #[error("{action} was sent, then the connection broke")]
    Interrupted {
        /// The API action.
        action: &'static str,
        /// What broke the connection.
        #[source]
        cause: Cause,
    },
    /// A reply came that is not the API's. Outcome unknown.
    #[error("{action} was answered with what the API does not say (HTTP {http_status}): {kind}")]
    UnreadableReply {
        /// The API action.
        action: &'static str,
        /// Status of the reply.
        http_status: u16,
        /// What is wrong with its body.
        kind: Unreadable,
        /// How long the server asks to wait, as of [`Error::Api`].
        retry_after: Option<Duration>,
    },
    /// There was nothing to send: an argument that the API would not take, or no nonce to be had.
    #[error("{action} was not called: {problem}")]
    Invalid {
        /// The API action.
        action: &'static str,
        /// What is wrong, in our own words.
        problem: &'static str,
    },
    /// The API refused these credentials a moment ago, and new ones as well: the call was not made.
    #[error("{action} was not called: the credentials were refused with {code}, and rest for a while")]
    CredentialsRest {
        /// The API action.
        action: &'static str,
        /// `Code` of that refusal.
        code: String,
        /// HTTP status of that refusal.
        http_status: u16,
    },
    /// No credentials are configured, so the call was not made.
    #[error("no credentials are configured")]
    NoCredentials,
    /// Credentials are configured but not to be had, so the call was not made. Names the provider.
    #[error(transparent)]
    Credentials(#[from] ProviderError),
}

/// What is wrong with a reply that is not the API's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It has no body.
    #[error("an empty body")]
    Empty,
    /// A web page, as proxies and load balancers send.
    #[error("a web page")]
    Html,
    /// XML that is neither an error of the API nor the expected reply.
    #[error("XML other than the API's")]
    Xml,
    /// The beginning of a JSON document.
    #[error("truncated JSON")]
    Truncated,
    /// The body is longer than any reply to this action.
    #[error("an overlong body")]
    TooLarge,
    /// Something else than a JSON object.
    #[error("no JSON")]
    NotJson,
    /// JSON, but not of the documented shape; or a success, in JSON or XML, whose `RequestId` does not have
    /// its form.
    #[error("JSON of another shape")]
    WrongShape,
    /// JSON or XML without this field. A success without `RequestId` is none.
    #[error("no {0}")]
    MissingField(&'static str),
    /// Credentials that nobody can use.
    #[error(transparent)]
    Credentials(#[from] Unusable),
    /// A redirect, which is never followed: the query holds a password.
    #[error("a redirect")]
    Redirect,
}

/// The HTTP client could not be built, for example because the system has no root certificates.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be built")]
pub struct BuildError(#[source] pub(super) reqwest::Error);

impl Error {
    /// Whether the API was never called: what is known of it is no newer than before.
    #[must_use]
    pub fn was_not_made(&self) -> bool {
        match self {
            Self::CredentialsRest { .. }
            | Self::NoCredentials
            | Self::Credentials(_)
            | Self::Invalid { .. } => true,
            Self::Api { .. }
            | Self::Timeout { .. }
            | Self::NotSent { .. }
            | Self::Interrupted { .. }
            | Self::UnreadableReply { .. } => false,
        }
    }

    /// Whether the API, or the provider of credentials, refused the identity: its credentials or its rights
    /// are refused, or the API shows it no such instance.
    ///
    /// False if the region does not exist or the instance is locked for security, because that is so for
    /// every identity. False for every other error, because it says nothing about the identity.
    #[must_use]
    pub fn refuses_identity(&self) -> bool {
        match self {
            Self::Api { .. } => matches!(self.subject(), Subject::Credentials | Subject::Identity),
            Self::Credentials(error) => error.kind == FailureKind::Refused,
            Self::NoCredentials | Self::CredentialsRest { .. } => true,
            Self::Timeout { .. }
            | Self::NotSent { .. }
            | Self::Interrupted { .. }
            | Self::UnreadableReply { .. }
            | Self::Invalid { .. } => false,
        }
    }

    /// Whether a failed call of STS refuses the identity. Every code does, except those of throttling, of a
    /// server error, and of clock and nonce.
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

    /// What the code of the reply is about; unknown where there is none.
    fn subject(&self) -> Subject {
        match self {
            Self::Api { code, http_status, retry_after, .. } => {
                Subject::of(code, *http_status, retry_after.is_some())
            }
            _ => Subject::Unknown,
        }
    }

    /// Whether the cloud answered that the account of the identity has used up its calls, be it to the call or
    /// to the request for credentials.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        match self {
            Self::Api { .. } => self.subject() == Subject::RateLimit,
            Self::Credentials(error) => error.kind == FailureKind::Throttled,
            Self::NoCredentials
            | Self::CredentialsRest { .. }
            | Self::Timeout { .. }
            | Self::NotSent { .. }
            | Self::Interrupted { .. }
            | Self::UnreadableReply { .. }
            | Self::Invalid { .. } => false,
        }
    }

    /// How long the server asks to wait, where it does.
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
    fn what_never_got_as_far_as_the_api_is_no_call() {
        let action = "RebootInstance";
        let cause = || Cause::from("x");
        let (code, http_status) = ("InvalidAccessKeyId.NotFound".to_owned(), 404);
        let problem = "broken";
        let table = [
            (Error::CredentialsRest { action, code: code.clone(), http_status }, true),
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
    fn what_refuses_the_identity_is_told_from_what_says_nothing_of_it() {
        let action = "ModifyInstanceVncPasswd";
        let provider = |failure| Error::Credentials(ProviderError::new("oidc", failure, "broken"));
        let rest = Error::CredentialsRest {
            action,
            code: "InvalidAccessKeyId.NotFound".to_owned(),
            http_status: 404,
        };
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
    fn what_sts_answers_is_a_refusal_unless_it_says_not_now() {
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
