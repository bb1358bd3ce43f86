//! `RemoteLocks`: locks that are had over HTTP.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use super::{
    BoxError, Jitter, LockTerms, Refused, RefusedCode, RemoteError, RemoteGuard,
    terms::Life,
    transport::{Answer, Cloned, Transport},
    wire::{self, Ask, Grant, Name, Refreshed, is_passing, says_ended, says_gone},
};
use crate::lock::LockId;

/// The pause before something is asked again of which nobody knows whether it was done; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest that a server in trouble is believed to need.
const LONGEST: Duration = Duration::from_secs(5);

/// As often as there is time for, with nobody who waits.
const BEHIND: u32 = u32::MAX;

/// A lock endpoint, reached through any tower client service. A cheap handle: clone it.
///
/// The service takes requests with a body of `Full<Bytes>` and is cloned for each: hyper-util's `Client`, an axum
/// `Router` in the same process, a `ServiceBuilder` around either. Where its body is another, `map_request(|request|
/// request.map(..))` adapts it. Credentials, time-outs and tracing are layers of that service; nothing of that is added
/// here. All requests of a guard must come from the same principal.
///
/// See the [module docs](super).
#[derive(Clone)]
pub struct RemoteLocks {
    transport: Arc<dyn Transport>,
    /// The mount's own URL, up to where a parameter can be added.
    base: Arc<str>,
    answer_within: Duration,
    attempts: u32,
    pub(super) jitter: Jitter,
}

impl RemoteLocks {
    /// The endpoint at `url`, where its list is: `http://host/locks`, or a path alone for a service in the same
    /// process. A query is kept.
    ///
    /// # Errors
    /// What is no such URL.
    pub fn new<S, B>(service: S, url: &str) -> Result<Self, BadUrl>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError> + Send,
    {
        let uri: Uri = url.parse().map_err(|_| BadUrl(url.into()))?;
        if uri.path().is_empty() || !uri.path().starts_with('/') {
            return Err(BadUrl(url.into()));
        }
        let base = match uri.query() {
            None | Some("") => format!("{}?", uri.to_string().trim_end_matches('?')),
            Some(_) => format!("{uri}&"),
        };
        Ok(Self {
            transport: Arc::new(Cloned::new(service)),
            base: base.into(),
            answer_within: Duration::from_secs(30),
            attempts: 4,
            jitter: Jitter::random(),
        })
    }

    /// How long an answer may take, beside what the server was asked to wait; 30 seconds unless set.
    #[must_use]
    pub fn answer_within(mut self, span: Duration) -> Self {
        self.answer_within = span;
        self
    }

    /// How often an acquire or a release is sent before it has failed, where nobody knows what became of it: the
    /// service failed, no answer came in time or none that can be read, 502, 503 or 504. 4 times unless set, and once
    /// at least.
    #[must_use]
    pub fn attempts(mut self, most: u32) -> Self {
        self.attempts = most.max(1);
        self
    }

    /// Spreads refreshes and repeats by this. For tests.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Acquires what `terms` say, all or nothing, and holds and keeps it alive as long as the guard lives.
    ///
    /// The tokens are proposed from here, so that an acquire whose answer was lost is repeated and answered with the
    /// same locks. Dropping the future ends, in the background, what may have been granted.
    ///
    /// # Errors
    /// [`RemoteError::Refused`] where the server says no: 423 with who is in the way, and for how long. Others where
    /// nobody knows what became of it after all [attempts](Self::attempts); then too it is ended in the background.
    ///
    /// # Panics
    /// Outside of a tokio runtime with timers.
    pub async fn acquire(&self, terms: LockTerms) -> Result<RemoteGuard, RemoteError> {
        super::acquire::acquire(self, &terms).await
    }

    pub(super) const fn most_attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) const fn patience(&self) -> Duration {
        self.answer_within
    }

    /// The list's own URL.
    pub(super) fn list_uri(&self) -> Result<Uri, RemoteError> {
        self.base[..self.base.len() - 1]
            .parse()
            .map_err(|error: http::uri::InvalidUri| RemoteError::Unsendable(error.into()))
    }

    /// The URL of a resource: as a parameter, so that no path is folded, stripped or taken for the list on its way.
    pub(super) fn uri_of(&self, resource: &str) -> Result<Uri, RemoteError> {
        self.uri_with("resource", resource)
    }

    fn uri_with(&self, name: &str, value: &str) -> Result<Uri, RemoteError> {
        let start = self.base.len();
        let mut query = form_urlencoded::Serializer::for_suffix(String::from(&*self.base), start);
        let uri = query.append_pair(name, value).finish();
        uri.parse().map_err(|error: http::uri::InvalidUri| RemoteError::Unsendable(error.into()))
    }

    /// Asks once.
    pub(super) async fn ask(&self, ask: Ask, limit: Duration) -> Result<Answer, RemoteError> {
        let limit = limit.saturating_add(Duration::from_secs(ask.wait));
        timeout(limit, self.transport.send(ask.into_request())).await.unwrap_or(Err(RemoteError::TimedOut(limit)))
    }

    /// A pause before the next attempt, longer each time, or as long as a server in trouble says.
    pub(super) async fn pause(&self, attempt: u32, after: &RemoteError) {
        let pause = PAUSE.saturating_mul(1 << attempt.min(16)).min(LONGEST);
        let told = after.refused().and_then(Refused::retry_after).unwrap_or_default().min(LONGEST);
        sleep(self.jitter.about(pause.max(told))).await;
    }

    /// Lets a lock live on.
    pub(super) async fn refresh(&self, grant: &Grant, life: Option<Life>, limit: Duration) -> Refreshed {
        let name = &grant.name;
        let answer = match self.uri_of(&name.resource) {
            Ok(uri) => {
                let body = life.map(|life| serde_json::json!({ "timeout": life.timeout() }));
                self.ask(Ask::new(Method::PATCH, uri).with(name.token).saying(body), limit).await
            }
            Err(error) => Err(error),
        };
        wire::refreshed(&grant.lock, life, answer)
    }

    /// What there is of a lock; nothing, where the server says that there is none.
    pub(super) async fn look(&self, id: LockId, limit: Duration) -> Result<Option<Value>, RemoteError> {
        let uri = self.uri_with("id", &id.to_string())?;
        let (head, body) = self.ask(Ask::new(Method::GET, uri), limit).await?;
        if head.status.is_success() {
            let unreadable = |_| RemoteError::Unreadable { status: head.status, why: "its body is no JSON".into() };
            return serde_json::from_slice(&body).map(Some).map_err(unreadable);
        }
        let refused = Refused::of(head.status, &head.headers, &body);
        if says_gone(&refused) { Ok(None) } else { Err(RemoteError::Refused(refused)) }
    }

    /// Ends a lock, or sees to it that its token is never granted. One that is gone is as good as ended.
    pub(super) async fn end(&self, name: &Name, attempts: u32) -> Result<(), RemoteError> {
        for attempt in 0.. {
            let ask = Ask::new(Method::DELETE, self.uri_of(&name.resource)?).with(name.token);
            let error = match self.ask(ask, self.answer_within).await {
                Ok(answer) if answer.0.status.is_success() => match says_ended(&answer) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                Ok((head, body)) => {
                    let refused = Refused::of(head.status, &head.headers, &body);
                    if says_gone(&refused) {
                        return Ok(());
                    }
                    // What is not by a lock server is no last word: a limit on the way, a session that is over. Who waits is
                    // told of it.
                    let is_by_another = *refused.code() == RefusedCode::Unsaid;
                    let passing = is_passing(head.status) || (is_by_another && attempts == BEHIND);
                    let error = RemoteError::Refused(refused);
                    if !passing {
                        return Err(error);
                    }
                    error
                }
                Err(error) => error,
            };
            if attempt + 1 >= attempts {
                return Err(error);
            }
            self.pause(attempt, &error).await;
        }
        Ok(())
    }

    /// The same in the background, for all of them, for as long as it may be of use.
    pub(super) fn end_behind(&self, names: Vec<Name>, until: Option<Instant>, runtime: &tokio::runtime::Handle) {
        /// What takes longer than that is left to expire.
        const MOST: Duration = Duration::from_secs(60);
        let now = Instant::now();
        let until = until.unwrap_or(now + MOST).clamp(now + PAUSE, now + MOST);
        // Nobody is left who could be told of a failure. What is not ended expires. None waits for another.
        for name in names {
            let locks = self.clone();
            runtime.spawn(async move { _ = tokio::time::timeout_at(until, locks.end(&name, BEHIND)).await });
        }
    }
}

impl fmt::Debug for RemoteLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without a password or a key that may be in it.
        let url = self.base.split('?').next().unwrap_or_default();
        let (scheme, rest) = url.split_once("//").unwrap_or(("", url));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit('@').next().unwrap_or_default();
        let scheme = if url.len() > rest.len() { format!("{scheme}//") } else { String::new() };
        f.debug_struct("RemoteLocks").field("url", &format_args!("{scheme}{host}{path}")).finish_non_exhaustive()
    }
}

/// What is not the URL of a lock endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUrl(Box<str>);

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is neither a URL nor a path that starts with a slash", self.0)
    }
}

impl Error for BadUrl {}
