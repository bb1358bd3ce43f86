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

#[test]
fn a_response_future_is_little_more_than_the_services_own() {
    let inner = size_of::<<Inner as tower::Service<http::Request<Text>>>::Future>();
    // Beside the service's future: a permit (24), a box for what follows (8), until when the permit is held (1) and
    // which state it is in (1), padded. What the other states need is behind boxes.
    assert_eq!(size_of::<Response>() - inner, 40);
}
