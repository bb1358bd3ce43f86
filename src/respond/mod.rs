//! Fourth floor: from a [`Refusal`](crate::Refusal) to a response. What stands here knows no policy.

mod body;
#[cfg(feature = "webdav")]
mod dav;
mod held;
mod html;
mod markup;
mod negotiate;
mod problem;
mod responder;

pub(crate) use self::negotiate::prefers_events;
pub(crate) use self::responder::render;
#[cfg(any(feature = "webdav", feature = "batch"))]
pub(crate) use self::responder::{render_as, written};
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
