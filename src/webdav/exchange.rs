//! `Exchange`: one request under way, with all that is known of it before it is decided.

use std::{mem, sync::Arc};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Request, request::Parts};

use super::{
    RequestBody,
    discovery::write_owner_element,
    entity_tags::Decided,
    handler::{Handler, Inner},
    layer::{Settings, Tokens},
    mint::Ending,
    refusal::Stop,
};
use crate::{
    endpoint::Reading,
    lock::{Lock, LockToken, ResourceKey},
    locks::{Caller, Demand, LockView, Locks, Refusal},
    request::{RequestView, Resolved, Role, reference_path},
    respond::DavView,
    store::Admitted,
};

/// A request without its body.
pub(super) struct Exchange {
    pub(super) locks: Locks,
    pub(super) settings: Arc<Settings>,
    pub(super) parts: Parts,
    pub(super) caller: Caller,
}

impl Exchange {
    pub(super) fn new(locks: Locks, settings: Arc<Settings>, parts: Parts) -> Result<Self, Refusal> {
        let caller = locks.caller(&RequestView::from_parts(&parts))?;
        Ok(Self { locks, settings, parts, caller })
    }

    /// The client's request, for the handler, without what is decided here. The head goes with it.
    pub(super) fn take<B>(&mut self, body: RequestBody<B>) -> Request<RequestBody<B>> {
        let (headers, extensions) = (mem::take(&mut self.parts.headers), mem::take(&mut self.parts.extensions));
        self.with(headers, extensions, body)
    }

    /// The same; the head stays.
    pub(super) fn copy<B>(&self, body: RequestBody<B>) -> Request<RequestBody<B>> {
        self.with(self.parts.headers.clone(), self.parts.extensions.clone(), body)
    }

    fn with<B>(&self, headers: HeaderMap, extensions: Extensions, body: RequestBody<B>) -> Request<RequestBody<B>> {
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.clone();
        *request.version_mut() = self.parts.version;
        *request.headers_mut() = headers;
        *request.extensions_mut() = extensions;
        for decided in ["if", "lock-token"] {
            request.headers_mut().remove(decided);
        }
        request
    }

    pub(super) fn view(&self) -> RequestView<'_> {
        RequestView::from_parts(&self.parts)
    }

    /// The one resource that the target means.
    pub(super) fn key(&self) -> Result<ResourceKey<'static>, Refusal> {
        self.locks.root_key_in(self.view(), Role::Target, self.parts.uri.path(), self.caller.namespace())
    }

    /// The resources that a handler calls `href`; none where that is no path at all.
    pub(super) fn keys_of_href(&self, href: &str) -> Option<Resolved<'static>> {
        let path = reference_path("href", href.as_bytes());
        // Handlers write what servers of requests would not take: spaces, for one.
        let path = path.as_deref().unwrap_or_else(|_| bare_path(href));
        self.locks.keys_in(self.view(), Role::Tag, path, self.caller.namespace()).ok()
    }

    /// Where the handler finds what clients call `path`.
    pub(super) fn inside<'p>(&self, path: &'p str) -> &'p str {
        self.locks.policy().resolver.path_inside(path)
    }

    /// The URL of a lock's root, as a path.
    pub(super) fn href(&self, lock: &LockView) -> String {
        self.settings.href(lock)
    }

    /// The token of a lock, for its holder.
    pub(super) fn token_of(&self, lock: &Lock) -> Option<LockToken> {
        let own = lock.principal().is_some() && lock.principal() == self.caller.principal();
        (own && self.settings.tokens == Tokens::ToTheirHolder).then(|| self.settings.mint.token_of(lock.id())).flatten()
    }

    /// Decides the conditions of a request that changes nothing, or whose change is decided elsewhere.
    pub(super) async fn pass<S, B>(&self, handler: &mut Handler<S>, decided: Decided<'_>) -> Result<(), Stop<S::Fault>>
    where
        S: Inner<B>,
    {
        let conditions = decided.conditions.without_lock_token();
        if conditions.lists().is_empty() {
            return Ok(());
        }
        handler.rest();
        let resource = self.key()?;
        let verdict = self.locks.judge_write(self.view(), &resource, &[], &conditions, Demand::None).settled();
        let Admitted { permit, .. } = verdict.await?;
        drop(permit);
        Ok(())
    }

    /// Reads a body of the client's.
    pub(super) async fn read<B>(&self, body: B, limit: usize) -> Result<Bytes, Refusal>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut reading = Reading::new(body, &self.parts.headers, limit)?;
        std::future::poll_fn(|cx| reading.poll(cx)).await
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }
}

impl DavView for Settings {
    fn href(&self, lock: &LockView) -> String {
        let key = ResourceKey::from_canonical(lock.resource.as_str());
        let mut href = key.uri().into_owned();
        if self.mint.ending_of(lock.lock_id) == Ending::Slash && !href.ends_with('/') {
            href.push('/');
        }
        href
    }

    fn write_owner(&self, lock: &LockView, to: &mut String) {
        if let Some(owner) = &lock.owner {
            write_owner_element(owner, to);
        }
    }
}

/// What stands behind the authority of an href, in whatever characters.
fn bare_path(href: &str) -> &str {
    let path = match href.split_once("://") {
        Some((_, rest)) if !href.starts_with('/') => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => href,
    };
    path.split(['?', '#']).next().unwrap_or(path)
}
