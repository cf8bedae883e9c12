//! The API server's time, read from the header `Date` of a cheap reply. What is written for the operator, and what is compared
//! with its words, goes by it: this machine's clock may be off.

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use kube::{Client, client::Body};

use super::{Doing, Error};

/// This machine's clock, set right.
#[derive(Clone, Copy, Debug)]
pub struct ServerClock {
    own: fn() -> Timestamp,
    ahead: SignedDuration,
}

impl ServerClock {
    /// Asks the API server. Where it names no time, this machine's is all that is known.
    pub async fn read(client: &Client, own: fn() -> Timestamp) -> Self {
        Self { own, ahead: ahead(client, own).await.unwrap_or_default() }
    }

    /// The API server's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let own = (self.own)();
        own.checked_sub(self.ahead).unwrap_or(own)
    }
}

/// How far this machine's clock is ahead of the API server's, in whole seconds.
///
/// # Errors
/// The API server does not answer, or names no time.
pub async fn ahead(client: &Client, own: fn() -> Timestamp) -> Result<SignedDuration, Error> {
    let doing = || Doing::core("get", "/version");
    let request = http::Request::get("/version")
        .body(Body::empty())
        .map_err(|error| Error::of(doing(), kube::Error::HttpError(error)))?;
    let before = own();
    let reply = client.send(request).await.map_err(|error| Error::of(doing(), error))?;
    let after = own();
    let date = reply.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let found = date.ok_or_else(|| "the API server names no time".to_owned());
    let found = found.and_then(|date| difference(date, before, after));
    found.map_err(|said| Error::Server { doing: doing(), said })
}

/// The reply was made somewhere between `before` and `after`; the header has whole seconds, cut off.
fn difference(date: &str, before: Timestamp, after: Timestamp) -> Result<SignedDuration, String> {
    let theirs = rfc2822::parse(date).map_err(|error| error.to_string())?.timestamp();
    let ours = before.as_millisecond().midpoint(after.as_millisecond());
    Ok(SignedDuration::from_secs((ours - (theirs.as_millisecond() + 500)) / 1000))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};

    use super::*;

    #[test]
    fn a_difference_is_what_neither_the_way_nor_the_cut_explains() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (before, after, expected) in [
            ("2026-01-03T00:00:00.1Z", "2026-01-03T00:00:00.3Z", 0),
            ("2026-01-03T00:00:00.9Z", "2026-01-03T00:00:01.1Z", 0),
            ("2026-01-03T00:10:00.4Z", "2026-01-03T00:10:00.8Z", 600),
            ("2026-01-02T23:50:00.4Z", "2026-01-02T23:50:00.8Z", -599),
        ] {
            let found = difference("Sat, 03 Jan 2026 00:00:00 GMT", at(before), at(after));
            assert_eq!(found, Ok(SignedDuration::from_secs(expected)), "{before}");
        }
        assert!(difference("yesterday", Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).is_err());
    }

    #[tokio::test]
    async fn the_time_is_the_api_servers_where_it_names_one() {
        let own = || "2026-01-03T00:10:00.5Z".parse().unwrap();
        for (date, expected) in [
            (Some("Sat, 03 Jan 2026 00:00:00 GMT"), "2026-01-03T00:00:00.5Z"),
            (None, "2026-01-03T00:10:00.5Z"),
        ] {
            let service = tower::service_fn(move |request: Request<Body>| async move {
                assert_eq!(request.uri().path(), "/version");
                let reply = Response::builder();
                let reply = if let Some(date) = date { reply.header("date", date) } else { reply };
                Ok::<_, Infallible>(reply.body(Body::empty()).unwrap())
            });
            let clock = ServerClock::read(&Client::new(service, "default"), own).await;
            assert_eq!(clock.now(), expected.parse().unwrap(), "{date:?}");
        }
    }
}
