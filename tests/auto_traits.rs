//! Auto traits, dyn-compatibility and sizes of the public types.

mod support;

use std::panic::{RefUnwindSafe, UnwindSafe};

use static_assertions::{assert_impl_all, assert_not_impl_any, assert_obj_safe};
use support::Text;
use tower_lock::{lock, locks, middleware, request, respond, store};

/// Plain data: can be sent, shared, moved, and seen after a panic.
macro_rules! data {
    ($($type:ty),* $(,)?) => {$( assert_impl_all!($type: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe, std::fmt::Debug); )*};
}

/// Handles on shared state, and what holds closures or errors of others.
macro_rules! shared {
    ($($type:ty),* $(,)?) => {$( assert_impl_all!($type: Send, Sync, Unpin, std::fmt::Debug); )*};
}

data!(
    lock::Depth,
    lock::Effect,
    lock::Gone<'static>,
    lock::KeyError,
    lock::Lock,
    lock::LockId,
    lock::LockKind,
    lock::LockLife,
    lock::LockParts,
    lock::LockScope,
    lock::LockState,
    lock::LockToken,
    lock::LostCause,
    lock::LostLock,
    lock::Membership,
    lock::Owner,
    lock::Principal,
    lock::ResourceKey<'static>,
    lock::Target<'static>,
    lock::Timestamp,
    lock::TokenDigest,
    lock::TokenError,
    request::Conditions<'static>,
    request::Held,
    request::MethodRules,
    request::RequestError,
    request::Resolved<'static>,
    request::Role,
    request::StateToken,
    request::Targets<'static>,
    locks::Access,
    locks::Action,
    locks::Caller,
    locks::Demand,
    locks::Granted,
    locks::Limits,
    locks::Lifetimes,
    locks::Listing,
    locks::ActivityKind,
    locks::Broken,
    locks::Handover,
    locks::LockFilter,
    locks::LockStats,
    locks::Origin,
    locks::RefusalStats,
    locks::LockRequest,
    locks::LockView,
    locks::LostView,
    locks::Named,
    locks::RefusalCode,
    middleware::Admission,
    respond::Format,
    respond::Problems,
    respond::ReadOn,
    store::Acquired,
    store::Cursor,
    store::Lifetime,
    store::LockPage,
    store::NewLock,
    store::Quota,
    store::Refreshed,
    store::Refused,
    store::Released,
    store::WriteId,
);

shared!(
    lock::HolderProof,
    lock::KeyRules,
    locks::Activity<'static>,
    locks::Incident<'static>,
    locks::LockGuard,
    locks::Locks,
    locks::LocksBuilder,
    locks::News,
    locks::Refusal,
    middleware::LockLayer,
    middleware::LockLayer<respond::ReadOn>,
    middleware::LockLayer<respond::UntilBodyEnds<respond::Problems>>,
    respond::HeldBody<Text>,
    respond::LeaseLapsed,
    respond::ResponseBody<Text>,
    store::Acquire<'static>,
    store::Admitted,
    store::Clock,
    store::ClockSleep,
    store::Followed,
    store::LockEvent,
    store::ManualClock,
    store::MemoryStore,
    store::Permit,
    store::StoreError,
    store::Verdict,
    store::Write<'static>,
);

type Service<S> = middleware::LockService<S>;
type Inner = tower::util::BoxCloneSyncService<http::Request<Text>, http::Response<Text>, std::convert::Infallible>;
type Response = middleware::ResponseFuture<Inner, Text, respond::Problems>;

assert_impl_all!(Service<Inner>: Send, Sync, Unpin, Clone);
assert_impl_all!(Response: Send);

/// A service whose future is the answer.
#[derive(Clone)]
struct Answering;

impl tower::Service<http::Request<Text>> for Answering {
    type Response = http::Response<Text>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Text>) -> Self::Future {
        std::future::ready(Ok(http::Response::new(Text::default())))
    }
}
#[cfg(feature = "grpc")]
mod grpc {
    use super::*;

    assert_impl_all!(respond::GrpcStatus: Send, Sync, Unpin, UnwindSafe, Clone, std::fmt::Debug);
    assert_impl_all!(locks::GrpcCode: Send, Sync, Unpin, UnwindSafe, Copy, std::hash::Hash, std::fmt::Debug);
}

#[cfg(feature = "batch")]
mod batch {
    use super::*;
    use tower_lock::batch::{
        BatchCodec, BatchFuture, BatchLayer, BatchService, Item, RequestBody, ResponsesBatch, Unmergeable, VaultBatch,
        Verdicts,
    };

    type Handler =
        tower::util::BoxCloneSyncService<http::Request<RequestBody<Text>>, http::Response<Text>, std::convert::Infallible>;
    type Passed = middleware::ResponseFuture<Handler, RequestBody<Text>, respond::Problems>;

    data!(Item, Unmergeable);
    shared!(Verdicts, ResponsesBatch, VaultBatch, BatchLayer<VaultBatch>, BatchService<Handler, VaultBatch>);
    assert_impl_all!(BatchService<Handler, VaultBatch>: Clone);
    assert_impl_all!(BatchFuture<Passed>: Send, std::fmt::Debug);
    assert_obj_safe!(BatchCodec);
}

#[cfg(feature = "webdav")]
mod webdav {
    use super::*;
    use tower_lock::webdav::{DavFuture, DavLayer, DavService, RequestBody};

    type Handler =
        tower::util::BoxCloneSyncService<http::Request<RequestBody<Text>>, http::Response<Text>, std::convert::Infallible>;

    assert_impl_all!(DavLayer: Send, Sync, Unpin, Clone);
    assert_impl_all!(DavService<Handler>: Send, Sync, Unpin, Clone);
    assert_impl_all!(RequestBody<Text>: Send, Sync, Unpin);
    // Holds boxed work, which is `Send` and no more.
    assert_impl_all!(DavFuture<std::future::Ready<()>, Text, std::convert::Infallible>: Send, Unpin);
}

// Futures, streams and judgements that hold boxed work, which is `Send` and no more.
assert_impl_all!(store::StoreFuture<store::Verdict>: Send, Unpin);
assert_impl_all!(store::Watch: Send, Unpin);
assert_impl_all!(store::Follow: Send, Unpin);
assert_impl_all!(locks::LockNews: Send, Unpin, std::fmt::Debug);
assert_impl_all!(locks::Judgement: Send, Unpin);
assert_impl_all!(locks::PendingVerdict: Send, Unpin);
assert_impl_all!(respond::Problem<'static>: Send, Sync, Unpin, UnwindSafe);
// A body that cannot be shared or sent makes a response that cannot be either, and nothing worse.
assert_not_impl_any!(respond::ResponseBody<std::rc::Rc<()>>: Send, Sync);
// The secret, the permit and the guard are never copied by accident.
assert_not_impl_any!(store::Permit: Clone, Copy);
assert_not_impl_any!(locks::LockGuard: Clone, Copy);
// No `Display` that would put a token into a log.
assert_not_impl_any!(lock::LockToken: std::fmt::Display);

assert_obj_safe!(store::LockStore, store::InFlight, locks::Authorizer, request::ResolveTargets);
assert_impl_all!(std::sync::Arc<dyn store::LockStore>: store::LockStore);
assert_impl_all!(std::sync::Arc<dyn request::ResolveTargets>: request::ResolveTargets);

#[test]
fn a_permit_is_24_bytes() {
    assert_eq!(size_of::<store::Permit>(), 24);
}

/// Beside the service's future: a permit (24), until when it is held, how old its lease is, how to answer should it be stopped, and
/// which state all is in (1 each), padded. What the other states need is behind a box.
#[test]
fn a_response_future_is_the_services_own_and_at_most_48_bytes() {
    type Passes = respond::RespondWith<fn(&tower_lock::Refusal, &http::request::Parts) -> http::Response<Text>>;
    fn added<S, R>() -> usize
    where
        S: tower::Service<http::Request<Text>, Response = http::Response<Text>> + Clone,
        R: respond::Respond<Text, Text> + Clone,
    {
        size_of::<middleware::ResponseFuture<S, Text, R>>() - size_of::<S::Future>()
    }
    assert_eq!(added::<Inner, respond::Problems>(), 32);
    assert!(added::<Answering, respond::Problems>() <= 48, "where the future is a response that is there already");
    assert!(added::<Inner, respond::UntilBodyEnds<respond::Problems>>() <= 48);
    assert!(added::<Inner, respond::ReadOn>() <= 48, "with a number of its own");
    assert!(added::<Inner, Passes>() <= 48, "with a closure's own data");
}
