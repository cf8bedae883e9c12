//! What an error of the cloud client means: to decisions, and to the rate limiter.

use vncpassword_alicloud::{Error, rate_limit::Report};
use vncpassword_core::rotation::outcome::{Class, Reply, classify};

/// The reply, as far as decisions need it.
#[must_use]
pub fn reply(error: &Error) -> Reply {
    match error {
        Error::Api { code, request_id, http_status, retry_after, .. } => Reply::Refused {
            code: code.clone(),
            http_status: *http_status,
            asks_to_wait: retry_after.is_some(),
            request_id: request_id.as_ref().map(ToString::to_string),
        },
        Error::CircuitOpen { code, http_status, .. } => Reply::Refused {
            code: code.clone(),
            http_status: *http_status,
            asks_to_wait: false,
            request_id: None,
        },
        Error::Timeout { .. } | Error::Interrupted { .. } | Error::UnreadableReply { .. } => Reply::Unknown,
        Error::NotSent { .. } | Error::Invalid { .. } => Reply::NotSent,
        Error::NoCredentials => Reply::NoCredentials,
        Error::Credentials(error) => Reply::CredentialsFailed(error.to_string()),
    }
}

/// The class of the reply.
#[must_use]
pub fn class(error: &Error) -> Class {
    classify(&reply(error))
}

/// What the rate limiter is to record about a call. `error`: why the call failed; `None`: the API accepted
/// it.
#[must_use]
pub fn report(error: Option<&Error>) -> Report {
    let Some(error) = error else { return Report::Passed };
    if error.was_not_made() {
        return Report::Lost;
    }
    let wait = error.retry_after();
    match class(error) {
        Class::Throttled => Report::Throttled(wait),
        Class::OutcomeUnknown => wait.map_or(Report::Lost, Report::LostAndThrottled),
        Class::Unreachable => Report::Lost,
        Class::Accepted
        | Class::Waiting
        | Class::InvalidInput
        | Class::NotFound
        | Class::Denied
        | Class::Credentials
        | Class::Signing
        | Class::Refused => Report::Passed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use vncpassword_alicloud::{Unreadable, codes::KNOWN_CODES};

    fn api(code: &str, http_status: u16, retry_after: Option<Duration>) -> Error {
        let (action, code) = ("ModifyInstanceVncPasswd", code.to_owned());
        Error::Api { action, code, request_id: None, http_status, retry_after }
    }

    #[test]
    fn a_call_is_reported_to_the_limiter() {
        let action = "ModifyInstanceVncPasswd";
        let second = Some(Duration::from_secs(1));
        let unreadable = |retry_after| Error::UnreadableReply {
            action,
            http_status: 429,
            kind: Unreadable::Html,
            retry_after,
        };
        let table = [
            (None, Report::Passed),
            (Some(api("Throttling.User", 400, None)), Report::Throttled(None)),
            (Some(api("Throttling.User", 400, second)), Report::Throttled(Some(Duration::from_secs(1)))),
            (Some(api("SomethingNew", 429, None)), Report::Throttled(None)),
            (Some(api("SomethingNew", 400, second)), Report::Throttled(Some(Duration::from_secs(1)))),
            (Some(api("SomethingNew", 400, None)), Report::Passed),
            (Some(api("Forbidden.RAM", 403, second)), Report::Passed),
            (Some(api("SomethingNew", 503, None)), Report::Lost),
            (Some(api("SomethingNew", 503, second)), Report::LostAndThrottled(Duration::from_secs(1))),
            (Some(api("ServiceUnavailable", 503, second)), Report::LostAndThrottled(Duration::from_secs(1))),
            (Some(unreadable(None)), Report::Lost),
            (Some(unreadable(second)), Report::LostAndThrottled(Duration::from_secs(1))),
            (Some(Error::Timeout { action }), Report::Lost),
            (Some(Error::NoCredentials), Report::Lost),
            (Some(api("InvalidAccessKeyId.NotFound", 404, None)), Report::Passed),
        ];
        for (error, expected) in table {
            assert_eq!(report(error.as_ref()), expected, "{error:?}");
        }
    }

    /// The client has a small table of its own: it must say the same as that of the decisions.
    #[test]
    fn the_client_and_the_decisions_agree_on_each_code() {
        let more = [
            "IncorrectInstanceStatus.Initializing",
            "Throttling.New",
            "MissingParameter",
            "SomethingNew",
            "",
        ];
        for code in KNOWN_CODES.iter().chain(&more) {
            for status in [200, 400, 403, 404, 429, 500, 503] {
                for retry_after in [None, Some(Duration::from_secs(1))] {
                    let error = api(code, status, retry_after);
                    let class = class(&error);
                    let identity = match class {
                        Class::Credentials => true,
                        Class::NotFound => *code != "InvalidRegionId.NotFound",
                        Class::Denied => *code != "InstanceLockedForSecurity",
                        _ => false,
                    };
                    assert_eq!(error.is_throttled(), class == Class::Throttled, "{error} {retry_after:?}");
                    assert_eq!(error.refuses_credentials(), class == Class::Credentials, "{error}");
                    assert_eq!(error.refuses_identity(), identity, "{error}");
                }
            }
        }
    }
}
