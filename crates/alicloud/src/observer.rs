//! Reports each API call, for metrics.

use std::{fmt, sync::Arc, time::Duration};

use super::{codes::known_code, error::Error};

/// One API call.
#[derive(Clone, Copy, Debug)]
pub struct CallRecord<'a> {
    /// The API action.
    pub action: &'static str,
    /// The error, if it failed.
    pub error: Option<&'a Error>,
    /// The result as a metric label: `ok`, a code of [`KNOWN_CODES`](super::codes::KNOWN_CODES), `other`, or
    /// the kind of failure.
    pub code: &'static str,
    /// The time from the first byte sent to the end of the reply.
    pub took: Duration,
}

/// Observes the calls. Cheap to clone. The default does nothing.
#[derive(Clone, Default)]
pub struct CallObserver(Option<Arc<Observe>>);

type Observe = dyn Fn(CallRecord<'_>) + Send + Sync;

impl CallObserver {
    /// Runs this function after each call.
    #[must_use]
    pub fn new(observe: impl Fn(CallRecord<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observe)))
    }

    /// Reports the end of a call, unless the call was not made.
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

/// The result of a call as a metric label.
pub(super) fn code<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Error::Api { code, .. } | Error::CircuitOpen { code, .. }) => known_code(code).unwrap_or("other"),
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
    fn metric_labels_come_from_a_closed_list() {
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
            let recorded = Arc::clone(&reported);
            let observer = CallObserver::new(move |call| *recorded.lock().unwrap() = Some(call.code));
            observer.ended(action, &result, Duration::from_secs(1));
            assert_eq!(*reported.lock().unwrap(), expected, "{result:?}");
        }
    }
}
