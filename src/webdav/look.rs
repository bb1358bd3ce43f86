//! `Look`: what the handler says of a resource, asked on behalf of the caller: by HEAD, and where that does not say, by
//! PROPFIND.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};

use super::{
    RequestBody,
    handler::{Handler, Inner, Place, buffered, inner},
    multistatus::status_of,
    xml::{self, Source, dav_children, text_of},
};

/// What is known of a resource.
pub(super) struct Look {
    /// Whether there is one.
    pub(super) mapped: Mapped,
    /// Its entity tag.
    pub(super) entity_tag: Option<HeaderValue>,
    /// Whether it is a collection, where PROPFIND was asked.
    pub(super) kind: Option<Kind>,
    /// How to authenticate, where the handler asks for that (RFC 9110 section 11.6.1).
    pub(super) challenges: Vec<HeaderValue>,
}

/// What a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It has members.
    Collection,
    /// It has none.
    Document,
}

/// Whether a URL is that of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapped {
    Yes,
    No,
    /// The handler does not say, but answers this.
    Unknown(StatusCode),
}

/// What is asked of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Whether it exists.
    Existence,
    /// Its entity tag too.
    EntityTag,
}

impl Look {
    const fn unknown(status: StatusCode) -> Self {
        Self::is(Mapped::Unknown(status))
    }

    /// What a status alone says.
    const fn by(status: StatusCode) -> Self {
        let missing = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        Self::is(if missing { Mapped::No } else { Mapped::Unknown(status) })
    }

    const fn is(mapped: Mapped) -> Self {
        Self { mapped, entity_tag: None, kind: None, challenges: Vec::new() }
    }
}

impl<S> Handler<S> {
    /// Asks what there is at `place`.
    pub(super) async fn look<B>(&mut self, parts: &Parts, place: Place<'_>, need: Need) -> Result<Look, S::Fault>
    where
        S: Inner<B>,
    {
        let Some(question) = inner(parts, Method::HEAD, place, RequestBody::own(Bytes::new())) else {
            return Ok(Look::unknown(StatusCode::BAD_REQUEST));
        };
        let head = self.call(question).await?;
        let status = head.status();
        let entity_tag = head.headers().get(header::ETAG).cloned();
        let challenges = challenges(&head);
        drop(head);
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Look::by(status)),
            StatusCode::UNAUTHORIZED => Ok(Look { challenges, ..Look::by(status) }),
            _ if status.is_success() && (need == Need::Existence || entity_tag.is_some()) => {
                Ok(Look { entity_tag, ..Look::is(Mapped::Yes) })
            }
            _ => {
                let found = self.propfind(parts, place).await?;
                Ok(match status {
                    // Many refuse to show a collection that has no page; a document is forbidden for a reason.
                    StatusCode::FORBIDDEN if found.kind != Some(Kind::Collection) => Look::by(status),
                    _ if status.is_success() => Look { mapped: Mapped::Yes, ..found },
                    _ => found,
                })
            }
        }
    }

    /// Whether the client's own `If-Match`, `If-None-Match` and `If-Unmodified-Since` hold of the target (RFC 9110 section
    /// 13), which is `mapped` or not. Where there is something the handler is asked, by a HEAD under the same conditions.
    pub(super) async fn holds<B>(&mut self, parts: &Parts, mapped: Mapped) -> Result<bool, S::Fault>
    where
        S: Inner<B>,
    {
        let conditions = [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE];
        if !conditions.iter().any(|name| parts.headers.contains_key(name)) {
            return Ok(true);
        }
        if mapped == Mapped::No {
            return Ok(!parts.headers.contains_key(header::IF_MATCH));
        }
        let Some(mut question) = inner(parts, Method::HEAD, Place::Target, RequestBody::own(Bytes::new())) else {
            return Ok(false);
        };
        for name in conditions {
            for value in parts.headers.get_all(&name) {
                question.headers_mut().append(&name, value.clone());
            }
        }
        let status = self.call(question).await?.status();
        // What is 304 for a read is 412 for everything else.
        Ok(!matches!(status, StatusCode::PRECONDITION_FAILED | StatusCode::NOT_MODIFIED))
    }

    /// Asks what there is at `place`, by PROPFIND at once.
    pub(super) async fn propfind<B>(&mut self, parts: &Parts, place: Place<'_>) -> Result<Look, S::Fault>
    where
        S: Inner<B>,
    {
        const QUESTION: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:propfind xmlns:D=\"DAV:\"><D:prop>\
                                <D:resourcetype/><D:getetag/></D:prop></D:propfind>\n";
        /// More than one resource needs.
        const MOST: usize = 64 * 1024;

        let method = Method::from_bytes(b"PROPFIND").expect("it is a token");
        let Some(mut question) = inner(parts, method, place, RequestBody::own(QUESTION)) else {
            return Ok(Look::unknown(StatusCode::BAD_REQUEST));
        };
        let headers = question.headers_mut();
        headers.insert("depth", HeaderValue::from_static("0"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml; charset=utf-8"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(QUESTION.len()));
        let answer = self.call(question).await?;
        let status = answer.status();
        if status != StatusCode::MULTI_STATUS {
            return Ok(Look { challenges: challenges(&answer), ..Look::by(status) });
        }
        let answer = buffered(answer, MOST).await.ok();
        Ok(answer.and_then(|answer| read(answer.body())).unwrap_or(Look::unknown(status)))
    }
}

fn challenges<B>(answer: &Response<B>) -> Vec<HeaderValue> {
    answer.headers().get_all(header::WWW_AUTHENTICATE).iter().cloned().collect()
}

/// What the multistatus for one resource says of it.
fn read(body: &[u8]) -> Option<Look> {
    let text = xml::decode(body).ok()?;
    let document = xml::parse_from(Source::Handler, &text).ok()?;
    let response = dav_children(xml::root(&document, "multistatus").ok()?, "response").next()?;
    if let Some(status) = dav_children(response, "status").next() {
        let status = status_of(&status).and_then(|status| StatusCode::from_u16(status).ok())?;
        return Some(if status.is_success() { Look::is(Mapped::Yes) } else { Look::by(status) });
    }
    let properties = || dav_children(response, "propstat").flat_map(|propstat| dav_children(propstat, "prop"));
    let kind = properties().flat_map(|prop| dav_children(prop, "resourcetype")).next().map(|kind| {
        let collection = dav_children(kind, "collection").next().is_some();
        if collection { Kind::Collection } else { Kind::Document }
    });
    let entity_tag = properties().flat_map(|prop| dav_children(prop, "getetag")).map(|tag| text_of(&tag)).next();
    let entity_tag = entity_tag.and_then(|tag| HeaderValue::try_from(tag.trim()).ok()).filter(|tag| !tag.is_empty());
    Some(Look { entity_tag, kind, ..Look::is(Mapped::Yes) })
}
