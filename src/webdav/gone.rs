//! `Remains`: after a DELETE, MOVE or COPY that succeeded in part (207), which locks are of resources that are gone.

use super::{
    exchange::Exchange,
    handler::{Handler, Inner, Place},
    look::{Mapped, Need},
    multistatus::Multistatus,
    xml,
};
use crate::{
    lock::{Gone, Lock, Reach, ResourceKey},
    locks::Incident,
    middleware::tell_cleared,
    store::Permit,
};

/// The locks that the write answered for, and that would all have ended with its success.
pub(super) struct Remains {
    locks: Vec<Lock>,
}

impl Remains {
    /// Those of `answered` that go with `gone`; nothing where there are none.
    pub(super) fn of(answered: &[Lock], gone: &[Gone<'_>]) -> Option<Self> {
        let taken = |lock: &&Lock| gone.iter().any(|gone| gone.takes(lock.root()));
        let locks: Vec<Lock> = answered.iter().filter(taken).cloned().collect();
        (!locks.is_empty()).then_some(Self { locks })
    }

    /// Ends the locks of what is gone. What the multistatus names as failed is there still, and so is all above it (RFC
    /// 4918 section 9.6.1); of the others the handler is asked.
    pub(super) async fn clear<S, B>(self, exchange: &Exchange, handler: &mut Handler<S>, permit: &Permit, multistatus: &[u8])
    where
        S: Inner<B>,
    {
        let failed = failed(exchange, multistatus);
        let mut gone = Vec::new();
        let mut roots: Vec<_> = self.locks.iter().map(Lock::root).cloned().collect();
        roots.dedup();
        for root in roots {
            if failed.iter().any(|failed| *failed == root || failed.is_below(&root)) {
                continue;
            }
            let uri = root.uri().into_owned();
            let place = Place::Path(exchange.inside(&uri));
            match handler.look(&exchange.parts, place, Need::Existence).await {
                Ok(look) if look.mapped == Mapped::No => gone.push(Gone { key: root, reach: Reach::At }),
                Ok(_) => {}
                // It has answered the write, and that answer stands. The locks expire.
                Err(_) => break,
            }
        }
        if !gone.is_empty() {
            let limit = exchange.locks.limits().answer_within;
            let cleared = exchange.locks.store().clear(&gone, permit.id());
            let what = "ending the locks of what is gone";
            match exchange.locks.answered_within(limit, what, cleared).await {
                Ok(_) => {
                    let mut taken = self.locks;
                    taken.retain(|lock| gone.iter().any(|gone| gone.takes(lock.root())));
                    tell_cleared(&exchange.locks, &taken, exchange.caller.principal());
                }
                Err(error) => {
                    for gone in &gone {
                        exchange.locks.report(&Incident::LocksLeft { path: gone.key.path(), error: &error });
                    }
                }
            }
        }
    }
}

/// The resources that a multistatus names as failed.
fn failed(exchange: &Exchange, body: &[u8]) -> Vec<ResourceKey<'static>> {
    let Some(multistatus) = xml::decode(body).ok().and_then(|text| Multistatus::read(&text).ok()) else { return Vec::new() };
    let failed = multistatus.responses().iter().filter(|response| response.status().is_some_and(|status| status >= 300));
    let hrefs = failed.flat_map(super::multistatus::Response::hrefs);
    hrefs.filter_map(|href| exchange.keys_of_href(href)).flatten().collect()
}
