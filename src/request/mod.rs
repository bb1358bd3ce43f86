//! First floor: what a request says. Which methods write, which resources a write may change, and which conditions and
//! lock tokens stand in its headers.
//!
//! Nothing here waits, reads a body or knows a store. What a request says is read from its head alone, as a
//! [`RequestView`], so a refusal can be decided before the first byte of the body.

mod conditions;
mod destination;
mod effects;
mod error;
#[cfg(feature = "grpc")]
mod grpc_timeout;
mod methods;
mod prefer;
mod resolve;
mod view;

pub(crate) use self::conditions::{ConditionFields, Sole};
#[cfg(feature = "webdav")]
pub(crate) use self::destination::{destination_path, reference_path};
pub(crate) use self::effects::{may_leave_gone, plain_target};
#[cfg(feature = "grpc")]
pub(crate) use self::grpc_timeout::grpc_timeout;
pub use self::{
    conditions::{Condition, Conditions, EntityTag, Expected, Held, List, MAX_CONDITIONS, MAX_TOKENS, StateToken},
    effects::{MAX_TARGETS, Targets, gone, targets},
    error::RequestError,
    methods::MethodRules,
    prefer::{LockPreference, Preferences},
    resolve::{Ask, IntoKeys, ResolveFn, ResolveTargets, Resolved, Role},
    view::RequestView,
};
