//! `DavService`: which method goes which way.

use std::{
    error::Error,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Method, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    RequestBody, answer,
    exchange::Exchange,
    handler::{Handler, Inner},
    lock::lock,
    propfind::propfind,
    read::read,
    refusal::{Refused, Stop},
    settings::Settings,
    unlock::unlock,
    write::write,
};
use crate::{
    locks::Locks,
    respond::{Format, ResponseBody},
};

/// A WebDAV handler behind locks; made by [`DavLayer`](super::DavLayer). See the [module docs](super).
#[derive(Clone)]
pub struct DavService<S> {
    inner: S,
    locks: Locks,
    settings: Arc<Settings>,
}

impl<S> DavService<S> {
    pub(super) fn new(inner: S, locks: Locks, settings: Arc<Settings>) -> Self {
        Self { inner, locks, settings }
    }

    /// The handler inside. What is called here is not guarded.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The handler inside. What is called here is not guarded.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The handler inside. What is called here is not guarded.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, ResBody> Service<Request<B>> for DavService<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    ResBody: Body + Send + 'static,
    ResBody::Data: Send,
    ResBody::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = DavFuture<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The store is no part of readiness: reads go on while it is down.
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let way = Way::of(&self.locks, request.method());
        if matches!(way, Way::Read | Way::Options) && !request.headers().contains_key("if") {
            request.headers_mut().remove("lock-token");
            let future = self.inner.call(request.map(RequestBody::passed));
            return DavFuture { state: State::Passed { future, way } };
        }
        // The service that was polled ready must be the one that is called; the clone left behind is polled anew.
        let clone = self.inner.clone();
        let handler = Handler::ready(mem::replace(&mut self.inner, clone));
        let work = run(self.locks.clone(), self.settings.clone(), way, handler, request);
        DavFuture { state: State::Working { work: Box::pin(work) } }
    }
}

/// Which way a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Read,
    Options,
    Propfind,
    Lock,
    Unlock,
    Write,
}

impl Way {
    fn of(locks: &Locks, method: &Method) -> Self {
        match *method {
            Method::OPTIONS => return Self::Options,
            Method::GET | Method::HEAD => {}
            _ => match method.as_str() {
                "PROPFIND" => return Self::Propfind,
                "LOCK" => return Self::Lock,
                "UNLOCK" => return Self::Unlock,
                _ => {}
            },
        }
        if locks.is_read(method) { Self::Read } else { Self::Write }
    }
}

async fn run<S, B>(
    locks: Locks,
    settings: Arc<Settings>,
    way: Way,
    mut handler: Handler<S>,
    request: Request<B>,
) -> Result<Response<ResponseBody<S::ResBody>>, S::Fault>
where
    S: Inner<B>,
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    let format = Format::wanted_in_dav(&parts.headers);
    let refuse = |refused: &Refused| refused.respond(format, &*settings);
    let mut exchange = match Exchange::new(locks, settings.clone(), parts) {
        Ok(exchange) => exchange,
        Err(refusal) => return Ok(refuse(&Refused::plain(refusal))),
    };
    let answer = match way {
        Way::Read | Way::Options => read(&mut exchange, &mut handler, body).await,
        Way::Propfind => propfind(&exchange, &mut handler, body).await,
        Way::Lock => lock(&exchange, &mut handler, body).await,
        Way::Unlock => unlock(&exchange, &mut handler).await,
        Way::Write => write(&mut exchange, &mut handler, body).await,
    };
    let mut response = match answer {
        Ok(response) if way == Way::Options => answer::options(response),
        Ok(response) => response,
        Err(Stop::Refused(mut refused)) => {
            refused.tell(&exchange.locks, &exchange.caller);
            refuse(&refused)
        }
        Err(Stop::Failed(error)) => return Err(error),
    };
    if let Some(heeded) = exchange.heeded {
        response.headers_mut().append("preference-applied", heeded);
    }
    Ok(response)
}

impl<S: fmt::Debug> fmt::Debug for DavService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DavService").field("inner", &self.inner).field("locks", &self.locks).finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer of a [`DavService`] to come.
    #[must_use = "futures do nothing unless polled"]
    pub struct DavFuture<F, B, E> {
        #[pin]
        state: State<F, B, E>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B, E> {
        // A read that no condition stands against: the handler's own future.
        Passed { #[pin] future: F, way: Way },
        // Everything else.
        Working { work: Pin<Box<dyn Future<Output = Result<Response<ResponseBody<B>>, E>> + Send>> },
    }
}

impl<F, B, E> Future for DavFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Passed { future, way } => {
                let response = ready!(future.poll(cx))?;
                let response = if *way == Way::Options { answer::options(response) } else { answer::any(response) };
                Poll::Ready(Ok(response.map(ResponseBody::passed)))
            }
            StateProj::Working { work } => work.as_mut().poll(cx),
        }
    }
}

impl<F, B, E> fmt::Debug for DavFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Passed { .. } => "DavFuture(passed)",
            State::Working { .. } => "DavFuture(working)",
        })
    }
}
