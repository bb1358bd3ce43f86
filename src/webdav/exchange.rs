//! `Exchange`: one request under way, with all that is known of it before it is decided.

use std::{mem, sync::Arc};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode, request::Parts};

use super::{RequestBody, refusal::Refused, settings::Settings};
use crate::{
    endpoint::Reading,
    lock::ResourceKey,
    locks::{Caller, Locks, Refusal},
    request::{RequestView, Resolved, Role, reference_path},
    respond::{DavView, Precondition},
};

/// A request without its body.
pub(super) struct Exchange {
    pub(super) locks: Locks,
    pub(super) settings: Arc<Settings>,
    pub(super) parts: Parts,
    pub(super) caller: Caller,
    /// That the client was made to wait, as it prefers (RFC 7240 section 3).
    pub(super) heeded: Option<HeaderValue>,
}

impl Exchange {
    pub(super) fn new(locks: Locks, settings: Arc<Settings>, parts: Parts) -> Result<Self, Refusal> {
        let view = RequestView::from_parts(&parts);
        let caller = locks.caller(&view).map_err(|mut refusal| {
            locks.answered_with(Some(view), &mut refusal);
            refusal
        })?;
        Ok(Self { locks, settings, parts, caller, heeded: None })
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

    /// All resources that the target means.
    pub(super) fn keys(&self) -> Result<Resolved<'static>, Refusal> {
        self.locks.keys_in(self.view(), Role::Target, self.parts.uri.path(), self.caller.namespace())
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

    /// The refusal where locks are in the way (423): `precondition` failed for the roots of all of them, or, for who may not
    /// see them, for the target. Other refusals stay as they are.
    pub(super) fn blocked(&self, refusal: Refusal, precondition: Precondition) -> Refused {
        if refusal.status() != StatusCode::LOCKED {
            return Refused::plain(refusal);
        }
        let mut hrefs: Vec<String> = refusal.locks().iter().map(|lock| self.settings.href(lock)).collect();
        hrefs.dedup();
        if hrefs.is_empty() {
            hrefs.push(self.parts.uri.path().to_owned());
        }
        Refused::for_all(refusal, precondition, hrefs)
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

/// What stands behind the authority of an href, in whatever characters.
fn bare_path(href: &str) -> &str {
    let path = match href.split_once("://") {
        Some((_, rest)) if !href.starts_with('/') => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => href,
    };
    path.split(['?', '#']).next().unwrap_or(path)
}
