//! Error codes of ECS and STS that the client acts on. Source: the API reference.

/// Codes that are always shown, and that metrics count by name. Metrics count all others together, because a
/// server can send any number of them.
pub const KNOWN_CODES: &[&str] = &[
    "Forbidden",
    "Forbidden.RAM",
    "Forbidden.RiskControl",
    "IllegalTimestamp",
    "IncorrectInstanceStatus",
    "IncorrectVncPassword.Malformed",
    "InstanceLockedForSecurity",
    "InstanceNotReady",
    "InternalError",
    "InvalidAccessKeyId.Inactive",
    "InvalidAccessKeyId.NotFound",
    "InvalidInstanceId.NotFound",
    "InvalidRegionId.NotFound",
    "InvalidSecurityToken.Expired",
    "InvalidSecurityToken.Malformed",
    "InvalidTimeStamp.Expired",
    "NoPermission",
    "NoSuchResource",
    "Rejected.Throttling",
    "ServiceUnavailable",
    "SignatureDoesNotMatch",
    "SignatureNonceUsed",
    "Throttling",
    "Throttling.Api",
    "Throttling.User",
    "UnauthorizedOperation",
];

/// The code, if it is one of [`KNOWN_CODES`].
#[must_use]
pub fn known_code(code: &str) -> Option<&'static str> {
    KNOWN_CODES.iter().find(|known| **known == code).copied()
}

/// What an error code is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The access key or the token is refused.
    Credentials,
    /// The identity lacks the right, or cannot see the instance.
    Identity,
    /// The date or the nonce of the signature is refused. The next signature may be accepted.
    Signature,
    /// The account has used up its rate limit.
    RateLimit,
    /// The server failed. The outcome of the call is unknown.
    Server,
    /// The instance, the region or the password. The same for every identity.
    Request,
    /// An unknown code.
    Unknown,
}

impl Subject {
    /// The subject of a reply with this code and HTTP status. `asks_to_wait`: the reply says how long to
    /// wait.
    pub(super) fn of(code: &str, http_status: u16, asks_to_wait: bool) -> Self {
        match code {
            "ServiceUnavailable" | "InternalError" => Self::Server,
            "SignatureNonceUsed" | "IllegalTimestamp" => Self::Signature,
            "SignatureDoesNotMatch" => Self::Credentials,
            "NoPermission" | "UnauthorizedOperation" | "NoSuchResource" | "InvalidInstanceId.NotFound" => {
                Self::Identity
            }
            "InvalidRegionId.NotFound"
            | "InstanceLockedForSecurity"
            | "InstanceNotReady"
            | "IncorrectVncPassword.Malformed" => Self::Request,
            "Rejected.Throttling" => Self::RateLimit,
            _ if code.starts_with("IncorrectInstanceStatus") => Self::Request,
            _ if code.starts_with("Throttling") => Self::RateLimit,
            _ if code.starts_with("Forbidden") => Self::Identity,
            _ if code.starts_with("InvalidAccessKeyId") || code.starts_with("InvalidSecurityToken") => {
                Self::Credentials
            }
            _ if code.starts_with("InvalidTimeStamp") => Self::Signature,
            _ if http_status >= 500 => Self::Server,
            _ if http_status == 429 || asks_to_wait => Self::RateLimit,
            _ => Self::Unknown,
        }
    }
}
