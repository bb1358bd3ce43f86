//! The service. Only `lock` and `unlock` know of locks; what may be written is decided by the layer, before `save` is called.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::http;
use tonic::{Request, Response, Status, body::Body, server::NamedService};
use tonic_prost::ProstCodec;
use tower::Service;
use tower_lock::{
    Admission, Caller, LockRequest, LockToken, Locks, Principal, Refusal, ResourceKey, locks::Named, respond::GrpcStatus,
};

use crate::{
    User,
    messages::{Text, method},
};

#[derive(Clone)]
pub(crate) struct Documents {
    locks: Locks,
    /// By id: the text, and the generation of its last write.
    texts: Arc<Mutex<HashMap<String, (String, u64)>>>,
}

impl Documents {
    pub(crate) fn new(locks: Locks) -> Self {
        Self { locks, texts: Arc::default() }
    }

    async fn answer(self, name: &'static str, request: Request<Text>) -> Result<Response<Text>, Status> {
        let id = document(&request)?;
        let answer = match name {
            method::GET => self.get(&id),
            method::SAVE => self.save(id, request),
            method::ERASE => self.erase(&id),
            method::LOCK => self.lock(&id, request).await,
            _ => self.unlock(&id, request).await,
        };
        answer.map(|text| Response::new(Text::new(text)))
    }

    fn get(&self, id: &str) -> Result<String, Status> {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.get(id).map(|(text, _)| text.clone()).ok_or_else(|| Status::not_found("There is no such document."))
    }

    fn save(&self, id: String, request: Request<Text>) -> Result<String, Status> {
        let fence = request.extensions().get::<Admission>().map_or(0, Admission::generation);
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        // What a database would do by `UPDATE … WHERE fence <= $1`.
        if texts.get(&id).is_some_and(|(_, written)| *written > fence) {
            return Err(Status::aborted("Somebody has written under a later lock."));
        }
        texts.insert(id, (request.into_inner().text, fence));
        Ok(format!("saved, fence {fence}"))
    }

    fn erase(&self, id: &str) -> Result<String, Status> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok("erased".to_owned())
    }

    async fn lock(&self, id: &str, request: Request<Text>) -> Result<String, Status> {
        let caller = caller(&request);
        let wanted = LockRequest::exclusive(format!("/docs/{id}")).reason(request.into_inner().text);
        let granted = self.locks.acquire_for(&caller, wanted).await.map_err(|refusal| status(&refusal))?;
        Ok(granted.token().urn().to_string())
    }

    async fn unlock(&self, id: &str, request: Request<Text>) -> Result<String, Status> {
        let caller = caller(&request);
        let token: LockToken =
            request.into_inner().text.parse().map_err(|_| Status::invalid_argument("This is no lock token."))?;
        let path = format!("/docs/{id}");
        let key = ResourceKey::parse(&path).map_err(|error| Status::invalid_argument(error.to_string()))?.into_owned();
        self.locks.release_for(&caller, Named::token(token).at(key)).await.map_err(|refusal| status(&refusal))?;
        Ok("unlocked".to_owned())
    }
}

/// Which document a call is about: as the layer reads it, from the metadata and from nowhere else.
fn document(request: &Request<Text>) -> Result<String, Status> {
    let id = request.metadata().get("document-id").and_then(|id| id.to_str().ok());
    id.map(str::to_owned).ok_or_else(|| Status::invalid_argument("The metadata has no document-id."))
}

fn caller(request: &Request<Text>) -> Caller {
    Caller::remote(request.extensions().get::<User>().map(|user| Principal::new(&user.0)))
}

/// What the layer would answer, for refusals of one's own.
fn status(refusal: &Refusal) -> Status {
    let status = GrpcStatus::of(refusal);
    Status::with_details((status.code() as i32).into(), status.message(), status.details().clone())
}

impl NamedService for Documents {
    const NAME: &'static str = "docs.v1.Documents";
}

/// What a generator would make.
impl Service<http::Request<Body>> for Documents {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let documents = self.clone();
        let methods = [method::GET, method::SAVE, method::ERASE, method::LOCK, method::UNLOCK];
        let method = methods.into_iter().find(|method| *method == request.uri().path());
        Box::pin(async move {
            let Some(method) = method else { return Ok(Status::unimplemented("").into_http()) };
            let answer = tower::service_fn(move |request| documents.clone().answer(method, request));
            Ok(tonic::server::Grpc::new(ProstCodec::<Text, Text>::default()).unary(answer, request).await)
        })
    }
}
