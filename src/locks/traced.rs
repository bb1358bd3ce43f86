//! Feature `tracing`: what happens to locks, as events with stable names.

use tracing::{Level, event};

use super::{Activity, ActivityKind, Incident, activity::Traced};
use crate::lock::{Lock, Principal};

pub(super) const TRACED: Traced = Traced { activity, incident };

/// The target of every event.
const TARGET: &str = "tower_lock";

fn level(activity: &Activity<'_>) -> Level {
    match activity.kind {
        ActivityKind::Repeated | ActivityKind::Refreshed => Level::TRACE,
        ActivityKind::Expired | ActivityKind::Breaking | ActivityKind::Broken => Level::INFO,
        ActivityKind::Refused if activity.code().is_some_and(|code| code.status().is_server_error()) => Level::WARN,
        _ => Level::DEBUG,
    }
}

fn activity(activity: &Activity<'_>) {
    // The level of an event is part of the place that it comes from.
    macro_rules! tell {
        ($level:expr) => {
            event!(
                target: TARGET,
                $level,
                event = activity.kind.as_str(),
                origin = activity.origin.as_str(),
                actor = activity.actor.map(Principal::as_str),
                resource = activity.resource,
                namespace = activity.lock.and_then(|lock| lock.root().namespace()),
                lock_id = activity.lock_id.map(tracing::field::display),
                scope = activity.lock.map(|lock| lock.scope().as_str()),
                depth = activity.lock.map(|lock| lock.depth().as_str()),
                kind = activity.lock.map(|lock| lock.kind().as_str()),
                generation = activity.lock.map(Lock::generation),
                holder = activity.lock.and_then(Lock::principal).map(Principal::as_str),
                expires_in = activity.lock.and_then(Lock::expires_in),
                reason = activity.reason,
                code = activity.code().map(|code| code.as_str()),
                status = activity.code().map(|code| code.status().as_u16()),
                "{activity}"
            )
        };
    }
    match level(activity) {
        Level::TRACE => tell!(Level::TRACE),
        Level::DEBUG => tell!(Level::DEBUG),
        Level::INFO => tell!(Level::INFO),
        _ => tell!(Level::WARN),
    }
}

fn incident(incident: &Incident<'_>) {
    event!(
        target: TARGET,
        Level::WARN,
        event = "incident",
        incident = incident.as_str(),
        resource = incident.path(),
        error = tracing::field::display(incident.error()),
        "{incident}"
    );
}
