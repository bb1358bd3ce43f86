//! A small service of documents, written by hand as a generator would, behind a layer, and a client for it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use http_body::Body;
use tokio::sync::Notify;
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body as TonicBody,
    metadata::MetadataMap,
    server::NamedService,
    service::Routes,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::{Layer, Service};

use crate::support::{ProbeError, probe};
use tower_lock::{
    Access, Admission, AuthorizeAsk, LockToken, Locks, Principal, ResourceKey,
    lock::KeyError,
    locks::LocksBuilder,
    request::{Resolved, Role},
    store::LockStore,
};

/// The one message there is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Text {
    #[prost(string, tag = "1")]
    pub text: String,
}

pub fn text(text: &str) -> Text {
    Text { text: text.to_owned() }
}

pub const GET: &str = "/docs.v1.Documents/Get";
pub const SAVE: &str = "/docs.v1.Documents/Save";
/// Many messages, one answer.
pub const UPLOAD: &str = "/docs.v1.Documents/Upload";
/// One message, many answers.
pub const REWRITE: &str = "/docs.v1.Documents/Rewrite";
/// A method that the service has, and the locks know nothing of.
pub const ERASE: &str = "/docs.v1.Documents/Erase";

/// What the handlers do.
#[derive(Clone, Default)]
pub struct Documents(Arc<State>);

#[derive(Default)]
struct State {
    calls: AtomicUsize,
    dropped: AtomicUsize,
    /// What a call waits for that says "slowly".
    pub gate: Notify,
}

/// Counts handlers that were dropped under way.
struct Dropped(Arc<State>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<Text, Status>> + Send>>;

impl Documents {
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    pub fn dropped(&self) -> usize {
        self.0.dropped.load(Ordering::SeqCst)
    }

    pub fn open(&self) {
        self.0.gate.notify_one();
    }

    async fn save(self, request: Request<Text>) -> Result<Response<Text>, Status> {
        let _dropped = Dropped(self.0.clone());
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let admission =
            request.extensions().get::<Admission>().map(|admission| (admission.generation(), admission.locks().len()));
        match request.into_inner().text.as_str() {
            "slowly" => self.0.gate.notified().await,
            "badly" => return Err(Status::invalid_argument("no such text")),
            _ => {}
        }
        Ok(Response::new(text(&format!("{admission:?}"))))
    }

    async fn upload(self, request: Request<Streaming<Text>>) -> Result<Response<Text>, Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let parts: Vec<_> = request.into_inner().map(|part| part.map(|part| part.text)).collect().await;
        let parts: Result<Vec<_>, _> = parts.into_iter().collect();
        Ok(Response::new(text(&parts?.join("+"))))
    }

    async fn rewrite(self, _: Request<Text>) -> Result<Response<Answers>, Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let dropped = Dropped(self.0.clone());
        let later = stream::once(async move {
            dropped.0.gate.notified().await;
            Ok(text("second"))
        });
        Ok(Response::new(Box::pin(stream::iter([Ok(text("first"))]).chain(later))))
    }
}

impl NamedService for Documents {
    const NAME: &'static str = "docs.v1.Documents";
}

impl<B> Service<http::Request<B>> for Documents
where
    B: Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<TonicBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let documents = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Text, Text>::default());
            Ok(match request.uri().path() {
                GET | SAVE | ERASE => {
                    let save = tower::service_fn(move |request| documents.clone().save(request));
                    grpc.unary(save, request).await
                }
                UPLOAD => {
                    let upload = tower::service_fn(move |request| documents.clone().upload(request));
                    grpc.client_streaming(upload, request).await
                }
                REWRITE => {
                    let rewrite = tower::service_fn(move |request| documents.clone().rewrite(request));
                    grpc.server_streaming(rewrite, request).await
                }
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

/// Locks that know the methods of [`Documents`], and callers by the metadata `x-user`. Everybody sees everything.
pub fn documents_of(store: impl LockStore) -> LocksBuilder {
    strangers_of(store).authorizer(|_: &AuthorizeAsk<'_>| Access::Allowed)
}

/// The same, where the default decides who sees what.
pub fn strangers_of(store: impl LockStore) -> LocksBuilder {
    Locks::builder(store)
        .keys_fn(|ask| match (ask.role, ask.path) {
            (Role::Target, GET) => Ok(Resolved::nothing()),
            (Role::Target, SAVE | UPLOAD | REWRITE) => {
                let path = format!("/docs/{}", ask.field("document-id")?);
                Ok(Resolved::key(ResourceKey::parse(&path)?.into_owned()))
            }
            (Role::Target, path) if path.starts_with("/docs.v1.") => Err(KeyError::Unresolved),
            (_, path) => ResourceKey::parse(path).map(Resolved::key),
        })
        .principal(|request| request.headers.get("x-user")?.to_str().ok().map(Principal::new))
}

/// A server on a port of its own, and a client of it.
pub struct World {
    pub documents: Documents,
    pub address: SocketAddr,
    channel: Channel,
}

impl World {
    /// [`Documents`] behind `layer`, served by tonic.
    pub async fn behind<L, S, B>(layer: L) -> Self
    where
        L: Layer<Routes, Service = S> + Clone + Send + 'static,
        S: Service<
                http::Request<TonicBody>,
                Response = http::Response<B>,
                Error: Into<tower::BoxError> + Send,
                Future: Send,
            > + Clone
            + Send
            + 'static,
        B: Body<Data = Bytes, Error: Into<tower::BoxError>> + Send + 'static,
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let documents = Documents::default();
        let server = Server::builder().layer(layer).add_service(documents.clone());
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { documents, address, channel }
    }

    pub async fn client(&self) -> tonic::client::Grpc<Channel> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        client
    }

    pub async fn unary(&self, method: &'static str, request: Request<Text>) -> Result<Response<Text>, Status> {
        self.client().await.unary(request, PathAndQuery::from_static(method), ProstCodec::default()).await
    }

    pub async fn save(&self, request: Request<Text>) -> Result<Response<Text>, Status> {
        self.unary(SAVE, request).await
    }

    pub async fn upload<S>(&self, request: Request<S>) -> Result<Response<Text>, Status>
    where
        S: Stream<Item = Text> + Send + 'static,
    {
        self.client().await.client_streaming(request, PathAndQuery::from_static(UPLOAD), ProstCodec::default()).await
    }

    pub async fn rewrite(&self, request: Request<Text>) -> Result<Response<Streaming<Text>>, Status> {
        self.client().await.server_streaming(request, PathAndQuery::from_static(REWRITE), ProstCodec::default()).await
    }
}

/// A call about a document, by a user.
pub fn call<T>(user: &'static str, document: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    put(request.metadata_mut(), "x-user", user);
    put(request.metadata_mut(), "document-id", document);
    request
}

pub fn with<T>(mut request: Request<T>, name: &'static str, value: &str) -> Request<T> {
    put(request.metadata_mut(), name, value);
    request
}

/// The same call, by the holder of a lock.
pub fn holding<T>(request: Request<T>, token: LockToken) -> Request<T> {
    with(request, "lock-token", &format!("<{}>", token.urn()))
}

fn put(metadata: &mut MetadataMap, name: &'static str, value: &str) {
    metadata.append(name, value.parse().expect("metadata"));
}

/// The refusal of a call, with the code that it must have.
pub fn refused<T>(answer: Result<T, Status>, code: Code) -> Status {
    let Err(status) = answer else { panic!("it is answered") };
    assert_eq!(status.code(), code, "{status:?}");
    status
}

/// A service that is no gRPC.
pub fn plain(
    body: &'static str,
) -> impl Service<
    http::Request<crate::support::Text>,
    Response = http::Response<crate::support::Text>,
    Error = ProbeError,
    Future: Send,
> + Clone
+ Send
+ 'static {
    probe(move |_| std::future::ready(Ok(http::Response::new(crate::support::Text::from(body)))))
}
