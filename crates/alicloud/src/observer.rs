//! Reports each call that was made, for metrics.

use std::{fmt, sync::Arc, time::Duration};

use super::{codes::known_code, error::Error};

/// One call that was made.
#[derive(Clone, Copy, Debug)]
pub struct CallRecord<'a> {
    /// The API's action.
    pub action: &'static str,
    /// Why it failed, if it did.
    pub error: Option<&'a Error>,
    /// The result as a word of a closed list: `ok`, a known code of the API, or what came instead of a reply.
    pub code: &'static str,
    /// From the first byte sent to the end of the reply.
    pub took: Duration,
}

/// What observes the calls. Cheap to clone; by default nothing does.
#[derive(Clone, Default)]
pub struct CallObserver(Option<Arc<Observe>>);

type Observe = dyn Fn(CallRecord<'_>) + Send + Sync;

impl CallObserver {
    /// Calls this function after each call.
    #[must_use]
    pub fn new(observe: impl Fn(CallRecord<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observe)))
    }

    /// A call has ended. Nothing is reported if it was not made.
    pub fn ended<T>(&self, action: &'static str, result: &Result<T, Error>, took: Duration) {
        let Some(observe) = &self.0 else { return };
        let error = result.as_ref().err();
        if error.is_none_or(|error| !error.was_not_made()) {
            observe(CallRecord { action, error, code: code(result), took });
        }
    }
}

impl fmt::Debug for CallObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallObserver").finish_non_exhaustive()
    }
}

/// The result of a call as a word of a closed list.
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
    use crate::error::Unreadable;

    #[test]
    fn results_are_words_of_a_closed_list() {
        let action = "ModifyInstanceVncPasswd";
        let api = |code: &str, http_status| Error::Api {
            action,
            code: code.to_owned(),
            request_id: None,
            http_status,
            retry_after: None,
        };
        let unreadable =
            Error::UnreadableReply { action, http_status: 200, kind: Unreadable::Html, retry_after: None };
        let table = [
            (Ok(()), Some("ok")),
            (Err(api("Throttling.User", 400)), Some("Throttling.User")),
            (Err(api("Throttling.Somehow", 400)), Some("other")),
            (Err(api("Whatever.The.Server.Says", 500)), Some("other")),
            (Err(Error::Timeout { action }), Some("timeout")),
            (Err(Error::NotSent { action, cause: "x".into() }), Some("not_sent")),
            (Err(Error::Interrupted { action, cause: "x".into() }), Some("interrupted")),
            (Err(unreadable), Some("unreadable")),
            (Err(Error::NoCredentials), None),
            (Err(Error::Invalid { action, problem: "x" }), None),
        ];
        for (result, expected) in table {
            let reported = Arc::new(Mutex::new(None));
            let kept = Arc::clone(&reported);
            let observer = CallObserver::new(move |call| *kept.lock().unwrap() = Some(call.code));
            observer.ended(action, &result, Duration::from_secs(1));
            assert_eq!(*reported.lock().unwrap(), expected, "{result:?}");
        }
    }
}
