//! Resource locking for HTTP as tower middleware.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod endpoint;
pub mod lock;
pub mod locks;
pub mod middleware;
pub mod request;
pub mod respond;
pub mod store;

pub use self::{
    endpoint::{EndpointLayer, LockEndpoint},
    lock::{Depth, HolderProof, KeyRules, Lock, LockId, LockKind, LockScope, LockToken, Owner, Principal, ResourceKey},
    locks::{
        Access, Action, AuthorizeAsk, Authorizer, Caller, Granted, Limits, LockGuard, LockRequest, Locks, LocksBuilder,
        Refusal, RefusalCode,
    },
    middleware::{Admission, LockLayer, LockService},
    request::{RequestView, ResolveTargets},
    store::{LockStore, MemoryStore},
};
