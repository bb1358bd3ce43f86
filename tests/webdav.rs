//! WebDAV locking over a handler that knows nothing of locks: RFC 4918, rule by rule. The ids in the comments (`L-22`) are
//! those of the checklist that the layer is held against.
#![cfg(feature = "webdav")]

mod support;

#[path = "webdav/axum.rs"]
mod axum_router;
#[path = "webdav/breaches.rs"]
mod breaches;
#[path = "webdav/conditions.rs"]
mod conditions;
#[path = "webdav/flight.rs"]
mod flight;
#[path = "webdav/fuzz.rs"]
mod fuzz;
#[path = "webdav/handler.rs"]
mod handler;
#[path = "webdav/handler_props.rs"]
mod handler_props;
#[path = "webdav/hostile.rs"]
mod hostile;
#[path = "webdav/inside.rs"]
mod inside;
#[path = "webdav/kit.rs"]
mod kit;
#[path = "webdav/lock.rs"]
mod lock;
#[path = "webdav/membership.rs"]
mod membership;
#[path = "webdav/memfs.rs"]
mod memfs;
#[path = "webdav/model.rs"]
mod model;
#[path = "webdav/options.rs"]
mod options;
#[path = "webdav/outage.rs"]
mod outage;
#[path = "webdav/patience.rs"]
mod patience;
#[path = "webdav/places.rs"]
mod places;
#[path = "webdav/principals.rs"]
mod principals;
#[path = "webdav/propfind.rs"]
mod propfind;
#[path = "webdav/protected.rs"]
mod protected;
#[path = "webdav/races.rs"]
mod races;
#[path = "webdav/refresh.rs"]
mod refresh;
#[path = "webdav/refusals.rs"]
mod refusals;
#[path = "webdav/settings.rs"]
mod settings;
#[path = "webdav/shape.rs"]
mod shape;
#[path = "webdav/unlink.rs"]
mod unlink;
#[path = "webdav/unlock.rs"]
mod unlock;
#[path = "webdav/unmapped.rs"]
mod unmapped;
#[path = "webdav/writes.rs"]
mod writes;
#[path = "webdav/xml.rs"]
mod xml;
