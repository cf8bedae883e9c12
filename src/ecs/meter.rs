//! What became of each call, for whoever counts: in words of a closed list, and how long it took.

use std::{fmt, sync::Arc, time::Duration};

use super::error::Error;
use crate::rotation::outcome::{Class, classify, known_code};

/// One call that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// The API's action.
    pub action: &'static str,
    /// What the reply means.
    pub class: Class,
    /// The reply's code where it is a known one, `ok`, or a word for what came instead of a reply.
    pub code: &'static str,
    /// From the first byte that was sent to the end of the reply.
    pub took: Duration,
}

/// Who is told of each call. Cheap to clone; by default nobody.
#[derive(Clone, Default)]
pub struct Meter(Option<Arc<Told>>);

/// What is told.
type Told = dyn Fn(Made) + Send + Sync;

impl Meter {
    /// Tells this one.
    #[must_use]
    pub fn new(told: impl Fn(Made) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    /// Tells what a test makes up.
    #[cfg(test)]
    pub(crate) fn tell_for_test(&self, made: Made) {
        self.0.as_ref().into_iter().for_each(|told| told(made));
    }

    /// A call has ended.
    pub(super) fn tell<T>(&self, action: &'static str, result: &Result<T, Error>, took: Duration) {
        let Some(told) = &self.0 else { return };
        let class = match result {
            Ok(_) => Class::Accepted,
            Err(error) if error.was_not_made() => return,
            Err(error) => classify(&error.into()),
        };
        told(Made { action, class, code: code(result), took });
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").finish_non_exhaustive()
    }
}

/// What a call came to, as a word of a closed list.
pub(super) fn code<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Error::Api { code, .. } | Error::CredentialsRest { code, .. }) => {
            known_code(code).unwrap_or("other")
        }
        Err(Error::Timeout { .. }) => "timeout",
        Err(Error::NotSent { .. }) => "not_sent",
        Err(Error::Interrupted { .. }) => "interrupted",
        Err(Error::UnreadableReply { .. }) => "unreadable",
        Err(Error::Invalid { .. } | Error::NoCredentials | Error::Credentials(_)) => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::ecs::error::Unreadable;

    #[test]
    fn what_is_told_is_from_a_closed_list() {
        let action = "ModifyInstanceVncPasswd";
        let api = |code: &str, http_status| Error::Api {
            action,
            code: code.to_owned(),
            request_id: None,
            http_status,
            retry_after: None,
        };
        let table = [
            (Ok(()), Some((Class::Accepted, "ok"))),
            (Err(api("Throttling.User", 400)), Some((Class::Throttled, "Throttling.User"))),
            (Err(api("Throttling.Somehow", 400)), Some((Class::Throttled, "other"))),
            (Err(api("Whatever.The.Server.Says", 500)), Some((Class::OutcomeUnknown, "other"))),
            (Err(Error::Timeout { action }), Some((Class::OutcomeUnknown, "timeout"))),
            (Err(Error::NotSent { action, cause: "x".into() }), Some((Class::Unreachable, "not_sent"))),
            (
                Err(Error::Interrupted { action, cause: "x".into() }),
                Some((Class::OutcomeUnknown, "interrupted")),
            ),
            (
                Err(Error::UnreadableReply {
                    action,
                    http_status: 200,
                    kind: Unreadable::Html,
                    retry_after: None,
                }),
                Some((Class::OutcomeUnknown, "unreadable")),
            ),
            (Err(Error::NoCredentials), None),
            (Err(Error::Invalid { action, problem: "x" }), None),
        ];
        for (result, expected) in table {
            let seen = Arc::new(Mutex::new(None));
            let told = Arc::clone(&seen);
            let meter = Meter::new(move |made: Made| *told.lock().unwrap() = Some((made.class, made.code)));
            meter.tell(action, &result, Duration::from_secs(1));
            assert_eq!(*seen.lock().unwrap(), expected, "{result:?}");
        }
    }
}
