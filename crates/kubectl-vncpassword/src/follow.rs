//! Following objects by a watch that survives being lost: the client lists and watches again, and what happened in between
//! is in the list.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use futures::{Stream, StreamExt};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{WatchStreamExt, utils::Backoff, watcher},
};
use serde::de::DeserializeOwned;

use super::{Doing, Error};

/// What is heard.
#[derive(Clone, Debug)]
pub enum Heard<K> {
    /// It is like this now.
    Is(Box<K>),
    /// It is gone.
    Gone(Box<K>),
    /// All that there is has been heard.
    Complete,
    /// The watch was lost, and is taken up again.
    Lost(String),
}

/// Between two attempts to take a watch up again: a person is waiting.
struct Impatient(Duration);

const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(3);

impl Iterator for Impatient {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.0;
        self.0 = (delay * 2).min(LATEST);
        Some(delay)
    }
}

impl Backoff for Impatient {
    fn reset(&mut self) {
        self.0 = SOONEST;
    }
}

/// Follows what fits. The stream ends with an error where trying again is of no use.
pub fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    doing: Doing,
) -> impl Stream<Item = Result<Heard<K>, Error>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let watch = watcher(api, config).backoff(Impatient(SOONEST));
    let mut known = Fetched::default();
    let heard = watch.flat_map(move |event| {
        let heard: Vec<_> = match event {
            Ok(event) => known.take(event).into_iter().map(Ok).collect(),
            Err(error) => watch_error(error, &doing).into_iter().collect(),
        };
        futures::stream::iter(heard)
    });
    let mut over = false;
    heard.take_while(move |heard| {
        let goes_on = !over;
        over = heard.is_err();
        std::future::ready(goes_on)
    })
}

/// An error in words; nothing where it is the usual end of a watch.
fn watch_error<K>(error: watcher::Error, doing: &Doing) -> Option<Result<Heard<K>, Error>> {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    let with = |verb| Doing { verb, ..doing.clone() };
    let error = match error {
        WatchError(status) if status.code == 410 => return None,
        InitialListFailed(error) => Error::of(with("list"), error),
        WatchStartFailed(error) | WatchFailed(error) => Error::of(with("watch"), error),
        WatchError(status) => Error::of(with("watch"), kube::Error::Api(status)),
        error @ NoResourceVersion => Error::Server { doing: with("watch"), said: error.to_string() },
    };
    Some(match error {
        error @ (Error::Forbidden { .. } | Error::Unauthorized(_) | Error::KindsMissing(_)) => Err(error),
        error => Ok(Heard::Lost(error.to_string())),
    })
}

/// What is there, so that what vanished while nobody watched is told.
struct Fetched<K> {
    there: BTreeMap<String, K>,
    before: BTreeMap<String, K>,
}

impl<K> Default for Fetched<K> {
    fn default() -> Self {
        Self { there: BTreeMap::new(), before: BTreeMap::new() }
    }
}

impl<K: Resource<DynamicType = ()> + Clone> Fetched<K> {
    fn take(&mut self, event: watcher::Event<K>) -> Vec<Heard<K>> {
        let key = |object: &K| format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
        match event {
            watcher::Event::Init => {
                // A list that was broken off leaves what it had not come to.
                let there = std::mem::take(&mut self.there);
                self.before.extend(there);
                Vec::new()
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                self.before.remove(&key(&object));
                self.there.insert(key(&object), object.clone());
                vec![Heard::Is(Box::new(object))]
            }
            watcher::Event::Delete(object) => {
                self.there.remove(&key(&object));
                vec![Heard::Gone(Box::new(object))]
            }
            watcher::Event::InitDone => {
                let gone = std::mem::take(&mut self.before).into_values();
                gone.map(|object| Heard::Gone(Box::new(object))).chain([Heard::Complete]).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;
    use crate::summary::{ObjectSummary, tests::object_summary};

    fn object(name: &str) -> ObjectSummary {
        object_summary(name, &json!({}), &json!({}))
    }

    fn words(heard: Vec<Heard<ObjectSummary>>) -> Vec<String> {
        let word = |heard: Heard<ObjectSummary>| match heard {
            Heard::Is(object) => format!("is {}", object.name_any()),
            Heard::Gone(object) => format!("gone {}", object.name_any()),
            Heard::Complete => "complete".to_owned(),
            Heard::Lost(why) => format!("lost {why}"),
        };
        heard.into_iter().map(word).collect()
    }

    #[test]
    fn what_vanished_while_the_watch_was_lost_is_told() {
        use watcher::Event::{Apply, Init, InitApply, InitDone};
        let mut known = Fetched::default();
        for event in [Init, InitApply(object("a")), InitApply(object("b")), InitDone, Apply(object("c"))] {
            known.take(event);
        }
        // One list is broken off, the next comes to its end.
        for event in [Init, InitApply(object("a")), Init, InitApply(object("c"))] {
            known.take(event);
        }
        assert_eq!(words(known.take(InitDone)), ["gone a", "gone b", "complete"]);
    }

    #[test]
    fn a_right_that_is_missing_ends_it_and_an_outage_does_not() {
        let status = |code| Box::new(Status { code, message: "said".to_owned(), ..Status::default() });
        let doing = Doing::ours("watch", "vncpasswords");
        let watch_error = |error| watch_error::<ObjectSummary>(error, &doing);
        let forbidden = watcher::Error::WatchStartFailed(kube::Error::Api(status(403)));
        assert!(matches!(watch_error(forbidden), Some(Err(Error::Forbidden { .. }))));
        let broken = watcher::Error::InitialListFailed(kube::Error::Api(status(503)));
        assert!(matches!(watch_error(broken), Some(Ok(Heard::Lost(_)))));
        assert!(watch_error(watcher::Error::WatchError(status(410))).is_none());
    }
}
