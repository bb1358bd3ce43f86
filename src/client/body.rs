//! `ReadBody`: a response's body, of which something may have been read already.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of an answer that went through [`ReadRefusals`](super::ReadRefusals). Whatever was read of it for a
    /// [`Refused`] comes first, then the rest, the trailers, and the error that cut it short: nothing is missing.
    ///
    /// [`Refused`]: super::Refused
    pub struct ReadBody<B: Body> {
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B: Body> {
        // Nobody has looked at it: the common case.
        Unread { #[pin] body: B },
        // Somebody has, maybe to its end.
        Begun { begun: Begun<B> },
    }
}

/// How many frames are read before others have their turn: a body may always be ready, and never end.
const FRAMES_AT_ONCE: usize = 64;

/// A body that is being read, and can be handed on at any point.
pub(super) struct Begun<B: Body> {
    read: VecDeque<Bytes>,
    length: usize,
    /// What there is to be read still.
    rest: Option<Pin<Box<B>>>,
    trailers: Option<HeaderMap>,
    failed: Option<B::Error>,
}

/// How the reading of a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was read to its end.
    Whole,
    /// It is longer than the limit.
    TooLong,
    /// It cannot be read.
    Failed,
}

impl<B: Body> Begun<B> {
    pub(super) fn new(body: B) -> Self {
        Self { read: VecDeque::new(), length: 0, rest: Some(Box::pin(body)), trailers: None, failed: None }
    }

    /// Reads on until the end, or until there is more than `limit` bytes.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<End> {
        for _ in 0..FRAMES_AT_ONCE {
            let Some(rest) = &mut self.rest else { return Poll::Ready(End::Whole) };
            match ready!(rest.as_mut().poll_frame(cx)) {
                None => self.rest = None,
                Some(Err(error)) => {
                    (self.rest, self.failed) = (None, Some(error));
                    return Poll::Ready(End::Failed);
                }
                Some(Ok(frame)) => match frame.into_data() {
                    // One that says nothing takes room all the same.
                    Ok(data) if !data.has_remaining() => {}
                    Ok(mut data) => {
                        self.length += data.remaining();
                        self.read.push_back(data.copy_to_bytes(data.remaining()));
                        if self.length > limit {
                            return Poll::Ready(End::TooLong);
                        }
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// All that was read, in one piece.
    pub(super) fn whole(&mut self) -> Bytes {
        if self.read.len() > 1 {
            let mut whole = Vec::with_capacity(self.length);
            self.read.drain(..).for_each(|piece| whole.extend_from_slice(&piece));
            self.read.push_back(whole.into());
        }
        self.read.front().cloned().unwrap_or_default()
    }

    /// Why it broke off.
    pub(super) fn take_error(&mut self) -> Option<B::Error> {
        self.failed.take()
    }
}

impl<B: Body> ReadBody<B> {
    pub(super) fn unread(body: B) -> Self {
        Self { state: State::Unread { body } }
    }

    pub(super) fn begun(begun: Begun<B>) -> Self {
        Self { state: State::Begun { begun } }
    }
}

fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

impl<B: Body> Body for ReadBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().state.project() {
            StateProj::Unread { body } => body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map(into_bytes))),
            StateProj::Begun { begun } => {
                if let Some(piece) = begun.read.pop_front() {
                    begun.length -= piece.len();
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                if let Some(rest) = &mut begun.rest {
                    let frame = ready!(rest.as_mut().poll_frame(cx));
                    if !matches!(frame, Some(Ok(_))) {
                        begun.rest = None;
                    }
                    if let Some(frame) = frame {
                        return Poll::Ready(Some(frame.map(into_bytes)));
                    }
                }
                if let Some(error) = begun.failed.take() {
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(begun.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Unread { body } => body.is_end_stream(),
            State::Begun { begun } => {
                begun.read.is_empty()
                    && begun.failed.is_none()
                    && begun.trailers.is_none()
                    && begun.rest.as_ref().is_none_or(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Unread { body } => body.size_hint(),
            State::Begun { begun } => {
                let rest = begun.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
                let read = begun.length as u64;
                let mut hint = SizeHint::new();
                // Nobody knows how long what broke off would have been.
                if let Some(upper) = rest.upper().filter(|_| begun.failed.is_none()) {
                    hint.set_upper(upper.saturating_add(read));
                }
                hint.set_lower(rest.lower().saturating_add(read));
                hint
            }
        }
    }
}

impl<B: Body + Default> Default for ReadBody<B> {
    fn default() -> Self {
        Self::unread(B::default())
    }
}

impl<B: Body> fmt::Debug for ReadBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Unread { .. } => f.write_str("ReadBody(unread)"),
            State::Begun { begun } => write!(f, "ReadBody({} bytes read)", begun.length),
        }
    }
}
