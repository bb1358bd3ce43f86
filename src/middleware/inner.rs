//! `Handler`: the service inside a layer that does work of its own before, between and after the calls.

use std::{
    error::Error,
    future::{Future, poll_fn},
    mem,
    pin::pin,
    task::Poll,
};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::RequestBody;
use crate::store::Permit;

/// The service inside, as far as a layer needs to know it that calls it in the course of its own work.
pub(crate) trait Inner<B>:
    Service<Request<RequestBody<B>>, Response = Response<Self::ResBody>, Error = Self::Fault, Future: Send>
    + Clone
    + Send
    + 'static
{
    /// The body of its answers.
    type ResBody: Body<Error: Into<Box<dyn Error + Send + Sync>>, Data: Send> + Send + 'static;
    /// Its errors.
    type Fault: Send;
}

impl<S, B, R> Inner<B> for S
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type ResBody = R;
    type Fault = S::Error;
}

/// The service inside. It is never called without having been ready.
pub(crate) struct Handler<S> {
    service: S,
    readiness: Readiness,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Ready,
    Unknown,
}

/// The lease of a write has lapsed while it ran.
pub(crate) struct Lapsed;

impl<S> Handler<S> {
    /// A service that has just been polled ready.
    pub(crate) fn ready(service: S) -> Self {
        Self { service, readiness: Readiness::Ready }
    }

    /// Waits until the service can be called. Done before a write is admitted, so that no write in flight waits for that.
    pub(crate) async fn prepare<B>(&mut self) -> Result<(), S::Fault>
    where
        S: Inner<B>,
    {
        if self.readiness == Readiness::Unknown {
            poll_fn(|cx| self.service.poll_ready(cx)).await?;
            self.readiness = Readiness::Ready;
        }
        Ok(())
    }

    pub(crate) async fn call<B>(&mut self, request: Request<RequestBody<B>>) -> Result<Response<S::ResBody>, S::Fault>
    where
        S: Inner<B>,
    {
        self.prepare().await?;
        self.readiness = Readiness::Unknown;
        self.service.call(request).await
    }

    /// Calls it as long as the write it is for may go on.
    pub(crate) async fn call_under<B>(
        &mut self,
        permit: &Permit,
        request: Request<RequestBody<B>>,
    ) -> Result<Result<Response<S::ResBody>, S::Fault>, Lapsed>
    where
        S: Inner<B>,
    {
        under(permit, self.call(request)).await
    }

    /// Gives back the place that a ready service may hold: what now has to be waited for may itself wait for one.
    pub(crate) fn rest(&mut self)
    where
        S: Clone,
    {
        if self.readiness == Readiness::Ready {
            let fresh = self.service.clone();
            drop(mem::replace(self, Self { service: fresh, readiness: Readiness::Unknown }));
        }
    }
}

/// Goes on with what the service does for a write, as long as that may go on.
pub(crate) async fn under<T>(permit: &Permit, work: impl Future<Output = T>) -> Result<T, Lapsed> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // Before the service goes on: others may have been granted meanwhile what it would change.
        if permit.poll_lapsed(cx).is_ready() {
            return Poll::Ready(Err(Lapsed));
        }
        work.as_mut().poll(cx).map(Ok)
    })
    .await
}
