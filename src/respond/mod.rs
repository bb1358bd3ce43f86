//! Fourth floor: from a [`Refusal`](crate::Refusal) to a response. What stands here knows no policy.

mod body;
#[cfg(feature = "webdav")]
mod dav;
#[cfg(feature = "grpc")]
#[cfg_attr(docsrs, doc(cfg(feature = "grpc")))]
pub mod grpc;
mod held;
mod html;
mod json;
mod markup;
mod negotiate;
mod problem;
mod responder;

#[cfg(feature = "batch")]
pub(crate) use self::body::in_one;
#[cfg(feature = "grpc")]
#[cfg_attr(docsrs, doc(cfg(feature = "grpc")))]
pub use self::grpc::GrpcStatus;
pub(crate) use self::negotiate::{outcome, prefers_events};
pub(crate) use self::responder::render_as;
#[cfg(any(feature = "webdav", feature = "batch"))]
pub(crate) use self::responder::written;
pub use self::{
    body::ResponseBody,
    held::{HeldBody, LeaseLapsed, UntilBodyEnds},
    negotiate::Format,
    problem::Problem,
    responder::{Problems, ReadOn, Respond, RespondWith},
};
#[cfg(feature = "webdav")]
pub(crate) use self::{
    dav::{DavView, Precondition, document},
    markup::Escaped,
};
