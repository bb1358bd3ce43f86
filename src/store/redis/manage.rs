//! Refreshing and ending locks.

use std::sync::Arc;

use super::{
    admit::{mode, proven},
    core::{Core, endless, tries},
    error::incompatible,
    keys::{key_text, principal_text},
    scripts,
    wire::{Asker, Breaker, Packer, lost},
};
use crate::{
    lock::{Gone, HolderClaim, HolderProof, Lock, LostLock, Principal, Reach, ResourceKey},
    store::{Authority, FinalTerm, Refresh, Refreshed, Release, Released, Span, StoreError, Which, WriteId},
};

/// What is asked of one lock, ready to be sent.
pub(super) struct Order {
    verb: u8,
    which: u8,
    name: [u8; 16],
    right: u8,
    amount: u8,
    length: std::time::Duration,
    proof: Option<HolderProof>,
    principal: Option<Principal>,
    guard: bool,
    covering: Vec<u8>,
    breaker: String,
}

/// What comes of it.
enum Came {
    Refreshed(Lock, FinalTerm),
    Ended(Lock),
    Breaking(Lock),
    Lost(LostLock),
    NotHolder,
}

impl Order {
    pub(super) fn refresh(core: &Core, refresh: &Refresh<'_>) -> Self {
        let mut order = Self::new(core, b'r', refresh.which, &refresh.authority, refresh.covering);
        (order.amount, order.length) = match refresh.span {
            Span::Same => (b's', std::time::Duration::ZERO),
            Span::For(span) => (b'f', span),
            Span::Endless => (b'e', std::time::Duration::ZERO),
        };
        order
    }

    pub(super) fn release(core: &Core, release: &Release<'_>) -> Self {
        Self::new(core, b'e', release.which, &release.authority, release.covering)
    }

    fn new(core: &Core, verb: u8, which: Which<'_>, authority: &Authority<'_>, covering: Option<&ResourceKey<'_>>) -> Self {
        let (which, name) = match which {
            Which::Token(token) => (b't', *core.key.digest(token).as_bytes()),
            Which::Id(id) => (b'i', *id.as_uuid().as_bytes()),
        };
        let mut order = Self {
            verb,
            which,
            name,
            right: b'g',
            amount: b'-',
            length: std::time::Duration::ZERO,
            proof: None,
            principal: None,
            guard: false,
            covering: covering.map(key_text).unwrap_or_default(),
            breaker: String::new(),
        };
        match *authority {
            Authority::Holder { principal, proof } => {
                (order.right, order.proof, order.principal) = (b'h', Some(proof.clone()), principal.cloned());
            }
            Authority::Principal(principal) => (order.right, order.principal) = (b'p', Some(principal.clone())),
            Authority::Guard => order.guard = true,
            Authority::Break { actor, reason, grace } => {
                (order.right, order.principal, order.length) = (b'b', actor.cloned(), grace);
                order.breaker = Breaker::text(actor, reason);
            }
        }
        order
    }

    fn text(&self, told: &[u8]) -> Vec<u8> {
        Packer::new()
            .letter(self.verb)
            .letter(self.which)
            .sixteen(&self.name)
            .letter(self.right)
            .letter(self.proof.as_ref().map_or(b'-', mode))
            .letter(self.amount)
            .span(self.length)
            .text(principal_text(self.principal.as_ref()))
            .text(&self.covering)
            .text(told)
            .text(&self.breaker)
            .done()
    }

    fn asker(&self) -> Asker<'_> {
        if self.guard { Asker::Guard } else { Asker::Principal(self.principal.as_ref()) }
    }
}

impl Core {
    pub(super) async fn refresh(self: Arc<Self>, order: Order) -> Result<Refreshed, StoreError> {
        Ok(match self.manage(order).await? {
            Came::Refreshed(lock, term) => Refreshed::Refreshed(lock, term),
            Came::Lost(lost) => Refreshed::Lost(lost),
            Came::NotHolder => Refreshed::NotHolder,
            Came::Ended(_) | Came::Breaking(_) => return Err(incompatible("an answer that means nothing")),
        })
    }

    pub(super) async fn release(self: Arc<Self>, order: Order) -> Result<Released, StoreError> {
        Ok(match self.manage(order).await? {
            Came::Ended(lock) => Released::Released(lock),
            Came::Breaking(lock) => Released::Breaking(lock),
            Came::Lost(lost) => Released::Lost(lost),
            Came::NotHolder => Released::NotHolder,
            Came::Refreshed(..) => return Err(incompatible("an answer that means nothing")),
        })
    }

    async fn manage(&self, order: Order) -> Result<Came, StoreError> {
        let mut told = Vec::new();
        for _ in tries() {
            let mut reply = self.ask(&scripts::MANAGE, &[&order.text(&told)]).await?;
            let status = reply.bytes()?;
            return Ok(match &*status {
                b"stranger" => Came::NotHolder,
                b"lost" => Came::Lost(lost(&reply.bytes()?, order.asker())?),
                _ => {
                    let now = reply.time()?;
                    let term = match &*status {
                        b"refreshed" if reply.bytes()? == b"y" => FinalTerm::Yes,
                        _ => FinalTerm::No,
                    };
                    let lock = self.lock(reply.record()?, now);
                    match &*status {
                        b"ask" => {
                            let shown = order.which == b't';
                            let claim = HolderClaim::new(&lock, shown, order.principal.as_ref());
                            let holds = order.proof.as_ref().is_some_and(|proof| proof.answers(&claim));
                            told = proven(lock.id(), holds).to_vec();
                            continue;
                        }
                        b"refreshed" => Came::Refreshed(lock, term),
                        b"ended" => Came::Ended(lock),
                        b"breaking" => Came::Breaking(lock),
                        b"elsewhere" => Came::Lost(LostLock::out_of_scope(&lock)),
                        _ => return Err(incompatible("an answer that means nothing")),
                    }
                }
            });
        }
        Err(endless(scripts::MANAGE.doing))
    }

    pub(super) async fn clear(self: Arc<Self>, gone: Vec<Vec<u8>>, under: Option<WriteId>) -> Result<usize, StoreError> {
        let name = match (under, &self.writes) {
            (Some(id), Some(writes)) => match writes.name(id) {
                Some(name) => name.0.to_vec(),
                // It has ended, and others may already hold what it took.
                None => return Ok(0),
            },
            _ => Vec::new(),
        };
        let mut arguments: Vec<&[u8]> = vec![&name];
        arguments.extend(gone.iter().map(Vec::as_slice));
        let mut cleared = 0;
        for _ in tries() {
            let mut reply = self.ask(&scripts::CLEAR, &arguments).await?;
            let status = reply.bytes()?;
            cleared += reply.count()?;
            match &*status {
                b"done" => return Ok(cleared),
                b"again" => {}
                _ => return Err(incompatible("an answer that means nothing")),
            }
        }
        Err(endless(scripts::CLEAR.doing))
    }
}

/// What is gone, as scripts know it.
pub(super) fn gone_text(gone: &Gone<'_>) -> Vec<u8> {
    let reach = match gone.reach {
        Reach::At => b'a',
        Reach::AtOrBelow => b'o',
        Reach::Below => b'b',
    };
    Packer::new().letter(reach).text(key_text(&gone.key)).done()
}
