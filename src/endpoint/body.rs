//! Reading the body of a management request: of a known type, up to a limit, and not a byte more.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body;
use mediatype::MediaType;

use super::route::Verb;
use crate::locks::{Refusal, RefusalCode};

/// The type of a body, as far as the endpoint reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`.
    Json,
    /// `text/plain`: what a cross-site form can send too.
    Text,
    /// Not said: there must be no body then.
    Unsaid,
}

impl Media {
    /// The type of the body of a request that wants `verb`.
    pub(super) fn of(headers: &HeaderMap, verb: Verb) -> Result<Self, Refusal> {
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        let media = match (types.next(), types.next()) {
            (None, _) => Self::Unsaid,
            (Some(only), None) => only.to_str().ok().and_then(Self::parse).ok_or_else(|| unread(verb))?,
            (Some(_), Some(_)) => return Err(unread(verb)),
        };
        if media == Self::Text && verb != Verb::Act {
            return Err(unread(verb));
        }
        if headers
            .get_all(header::CONTENT_ENCODING)
            .iter()
            .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
        {
            return Err(Refusal::new(RefusalCode::UnsupportedMediaType, "Content-Encoding: bodies are read uncompressed."));
        }
        Ok(media)
    }

    fn parse(text: &str) -> Option<Self> {
        let media = MediaType::parse(text).ok().filter(|media| media.suffix.is_none())?;
        let is = |main: &str, sub: &str| {
            media.ty.as_str().eq_ignore_ascii_case(main) && media.subty.as_str().eq_ignore_ascii_case(sub)
        };
        if is("application", "json") {
            Some(Self::Json)
        } else if is("text", "plain") {
            Some(Self::Text)
        } else {
            None
        }
    }
}

/// 415, naming what is read.
pub(super) fn unread(verb: Verb) -> Refusal {
    Refusal::new(
        RefusalCode::UnsupportedMediaType,
        match verb {
            Verb::Act => "Content-Type: `application/json` is read here, and `text/plain` to release a lock by its token.",
            _ => "Content-Type: `application/json` is read here.",
        },
    )
}

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Reading<B> {
    body: Pin<Box<B>>,
    read: BytesMut,
    limit: usize,
}

impl<B> Reading<B>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Starts to read `body`; one that announces to be too long is not read at all.
    pub(crate) fn new(body: B, headers: &HeaderMap, limit: usize) -> Result<Self, Refusal> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.unwrap_or(0).max(body.size_hint().lower()) > limit as u64 {
            return Err(too_long(limit));
        }
        Ok(Self { body: Box::pin(body), read: BytesMut::new(), limit })
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Refusal>> {
        loop {
            let frame = match ready!(self.body.as_mut().poll_frame(cx)) {
                None => return Poll::Ready(Ok(self.read.split().freeze())),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Err(broken(&*error.into(), self.limit))),
            };
            // Trailers say nothing here.
            let Ok(data) = frame.into_data() else { continue };
            if data.remaining() > self.limit - self.read.len() {
                return Poll::Ready(Err(too_long(self.limit)));
            }
            self.read.put(data);
        }
    }
}

fn too_long(limit: usize) -> Refusal {
    Refusal::new(RefusalCode::ContentTooLarge, format!("The body has more than {limit} bytes."))
}

/// A body that could not be read to its end. A layer outside may have cut it off.
fn broken(error: &(dyn Error + Send + Sync + 'static), limit: usize) -> Refusal {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return too_long(limit);
        }
        cause = error.source();
    }
    Refusal::bad_request("The body could not be read to its end.")
}
