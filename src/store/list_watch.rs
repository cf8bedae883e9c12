//! Lists a kind in pages of bounded size, then watches it. It replaces kube's `watcher`, whose pages are
//! bounded by the number of objects: a user with large Secrets could exhaust the memory of the operator.

use std::{
    marker::PhantomData,
    pin::Pin,
    time::{Duration, Instant},
    vec,
};

use futures::{AsyncReadExt, Stream, StreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, WatchParams},
    core::{Request, WatchEvent},
    runtime::watcher::{Config, Error, Event},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Semaphore;

/// Number of objects in the first page, whose size is not known.
const FIRST: u32 = 20;
/// Maximum number of objects in a page, as in client-go.
const MAX_PAGE_OBJECTS: u32 = 500;
/// Target size of a page in bytes.
const WANTED_BYTES: usize = 2 << 20;
/// Maximum size of a page in bytes. A larger page is not read to its end, but requested again with fewer
/// objects.
const MAX_BYTES: usize = 4 << 20;
/// Deadline of the request for one page (DESIGN.md, R53).
const TIMEOUT: Duration = Duration::from_secs(30);
/// The server ends a watch after its timeout. A watch that is silent for this much longer is dead.
const WATCH_MARGIN: Duration = Duration::from_secs(5);
/// A watch that ends sooner counts as failed, so that it does not restart without a pause.
const MIN_WATCH: Duration = Duration::from_secs(1);
/// Default timeout of a watch.
const WATCH_TIMEOUT: u32 = 290;

/// Maximum number of pages in memory as text, in the whole process: with many namespaces there are many
/// lists.
static PAGES: Semaphore = Semaphore::const_new(2);

/// The limit after a page of `objects` in `bytes`, requested with `limit`.
fn next_limit(limit: u32, objects: usize, bytes: usize) -> u32 {
    let each = (bytes / objects.max(1)).max(1);
    u32::try_from(WANTED_BYTES / each)
        .unwrap_or(MAX_PAGE_OBJECTS)
        .clamp(1, limit.saturating_mul(4).min(MAX_PAGE_OBJECTS))
}

/// The limit after a page that was too large; `None`: a single object is too large.
fn smaller_limit(limit: u32) -> Option<u32> {
    (limit > 1).then(|| (limit / 8).max(1))
}

/// The pages of one list.
pub(crate) struct Pages<K> {
    request: Request,
    metadata_only: bool,
    limit: u32,
    /// Where the next page begins.
    next: Option<String>,
    kind: PhantomData<fn() -> K>,
}

/// One page, with only what is needed.
#[derive(Deserialize)]
#[serde(bound = "K: DeserializeOwned")]
pub(crate) struct Page<K> {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(default = "Option::default")]
    items: Option<Vec<K>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

impl<K: DeserializeOwned> Pages<K> {
    /// The objects at that path, or their metadata alone.
    pub fn new(path: &str, metadata_only: bool) -> Self {
        Self { request: Request::new(path), metadata_only, limit: FIRST, next: None, kind: PhantomData }
    }

    /// The next page; `true`: it is the last one.
    pub async fn read(&mut self, client: &Client) -> Result<(Page<K>, bool), kube::Error> {
        loop {
            let Ok(_permit) = PAGES.acquire().await else {
                return Err(service_error("the page limit is closed"));
            };
            let read = self.try_read(client);
            let read = tokio::time::timeout(TIMEOUT, read).await;
            if let Some(mut page) =
                read.map_err(|_| service_error("a page of the list did not come in time"))??
            {
                self.next = page.metadata.next.take().filter(|next| !next.is_empty());
                return Ok((page, self.next.is_none()));
            }
        }
    }

    /// `None`: the page is too large, and the next one asks for less.
    async fn try_read(&mut self, client: &Client) -> Result<Option<Page<K>>, kube::Error> {
        let mut parameters = ListParams::default().limit(self.limit);
        parameters.continue_token.clone_from(&self.next);
        let request = if self.metadata_only {
            self.request.list_metadata(&parameters)
        } else {
            self.request.list(&parameters)
        };
        let mut request = request.map_err(kube::Error::BuildRequest)?;
        request.extensions_mut().insert("list");
        let body = client.request_stream(request).await?;
        let smaller = smaller_limit(self.limit);
        let most = if smaller.is_some() { MAX_BYTES } else { usize::MAX };
        let mut text = Vec::new();
        let read = body.take(most as u64).read_to_end(&mut text).await.map_err(kube::Error::ReadEvents)?;
        if let Some(smaller) = smaller.filter(|_| read == most) {
            self.limit = smaller;
            return Ok(None);
        }
        let page: Page<K> = serde_json::from_slice(&text).map_err(kube::Error::SerdeError)?;
        self.limit = next_limit(self.limit, page.items.as_ref().map_or(0, Vec::len), text.len());
        Ok(Some(page))
    }
}

impl<K> Page<K> {
    /// The objects of the page.
    pub fn into_items(self) -> Vec<K> {
        self.items.unwrap_or_default()
    }
}

fn service_error(text: &'static str) -> kube::Error {
    kube::Error::Service(text.into())
}

/// Lists and watches. After an error it continues from the last version if possible, else from a new list,
/// which starts with [`Event::Init`].
pub(crate) fn list_watch<K>(api: Api<K>, config: Config) -> impl Stream<Item = Result<Event<K>, Error>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let start = ListWatch { client: api.clone().into_client(), api, config, state: State::Start };
    futures::stream::unfold(start, |mut list_watch| async move {
        loop {
            if let Some(event) = list_watch.step().await {
                return Some((event, list_watch));
            }
        }
    })
}

type Changes<K> = Pin<Box<dyn Stream<Item = Result<WatchEvent<K>, kube::Error>> + Send>>;

struct ListWatch<K> {
    client: Client,
    api: Api<K>,
    config: Config,
    state: State<K>,
}

enum State<K> {
    /// Nothing is listed.
    Start,
    /// The list has further pages.
    Listing(Pages<K>, vec::IntoIter<K>),
    /// The list is complete in this version.
    Listed(vec::IntoIter<K>, String),
    /// Everything up to this version is known.
    Known(String),
    Watching {
        changes: Changes<K>,
        version: String,
        since: Instant,
    },
}

impl<K> ListWatch<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    /// The next event, if this step has one. A step that fails leaves the state from which to go on.
    async fn step(&mut self) -> Option<Result<Event<K>, Error>> {
        match std::mem::replace(&mut self.state, State::Start) {
            State::Start => {
                let pages = Pages::new(self.api.resource_url(), K::metadata_api());
                self.state = State::Listing(pages, Vec::new().into_iter());
                Some(Ok(Event::Init))
            }
            State::Listing(mut pages, mut items) => {
                if let Some(item) = items.next() {
                    self.state = State::Listing(pages, items);
                    return Some(Ok(Event::InitApply(item)));
                }
                match pages.read(&self.client).await {
                    Ok((page, false)) => {
                        self.state = State::Listing(pages, page.into_items().into_iter());
                        None
                    }
                    Ok((page, true)) => {
                        let version = page.metadata.resource_version.clone().unwrap_or_default();
                        if version.is_empty() {
                            return Some(Err(Error::NoResourceVersion));
                        }
                        self.state = State::Listed(page.into_items().into_iter(), version);
                        None
                    }
                    Err(error) => Some(Err(Error::InitialListFailed(error))),
                }
            }
            State::Listed(mut items, version) => Some(Ok(if let Some(item) = items.next() {
                self.state = State::Listed(items, version);
                Event::InitApply(item)
            } else {
                self.state = State::Known(version);
                Event::InitDone
            })),
            State::Known(version) => {
                let parameters = WatchParams {
                    timeout: self.config.timeout,
                    bookmarks: self.config.bookmarks,
                    ..WatchParams::default()
                };
                match self.api.watch(&parameters, &version).await {
                    Ok(changes) => {
                        self.state =
                            State::Watching { changes: changes.boxed(), version, since: Instant::now() };
                        None
                    }
                    Err(error) => {
                        let code = if let kube::Error::Api(status) = &error { status.code } else { 0 };
                        self.resume(version, code);
                        Some(Err(Error::WatchStartFailed(error)))
                    }
                }
            }
            State::Watching { changes, version, since } => self.watch(changes, version, since).await,
        }
    }

    async fn watch(
        &mut self,
        mut changes: Changes<K>,
        version: String,
        since: Instant,
    ) -> Option<Result<Event<K>, Error>> {
        let timeout = u64::from(self.config.timeout.unwrap_or(WATCH_TIMEOUT));
        let change = tokio::time::timeout(Duration::from_secs(timeout) + WATCH_MARGIN, changes.next()).await;
        let (object, event): (K, fn(K) -> Event<K>) = match change.ok().flatten() {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => (object, Event::Apply),
            Some(Ok(WatchEvent::Deleted(object))) => (object, Event::Delete),
            Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                let version = bookmark.metadata.resource_version;
                self.state = State::Watching { changes, version, since };
                return None;
            }
            Some(Ok(WatchEvent::Error(status))) => {
                self.resume(version, status.code);
                return Some(Err(Error::WatchError(status.boxed())));
            }
            Some(Err(error)) => {
                self.resume(version, 0);
                return Some(Err(Error::WatchFailed(error)));
            }
            None => {
                self.state = State::Known(version);
                let short = since.elapsed() < MIN_WATCH;
                return short
                    .then(|| Err(Error::WatchFailed(service_error("the watch ended within a second"))));
            }
        };
        let version = object.resource_version().filter(|version| !version.is_empty());
        Some(match version {
            Some(version) => {
                self.state = State::Watching { changes, version, since };
                Ok(event(object))
            }
            None => Err(Error::NoResourceVersion),
        })
    }

    /// Continues from that version, or from a new list if the server no longer has it.
    fn resume(&mut self, version: String, code: u16) {
        self.state = if code == 410 { State::Start } else { State::Known(version) };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeSet, HashMap},
        sync::{Arc, Mutex},
    };

    use axum::{Router, extract::Query};

    use super::*;
    use crate::store::object::SecretMetadata;
    use vncpassword_kube_client as kube_client;
    use vncpassword_kube_client::{Deadlines, Retries};

    #[test]
    fn pages_adapt_to_the_size_of_what_they_hold() {
        // The limit, what came, in bytes; the limit of the next page.
        let table = [
            ("nothing came", 20, 0, 200, 80),
            ("small ones: it grows, but not at once", 20, 20, 20 << 10, 80),
            ("as many as client-go asks for", 320, 320, 320 << 10, MAX_PAGE_OBJECTS),
            ("no more than that", MAX_PAGE_OBJECTS, MAX_PAGE_OBJECTS, 500 << 10, MAX_PAGE_OBJECTS),
            ("large ones", 20, 20, 20 * (240 << 10), 8),
            ("they fill a page", 8, 8, 8 * (240 << 10), 8),
            ("one that fills more than a page", 1, 1, 3 << 20, 1),
            ("the last page tells as much", MAX_PAGE_OBJECTS, 10, 10 * (240 << 10), 8),
        ];
        for (name, limit, objects, bytes, expected) in table {
            assert_eq!(next_limit(limit, objects as usize, bytes), expected, "{name}");
        }
        let limits: Vec<_> =
            std::iter::successors(Some(MAX_PAGE_OBJECTS), |limit| smaller_limit(*limit)).collect();
        assert_eq!(limits, [500, 62, 7, 1]);
    }

    /// Listens as an API server that answers this to each query.
    async fn api(
        answer: impl Fn(HashMap<String, String>) -> String + Clone + Send + Sync + 'static,
    ) -> Api<SecretMetadata> {
        let handler = move |Query(query): Query<HashMap<String, String>>| std::future::ready(answer(query));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, Router::new().fallback(handler)).into_future());
        let config = kube::Config::new(url.parse().unwrap());
        Api::all(kube_client::client(config, Deadlines::default(), Retries::Never).unwrap())
    }

    fn secret(number: usize, version: usize, bytes: usize) -> String {
        let notes = "x".repeat(bytes);
        format!(
            r#"{{"metadata":{{"namespace":"n","name":"s{number}","uid":"u","resourceVersion":"{version}",
                "annotations":{{"notes":"{notes}"}}}}}}"#
        )
        .replace('\n', "")
    }

    /// After a thousand small ones there are forty large ones: the page that would hold all of these is not
    /// read.
    #[tokio::test]
    async fn each_object_is_listed_once_in_pages_that_fit() {
        let limits = Arc::<Mutex<Vec<usize>>>::default();
        let asked = Arc::clone(&limits);
        let api = api(move |query| {
            let limit: usize = query["limit"].parse().unwrap();
            asked.lock().unwrap().push(limit);
            let from: usize = query.get("continue").map_or(0, |from| from.parse().unwrap());
            let to = (from + limit).min(1040);
            let size = |number| if number < 1000 { 10 } else { 240 << 10 };
            let items: Vec<_> = (from..to).map(|number| secret(number, 1, size(number))).collect();
            let next = if to < 1040 { to.to_string() } else { String::new() };
            format!(
                r#"{{"metadata":{{"resourceVersion":"7","continue":"{next}"}},"items":[{}]}}"#,
                items.join(",")
            )
        })
        .await;
        let mut events = std::pin::pin!(list_watch(api, Config::default()));
        let mut names = Vec::new();
        assert!(matches!(events.next().await, Some(Ok(Event::Init))));
        loop {
            match events.next().await.unwrap().unwrap() {
                Event::InitApply(secret) => names.push(secret.name_any()),
                Event::InitDone => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(names.len(), 1040);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 1040);
        let limits = limits.lock().unwrap();
        assert_eq!(limits[..4], [20, 80, 320, 500]);
        assert!(limits[4..].contains(&62) && limits[limits.len() - 2..] == [8, 8], "{limits:?}");
    }

    #[tokio::test]
    async fn a_watch_goes_on_where_it_was_or_from_a_new_list() {
        let watches = Arc::<Mutex<Vec<String>>>::default();
        let asked = Arc::clone(&watches);
        let api = api(move |query| {
            if !query.contains_key("watch") {
                return r#"{"metadata":{"resourceVersion":"7"},"items":null}"#.to_owned();
            }
            let mut asked = asked.lock().unwrap();
            asked.push(query["resourceVersion"].clone());
            match asked.len() {
                1 => format!(
                    "{}\n{}\n{}\n",
                    format_args!(r#"{{"type":"ADDED","object":{}}}"#, secret(1, 8, 0)),
                    format_args!(r#"{{"type":"DELETED","object":{}}}"#, secret(1, 9, 0)),
                    r#"{"type":"BOOKMARK","object":{"kind":"Secret","apiVersion":"v1","metadata":{"resourceVersion":"10"}}}"#,
                ),
                2 => String::new(),
                3 => r#"{"type":"ERROR","object":{"status":"Failure","message":"","reason":"InternalError","code":500}}"#.to_owned(),
                _ => r#"{"type":"ERROR","object":{"status":"Failure","message":"","reason":"Expired","code":410}}"#.to_owned(),
            }
        })
        .await;
        let events = list_watch(api, Config::default()).take(9).map(|event| match event {
            Ok(Event::Init) => "init".to_owned(),
            Ok(Event::InitDone) => "listed".to_owned(),
            Ok(Event::Apply(secret)) => format!("apply {}", secret.name_any()),
            Ok(Event::Delete(secret)) => format!("delete {}", secret.name_any()),
            Ok(Event::InitApply(secret)) => format!("list {}", secret.name_any()),
            Err(Error::WatchFailed(_)) => "ended at once".to_owned(),
            Err(Error::WatchError(status)) => status.code.to_string(),
            Err(error) => error.to_string(),
        });
        let events: Vec<_> = events.collect().await;
        let expected = [
            "init",
            "listed",
            "apply s1",
            "delete s1",
            "ended at once",
            "ended at once",
            "500",
            "410",
            "init",
        ];
        assert_eq!(events, expected);
        assert_eq!(*watches.lock().unwrap(), ["7", "10", "10", "10"]);
    }
}
