//! Granting locks: all that an acquire asks for, or none, in one step; or marks, while writes are in flight.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use super::{
    admit::{mode, proven},
    core::{Core, Reply, endless, tries},
    error::incompatible,
    keys::{key_text, principal_text},
    scripts,
    wire::{Asker, Breaker, Packer, lost},
};
use crate::{
    lock::{HolderClaim, HolderProof, LockScope, Principal, TokenDigest, rules},
    store::{
        Acquire, Acquired, Conflict, Lifetime, NewLock, QuotaExceeded, Replaces, StoreError, StoreErrorKind,
        remote::deadline::insist, remote::places::chain, remote::writes::Writes, stored::parts_to_json,
    },
};

/// How long a waiting acquire sleeps before it looks again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// A request for locks, ready to be sent.
pub(super) struct Asked {
    head: Vec<u8>,
    locks: Vec<Vec<u8>>,
    swaps: Vec<Swap>,
    ids: Vec<u8>,
    principal: Option<Principal>,
    proof: HolderProof,
    lifetime: Lifetime,
    drain: Duration,
    within: [u8; 16],
    /// Tells its marks from those of another acquire with the same words.
    name: [u8; 16],
}

/// A lock to be replaced.
struct Swap {
    how: u8,
    name: [u8; 16],
    breaker: String,
}

impl Swap {
    fn text(&self) -> Vec<u8> {
        Packer::new().letter(self.how).sixteen(&self.name).text(&self.breaker).done()
    }
}

impl Asked {
    pub(super) fn new(core: &Core, request: &Acquire<'_>) -> Result<Self, StoreError> {
        let locks = request.locks.iter().map(|new| lock_text(new, core.key.digest(&new.token)));
        let locks = locks.collect::<Result<Vec<_>, _>>()?;
        let swaps = request.replaces.iter().map(|replaced| match replaced {
            Replaces::Held(token) => Swap { how: b'h', name: *core.key.digest(token).as_bytes(), breaker: String::new() },
            Replaces::Own { id } => Swap { how: b'o', name: *id.as_uuid().as_bytes(), breaker: String::new() },
            Replaces::Broken { id, reason } => {
                Swap { how: b'b', name: *id.as_uuid().as_bytes(), breaker: Breaker::text(request.principal, reason) }
            }
        });
        let swaps: Vec<Swap> = swaps.collect();
        let within = request.within.and_then(|id| core.writes.as_ref()?.name(id)).map_or([0; 16], |name| name.0);
        let name = *uuid::Uuid::new_v4().as_bytes();
        let head = Packer::new()
            .span_or_endless(request.lifetime.span)
            .span_or_endless(request.lifetime.most)
            .span_or_endless(request.lifetime.total)
            .span(request.drain)
            .limit(request.quota.principal)
            .limit(request.quota.store)
            .limit(request.blockers)
            .letter(mode(request.proof))
            .letter(if in_its_own_way(request.locks) { b'y' } else { b'n' })
            .sixteen(&within)
            .sixteen(&name)
            .count(locks.len())
            .count(swaps.len())
            .text(principal_text(request.principal))
            .done();
        Ok(Self {
            head,
            locks,
            swaps,
            ids: request.locks.iter().flat_map(|new| *new.parts.id.as_uuid().as_bytes()).collect(),
            principal: request.principal.cloned(),
            proof: request.proof.clone(),
            lifetime: request.lifetime,
            drain: request.drain,
            within,
            name,
        })
    }
}

fn lock_text(new: &NewLock, digest: TokenDigest) -> Result<Vec<u8>, StoreError> {
    let parts = &new.parts;
    let places = chain(&parts.root);
    let place = places.last().filter(|place| place.end == parts.root.path().len());
    let place = place.ok_or_else(|| StoreError::new(StoreErrorKind::Other, "a lock's root is longer than 8 KiB"))?;
    let scope = if parts.scope == LockScope::Exclusive { b'x' } else { b's' };
    let depth = if parts.depth == crate::lock::Depth::Infinity { b'i' } else { b'0' };
    let above: Vec<u8> = places.iter().flat_map(|place| place.hash).collect();
    Ok(Packer::new()
        .letter(scope)
        .letter(depth)
        .sixteen(parts.id.as_uuid().as_bytes())
        .sixteen(digest.as_bytes())
        .sixteen(&place.hash)
        .text(key_text(&parts.root))
        .text(principal_text(parts.principal.as_ref()))
        .text(parts.kind.as_str())
        .text(parts_to_json(parts))
        .text(above)
        .done())
}

/// Whether roots of one request overlap each other. The layers above refuse such a request as malformed; granting it
/// would break G4.
fn in_its_own_way(locks: &[NewLock]) -> bool {
    let reach = |new: &'_ NewLock| (new.parts.root.borrowed().into_owned(), new.parts.depth);
    let reaches: Vec<_> = if locks.len() < 2 { Vec::new() } else { locks.iter().map(reach).collect() };
    reaches.iter().enumerate().any(|(at, (root, depth))| {
        reaches[at + 1..].iter().any(|(other, reach)| rules::overlap((root, *depth), (other, *reach)))
    })
}

/// What the first step comes to.
enum Step {
    Done(Acquired),
    Wait,
}

impl Core {
    pub(super) async fn acquire(self: Arc<Self>, asked: Asked) -> Result<Acquired, StoreError> {
        // From here on there may be marks; whoever gives up takes them away.
        let mut marks = Marks { core: &self, asked: (!asked.drain.is_zero()).then_some(&asked) };
        match self.announce(&asked).await? {
            Step::Done(answer) => {
                marks.asked = None;
                Ok(answer)
            }
            Step::Wait => {
                let answer = self.wait(&asked).await?;
                marks.asked = None;
                Ok(answer)
            }
        }
    }

    async fn announce(&self, asked: &Asked) -> Result<Step, StoreError> {
        let swaps: Vec<Vec<u8>> = asked.swaps.iter().map(Swap::text).collect();
        let mut told: Vec<u8> = Vec::new();
        for _ in tries() {
            let mut arguments: Vec<&[u8]> = vec![&asked.head, &told];
            arguments.extend(asked.locks.iter().chain(&swaps).map(Vec::as_slice));
            let mut reply = self.ask(&scripts::ACQUIRE, &arguments).await?;
            let status = reply.bytes()?;
            let answer = match &*status {
                b"again" => continue,
                b"ask" => {
                    let now = reply.time()?;
                    let lock = self.lock(reply.record()?, now);
                    let claim = HolderClaim::new(&lock, true, asked.principal.as_ref());
                    told.extend(proven(lock.id(), asked.proof.answers(&claim)));
                    continue;
                }
                b"wait" => return Ok(Step::Wait),
                b"repeated" => {
                    let now = reply.time()?;
                    Acquired::Repeated(reply.locks(self, now)?)
                }
                b"conflict" => {
                    let now = reply.time()?;
                    let truncated = reply.bytes()? == b"y";
                    Acquired::Conflict(Conflict { blockers: reply.locks(self, now)?, truncated })
                }
                b"quota" => Acquired::OverQuota(match &*reply.bytes()? {
                    b"p" => QuotaExceeded::Principal,
                    _ => QuotaExceeded::Store,
                }),
                b"taken" => Acquired::Taken,
                b"stranger" => Acquired::NotHolder,
                _ => self.outcome(&status, reply, asked)?,
            };
            return Ok(Step::Done(answer));
        }
        Err(endless(scripts::ACQUIRE.doing))
    }

    /// What both steps may come to.
    fn outcome(&self, status: &[u8], mut reply: Reply, asked: &Asked) -> Result<Acquired, StoreError> {
        Ok(match status {
            b"granted" => {
                let now = reply.time()?;
                Acquired::Granted(reply.locks(self, now)?)
            }
            b"busy" => Acquired::Busy { retry_after: Duration::from_micros(reply.number()?) },
            b"lost" => {
                let mut gone = Vec::new();
                while let Some(text) = reply.next_bytes()? {
                    gone.push(lost(&text, Asker::Principal(asked.principal.as_ref()))?);
                }
                Acquired::Lost(gone)
            }
            _ => return Err(incompatible("an answer that means nothing")),
        })
    }

    /// Looks again and again until the marks are granted or over.
    async fn wait(&self, asked: &Asked) -> Result<Acquired, StoreError> {
        let head = Packer::new()
            .span_or_endless(asked.lifetime.span)
            .span_or_endless(asked.lifetime.most)
            .span_or_endless(asked.lifetime.total)
            .sixteen(&asked.within)
            .sixteen(&asked.name)
            .span(asked.drain)
            .text(&asked.ids)
            .done();
        let mut pause = PAUSES.0;
        let swaps: Vec<Vec<u8>> = asked.swaps.iter().map(Swap::text).collect();
        let mut end = self.writes.as_ref().map(Writes::next_end).map(Box::pin);
        loop {
            a_moment(pause, end.as_mut().map(|end| end.as_mut() as _)).await;
            // Listen before asking: an end in between would be missed.
            end = self.writes.as_ref().map(Writes::next_end).map(Box::pin);
            pause = (pause * 2).min(PAUSES.1);
            let mut arguments: Vec<&[u8]> = vec![&head];
            arguments.extend(swaps.iter().map(Vec::as_slice));
            let mut reply = self.ask(&scripts::GRANT, &arguments).await?;
            let status = reply.bytes()?;
            if status != b"wait" {
                return self.outcome(&status, reply, asked);
            }
        }
    }

    async fn withdraw(&self, ids: &[u8], name: [u8; 16]) -> Result<(), StoreError> {
        self.ask(&scripts::WITHDRAW, &[ids, &name]).await.map(drop)
    }
}

/// Until the pause is over, or a write of this node ends, which may be the one that is waited for.
async fn a_moment(pause: Duration, mut end: Option<Pin<&mut (dyn Future<Output = ()> + Send)>>) {
    let mut sleep = pin!(tokio::time::sleep(pause));
    poll_fn(|cx| match end.as_mut().map(|end| end.as_mut().poll(cx)) {
        Some(Poll::Ready(())) => Poll::Ready(()),
        _ => sleep.as_mut().poll(cx),
    })
    .await;
}

/// Marks that are taken away in the background unless they have become locks, or nothing.
struct Marks<'m> {
    core: &'m Arc<Core>,
    asked: Option<&'m Asked>,
}

impl Drop for Marks<'_> {
    fn drop(&mut self) {
        let Some((ids, name, drain)) = self.asked.map(|asked| (asked.ids.clone(), asked.name, asked.drain)) else { return };
        // Outside of a runtime their deadline ends them.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let core = self.core.clone();
            // After their own deadline the marks count for nothing.
            runtime.spawn(async move { insist(drain, || core.withdraw(&ids, name)).await });
        }
    }
}
