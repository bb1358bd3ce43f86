//! `LockEndpoint`, the service: read the head, then the body, then do what was asked.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    EndpointBody, EndpointLayer,
    body::{Media, Reading},
    call::Call,
    dispatch, reply,
    route::{Place, Query, Verb},
};
use crate::locks::Locks;

/// Lock management over HTTP. See the [module docs](super).
///
/// Takes a request with any body, never fails, is always ready, and is cheap to clone.
#[derive(Clone, Debug)]
#[must_use = "an endpoint does nothing until requests are sent to it"]
pub struct LockEndpoint {
    locks: Locks,
    place: Place,
}

impl LockEndpoint {
    /// An endpoint over `locks`, for a router that strips the prefix it is mounted at.
    pub fn new(locks: impl Into<Locks>) -> Self {
        Self { locks: locks.into(), place: Place::Whole }
    }

    /// The same endpoint, mounted at `path` where nothing strips that: `/locks`. A path outside is 404. The prefix is
    /// compared as it was sent, without decoding.
    pub fn mount(mut self, path: &str) -> Self {
        self.place = Place::under(path);
        self
    }

    /// The same endpoint, as the last segment below each resource: `lock` for `/cases/{id}/lock`. Any other path is 404.
    /// There is no list in this form.
    pub fn suffix(mut self, segment: &str) -> Self {
        self.place = Place::before(segment);
        self
    }

    /// The same endpoint as a layer, for servers where it cannot be mounted beside the guarded service: put it outside of
    /// the [`LockLayer`](crate::LockLayer).
    pub fn in_front_of(self, path: &str) -> EndpointLayer {
        EndpointLayer::new(self, path)
    }
}

impl<B> Service<Request<B>> for LockEndpoint
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<EndpointBody>;
    type Error = Infallible;
    type Future = EndpointFuture<B>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> EndpointFuture<B> {
        let (parts, body) = request.into_parts();
        let answered = |response: Response<EndpointBody>| EndpointFuture {
            state: State::Answered(Some(Box::new(reply::finish(response, &parts.method)))),
        };
        let refused = |refusal| answered(reply::refused(&self.locks, refusal, &parts));

        let query = Query::parse(&parts.uri);
        let target = query.and_then(|query| Ok((self.place.route(&parts.uri, &query)?, query)));
        let (target, query) = match target {
            Ok(found) => found,
            Err(refusal) => return refused(refusal),
        };
        let Some(verb) = Verb::of(&parts.method, &target) else {
            return answered(reply::no_such_verb(&self.locks, Verb::allowed(&target), &parts));
        };
        let reading = match verb {
            Verb::Inspect | Verb::List | Verb::Describe => None,
            _ if body.is_end_stream() => None,
            verb => match Media::of(&parts.headers, verb)
                .and_then(|media| Ok((Reading::new(body, &parts.headers, self.locks.limits().body)?, media)))
            {
                Ok(reading) => Some(reading),
                Err(refusal) => return refused(refusal),
            },
        };
        let call = Call { locks: self.locks.clone(), parts, target, query, verb };
        EndpointFuture {
            state: match reading {
                Some((reading, media)) => State::Reading { reading, media, call: Some(Box::new(call)) },
                None => State::Working(Box::pin(dispatch::run(call, Bytes::new(), Media::Unsaid))),
            },
        }
    }
}

/// The answer of a [`LockEndpoint`] to come. `Send` when the body of the request is.
#[must_use = "futures do nothing unless polled"]
pub struct EndpointFuture<B> {
    state: State<B>,
}

enum State<B> {
    /// The body is on its way.
    Reading { reading: Reading<B>, media: Media, call: Option<Box<Call>> },
    /// All is read, and the body dropped.
    Working(Pin<Box<dyn Future<Output = Response<EndpointBody>> + Send>>),
    /// The head said enough.
    Answered(Option<Box<Response<EndpointBody>>>),
}

impl<B> Future for EndpointFuture<B>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = Result<Response<EndpointBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.state {
                State::Reading { reading, media, call } => {
                    let read = ready!(reading.poll(cx));
                    let media = *media;
                    let call = call.take().expect("a body ends once");
                    self.state = match read {
                        Ok(body) => State::Working(Box::pin(dispatch::run(*call, body, media))),
                        Err(refusal) => {
                            let response = reply::refused(&call.locks, refusal, &call.parts);
                            State::Answered(Some(Box::new(response)))
                        }
                    };
                }
                State::Working(work) => return work.as_mut().poll(cx).map(Ok),
                State::Answered(response) => {
                    return Poll::Ready(Ok(*response.take().expect("polled after it was ready")));
                }
            }
        }
    }
}

impl<B> fmt::Debug for EndpointFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Reading { .. } => "EndpointFuture(reading)",
            State::Working(_) => "EndpointFuture(working)",
            State::Answered(_) => "EndpointFuture(answered)",
        })
    }
}
