//! PROPFIND: the handler's answer, with the lock properties in it (RFC 4918 sections 9.1, 15.8 and 15.10).

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    mem,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};

use super::{
    RequestBody,
    answer::any,
    discovery::{ActiveLock, lock_discovery},
    exchange::Exchange,
    handler::{Handler, Inner, Unread, buffered},
    head::{Reach, reach},
    multistatus::Multistatus,
    own::empty,
    refusal::{Answer, Refused, Stop, refuse_xml},
    wanted::{Form, Wanted},
    xml,
};
use crate::{
    lock::{Lock, LockState, ResourceKey, parent, rules},
    locks::{Refusal, RefusalCode},
    respond::{DavView, Precondition, ResponseBody},
    store::LockQuery,
};

/// Answers a PROPFIND.
pub(super) async fn propfind<S, B>(exchange: &Exchange, handler: &mut Handler<S>, body: B) -> Answer<S, B>
where
    S: Inner<B>,
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = exchange.read(body, exchange.settings.body).await?;
    let mut wanted = Wanted::read(&body).map_err(|error| refuse_xml(&error))?;
    let decided = exchange.decided(handler).await?;
    exchange.pass(handler, decided).await?;

    let response = handler.call(question(exchange, body)).await.map_err(Stop::Failed)?;
    let coded = response.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if response.status() != StatusCode::MULTI_STATUS || coded || !wanted.is_anything() {
        return Ok(any(response).map(ResponseBody::passed));
    }
    let response = match buffered(response, exchange.settings.multistatus).await {
        Ok(response) => response,
        Err(Unread::TooLong) if reach(exchange.headers()) == Reach::Everything => return Err(too_much().into()),
        Err(unread) => return Ok(empty(unread.status())),
    };
    let (mut head, bytes) = response.into_parts();
    // What is no multistatus is passed on as it came: it is the handler's word.
    let Ok(text) = xml::decode(&bytes) else { return Ok(Response::from_parts(head, ResponseBody::own(bytes))) };
    let Ok(multistatus) = Multistatus::read(&text) else {
        drop(text);
        return Ok(Response::from_parts(head, ResponseBody::own(bytes)));
    };
    let places: Vec<Vec<ResourceKey<'static>>> = multistatus
        .responses()
        .iter()
        .map(|response| {
            let first = response.hrefs().first();
            first.and_then(|href| exchange.keys_of_href(href)).into_iter().flatten().collect()
        })
        .collect();
    let mut values = Vec::new();
    if wanted.lock_discovery == Form::Value {
        match values_of(exchange, &places).await {
            Ok(found) => values = found,
            Err(Untold::TooLong) if reach(exchange.headers()) == Reach::Everything => return Err(too_much().into()),
            Err(Untold::TooLong) => wanted.lock_discovery = Form::TooLong,
            // Reads go on while the store is down; of the locks they say that nobody knows them.
            Err(Untold::Refused(refusal)) if refusal.code() == RefusalCode::StoreUnavailable => {
                wanted.lock_discovery = Form::Unavailable;
            }
            Err(Untold::Refused(refusal)) => return Err(refusal.into()),
        }
    }
    let transcoded = matches!(text, Cow::Owned(_));
    let text = multistatus.apply(&text, wanted, |at| mem::take(&mut values[at]));

    for of_the_old in
        ["content-length", "transfer-encoding", "trailer", "content-md5", "content-digest", "repr-digest", "digest", "etag"]
    {
        head.headers.remove(HeaderName::from_static(of_the_old));
    }
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    // It tells what is true for a moment, and a token to one caller.
    head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if transcoded {
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml; charset=utf-8"));
    }
    Ok(Response::from_parts(head, ResponseBody::own(text)))
}

fn too_much() -> Refused {
    let why = "All below is too much to list: list it level by level (RFC 4918 section 9.1).";
    Refused::over(Refusal::forbidden(why), Precondition::PropfindFiniteDepth)
}

/// The client's request, for the handler: without conditions, and for an answer that can be read.
fn question<B>(exchange: &Exchange, body: Bytes) -> Request<RequestBody<B>> {
    let mut request = exchange.copy(RequestBody::own(body));
    let headers = request.headers_mut();
    for name in ["accept-encoding", "range", "if-range"] {
        headers.remove(name);
    }
    request
}

/// Why there is no `lockdiscovery` of some resources.
enum Untold {
    /// It would be longer than any multistatus that the layer reads.
    TooLong,
    Refused(Refusal),
}

impl From<Refusal> for Untold {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The `lockdiscovery` of each of `places`. A lock on a collection stands in that of each member: a thousand locks on one
/// of a thousand members come to gigabytes, so their length is counted before they are written.
async fn values_of(exchange: &Exchange, places: &[Vec<ResourceKey<'static>>]) -> Result<Vec<String>, Untold> {
    let mut left = exchange.settings.multistatus;
    let shown = Shown::find(exchange, places, left).await?;
    places
        .iter()
        .map(|keys| {
            let covering = shown.covering(keys);
            let length = covering.iter().map(|at| shown.locks[*at].active.len()).sum();
            left = left.checked_sub(length).ok_or(Untold::TooLong)?;
            Ok(lock_discovery(covering.into_iter().map(|at| shown.locks[at].active.as_str())))
        })
        .collect()
}

/// The locks that the resources of a listing have, as the caller may see them.
struct Shown {
    locks: Vec<Seen>,
    by_root: HashMap<ResourceKey<'static>, Vec<usize>>,
}

struct Seen {
    lock: Lock,
    own: bool,
    active: String,
}

impl Shown {
    /// Finds them: those that cover the target, whose members they may cover too, and those rooted below it.
    /// No more than `limit` bytes of them are written.
    async fn find(exchange: &Exchange, places: &[Vec<ResourceKey<'static>>], limit: usize) -> Result<Self, Untold> {
        /// Locks that a store is asked for at once.
        const PAGE: usize = 1_000;

        let targets = exchange.keys()?;
        let targets = targets.as_slice();
        let reach = reach(exchange.headers());
        let mut queries = Vec::new();
        for target in targets {
            queries.push(LockQuery::covering(target.borrowed()).limit(PAGE));
            if reach != Reach::Itself {
                queries.push(LockQuery::at_or_below(target.borrowed()).limit(PAGE));
            }
        }
        let mut asked: HashSet<&ResourceKey<'_>> = targets.iter().collect();
        let mut roots: HashSet<ResourceKey<'_>> = HashSet::new();
        for key in places.iter().flatten() {
            roots.extend(upwards(key));
            // A handler may list what is somewhere else.
            let is_below = reach != Reach::Itself && targets.iter().any(|target| key.is_below(target));
            if !is_below && asked.insert(key) {
                queries.push(LockQuery::covering(key.borrowed()).limit(PAGE));
            }
        }
        let (mut known, mut locks, mut left) = (HashSet::new(), Vec::new(), limit);
        for mut query in queries {
            loop {
                let page = exchange.locks.found(&query).await?;
                for lock in page.locks {
                    // Of a million locks below, those are kept that something in the listing has.
                    let has = roots.contains(lock.root()) && lock.state() != LockState::Pending && known.insert(lock.id());
                    let view = if has { exchange.locks.view(&exchange.caller, &lock) } else { None };
                    if let Some(view) = view {
                        let (token, href) =
                            (exchange.settings.token_for(exchange.caller.principal(), &lock), exchange.settings.href(&view));
                        // Written once, however many resources it covers.
                        let active = ActiveLock { view: &view, token, href: &href }.text();
                        left = left.checked_sub(active.len()).ok_or(Untold::TooLong)?;
                        locks.push(Seen { lock, own: token.is_some(), active });
                    }
                }
                match page.next {
                    Some(next) => query = query.after(next),
                    None => break,
                }
            }
        }
        // Clients that keep one lock of a resource keep the last: let that be the caller's own.
        locks.sort_by_key(|seen| seen.own);
        let mut by_root: HashMap<ResourceKey<'static>, Vec<usize>> = HashMap::new();
        for (at, seen) in locks.iter().enumerate() {
            by_root.entry(seen.lock.root().clone()).or_default().push(at);
        }
        Ok(Self { locks, by_root })
    }

    /// Those that a resource has, in order.
    fn covering(&self, keys: &[ResourceKey<'static>]) -> Vec<usize> {
        // A map of keys for any lifetime, to look into it with shorter ones.
        let by_root: &HashMap<ResourceKey<'_>, Vec<usize>> = &self.by_root;
        let mut covering: Vec<usize> = Vec::new();
        for key in keys {
            for at in upwards(key).filter_map(|root| by_root.get(&root)).flatten() {
                let lock = &self.locks[*at].lock;
                if rules::covers(lock.root(), lock.depth(), key) {
                    covering.push(*at);
                }
            }
        }
        covering.sort_unstable();
        covering.dedup();
        covering
    }
}

/// A resource, and all that it lies below.
fn upwards<'k>(key: &'k ResourceKey<'_>) -> impl Iterator<Item = ResourceKey<'k>> {
    let paths = std::iter::successors(Some(key.path()), |path| parent(path));
    paths.map(|path| {
        let above = ResourceKey::from_canonical(path);
        match key.namespace() {
            Some(namespace) => above.in_namespace(namespace),
            None => above,
        }
    })
}
