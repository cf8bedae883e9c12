//! What a reply of the API means: the one table from code to class.

use crate::api::Reason;

/// The reply to one call, as far as decisions need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The API took the password.
    Accepted {
        /// RequestId of the call.
        request_id: String,
    },
    /// The API answered with an error.
    Refused {
        /// `Code` of the error; replies are matched on it, never on the HTTP status.
        code: String,
        /// HTTP status: only an unknown code needs it.
        http_status: u16,
        /// The reply says how long to wait (`x-acs-retry-after`): only an unknown code needs it.
        asks_to_wait: bool,
        /// RequestId of the call, where there was one.
        request_id: Option<String>,
    },
    /// The call was sent, and no readable reply came: it may have been applied, or may yet be.
    Unknown,
    /// No connection could be made: nothing was sent.
    NotSent,
    /// There are no credentials to sign with.
    NoCredentials,
    /// The provider of credentials is there, but failed; the text names it and the problem, in stable words.
    CredentialsFailed(String),
}

/// What a reply means for the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Accepted.
    Accepted,
    /// The instance's state does not allow it now. Expected, no error.
    Waiting,
    /// The rate of calls is limited.
    Throttled,
    /// Whether it was applied is not known.
    OutcomeUnknown,
    /// Nothing was sent.
    Unreachable,
    /// The API says that this is no password.
    InvalidInput,
    /// The API does not know the instance or the region.
    NotFound,
    /// The identity lacks the right, or the instance is locked.
    Denied,
    /// The key or the token is not accepted, or there is none.
    Credentials,
    /// Clock or nonce: the next signature may be right.
    Signing,
    /// Any other error.
    Refused,
}

impl Class {
    /// A closed word for metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Waiting => "waiting",
            Self::Throttled => "throttled",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Unreachable => "unreachable",
            Self::InvalidInput => "invalid_input",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Credentials => "credentials",
            Self::Signing => "signing",
            Self::Refused => "refused",
        }
    }
}

/// The table of DESIGN.md: what a reply means. Codes are those of the API's reference pages.
#[must_use]
pub fn classify(reply: &Reply) -> Class {
    match reply {
        Reply::Accepted { .. } => Class::Accepted,
        Reply::Unknown => Class::OutcomeUnknown,
        Reply::NotSent => Class::Unreachable,
        Reply::NoCredentials | Reply::CredentialsFailed(_) => Class::Credentials,
        Reply::Refused { code, http_status, asks_to_wait, .. } => {
            classify_error(code, *http_status, *asks_to_wait)
        }
    }
}

/// The same for an error of whatever action. `asks_to_wait`: it says how long to wait.
#[must_use]
pub fn classify_error(code: &str, http_status: u16, asks_to_wait: bool) -> Class {
    match classify_code(code, http_status) {
        Class::Refused if asks_to_wait => Class::Throttled,
        class => class,
    }
}

/// The same where the headers are not known.
#[must_use]
pub fn classify_code(code: &str, http_status: u16) -> Class {
    match code {
        "InstanceNotReady" => Class::Waiting,
        _ if code.starts_with("IncorrectInstanceStatus") => Class::Waiting,
        "ServiceUnavailable" | "InternalError" => Class::OutcomeUnknown,
        "IncorrectVncPassword.Malformed" => Class::InvalidInput,
        "NoSuchResource" | "InvalidInstanceId.NotFound" | "InvalidRegionId.NotFound" => Class::NotFound,
        "NoPermission" | "UnauthorizedOperation" | "InstanceLockedForSecurity" => Class::Denied,
        "SignatureDoesNotMatch" => Class::Credentials,
        "SignatureNonceUsed" | "IllegalTimestamp" => Class::Signing,
        _ if code.starts_with("Throttling") || code == "Rejected.Throttling" => Class::Throttled,
        _ if code.starts_with("Forbidden") => Class::Denied,
        _ if code.starts_with("InvalidAccessKeyId") || code.starts_with("InvalidSecurityToken") => {
            Class::Credentials
        }
        _ if code.starts_with("InvalidTimeStamp") => Class::Signing,
        // Whether it was done is not known, whatever else the reply says.
        _ if http_status >= 500 => Class::OutcomeUnknown,
        _ if http_status == 429 => Class::Throttled,
        _ => Class::Refused,
    }
}

/// The reason that the object's conditions carry for this reply.
#[must_use]
pub fn reason(reply: &Reply) -> Reason {
    match (classify(reply), reply) {
        (Class::Accepted, _) => Reason::Applied,
        (Class::Waiting, Reply::Refused { code, .. }) if code == "InstanceNotReady" => {
            Reason::InstanceNotReady
        }
        (Class::Waiting, _) => Reason::IncorrectInstanceStatus,
        (Class::Throttled, _) => Reason::Throttled,
        (Class::OutcomeUnknown, _) => Reason::OutcomeUnknown,
        (Class::Unreachable, _) => Reason::Unreachable,
        (Class::InvalidInput, _) => Reason::InvalidPassword,
        (Class::NotFound, _) => Reason::InstanceNotFound,
        (Class::Denied, _) => Reason::Denied,
        (Class::Credentials, Reply::NoCredentials) => Reason::CredentialsNotFound,
        (Class::Credentials, _) => Reason::InvalidCredentials,
        (Class::Signing, _) => Reason::SignatureRejected,
        (Class::Refused, _) => Reason::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_the_class_of_the_design() {
        let table = [
            ("IncorrectInstanceStatus", 403, Class::Waiting),
            ("IncorrectInstanceStatus.Initializing", 403, Class::Waiting),
            ("InstanceNotReady", 403, Class::Waiting),
            ("Throttling", 400, Class::Throttled),
            ("Throttling.User", 400, Class::Throttled),
            ("Throttling.Api", 429, Class::Throttled),
            ("Rejected.Throttling", 503, Class::Throttled),
            ("ServiceUnavailable", 503, Class::OutcomeUnknown),
            ("InternalError", 500, Class::OutcomeUnknown),
            ("SomethingNew", 500, Class::OutcomeUnknown),
            ("SomethingNew", 502, Class::OutcomeUnknown),
            ("IncorrectVncPassword.Malformed", 400, Class::InvalidInput),
            ("NoSuchResource", 404, Class::NotFound),
            ("InvalidInstanceId.NotFound", 404, Class::NotFound),
            ("InvalidRegionId.NotFound", 404, Class::NotFound),
            ("Forbidden", 403, Class::Denied),
            ("Forbidden.RAM", 403, Class::Denied),
            ("Forbidden.RiskControl", 403, Class::Denied),
            ("NoPermission", 403, Class::Denied),
            ("UnauthorizedOperation", 403, Class::Denied),
            ("InstanceLockedForSecurity", 403, Class::Denied),
            ("InvalidAccessKeyId.NotFound", 404, Class::Credentials),
            ("InvalidAccessKeyId.Inactive", 400, Class::Credentials),
            ("SignatureDoesNotMatch", 400, Class::Credentials),
            ("InvalidSecurityToken.Expired", 400, Class::Credentials),
            ("InvalidSecurityToken.Malformed", 400, Class::Credentials),
            ("SignatureNonceUsed", 400, Class::Signing),
            ("InvalidTimeStamp.Expired", 400, Class::Signing),
            ("IllegalTimestamp", 400, Class::Signing),
            ("MissingParameter", 400, Class::Refused),
            ("InstanceExpiredOrInArrears", 403, Class::Refused),
            ("DiskError", 403, Class::Refused),
            ("SomethingNew", 400, Class::Refused),
            ("SomethingNew", 429, Class::Throttled),
            ("IncorrectInstanceStatus", 429, Class::Waiting),
            ("Forbidden.RAM", 429, Class::Denied),
            ("", 404, Class::Refused),
        ];
        for (code, http_status, class) in table {
            assert_eq!(classify_code(code, http_status), class, "{code} {http_status}");
            // A reply that says how long to wait means throttling only where it could mean anything.
            let waits = if class == Class::Refused { Class::Throttled } else { class };
            assert_eq!(
                classify_error(code, http_status, true),
                waits,
                "{code} {http_status} with the header"
            );
        }
    }

    #[test]
    fn what_is_no_reply_of_the_api_has_a_class_too() {
        assert_eq!(classify(&Reply::Unknown), Class::OutcomeUnknown);
        assert_eq!(classify(&Reply::NotSent), Class::Unreachable);
        assert_eq!(classify(&Reply::NoCredentials), Class::Credentials);
        assert_eq!(reason(&Reply::NoCredentials), Reason::CredentialsNotFound);
        assert_eq!(reason(&Reply::CredentialsFailed("down".to_owned())), Reason::InvalidCredentials);
    }
}
